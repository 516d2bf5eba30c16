//! A catalogue of questions to Debian's Prometheus and to Pharos, which hold the same recorded and generated samples: every
//! answer is equal, to the bit where both compute alike, or the catalogue says why it cannot be.

mod catalogue;
mod fixture;
mod generated;
mod verdict;

use std::collections::BTreeMap;

use super::compare::{Server, seconds};
use super::programs::PrometheusServer;
use catalogue::{Question, Trait};
use fixture::Fixture;
use pharos_testkit::Pharos;
use verdict::{Verdict, verdict};

/// Of a second: no sample is on it, so that no window or lookback of whole seconds ends at one. Prometheus before 3.0 counts a
/// sample at the left end of a window and Pharos, as 3.x, does not. No sample is at full seconds either, on which subqueries
/// are evaluated.
const PHASE_MS: i64 = 350;

/// A range as it is asked for.
#[derive(Clone, Copy)]
struct Range {
    length_s: i64,
    step_s: i64,
}

/// The first `INSIDE_COUNT` and the longest window of the catalogue before them lie inside the samples.
const RANGES: [Range; 5] = [
    Range { length_s: 600, step_s: 15 },
    Range { length_s: 120, step_s: 1 },
    Range { length_s: 3_000, step_s: 113 },
    Range { length_s: 3_600, step_s: 60 },
    Range { length_s: 7_200, step_s: 300 },
];
const INSIDE_COUNT: usize = 3;
/// The catalogue must not shrink unnoticed.
const QUERIES_MIN: usize = 1_000;

/// Both servers.
struct Pair {
    theirs: Server,
    ours: Server,
}

/// One pair of answers: what was asked, and how they compare.
type Answer = (String, Verdict);

impl Pair {
    /// Everything that is asked about one question.
    async fn answers(&self, question: &Question, number: usize, moments_ms: [i64; 2]) -> Vec<Answer> {
        let mut answers = Vec::new();
        let class = &question.class;
        if class.has(Trait::Paths) {
            return vec![self.ask(question, "", &[]).await];
        }
        if !class.has(Trait::RangeOnly) {
            for at_ms in moments_ms {
                answers.push(self.ask(question, "/api/v1/query", &[("time", seconds(at_ms))]).await);
            }
        }
        if !class.has(Trait::InstantOnly) {
            let count = if class.has(Trait::Inside) { INSIDE_COUNT } else { RANGES.len() };
            for range in [RANGES[number % count], RANGES[(number + 1) % count]] {
                answers.push(self.ask(question, "/api/v1/query_range", &times(moments_ms[1], range)).await);
            }
        }
        answers
    }

    async fn ask(&self, question: &Question, path: &str, times: &[(&str, String)]) -> Answer {
        let class = &question.class;
        let ask = async |server: &Server, query: &str| {
            let parameters = [&[("query", query.to_owned())], times].concat();
            if class.has(Trait::Paths) { server.ask(query, &[]).await } else { server.ask(path, &parameters).await }
        };
        let (theirs, ours) = tokio::join!(ask(&self.theirs, &question.theirs), ask(&self.ours, &question.ours));
        let path = if class.has(Trait::Paths) { question.ours.as_str() } else { path };
        let asked = format!("[{}] {path} {} {times:?}", class.name, question.ours);
        (asked, verdict(class, path, &theirs, &ours))
    }
}

/// What came of all questions.
#[derive(Default)]
struct Tally {
    answers: usize,
    /// How many questions of a class were answered alike.
    alike: BTreeMap<String, usize>,
    /// How many were answered differently, for the reason that the catalogue gives.
    reasoned: usize,
    wrong: Vec<String>,
    /// Questions to which no answer at all had anything in it: they prove nothing.
    empty: Vec<String>,
    /// Questions that should differ and do not.
    outdated: Vec<String>,
}

impl Tally {
    fn count(&mut self, question: &Question, answers: Vec<Answer>) {
        self.answers += answers.len();
        let class = &question.class;
        if answers.iter().all(|(_, verdict)| verdict.empty) && !class.has(Trait::MayBeEmpty) {
            self.empty.push(format!("[{}] {}", class.name, question.ours));
        }
        let differing: Vec<String> = answers
            .into_iter()
            .filter_map(|(asked, verdict)| Some(format!("{asked}\n  {:.2500}", verdict.difference?)))
            .collect();
        match (&question.differs, differing.is_empty()) {
            (None, true) => *self.alike.entry(class.name.clone()).or_default() += 1,
            (None, false) => self.wrong.extend(differing),
            (Some(_), false) => self.reasoned += 1,
            (Some(why), true) => self.outdated.push(format!("[{}] {}: {why}", class.name, question.ours)),
        }
    }

    fn faults(&self) -> String {
        let faults = [
            ("answers differ", &self.wrong),
            ("questions have no answer at all", &self.empty),
            ("questions no longer differ", &self.outdated),
        ];
        let told = faults.iter().filter(|(_, which)| !which.is_empty());
        let told: Vec<_> = told.map(|(what, which)| format!("{} {what}:\n{}", which.len(), which.join("\n"))).collect();
        told.join("\n")
    }
}

fn times(end_ms: i64, range: Range) -> [(&'static str, String); 3] {
    let start_ms = end_ms - range.length_s * 1_000;
    [("start", seconds(start_ms)), ("end", seconds(end_ms)), ("step", range.step_s.to_string())]
}

#[tokio::test]
async fn prometheus_and_pharos_answer_alike_about_recorded_data() {
    let pharos = Pharos::builder()
        .option("--retention-metrics", "100y")
        .option("--query-features", "promql-experimental-functions")
        .start()
        .await;
    let prometheus = PrometheusServer::start_receiver(pharos.folder()).await;
    let (theirs, ours) = (Server::new(&prometheus.url(), None), Server::new(&pharos.url(""), Some(pharos.token())));
    let fixture = Fixture::build();
    let busy = fixture.instants().find(|at_ms| [0, PHASE_MS].contains(&at_ms.rem_euclid(1_000)));
    assert_eq!(busy, None, "a sample lies where windows may end");
    let messages: Vec<_> = fixture.messages().collect();
    for (number, message) in messages.iter().enumerate() {
        let _: ((), ()) = tokio::join!(theirs.write(message.clone()), ours.write(message.clone()));
        // Half of it is on disk, the rest in memory.
        if number == messages.len() / 2 {
            let (status, answer) = pharos.post("/-/flush", "", "").await;
            assert!(status < 300, "{status} {answer}");
        }
    }

    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/data/queries.txt")).unwrap();
    let end_ms = (fixture.last_ms / 1_000 - 1) * 1_000 + PHASE_MS;
    let middle_ms = end_ms - 1_500_000;
    let text = text.replace("<end>", &seconds(end_ms)).replace("<middle>", &seconds(middle_ms));
    let questions = catalogue::read(&text);
    let (pair, mut tally) = (Pair { theirs, ours }, Tally::default());
    for (number, question) in questions.iter().enumerate() {
        tally.count(question, pair.answers(question, number, [middle_ms, end_ms]).await);
    }
    let alike: usize = tally.alike.values().sum();
    println!(
        "{alike} queries alike ({} answers) about {} series with {} samples; {} differ for a reason; {:?}",
        tally.answers,
        fixture.series_count(),
        fixture.samples_count(),
        tally.reasoned,
        tally.alike,
    );
    assert!(tally.faults().is_empty(), "of {} answers\n{}", tally.answers, tally.faults());
    assert!(alike >= QUERIES_MIN, "only {alike}");
}
