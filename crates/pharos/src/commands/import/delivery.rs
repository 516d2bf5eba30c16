//! Sends batches to the server: a few at a time, again when it is busy, and counts what became of them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use pharos_base::{Clock, SystemClock};
use pharos_model::MetricBatch;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use tokio::task::JoinSet;

use super::encode::{WriteBody, encode};
use super::selection::Selection;
use crate::commands::client::ServerClient;
use crate::commands::progress::Progress;

/// Requests that wait for an answer at a time.
const IN_FLIGHT_MAX: usize = 4;
/// First and longest pause before a body is sent again.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a server may refuse one body because it is busy or away.
const PATIENCE: Duration = Duration::from_mins(10);
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);
/// Complaints that are shown; the rest is counted.
const COMPLAINTS_MAX: u64 = 20;

/// What became of an import.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    samples: u64,
    histograms: u64,
    exemplars: u64,
    refused: u64,
    exemplars_refused: u64,
    complaints: u64,
    is_dry: bool,
}

impl Report {
    /// Whether everything that was read is stored and all could be read.
    pub(super) fn is_whole(&self) -> bool {
        self.refused == 0 && self.complaints == 0
    }

    /// One line for standard output.
    pub(super) fn summary(&self) -> String {
        let verb = if self.is_dry { "read" } else { "stored" };
        let of_which = |count: u64, text: &dyn Fn(u64) -> String| if count > 0 { text(count) } else { String::new() };
        [
            format!("{verb} {} samples", self.samples + self.histograms),
            of_which(self.histograms, &|count| format!(" ({count} of them native histograms)")),
            of_which(self.exemplars, &|count| format!(" and {count} exemplars")),
            of_which(self.refused, &|count| format!("; the server refused {count}")),
            of_which(self.exemplars_refused, &|count| format!("; it left out {count} exemplars")),
        ]
        .concat()
    }
}

/// The way to the server.
pub(super) struct Delivery {
    server: Arc<ServerClient>,
    tenant: Option<String>,
    pub(super) selection: Selection,
    is_dry: bool,
    progress: Progress,
    in_flight: JoinSet<anyhow::Result<Answer>>,
    report: Report,
}

/// What the server said of one body.
struct Answer {
    sent: WriteBody,
    stored: [u64; 3],
    refusal: Option<String>,
}

impl Delivery {
    pub(super) fn new(
        server: ServerClient,
        tenant: Option<String>,
        selection: Selection,
        is_dry: bool,
        progress: Progress,
    ) -> Self {
        let report = Report { is_dry, ..Report::default() };
        Self { server: Arc::new(server), tenant, selection, is_dry, progress, in_flight: JoinSet::new(), report }
    }

    /// How the import shows how far it is.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Sends a batch, once there is room for one more.
    ///
    /// # Errors
    /// The server will not take any batch, or was away for too long; one of the batches before may be the reason.
    pub(super) async fn send(&mut self, batch: &MetricBatch) -> anyhow::Result<()> {
        for body in encode(batch)? {
            if self.is_dry {
                let stored = [body.samples, body.histograms, body.exemplars];
                self.count(Answer { sent: body, stored, refusal: None });
                continue;
            }
            while self.in_flight.len() >= IN_FLIGHT_MAX {
                self.settle_one().await?;
            }
            let (server, tenant) = (Arc::clone(&self.server), self.tenant.clone());
            self.in_flight.spawn(async move { post(&server, tenant.as_deref(), body).await });
        }
        Ok(())
    }

    /// Waits until everything sent is answered.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(super) async fn drain(&mut self) -> anyhow::Result<()> {
        while !self.in_flight.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }

    /// Says what was left out, up to a number of lines.
    pub(super) fn complain(&mut self, text: &str) {
        self.report.complaints += 1;
        if self.report.complaints <= COMPLAINTS_MAX {
            self.progress.say(text);
        } else if self.report.complaints == COMPLAINTS_MAX + 1 {
            self.progress.say("more of these are not shown");
        }
    }

    /// What became of it all.
    pub(super) fn finish(self) -> Report {
        self.report
    }

    async fn settle_one(&mut self) -> anyhow::Result<()> {
        if let Some(done) = self.in_flight.join_next().await {
            let answer = done.context("a sending task panicked")??;
            self.count(answer);
        }
        Ok(())
    }

    fn count(&mut self, Answer { sent, stored: [samples, histograms, exemplars], refusal }: Answer) {
        self.report.samples += samples;
        self.report.histograms += histograms;
        self.report.exemplars += exemplars;
        self.report.refused += (sent.samples + sent.histograms).saturating_sub(samples + histograms);
        self.report.exemplars_refused += sent.exemplars.saturating_sub(exemplars);
        self.progress.advance(sent.samples + sent.histograms);
        if let Some(refusal) = refusal {
            self.complain(&format!("the server: {refusal}"));
        }
    }
}

async fn post(server: &ServerClient, tenant: Option<&str>, body: WriteBody) -> anyhow::Result<Answer> {
    let begun = SystemClock.monotonic();
    let mut pause = PAUSE_MIN;
    loop {
        let kind = if body.is_v2 {
            "application/x-protobuf;proto=io.prometheus.write.v2.Request"
        } else {
            "application/x-protobuf"
        };
        let mut request = server
            .request(Method::POST, "api/v1/write")?
            .header(CONTENT_TYPE, kind)
            .header(CONTENT_ENCODING, "snappy")
            .timeout(REQUEST_TIMEOUT)
            .body(body.bytes.clone());
        if let Some(tenant) = tenant {
            request = request.header("x-scope-orgid", tenant);
        }
        let (why, wait) = match request.send().await {
            Ok(answer) if answer.status().is_success() || answer.status() == StatusCode::BAD_REQUEST => {
                let stored = written(answer.headers());
                let refused = answer.status() == StatusCode::BAD_REQUEST;
                let refusal = if refused { Some(server.refusal(answer).await) } else { None };
                return Ok(Answer { sent: body, stored, refusal });
            }
            Ok(answer) if answer.status() == StatusCode::TOO_MANY_REQUESTS || answer.status().is_server_error() => {
                let wait = retry_after(answer.headers());
                (server.complaint(answer).await, wait)
            }
            Ok(answer) => return Err(server.complaint(answer).await),
            // Nobody was ever there: a wrong URL need not be tried for minutes.
            Err(error) if error.is_connect() && begun.elapsed() > Duration::from_mins(1) => {
                return Err(anyhow!(error).context(format!("no answer from {}", server.url())));
            }
            Err(error) => (anyhow!(error).context(format!("no answer from {}", server.url())), None),
        };
        if begun.elapsed() > PATIENCE {
            return Err(why.context("the server did not take a batch for too long"));
        }
        tokio::time::sleep(wait.unwrap_or(pause).min(PAUSE_MAX)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Samples, histograms and exemplars that the answer says are stored.
fn written(headers: &HeaderMap) -> [u64; 3] {
    ["samples", "histograms", "exemplars"].map(|what| {
        let name = format!("x-prometheus-remote-write-{what}-written");
        headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
    })
}

/// Seconds; the form with a date is not used by this server.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}
