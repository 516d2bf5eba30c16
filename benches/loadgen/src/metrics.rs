//! `loadgen metrics`: pushes scrapes, in time order for every series.

use crate::http::{Encoding, Error, Http, Reply, grpc_frame};
use crate::report::{Tally, Usage};
use crate::series::{SLOTS, Slot, Target, counters, generation, layout};
use crate::wire::{Format, Scrapes, Template};
use bytes::Bytes;
use clap::Args;
use hyper::Method;
use opentelemetry_proto::tonic::collector::{
    metrics::v1::ExportMetricsServiceResponse, trace::v1::ExportTraceServiceResponse,
};
use prost::Message;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Which series and samples there are; push and verify must be given the same.
#[derive(Args, Clone, Debug)]
pub(crate) struct Shape {
    /// Active series at any time
    #[arg(long, default_value_t = 10_000)]
    pub(crate) series: usize,
    /// Percent of the targets replaced by new ones per hour
    #[arg(long, default_value_t = 0.0)]
    pub(crate) churn: f64,
    #[arg(long, default_value = "15s", value_parser = duration)]
    pub(crate) interval: Duration,
    #[arg(long, default_value = "6h", value_parser = duration)]
    pub(crate) span: Duration,
    /// UNIX seconds, or an offset from now such as -6h
    #[arg(long, default_value = "-6h", value_parser = start_ms, allow_hyphen_values = true)]
    pub(crate) start: i64,
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Scrape times stray by at most this much
    #[arg(long, default_value_t = 3)]
    pub(crate) jitter_ms: i64,
    /// Consecutive samples per series in one request (1 is what scraping gives)
    #[arg(long, default_value_t = 1)]
    pub(crate) fold: usize,
    /// All series are counters of one name, `http_requests_total` (remote write only)
    #[arg(long)]
    pub(crate) one_metric: bool,
}

impl Shape {
    pub(crate) fn ticks(&self) -> u64 {
        (self.span.as_millis() / self.interval.as_millis().max(1)) as u64
    }
    pub(crate) fn interval_ms(&self) -> i64 {
        self.interval.as_millis() as i64
    }
    /// A target's generation is settled once per request, at its first scrape.
    pub(crate) fn generation(&self, target: u64, tick: u64) -> u64 {
        let first = tick / self.fold as u64 * self.fold as u64;
        generation(self.seed, target, self.churn, self.interval.as_secs_f64(), first)
    }
    /// The series of each target.
    pub(crate) fn layout(&self) -> Vec<Slot> {
        if self.one_metric { counters() } else { layout() }
    }
    pub(crate) fn targets(&self) -> u64 {
        self.series.div_ceil(SLOTS) as u64
    }
    /// How many of a target's series are sent: all but for the last target.
    pub(crate) fn cut(&self, target: u64) -> usize {
        (self.series - target as usize * SLOTS).min(SLOTS)
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Push {
    /// Full address, e.g. <http://127.0.0.1:8428/api/v1/write>; for gRPC only http://host:port
    #[arg(long)]
    pub(crate) url: String,
    #[arg(long, default_value_t = 4)]
    pub(crate) concurrency: usize,
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// Defaults to snappy for remote write and gzip for OTLP
    #[arg(long, value_enum)]
    pub(crate) encoding: Option<Encoding>,
    /// Extra header, NAME:VALUE; repeatable
    #[arg(long = "header", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Also report CPU and memory of this process (Linux, same machine)
    #[arg(long)]
    pub(crate) server_pid: Option<u32>,
    /// How often a request is tried again after 429, 5xx or a broken connection
    #[arg(long, default_value_t = 5)]
    pub(crate) retries: u32,
    /// Encode everything before the clock starts
    #[arg(long)]
    pub(crate) pregen: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct MetricsArgs {
    #[command(flatten)]
    pub(crate) push: Push,
    #[command(flatten)]
    pub(crate) shape: Shape,
    #[arg(long, value_enum, default_value = "rw1")]
    pub(crate) format: Format,
    /// Samples per request, rounded to whole targets of 240 series
    #[arg(long, default_value_t = 10_000)]
    pub(crate) batch: usize,
    /// Samples a second over all workers; no limit when absent
    #[arg(long)]
    pub(crate) rate: Option<f64>,
}

pub(crate) fn duration(s: &str) -> Result<Duration, String> {
    let cut = s.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(s.len());
    let n: f64 = s[..cut].parse().map_err(|e| format!("{s}: {e}"))?;
    let unit = match &s[cut..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        u => return Err(format!("unknown unit {u}")),
    };
    if n < 0.0 { Err("negative".into()) } else { Ok(Duration::from_secs_f64(n * unit)) }
}

/// UNIX seconds, or an offset from now; in ms.
pub(crate) fn start_ms(s: &str) -> Result<i64, String> {
    match s.strip_prefix('-') {
        Some(back) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?;
            let at = now.checked_sub(duration(back)?).ok_or("that is before 1970")?;
            Ok(at.as_millis() as i64)
        }
        None => s.parse::<f64>().map(|x| (x * 1000.0) as i64).map_err(|e| e.to_string()),
    }
}

fn header(s: &str) -> Result<(String, String), String> {
    s.split_once(':').map(|(k, v)| (k.trim().into(), v.trim().into())).ok_or("NAME:VALUE".into())
}

/// One request, ready to go.
pub(crate) struct Packed {
    pub(crate) body: Bytes,
    pub(crate) raw: u64,
    /// Samples or spans in it.
    pub(crate) n: u64,
}

/// How requests of one kind are sent and their replies read.
pub(crate) struct Sender {
    http: Http,
    url: String,
    headers: Vec<(String, String)>,
    encoding: Encoding,
    grpc: bool,
    traces: bool,
    retries: u32,
}

impl Sender {
    pub(crate) fn new(p: &Push, format: Format, traces: bool) -> Sender {
        let grpc = format == Format::OtlpGrpc;
        let encoding = p.encoding.unwrap_or(if format.otlp() { Encoding::Gzip } else { Encoding::Snappy });
        let mut h: Vec<(String, String)> = p.headers.clone();
        let mut put = |k: &str, v: &str| h.push((k.into(), v.into()));
        let mut url = p.url.trim_end_matches('/').to_string();
        match format {
            Format::Rw1 => {
                put("content-type", "application/x-protobuf");
                put("x-prometheus-remote-write-version", "0.1.0");
            }
            Format::Rw2 => {
                put("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request");
                put("x-prometheus-remote-write-version", "2.0.0");
            }
            Format::OtlpHttp => put("content-type", "application/x-protobuf"),
            Format::OtlpGrpc => {
                put("content-type", "application/grpc");
                put("te", "trailers");
                let kind = if traces { "trace.v1.Trace" } else { "metrics.v1.Metrics" };
                url = format!("{url}/opentelemetry.proto.collector.{kind}Service/Export");
            }
        }
        if let Some(e) = encoding.name() {
            put(if grpc { "grpc-encoding" } else { "content-encoding" }, e);
        }
        let http = Http::new(p.token.as_deref(), grpc);
        Sender { http, url, headers: h, encoding, grpc, traces, retries: p.retries }
    }

    pub(crate) fn pack(&self, raw: &[u8], n: u64) -> Packed {
        let body = self.encoding.pack(raw);
        let body = if self.grpc { grpc_frame(self.encoding != Encoding::None, &body) } else { body.into() };
        Packed { body, raw: raw.len() as u64, n }
    }

    /// Sends one request, again where that may help, and counts what came of it.
    pub(crate) async fn send(&self, p: &Packed, t: &mut Tally) {
        t.sent += p.n;
        t.raw_bytes += p.raw;
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        for attempt in 0..=self.retries {
            if attempt > 0 {
                t.retries += 1;
                tokio::time::sleep(Duration::from_millis(50 << attempt.min(6))).await;
            }
            t.requests += 1;
            t.wire_bytes += p.body.len() as u64;
            let at = Instant::now();
            let reply: Result<Reply, Error> = self.http.send(Method::POST, &self.url, &headers, p.body.clone()).await;
            match reply {
                Ok(r) if r.ok() => {
                    // Of accepted requests: a quick refusal is no quick service.
                    t.latency_us.saturating_record(at.elapsed().as_micros() as u64);
                    let lost = self.rejected(&r, p.n).min(p.n);
                    t.accepted += p.n - lost;
                    if lost > 0 {
                        t.error("rejected".into(), || format!("{}, but {lost} of {} not taken", r.code(), p.n));
                    }
                    return;
                }
                Ok(r) => {
                    t.error(r.code(), || r.text());
                    // gRPC: 4 deadline, 8 exhausted, 14 unavailable.
                    if r.status != 429 && r.status < 500 && !matches!(r.grpc_status, Some(4 | 8 | 14)) {
                        return;
                    }
                }
                Err(e) => t.error("connection".into(), || format!("{e:?}")),
            }
        }
    }

    /// How much of an accepted request the server says it left out.
    fn rejected(&self, r: &Reply, n: u64) -> u64 {
        let written = r.headers.get("x-prometheus-remote-write-samples-written");
        if let Some(w) = written.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok()) {
            return n.saturating_sub(w);
        }
        // A 2.0 sender must take a reply without that header as nothing written:
        // that is how a server that knows 1.0 only and sees an empty request replies.
        if self.headers.iter().any(|(k, v)| k == "x-prometheus-remote-write-version" && v.starts_with('2')) {
            return n;
        }
        let body = if self.grpc { r.body.get(5..).unwrap_or_default() } else { &r.body[..] };
        let otlp = self.headers.iter().all(|(k, _)| k != "x-prometheus-remote-write-version");
        if !otlp || body.is_empty() || body[0] == b'{' || self.grpc && r.body[0] != 0 {
            return 0;
        }
        let n = if self.traces {
            ExportTraceServiceResponse::decode(body).ok().and_then(|x| x.partial_success).map(|p| p.rejected_spans)
        } else {
            ExportMetricsServiceResponse::decode(body)
                .ok()
                .and_then(|x| x.partial_success)
                .map(|p| p.rejected_data_points)
        };
        n.unwrap_or(0).max(0) as u64
    }
}

/// When whose request is due under a limited rate: senders take turns, as they do who know nothing of each other. All at once
/// would be a burst of as many requests as there are senders, and nothing in between.
#[derive(Clone, Copy)]
pub(crate) struct Turns {
    rate: Option<f64>,
    senders: f64,
}

impl Turns {
    /// `rate` items a second, over all senders.
    pub(crate) fn new(rate: Option<f64>, senders: usize) -> Turns {
        Turns { rate, senders: senders as f64 }
    }

    /// When, after the begin, a request of `items` is due of the sender that has sent so many.
    fn due(self, sender: usize, sent: u64, items: u64) -> Duration {
        self.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64((sent as f64 * self.senders + sender as f64 * items as f64) / rate)
        })
    }

    /// Waits until it is.
    pub(crate) async fn wait(self, begin: Instant, sender: usize, sent: u64, items: u64) {
        tokio::time::sleep(self.due(sender, sent, items).saturating_sub(begin.elapsed())).await;
    }
}

/// A run of whole targets that travels in one request.
struct Chunk {
    targets: Vec<Target>,
    cols: usize,
    template: Option<Template>,
}

/// The requests of one worker, in time order.
struct Source {
    shape: Shape,
    format: Format,
    slots: Arc<Vec<Slot>>,
    chunks: Vec<Chunk>,
    tick: u64,
    chunk: usize,
    scrapes: Scrapes,
}

impl Source {
    fn new(a: &MetricsArgs, slots: &Arc<Vec<Slot>>, worker: usize) -> Source {
        let per_chunk = (a.batch / SLOTS / a.shape.fold).max(1);
        let mine: Vec<u64> = (worker as u64..a.shape.targets()).step_by(a.push.concurrency).collect();
        let chunks = mine.chunks(per_chunk).map(|ids| Chunk {
            targets: ids.iter().map(|&id| Target::new(a.shape.seed, id, slots, a.shape.interval_ms())).collect(),
            cols: ids.iter().map(|&id| a.shape.cut(id)).sum(),
            template: None,
        });
        Source {
            chunks: chunks.collect(),
            shape: a.shape.clone(),
            format: a.format,
            slots: slots.clone(),
            tick: 0,
            chunk: 0,
            scrapes: Scrapes { targets: 0, rows: 0, values: Vec::new(), times: Vec::new() },
        }
    }

    /// The next request: its first tick, bytes and samples; none when the span is over.
    fn next(&mut self) -> Option<(u64, &[u8], u64)> {
        let sh = &self.shape;
        if self.chunks.is_empty() || self.tick >= sh.ticks() {
            return None;
        }
        let rows = (sh.fold as u64).min(sh.ticks() - self.tick) as usize;
        let (tick, chunks) = (self.tick, self.chunks.len());
        let c = &mut self.chunks[self.chunk];
        let ids: Vec<(u64, u64)> = c.targets.iter().map(|t| (t.id, sh.generation(t.id, self.tick))).collect();
        for (t, &(_, g)) in c.targets.iter_mut().zip(&ids) {
            if t.generation != g {
                t.restart(&self.slots, g);
            }
        }
        let wanted = (ids, rows);
        if c.template.as_ref().is_none_or(|t| t.built_for != wanted) {
            c.template = Some(Template::build(self.format, &self.slots, sh.seed, &wanted.0, c.cols, rows));
        }
        let s = &mut self.scrapes;
        (s.targets, s.rows) = (c.targets.len(), rows);
        s.values.resize(rows * s.targets * SLOTS, 0.0);
        s.times.clear();
        let mut out = s.values.chunks_exact_mut(SLOTS);
        for row in 0..rows as u64 {
            for t in &mut c.targets {
                s.times.push(t.timestamp(sh.start, sh.interval_ms(), sh.jitter_ms, self.tick + row));
                t.step(&self.slots, sh.interval.as_secs_f64(), out.next().expect("sized"));
            }
        }
        self.chunk += 1;
        if self.chunk == chunks {
            self.chunk = 0;
            self.tick += rows as u64;
        }
        let t = c.template.as_mut().expect("built");
        let n = t.samples;
        Some((tick, t.fill(s), n))
    }
}

pub(crate) async fn run(mut a: MetricsArgs) -> Result<Value, Error> {
    a.shape.fold = a.shape.fold.max(1);
    if a.format.otlp() {
        if a.shape.one_metric {
            return Err("--one-metric is for remote write".into());
        }
        a.shape.series = a.shape.series.div_ceil(SLOTS) * SLOTS;
    }
    a.push.concurrency = a.push.concurrency.clamp(1, a.shape.targets().max(1) as usize);
    let slots = Arc::new(a.shape.layout());
    let workers: Vec<(Source, Sender)> =
        (0..a.push.concurrency).map(|w| (Source::new(&a, &slots, w), Sender::new(&a.push, a.format, false))).collect();
    let progress: Arc<Vec<AtomicU64>> = Arc::new(workers.iter().map(|_| AtomicU64::new(0)).collect());
    // Workers keep within five minutes of data of each other, as live sources do.
    let lead = (300.0 / a.shape.interval.as_secs_f64()).max(a.shape.fold as f64 * 2.0) as u64;
    let mut ready = Vec::new();
    for (mut src, snd) in workers {
        let mut queue = Vec::new();
        if a.push.pregen {
            while let Some((tick, raw, n)) = src.next() {
                queue.push((tick, snd.pack(raw, n)));
            }
        }
        ready.push((src, snd, queue));
    }
    let usage = Usage::start(a.push.server_pid);
    let turns = Turns::new(a.rate, a.push.concurrency);
    let mut tasks = Vec::new();
    for (w, (mut src, snd, queue)) in ready.into_iter().enumerate() {
        let progress = progress.clone();
        let pregen = a.push.pregen;
        tasks.push(tokio::spawn(async move {
            let mut t = Tally::default();
            let begin = Instant::now();
            let mut queue = queue.into_iter();
            loop {
                let (tick, p) = if pregen {
                    let Some(x) = queue.next() else { break };
                    x
                } else {
                    let Some((tick, raw, n)) = src.next() else {
                        break;
                    };
                    (tick, snd.pack(raw, n))
                };
                progress[w].store(tick, Relaxed);
                while tick > progress.iter().map(|p| p.load(Relaxed)).min().unwrap_or(0) + lead {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                turns.wait(begin, w, t.sent, p.n).await;
                snd.send(&p, &mut t).await;
            }
            progress[w].store(u64::MAX / 2, Relaxed);
            t
        }));
    }
    let mut all = Tally::default();
    for t in tasks {
        all.add(t.await?);
    }
    let mut out = all.json("samples", usage.elapsed(), &usage.json());
    let (sh, p) = (&a.shape, &a.push);
    out["settings"] = json!({
        "format": a.format, "encoding": p.encoding, "series": sh.series, "churn_pct_h": sh.churn,
        "interval_s": sh.interval.as_secs_f64(), "span_s": sh.span.as_secs_f64(), "start": sh.start as f64 / 1000.0,
        "seed": sh.seed, "fold": sh.fold, "batch": a.batch, "concurrency": p.concurrency, "pregen": p.pregen,
        "distinct_series": distinct(sh), "rate": a.rate,
    });
    Ok(out)
}

fn distinct(sh: &Shape) -> u64 {
    let last = sh.ticks().saturating_sub(1);
    (0..sh.targets()).map(|t| (sh.generation(t, last) - sh.generation(t, 0) + 1) * sh.cut(t) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_take_turns_at_the_rate_of_all() {
        let turns = Turns::new(Some(100.0), 4);
        let due = |sent: u64| [0, 1, 2, 3].map(|sender| turns.due(sender, sent, 10).as_millis());
        assert_eq!([due(0), due(10)], [[0, 100, 200, 300], [400, 500, 600, 700]]);
        assert_eq!(Turns::new(None, 4).due(3, 1_000, 10), Duration::ZERO);
    }

    fn args(concurrency: usize, fold: usize) -> MetricsArgs {
        MetricsArgs {
            push: Push {
                url: String::new(),
                concurrency,
                token: None,
                encoding: None,
                headers: Vec::new(),
                server_pid: None,
                retries: 0,
                pregen: false,
            },
            shape: Shape {
                series: 1000,
                churn: 50.0,
                interval: Duration::from_secs(15),
                span: Duration::from_hours(1),
                start: 1_760_000_000_000,
                seed: 3,
                jitter_ms: 3,
                fold,
                one_metric: false,
            },
            format: Format::Rw1,
            batch: 480,
            rate: None,
        }
    }

    fn all(a: &MetricsArgs) -> (u64, Vec<Vec<u8>>) {
        let slots = Arc::new(layout());
        let (mut n, mut bodies) = (0, Vec::new());
        for w in 0..a.push.concurrency {
            let mut s = Source::new(a, &slots, w);
            while let Some((_, b, k)) = s.next() {
                n += k;
                bodies.push(b.to_vec());
            }
        }
        (n, bodies)
    }

    #[test]
    fn every_sample_is_sent_once_whatever_the_concurrency() {
        for (c, fold) in [(1, 1), (3, 1), (2, 7)] {
            let (n, _) = all(&args(c, fold));
            assert_eq!(n, 1000 * 240);
        }
    }

    #[test]
    fn requests_are_deterministic() {
        assert_eq!(all(&args(2, 1)), all(&args(2, 1)));
        // One target a request: the same requests, only in another order.
        let sorted = |c| {
            let mut a = args(c, 1);
            a.batch = 240;
            let mut b = all(&a).1;
            b.sort_unstable();
            b
        };
        assert_eq!(sorted(1), sorted(4));
    }

    #[test]
    fn durations() {
        assert_eq!(duration("15s").unwrap(), Duration::from_secs(15));
        assert_eq!(duration("6h").unwrap(), Duration::from_hours(6));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert!(duration("5x").is_err());
        assert_eq!(start_ms("1760000000").unwrap(), 1_760_000_000_000);
    }
}
