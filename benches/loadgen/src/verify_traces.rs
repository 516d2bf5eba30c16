//! `loadgen verify-traces`: asks a Jaeger API for the traces sent, each by its id, and counts their spans.

use crate::http::{Error, Http};
use crate::traces::{TraceShape, hex, trace_id};
use clap::Args;
use serde_json::{Value, json};

#[derive(Args, Clone, Debug)]
pub(crate) struct VerifyTracesArgs {
    /// Base address of a Jaeger API
    #[arg(long)]
    url: String,
    #[arg(long)]
    token: Option<String>,
    #[command(flatten)]
    shape: TraceShape,
    /// Ask for one of so many traces only
    #[arg(long, default_value_t = 1)]
    every: u64,
    #[arg(long, default_value_t = 4)]
    concurrency: u64,
}

/// Faults that are told one by one; the rest is counted.
const FAULTS_MAX: usize = 20;

/// What a share of the traces was found to be.
#[derive(Default)]
struct Found {
    asked: u64,
    missing_spans: u64,
    faults: Vec<String>,
}

impl Found {
    fn fault(&mut self, missing: u64, text: String) {
        self.missing_spans += missing;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(text);
        }
    }
}

async fn check(a: VerifyTracesArgs, worker: u64) -> Result<Found, Error> {
    let http = Http::new(a.token.as_deref(), false);
    let want = a.shape.spans_per_trace.max(1) as u64;
    let mut found = Found::default();
    for i in (0..a.shape.traces).step_by(a.every.max(1) as usize).skip(worker as usize).step_by(a.concurrency as usize)
    {
        let id = hex(&trace_id(a.shape.seed, i));
        let reply = http.get(&format!("{}/api/traces/{id}", a.url.trim_end_matches('/'))).await?;
        found.asked += 1;
        if !reply.ok() {
            found.fault(want, format!("trace {i} ({id}): {} {}", reply.code(), reply.text()));
            continue;
        }
        let answer: Value = serde_json::from_slice(&reply.body)?;
        let has = answer["data"][0]["spans"].as_array().map_or(0, Vec::len) as u64;
        if has != want {
            found.fault(want.abs_diff(has), format!("trace {i} ({id}): {has} spans, {want} were sent"));
        }
    }
    Ok(found)
}

pub(crate) async fn run(a: VerifyTracesArgs) -> Result<Value, Error> {
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..a.concurrency.max(1) {
        let args = VerifyTracesArgs { concurrency: a.concurrency.max(1), ..a.clone() };
        workers.spawn(check(args, worker));
    }
    let mut all = Found::default();
    while let Some(done) = workers.join_next().await {
        let found = done.map_err(|error| error.to_string())??;
        all.asked += found.asked;
        all.missing_spans += found.missing_spans;
        all.faults.extend(found.faults);
    }
    all.faults.truncate(FAULTS_MAX);
    Ok(json!({
        "ok": all.missing_spans == 0,
        "traces_asked": all.asked,
        "spans_missing": all.missing_spans,
        "faults": all.faults,
    }))
}
