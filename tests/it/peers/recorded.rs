//! A catalogue of questions to Debian's Prometheus and to Pharos, which hold the same recorded and generated samples: every
//! answer is equal, to the bit where both compute alike, or the catalogue says why it cannot be.

mod catalogue;
mod fixture;

use std::collections::BTreeMap;

use pharos_testkit::Pharos;
use serde_json::{Value, json};

use super::compare::{Reply, Server, difference, seconds, unordered};
use super::programs::PrometheusServer;
use catalogue::{Class, Question};
use fixture::Fixture;

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

const RANGES: [Range; 5] = [
    Range { length_s: 600, step_s: 15 },
    Range { length_s: 3_600, step_s: 60 },
    Range { length_s: 120, step_s: 1 },
    Range { length_s: 3_000, step_s: 113 },
    Range { length_s: 7_200, step_s: 300 },
];

/// Asks both and keeps the tally.
struct Tally {
    theirs: Server,
    ours: Server,
    wrong: Vec<String>,
    empty: Vec<String>,
    outdated: Vec<String>,
    answers: usize,
}

impl Tally {
    /// A query; answers whether the two differ.
    async fn query(&mut self, question: &Question, path: &str, times: &[(&str, String)]) -> bool {
        let parameters = |query: &str| [&[("query", query.to_owned())], times].concat();
        let (their_parameters, our_parameters) = (parameters(&question.theirs), parameters(&question.ours));
        let (theirs, ours) =
            tokio::join!(self.theirs.ask(path, &their_parameters), self.ours.ask(path, &our_parameters));
        let asked = format!("{path} {} {times:?}", question.ours);
        self.compare(question, &asked, &theirs, &ours)
    }

    /// A path with its parameters; answers whether the two differ.
    async fn path(&mut self, question: &Question) -> bool {
        let (theirs, ours) = tokio::join!(self.theirs.ask(&question.theirs, &[]), self.ours.ask(&question.ours, &[]));
        self.compare(question, &question.ours, &theirs, &ours)
    }

    fn compare(&mut self, question: &Question, asked: &str, theirs: &Reply, ours: &Reply) -> bool {
        self.answers += 1;
        let Class { name, exactness, ordered, may_be_empty, fails, .. } = &question.class;
        let what = format!("[{name}] {asked}");
        // The series of a range are in the order of their labels.
        let in_order = *ordered || asked.starts_with("/api/v1/query_range");
        let found = if (theirs.status, &theirs.body["errorType"]) != (ours.status, &ours.body["errorType"]) {
            Some(format!(
                "theirs: {} {:.300}\n  ours:   {} {:.300}",
                theirs.status,
                theirs.body.to_string(),
                ours.status,
                ours.body.to_string()
            ))
        } else if theirs.body["status"] == "success" && !asked.starts_with("/api/v1/query") {
            let sorted = |body: &Value| {
                if asked.starts_with("/api/v1/series") { unordered(&body["data"]) } else { body["data"].clone() }
            };
            let (theirs, ours) = (sorted(&theirs.body), sorted(&ours.body));
            (theirs != ours)
                .then(|| format!("theirs: {:.400}\n  ours:   {:.400}", theirs.to_string(), ours.to_string()))
        } else if theirs.body["status"] == "success" {
            difference(&theirs.body["data"], &ours.body["data"], in_order, *exactness)
        } else {
            let (their_text, our_text) = (&theirs.body["error"], &ours.body["error"]);
            (their_text != our_text).then(|| format!("theirs: {their_text}\n  ours:   {our_text}"))
        };
        let differs = found.is_some();
        match found {
            Some(found) if question.differs.is_none() => self.wrong.push(format!("{what}\n  {found:.900}")),
            None if (theirs.status != 200) != *fails => {
                self.wrong.push(format!("{what}\n  {} {}", theirs.status, theirs.body))
            }
            None if (theirs.body["data"]["result"] == json!([]) || theirs.body["data"] == json!([]))
                && !may_be_empty =>
            {
                self.empty.push(what);
            }
            _ => {}
        }
        differs
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
        .option("--query-experimental-functions", "true")
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
    let mut tally = Tally { theirs, ours, wrong: vec![], empty: vec![], outdated: vec![], answers: 0 };
    let (mut by_class, mut reasons) = (BTreeMap::<&str, usize>::new(), 0);
    for (number, question) in questions.iter().enumerate() {
        let mut differs = question.class.paths && tally.path(question).await;
        if question.class.instant {
            for at_ms in [middle_ms, end_ms] {
                differs |= tally.query(question, "/api/v1/query", &[("time", seconds(at_ms))]).await;
            }
        }
        if question.class.range {
            for range in [RANGES[number % RANGES.len()], RANGES[(number + 1) % RANGES.len()]] {
                differs |= tally.query(question, "/api/v1/query_range", &times(end_ms, range)).await;
            }
        }
        if question.differs.is_none() {
            *by_class.entry(&question.class.name).or_default() += 1;
        } else if differs {
            reasons += 1;
        } else {
            tally.outdated.push(question.ours.clone());
        }
    }
    let compared: usize = by_class.values().sum();
    println!(
        "{compared} queries ({} answers) about {} series with {} samples; {reasons} more differ for a reason; {by_class:?}",
        tally.answers,
        fixture.series_count(),
        fixture.samples_count(),
    );
    assert!(tally.wrong.is_empty(), "{} of {} differ:\n{}", tally.wrong.len(), tally.answers, tally.wrong.join("\n"));
    assert!(tally.empty.is_empty(), "no answer at all to:\n{}", tally.empty.join("\n"));
    assert!(tally.outdated.is_empty(), "no longer different:\n{}", tally.outdated.join("\n"));
    assert!(compared >= 300, "only {compared}");
}
