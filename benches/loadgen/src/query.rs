//! `loadgen query`: runs a mix of queries and times them.

use crate::http::{Error, Http, escape};
use crate::metrics::{duration, start_ms};
use crate::report::{Usage, histogram, quantiles, round};
use crate::rng::{Rng, mix};
use crate::traces::{hex, trace_id};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Api {
    Prom,
    Jaeger,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct QueryArgs {
    /// Base address that the paths of the mix are put after
    #[arg(long)]
    pub(crate) url: String,
    #[arg(long, value_enum, default_value = "prom")]
    pub(crate) kind: Api,
    /// A JSON file as in mixes/, or "builtin"
    #[arg(long, default_value = "builtin")]
    pub(crate) mix: String,
    /// For the whole mix; each query gets an equal part, and at least `min-runs`
    #[arg(long, default_value = "20s", value_parser = duration)]
    pub(crate) duration: Duration,
    #[arg(long, default_value_t = 5)]
    pub(crate) min_runs: u64,
    #[arg(long, default_value_t = 1)]
    pub(crate) concurrency: usize,
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// End of the data: UNIX seconds or an offset from now
    #[arg(long, default_value = "-0s", value_parser = start_ms, allow_hyphen_values = true)]
    pub(crate) end: i64,
    /// How long before `end` the data begins ($start)
    #[arg(long, default_value = "6h", value_parser = duration)]
    pub(crate) span: Duration,
    /// Adds nocache=1, which VictoriaMetrics heeds and others ignore
    #[arg(long)]
    pub(crate) nocache: bool,
    /// Seed and number of the traces that were pushed, for $`trace_id`
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[arg(long, default_value_t = 10_000)]
    pub(crate) traces: u64,
    /// Only queries whose name contains this
    #[arg(long)]
    pub(crate) only: Option<String>,
    #[arg(long)]
    pub(crate) server_pid: Option<u32>,
}

#[derive(Deserialize, Clone, Debug)]
struct Query {
    name: String,
    path: String,
    #[serde(default)]
    params: Map<String, Value>,
}

/// Replaces $end, $start, $`end_us`, $`start_us` (each with +N or -N) and $`trace_id`.
fn expand(s: &str, start_ms: i64, end_ms: i64, trace: &str) -> String {
    let s = s.replace("$trace_id", trace);
    for (key, base) in [
        ("$end_us", end_ms * 1000),
        ("$start_us", start_ms * 1000),
        ("$end", end_ms / 1000),
        ("$start", start_ms / 1000),
    ] {
        if let Some(rest) = s.strip_prefix(key) {
            return (base + rest.parse::<i64>().unwrap_or(0)).to_string();
        }
    }
    s
}

fn url(a: &QueryArgs, q: &Query, trace: &str) -> String {
    let start = a.end - a.span.as_millis() as i64;
    let mut u = format!("{}{}", a.url.trim_end_matches('/'), q.path.replace("$trace_id", trace));
    let mut sep = "?";
    let mut put = |k: &str, v: &str| {
        for part in [sep, &escape(k), "=", &escape(v)] {
            u.push_str(part);
        }
        sep = "&";
    };
    for (k, v) in &q.params {
        put(k, &expand(v.as_str().unwrap_or_default(), start, a.end, trace));
    }
    if a.nocache {
        put("nocache", "1");
    }
    u
}

/// What an answer held, for comparing servers: counts, a sum, and a hash of the labels.
#[derive(Default, Debug, PartialEq)]
struct Answer {
    series: usize,
    points: usize,
    sum: f64,
    labels: u64,
}

/// The labels of a series as text, sorted by name: servers differ in the order.
fn label_text(metric: &Value) -> String {
    let sorted: BTreeMap<&String, &Value> = metric.as_object().into_iter().flatten().collect();
    format!("{sorted:?}")
}

fn answer(body: &[u8]) -> Result<Answer, Error> {
    let v: Value = serde_json::from_slice(body)?;
    let mut a = Answer::default();
    let mut names: Vec<String> = Vec::new();
    let data = &v["data"];
    let list = data.as_array().or(data["result"].as_array());
    let value = |p: &Value| p[1].as_str().and_then(|s| s.parse::<f64>().ok()).filter(|x| x.is_finite()).unwrap_or(0.0);
    for item in list.into_iter().flatten() {
        a.series += 1;
        if let Some(spans) = item["spans"].as_array() {
            a.points += spans.len();
            names.push(item["traceID"].to_string());
        } else if let Some(values) = item["values"].as_array() {
            a.points += values.len();
            a.sum += values.iter().map(value).sum::<f64>();
            names.push(label_text(&item["metric"]));
        } else if item.get("value").is_some() {
            a.points += 1;
            a.sum += value(&item["value"]);
            names.push(label_text(&item["metric"]));
        } else {
            a.points += 1;
            names.push(item.to_string());
        }
    }
    names.sort_unstable();
    for b in names.iter().flat_map(|n| n.bytes()) {
        a.labels = mix(a.labels, u64::from(b));
    }
    Ok(a)
}

struct Timing {
    first_ms: f64,
    latency: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    error_sample: Option<String>,
    bytes: u64,
    took: Duration,
    answer: Answer,
}

async fn time_one(a: &QueryArgs, q: &Query, clients: &[Http], share: Duration) -> Result<Timing, Error> {
    let fixed = hex(&trace_id(a.seed, a.traces / 2));
    let mut t = Timing {
        first_ms: 0.0,
        latency: histogram(),
        errors: BTreeMap::new(),
        error_sample: None,
        bytes: 0,
        took: Duration::ZERO,
        answer: Answer::default(),
    };
    // The first run is apart: caches are cold, and its answer is the one looked into.
    let at = Instant::now();
    let first = clients[0].get(&url(a, q, &fixed)).await;
    t.first_ms = round(at.elapsed().as_secs_f64() * 1000.0);
    match first {
        Ok(r) if r.ok() => {
            t.bytes = r.body.len() as u64;
            t.answer = answer(&r.body).unwrap_or_default();
        }
        Ok(r) => {
            *t.errors.entry(r.code()).or_default() += 1;
            t.error_sample = Some(r.text());
        }
        Err(e) => *t.errors.entry(format!("connection: {e}")).or_default() += 1,
    }
    let begin = Instant::now();
    let mut tasks = Vec::new();
    for (w, http) in clients.iter().cloned().enumerate() {
        let (a, q) = (a.clone(), q.clone());
        tasks.push(tokio::spawn(async move {
            let (mut lat, mut errs) = (histogram(), BTreeMap::new());
            let mut rng = Rng(mix(a.seed, w as u64));
            let mut runs = 0;
            while runs < a.min_runs || begin.elapsed() < share {
                runs += 1;
                let trace = hex(&trace_id(a.seed, rng.below(a.traces)));
                let u = url(&a, &q, &trace);
                let at = Instant::now();
                let reply = http.get(&u).await;
                lat.saturating_record(at.elapsed().as_micros() as u64);
                match reply {
                    Ok(r) if r.ok() => {}
                    Ok(r) => *errs.entry(r.code()).or_insert(0u64) += 1,
                    Err(_) => *errs.entry("connection".into()).or_insert(0) += 1,
                }
                if begin.elapsed() > share * 10 + Duration::from_secs(30) {
                    break;
                }
            }
            (lat, errs)
        }));
    }
    for task in tasks {
        let (lat, errs) = task.await?;
        t.latency.add(lat)?;
        for (k, n) in errs {
            *t.errors.entry(k).or_default() += n;
        }
    }
    t.took = begin.elapsed();
    Ok(t)
}

pub(crate) async fn run(a: QueryArgs) -> Result<Value, Error> {
    let text = match (a.mix.as_str(), a.kind) {
        ("builtin", Api::Prom) => include_str!("../mixes/prom.json").to_string(),
        ("builtin", Api::Jaeger) => include_str!("../mixes/jaeger.json").to_string(),
        (file, _) => std::fs::read_to_string(file)?,
    };
    let mut queries: Vec<Query> = serde_json::from_str(&text)?;
    if let Some(only) = &a.only {
        queries.retain(|q| q.name.contains(only.as_str()));
    }
    let share = a.duration / queries.len().max(1) as u32;
    let clients: Arc<Vec<Http>> =
        Arc::new((0..a.concurrency.max(1)).map(|_| Http::new(a.token.as_deref(), false)).collect());
    let usage = Usage::start(a.server_pid);
    let (mut rows, mut total) = (Vec::new(), histogram());
    for q in &queries {
        let before = Usage::start(a.server_pid);
        let t = time_one(&a, q, &clients, share).await?;
        total.add(&t.latency)?;
        let runs = t.latency.len();
        let cpu = before.json()["server_cpu_s"].as_f64().map(|c| round(c * 1000.0 / (runs + 1) as f64));
        rows.push(json!({
            "name": q.name, "first_ms": t.first_ms, "ms": quantiles(&t.latency),
            "qps": round(runs as f64 / t.took.as_secs_f64()), "errors": t.errors, "error_sample": t.error_sample,
            "server_cpu_ms_per_query": cpu, "response_bytes": t.bytes,
            "series": t.answer.series, "points": t.answer.points, "sum": t.answer.sum, "labels_hash": format!("{:016x}", t.answer.labels),
        }));
    }
    Ok(json!({
        "queries": rows, "all_ms": quantiles(&total), "seconds": round(usage.elapsed().as_secs_f64()),
        "concurrency": a.concurrency, "nocache": a.nocache, "end": a.end as f64 / 1000.0, "usage": usage.json(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_parse_and_expand() {
        for text in [include_str!("../mixes/prom.json"), include_str!("../mixes/jaeger.json")] {
            let q: Vec<Query> = serde_json::from_str(text).unwrap();
            assert!(q.len() >= 8);
        }
        assert_eq!(expand("$end-3600", 0, 5_000_000, ""), "1400");
        assert_eq!(expand("$start_us", 1000, 2000, ""), "1000000");
        assert_eq!(expand("x $end", 0, 0, ""), "x $end");
    }

    #[test]
    fn answers_are_counted_whatever_their_order() {
        let a = answer(br#"{"data":{"result":[{"metric":{"a":"1","b":"2"},"values":[[1,"2"],[2,"NaN"]]},{"metric":{"a":"2"},"values":[[1,"3"]]}]}}"#).unwrap();
        let b = answer(br#"{"data":{"result":[{"values":[[1,"3"]],"metric":{"a":"2"}},{"metric":{"b":"2","a":"1"},"values":[[1,"2"],[2,"NaN"]]}]}}"#).unwrap();
        assert_eq!(a, b);
        assert_eq!((a.series, a.points, a.sum), (2, 3, 5.0));
        let j = answer(br#"{"data":[{"traceID":"ab","spans":[{},{}]}]}"#).unwrap();
        assert_eq!((j.series, j.points), (1, 2));
    }
}
