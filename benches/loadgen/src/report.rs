//! What a run tells about itself, as JSON.

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What the workers of one push counted.
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) accepted: u64,
    pub(crate) requests: u64,
    pub(crate) retries: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) error_sample: Option<String>,
    pub(crate) wire_bytes: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) latency_us: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            sent: 0,
            accepted: 0,
            requests: 0,
            retries: 0,
            errors: BTreeMap::new(),
            error_sample: None,
            wire_bytes: 0,
            raw_bytes: 0,
            latency_us: histogram(),
        }
    }
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("valid bounds")
}

impl Tally {
    pub(crate) fn error(&mut self, code: String, text: impl FnOnce() -> String) {
        *self.errors.entry(code).or_default() += 1;
        if self.error_sample.is_none() {
            self.error_sample = Some(text());
        }
    }
    pub(crate) fn add(&mut self, o: Tally) {
        self.sent += o.sent;
        self.accepted += o.accepted;
        self.requests += o.requests;
        self.retries += o.retries;
        self.wire_bytes += o.wire_bytes;
        self.raw_bytes += o.raw_bytes;
        for (k, n) in o.errors {
            *self.errors.entry(k).or_default() += n;
        }
        if self.error_sample.is_none() {
            self.error_sample = o.error_sample;
        }
        self.latency_us.add(o.latency_us).expect("same bounds");
    }
    /// The common part of a report; `unit` is "samples" or "spans".
    pub(crate) fn json(&self, unit: &str, took: Duration, usage: &Value) -> Value {
        let s = took.as_secs_f64();
        json!({
            (format!("{unit}_sent")): self.sent,
            (format!("{unit}_accepted")): self.accepted,
            "seconds": round(s),
            (format!("{unit}_per_s")): (self.accepted as f64 / s).round(),
            "requests": self.requests,
            "retries": self.retries,
            "errors": self.errors,
            "error_sample": self.error_sample,
            "wire_bytes": self.wire_bytes,
            "raw_bytes": self.raw_bytes,
            (format!("wire_bytes_per_{}", &unit[..unit.len() - 1])): round(self.wire_bytes as f64 / self.sent.max(1) as f64),
            "request_ms": quantiles(&self.latency_us),
            "usage": usage,
        })
    }
}

pub(crate) fn round(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}

pub(crate) fn quantiles(h: &Histogram<u64>) -> Value {
    let q = |p| round(h.value_at_quantile(p) as f64 / 1000.0);
    json!({
        "count": h.len(), "mean": round(h.mean() / 1000.0), "p50": q(0.5), "p95": q(0.95),
        "p99": q(0.99), "max": round(h.max() as f64 / 1000.0),
    })
}

/// User and system CPU seconds of a process (Linux; 100 ticks a second).
pub(crate) fn cpu_seconds(pid: &str) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let f: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((f.get(11)?.parse::<f64>().ok()? + f.get(12)?.parse::<f64>().ok()?) / 100.0)
}

fn status_kb(pid: &str, key: &str) -> Option<u64> {
    let s = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = s.lines().find(|l| l.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// CPU of this process and, where its pid is given, of the server.
pub(crate) struct Usage {
    at: Instant,
    own: f64,
    server: Option<(String, f64)>,
}

impl Usage {
    pub(crate) fn start(server: Option<u32>) -> Usage {
        let server = server.and_then(|p| {
            let p = p.to_string();
            cpu_seconds(&p).map(|c| (p, c))
        });
        Usage { at: Instant::now(), own: cpu_seconds("self").unwrap_or(0.0), server }
    }
    pub(crate) fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }
    pub(crate) fn json(&self) -> Value {
        let mut v = json!({ "loadgen_cpu_s": round(cpu_seconds("self").unwrap_or(0.0) - self.own) });
        if let Some((pid, cpu)) = &self.server {
            v["server_cpu_s"] = json!(cpu_seconds(pid).map(|c| round(c - cpu)));
            v["server_peak_rss_mb"] = json!(status_kb(pid, "VmHWM:").map(|k| k / 1024));
            v["server_rss_mb"] = json!(status_kb(pid, "VmRSS:").map(|k| k / 1024));
        }
        v
    }
}
