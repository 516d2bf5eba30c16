//! Whatever an operator may do while samples and spans come in, all the time: merging, deletes, cleaning, snapshots. So a kill
//! meets each of them under way.

use std::collections::BTreeSet;
use std::time::Duration;

use pharos_testkit::Pharos;
use reqwest::Client;
use tokio::task::JoinHandle;

use super::now_s;

/// All kinds of requests.
const KINDS: usize = 8;
/// A round while samples come in.
pub(super) const OF_METRICS: &[usize] = &[0, 1, 2, 3, 4, 5];
/// A round while spans come in; merging and snapshots are of both.
pub(super) const OF_TRACES: &[usize] = &[6, 7, 1, 6, 7, 4, 5];
/// Ids of the traces that are sent, and some of them deleted, begin with this.
pub(super) const VICTIM_TRACES: &str = "76696374696d";
/// Snapshots kept before the oldest is deleted.
const SNAPSHOTS: usize = 3;

/// What was asked and what was answered. What was asked and not answered may or may not have happened.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    at_s: u64,
    appended: BTreeSet<u64>,
    delete_asked: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
    traces_sent: BTreeSet<u64>,
    trace_deletions_asked: BTreeSet<u64>,
    traces_deleted: BTreeSet<u64>,
    /// Answered and not asked to be deleted.
    snapshots: Vec<String>,
    /// Answers of each kind of request.
    pub(super) answered: [u64; KINDS],
}

struct Operator {
    client: Client,
    base: String,
    token: String,
    ledger: Ledger,
}

/// Goes on until it is stopped with [`stop`].
pub(super) fn start(
    pharos: &Pharos,
    round: &'static [usize],
) -> (JoinHandle<Ledger>, tokio::sync::oneshot::Sender<()>) {
    let ledger = Ledger { at_s: now_s(), ..Ledger::default() };
    let mut operator =
        Operator { client: pharos.client().clone(), base: pharos.url(""), token: pharos.token().to_owned(), ledger };
    let (sender, mut stopped) = tokio::sync::oneshot::channel();
    let running = tokio::spawn(async move {
        for turn in 0.. {
            if stopped.try_recv().is_ok() {
                break;
            }
            operator.ask(round[turn % round.len()], (turn / round.len()) as u64).await;
            // A server that is dead refuses at once.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        operator.ledger
    });
    (running, sender)
}

impl Operator {
    async fn ask(&mut self, kind: usize, number: u64) {
        let at_ms = self.ledger.at_s * 1000;
        let victim = number / 2;
        let answered = match kind {
            0 => {
                let line = format!("victim{{n=\"{number}\"}} {number} {at_ms}\n");
                let answered = self.post("/api/v1/import/prometheus", line).await;
                self.ledger.appended.extend(answered.then_some(number));
                answered
            }
            1 => self.post("/-/compact", String::new()).await,
            // Every other one, some time after it was appended.
            2 if number % 4 == 3 => {
                self.ledger.delete_asked.insert(victim);
                let path = format!("/api/v1/admin/tsdb/delete_series?match[]=victim{{n=\"{victim}\"}}");
                let answered = self.post(&path, String::new()).await;
                self.ledger.deleted.extend(answered.then_some(victim));
                answered
            }
            3 if number.is_multiple_of(3) => self.post("/api/v1/admin/tsdb/clean_tombstones", String::new()).await,
            4 => self.create_snapshot().await,
            5 if self.ledger.snapshots.len() > SNAPSHOTS => {
                let oldest = self.ledger.snapshots.remove(0);
                self.post(&format!("/snapshot/delete?snapshot={oldest}"), String::new()).await
            }
            6 => {
                let answered = self.send_trace(number).await;
                self.ledger.traces_sent.extend(answered.then_some(number));
                answered
            }
            7 if number % 2 == 1 => {
                self.ledger.trace_deletions_asked.insert(victim);
                let path = format!("/api/v1/admin/traces/delete?trace_id={}", victim_trace(victim));
                let answered = self.post(&path, String::new()).await;
                self.ledger.traces_deleted.extend(answered.then_some(victim));
                answered
            }
            _ => false,
        };
        self.ledger.answered[kind] += u64::from(answered);
    }

    async fn create_snapshot(&mut self) -> bool {
        let request = self.client.post(format!("{}/snapshot/create", self.base)).bearer_auth(&self.token);
        let Ok(answer) = request.send().await else { return false };
        let Ok(text) = answer.text().await else { return false };
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let name = answer["snapshot"].as_str();
        self.ledger.snapshots.extend(name.map(str::to_owned));
        name.is_some()
    }

    /// A trace on one of the last three days.
    async fn send_trace(&self, number: u64) -> bool {
        let start_ns = (self.ledger.at_s - number % 60 * 3_600) * 1_000_000_000;
        let span = serde_json::json!({
            "traceId": victim_trace(number), "spanId": "0000000000000001", "name": "victim", "kind": 1,
            "startTimeUnixNano": start_ns.to_string(), "endTimeUnixNano": (start_ns + 1).to_string(),
        });
        let body = serde_json::json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [span] }] }] });
        let request = self.client.post(format!("{}/v1/traces", self.base)).bearer_auth(&self.token);
        let request = request.header("content-type", "application/json").body(body.to_string());
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    async fn post(&self, path: &str, body: String) -> bool {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(&self.token).body(body);
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }
}

fn victim_trace(number: u64) -> String {
    format!("{VICTIM_TRACES}{number:020x}")
}

impl Ledger {
    /// Whether every request of a round was answered now and then.
    pub(super) fn is_full(&self, round: &[usize]) -> bool {
        round.iter().all(|kind| self.answered[*kind] > 0)
    }

    /// Checks what is there of traces against what was answered.
    pub(super) async fn check_traces(&self, pharos: &Pharos) {
        for number in &self.traces_sent {
            let (status, answer) = pharos.get(&format!("/api/traces/{}", victim_trace(*number))).await;
            if self.traces_deleted.contains(number) {
                assert_eq!(status, 404, "deleted and back: {answer}");
            } else if !self.trace_deletions_asked.contains(number) {
                assert_eq!(status, 200, "sent and lost: {answer}");
            }
        }
    }

    /// Checks what is there against what was answered.
    pub(super) async fn check(&self, pharos: &Pharos) {
        let found = pharos.query("victim", self.at_s as f64 + 1.0).await;
        let found: BTreeSet<u64> = found
            .as_array()
            .expect("a vector")
            .iter()
            .map(|series| {
                let number = series["metric"]["n"].as_str().expect("it has a number");
                assert_eq!(series["value"][1], number, "{series}");
                number.parse().expect("it is a number")
            })
            .collect();
        let (kept, gone): (BTreeSet<_>, _) = (
            self.appended.difference(&self.delete_asked).collect(),
            self.deleted.intersection(&found).collect::<Vec<_>>(),
        );
        let lost: Vec<_> = kept.into_iter().filter(|number| !found.contains(number)).collect();
        assert!(lost.is_empty(), "appended and lost: {lost:?}");
        assert!(gone.is_empty(), "deleted and back: {gone:?}");
        let (status, listed) = pharos.get("/snapshot/list").await;
        assert_eq!(status, 200, "{listed}");
        let listed = listed["snapshots"].as_array().expect("a list").clone();
        assert!(
            self.snapshots.iter().all(|name| listed.contains(&name.as_str().into())),
            "{:?}, {listed:?}",
            self.snapshots
        );
    }
}
