//! `loadgen traces`: microservice traces as OTLP requests.

use crate::http::Error;
use crate::metrics::{Packed, Push, Sender, Turns, duration, start_ms};
use crate::report::{Tally, Usage};
use crate::rng::{Rng, mix};
use crate::wire::{Enc, Format};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TraceShape {
    #[arg(long, default_value_t = 10_000)]
    pub(crate) traces: u64,
    #[arg(long, default_value_t = 20)]
    pub(crate) spans_per_trace: usize,
    /// At most 16
    #[arg(long, default_value_t = 12)]
    pub(crate) services: usize,
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// UNIX seconds, or an offset from now such as -1h
    #[arg(long, default_value = "-1h", value_parser = start_ms, allow_hyphen_values = true)]
    pub(crate) start: i64,
    /// Traces begin evenly over this time
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub(crate) span_of_time: Duration,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TracesArgs {
    #[command(flatten)]
    pub(crate) push: Push,
    #[command(flatten)]
    pub(crate) shape: TraceShape,
    #[arg(long, value_enum, default_value = "http")]
    pub(crate) protocol: Protocol,
    /// Spans per request, rounded to whole traces
    #[arg(long, default_value_t = 2000)]
    pub(crate) batch: usize,
    /// Spans a second over all workers; no limit when absent
    #[arg(long)]
    pub(crate) rate: Option<f64>,
}

const SERVICES: [&str; 16] = [
    "gateway",
    "checkout",
    "cart",
    "catalog",
    "search",
    "auth",
    "users",
    "billing",
    "shipping",
    "inventory",
    "recommend",
    "notify",
    "reviews",
    "pricing",
    "media",
    "audit",
];
const PODS: u64 = 3;
const ROUTES: [(&str, &str); 8] = [
    ("GET", "/api/v1/items/{id}"),
    ("GET", "/api/v1/items"),
    ("POST", "/api/v1/orders"),
    ("GET", "/api/v1/orders/{id}"),
    ("PUT", "/api/v1/cart/{id}"),
    ("GET", "/api/v1/users/{id}"),
    ("DELETE", "/api/v1/cart/{id}"),
    ("POST", "/api/v1/login"),
];
const TABLES: [&str; 6] = ["orders", "items", "users", "carts", "payments", "stock"];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "okhttp/4.12.0",
    "python-requests/2.32.3",
    "Go-http-client/2.0",
];

/// The id of trace `i`.
pub(crate) fn trace_id(seed: u64, i: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(seed ^ 0x7ace, i * 2).to_be_bytes());
    id[8..].copy_from_slice(&mix(seed ^ 0x7ace, i * 2 + 1).to_be_bytes());
    id
}

pub(crate) fn hex(b: &[u8]) -> String {
    b.iter().fold(String::with_capacity(b.len() * 2), |mut text, x| {
        let _ = write!(text, "{x:02x}");
        text
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Server,
    Client { peer: usize },
    Db,
    Cache,
    Internal,
}

#[derive(Clone, Copy)]
struct Span {
    service: usize,
    parent: usize,
    kind: Kind,
    route: usize,
    start: u64,
    end: u64,
    failed: bool,
}

/// The spans of trace `i`, parents before children.
fn plan(sh: &TraceShape, i: u64, rng: &mut Rng) -> Vec<Span> {
    let n = sh.spans_per_trace.max(1);
    let services = sh.services.clamp(1, SERVICES.len());
    let every = sh.span_of_time.as_nanos() as f64 / sh.traces.max(1) as f64;
    let start = sh.start as u64 * 1_000_000 + (i as f64 * every + rng.f() * every) as u64;
    let took = (25e6 * (rng.norm() * 0.9).exp()) as u64 + 500_000;
    let trouble = rng.chance(0.12);
    let root = Span {
        service: 0,
        parent: usize::MAX,
        kind: Kind::Server,
        route: rng.below(8) as usize,
        start,
        end: start + took,
        failed: trouble && rng.chance(0.6),
    };
    let mut spans = vec![root];
    let mut servers = vec![0];
    while spans.len() < n {
        let at = servers[rng.below(servers.len() as u64) as usize];
        let p = spans[at];
        let room = p.end - p.start;
        let from = p.start + (rng.f() * 0.6 * room as f64) as u64;
        let len = ((p.end - from) as f64 * (0.1 + 0.8 * rng.f())) as u64;
        let child = |kind, parent, service, from: u64, end| Span {
            service,
            parent,
            kind,
            route: p.route,
            start: from,
            end,
            failed: false,
        };
        let dice = rng.f();
        let mut s = match dice {
            d if d < 0.35 && spans.len() + 1 < n && services > 1 => {
                let peer = (p.service + 1 + rng.below(services as u64 - 1) as usize) % services;
                let mut c = child(Kind::Client { peer }, at, p.service, from, from + len);
                c.route = rng.below(8) as usize;
                let net = len / 20;
                let mut s = child(Kind::Server, spans.len(), peer, from + net, from + len - net);
                s.route = c.route;
                s.failed = trouble && rng.chance(0.15);
                c.failed = s.failed;
                servers.push(spans.len() + 1);
                spans.push(c);
                s
            }
            d if d < 0.7 => child(Kind::Db, at, p.service, from, from + len),
            d if d < 0.85 => child(Kind::Cache, at, p.service, from, from + len / 8),
            _ => child(Kind::Internal, at, p.service, from, from + len),
        };
        if !matches!(s.kind, Kind::Server) {
            s.failed = trouble && rng.chance(0.12);
        }
        spans.push(s);
    }
    spans
}

#[expect(clippy::too_many_lines, reason = "a table of attributes, one arm per kind of span")]
fn write(e: &mut Enc, sh: &TraceShape, i: u64, k: usize, spans: &[Span], rng: &mut Rng) {
    let s = &spans[k];
    let id = |k: usize| mix(sh.seed ^ 0x59a4, i.wrapping_mul(4096) + k as u64).to_be_bytes();
    let (method, route) = ROUTES[s.route];
    let status = match (s.failed, rng.below(40)) {
        (true, _) => 500,
        (_, 0) => 404,
        (_, 1) => 302,
        _ => 200,
    };
    let path = route.replace("{id}", &(rng.below(2_000_000) + 1).to_string());
    e.bytes(1, &trace_id(sh.seed, i));
    e.bytes(2, &id(k));
    if s.parent != usize::MAX {
        e.bytes(4, &id(s.parent));
    }
    let table = TABLES[rng.below(6) as usize];
    let name = match s.kind {
        Kind::Server => format!("{method} {route}"),
        Kind::Client { .. } => format!("HTTP {method}"),
        Kind::Db => format!("SELECT shop.{table}"),
        Kind::Cache => "GET".to_string(),
        Kind::Internal => format!("{}.render", SERVICES[s.service]),
    };
    e.str(5, &name);
    e.uint(
        6,
        match s.kind {
            Kind::Server => 2,
            Kind::Internal => 1,
            _ => 3,
        },
    );
    e.fixed64(7, s.start);
    e.fixed64(8, s.end);
    e.attr(9, "thread.name", &format!("worker-{}", rng.below(16)));
    e.attr_int(9, "thread.id", rng.below(64) as i64);
    match s.kind {
        Kind::Server => {
            e.attr(9, "http.request.method", method);
            e.attr(9, "http.route", route);
            e.attr(9, "url.path", &path);
            e.attr(9, "url.scheme", "https");
            e.attr_int(9, "http.response.status_code", status);
            e.attr_int(9, "http.response.body.size", rng.below(40_000) as i64);
            e.attr(9, "user_agent.original", AGENTS[rng.below(4) as usize]);
            e.attr(9, "client.address", &format!("10.{}.{}.{}", rng.below(4), rng.below(250), rng.below(250)));
            e.attr(9, "enduser.id", &format!("user-{}", rng.below(20_000)));
            e.attr(9, "network.protocol.version", "1.1");
        }
        Kind::Client { peer } => {
            e.attr(9, "http.request.method", method);
            e.attr(9, "url.full", &format!("http://{}.prod.svc:8080{path}", SERVICES[peer]));
            e.attr(9, "server.address", &format!("{}.prod.svc", SERVICES[peer]));
            e.attr_int(9, "server.port", 8080);
            e.attr_int(9, "http.response.status_code", status);
            e.attr(9, "peer.service", SERVICES[peer]);
            e.attr(9, "network.protocol.version", "1.1");
            e.attr_int(9, "http.request.resend_count", 0);
        }
        Kind::Db => {
            e.attr(9, "db.system", "postgresql");
            e.attr(9, "db.namespace", "shop");
            e.attr(9, "db.operation.name", "SELECT");
            e.attr(9, "db.collection.name", table);
            let n = rng.below(500_000);
            e.attr(9, "db.statement", &format!(
                "SELECT id, state, total, updated_at FROM {table} WHERE owner_id = {n} AND state <> 'gone' ORDER BY updated_at DESC LIMIT 50"
            ));
            e.attr(9, "server.address", "postgres-primary.prod.svc");
            e.attr_int(9, "server.port", 5432);
            e.attr_int(9, "db.response.returned_rows", rng.below(50) as i64);
        }
        Kind::Cache => {
            e.attr(9, "db.system", "redis");
            e.attr(9, "db.operation.name", "GET");
            e.attr(9, "db.statement", &format!("GET {table}:{}", rng.below(1_000_000)));
            e.attr(9, "server.address", "redis-0.prod.svc");
            e.attr_int(9, "server.port", 6379);
            e.attr(9, "cache.hit", if rng.chance(0.8) { "true" } else { "false" });
        }
        Kind::Internal => {
            e.attr(9, "code.function.name", "render");
            e.attr(9, "code.file.path", &format!("src/{}/render.rs", SERVICES[s.service]));
            e.attr_int(9, "code.line.number", rng.below(900) as i64);
            e.attr(9, "tenant", &format!("tenant-{}", rng.below(50)));
            e.attr(9, "feature.flag", if rng.chance(0.5) { "new-cart" } else { "old-cart" });
        }
    }
    if s.failed {
        e.attr(9, "error.type", "java.net.SocketTimeoutException");
        e.msg(11, |e| {
            e.fixed64(1, s.end - (s.end - s.start) / 10);
            e.str(2, "exception");
            e.attr(3, "exception.type", "java.net.SocketTimeoutException");
            e.attr(3, "exception.message", &format!("Read timed out after {} ms", rng.below(3000)));
            e.attr(3, "exception.stacktrace", "java.net.SocketTimeoutException: Read timed out\n\tat java.base/sun.nio.ch.NioSocketImpl.timedRead(NioSocketImpl.java:288)\n\tat com.example.shop.Client.call(Client.java:112)");
        });
        e.msg(15, |e| {
            e.str(2, "upstream timed out");
            e.uint(3, 2);
        });
    } else if rng.chance(0.02) {
        e.msg(11, |e| {
            e.fixed64(1, u64::midpoint(s.start, s.end));
            e.str(2, "retry");
            e.attr_int(3, "attempt", 1);
        });
    }
}

/// The request with traces `from..to`, spans grouped by the pod that made them.
pub(crate) fn request(sh: &TraceShape, from: u64, to: u64) -> (Vec<u8>, u64) {
    let services = sh.services.clamp(1, SERVICES.len());
    let mut groups: Vec<Enc> = (0..services * PODS as usize).map(|_| Enc::default()).collect();
    let mut n = 0;
    for i in from..to {
        let mut rng = Rng(mix(sh.seed ^ 0x57a7, i));
        let spans = plan(sh, i, &mut rng);
        n += spans.len() as u64;
        for k in 0..spans.len() {
            let service = spans[k].service;
            let pod = mix(i, service as u64) % PODS;
            groups[service * PODS as usize + pod as usize].msg(2, |e| write(e, sh, i, k, &spans, &mut rng));
        }
    }
    let mut e = Enc::default();
    for (g, body) in groups.iter().enumerate().filter(|(_, b)| !b.buf.is_empty()) {
        let (service, pod) = (SERVICES[g / PODS as usize], g as u64 % PODS);
        let h = mix(sh.seed, g as u64);
        e.msg(1, |e| {
            e.msg(1, |e| {
                e.attr(1, "service.name", service);
                e.attr(1, "service.version", &format!("2.{}.{}", h % 9, (h >> 8) % 20));
                e.attr(1, "k8s.pod.name", &format!("{service}-{:08x}-{:05x}", h as u32, (h >> 40) & 0xfffff));
                e.attr(1, "host.name", &format!("node-{}", (g as u64 / 2 + pod) % 9));
                e.attr(1, "deployment.environment.name", "prod");
                e.attr(1, "telemetry.sdk.language", "java");
                e.attr(1, "telemetry.sdk.name", "opentelemetry");
            });
            e.msg(2, |e| {
                e.msg(1, |e| {
                    e.str(1, "io.opentelemetry.instrumentation");
                    e.str(2, "2.9.0");
                });
                e.buf.extend_from_slice(&body.buf);
            });
        });
    }
    (e.buf, n)
}

pub(crate) async fn run(a: TracesArgs) -> Result<Value, Error> {
    let sh = Arc::new(a.shape.clone());
    let format = if a.protocol == Protocol::Grpc { Format::OtlpGrpc } else { Format::OtlpHttp };
    let per = (a.batch / sh.spans_per_trace.max(1)).max(1) as u64;
    let batches = sh.traces.div_ceil(per) as usize;
    let pack = move |sh: &TraceShape, snd: &Sender, b: usize| {
        let from = b as u64 * per;
        let (raw, n) = request(sh, from, (from + per).min(sh.traces));
        snd.pack(&raw, n)
    };
    let senders: Vec<Sender> = (0..a.push.concurrency.max(1)).map(|_| Sender::new(&a.push, format, true)).collect();
    let ready: Arc<Vec<Packed>> =
        Arc::new(if a.push.pregen { (0..batches).map(|b| pack(&sh, &senders[0], b)).collect() } else { Vec::new() });
    let usage = Usage::start(a.push.server_pid);
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    let (turns, begin) = (Turns::new(a.rate, senders.len()), Instant::now());
    for (worker, snd) in senders.into_iter().enumerate() {
        let (sh, next, ready) = (sh.clone(), next.clone(), ready.clone());
        tasks.push(tokio::spawn(async move {
            let mut t = Tally::default();
            loop {
                let b = next.fetch_add(1, Relaxed);
                if b >= batches {
                    return t;
                }
                turns.wait(begin, worker, t.sent, per * sh.spans_per_trace as u64).await;
                match ready.get(b) {
                    Some(p) => snd.send(p, &mut t).await,
                    None => snd.send(&pack(&sh, &snd, b), &mut t).await,
                }
            }
        }));
    }
    let mut all = Tally::default();
    for t in tasks {
        all.add(t.await?);
    }
    let mut out = all.json("spans", usage.elapsed(), &usage.json());
    out["settings"] = json!({
        "format": format, "encoding": a.push.encoding, "traces": sh.traces, "spans_per_trace": sh.spans_per_trace,
        "services": sh.services, "seed": sh.seed, "start": sh.start as f64 / 1000.0,
        "span_of_time_s": sh.span_of_time.as_secs_f64(), "batch": a.batch, "concurrency": a.push.concurrency,
        "pregen": a.push.pregen, "first_trace_id": hex(&trace_id(sh.seed, 0)),
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message;
    use std::collections::HashMap;

    fn shape() -> TraceShape {
        TraceShape {
            traces: 500,
            spans_per_trace: 20,
            services: 12,
            seed: 5,
            start: 1_760_000_000_000,
            span_of_time: Duration::from_hours(1),
        }
    }

    #[test]
    fn deterministic_and_independent_of_batching() {
        assert_eq!(request(&shape(), 0, 50), request(&shape(), 0, 50));
        let one: u64 = (0..50).map(|i| request(&shape(), i, i + 1).1).sum();
        assert_eq!(one, request(&shape(), 0, 50).1);
        assert_eq!(one, 1000);
    }

    #[test]
    fn decodes_to_whole_trees() {
        let (raw, n) = request(&shape(), 0, 500);
        let req = ExportTraceServiceRequest::decode(&raw[..]).unwrap();
        let (mut spans, mut attrs, mut failed) = (HashMap::new(), 0, 0);
        for r in &req.resource_spans {
            assert_eq!(r.resource.as_ref().unwrap().attributes[0].key, "service.name");
            for s in r.scope_spans.iter().flat_map(|s| &s.spans) {
                assert!(s.end_time_unix_nano >= s.start_time_unix_nano);
                attrs += s.attributes.len();
                failed += usize::from(s.status.is_some());
                let at = (s.trace_id.clone(), s.span_id.clone());
                assert!(
                    spans
                        .insert(at, (s.parent_span_id.clone(), s.start_time_unix_nano, s.end_time_unix_nano))
                        .is_none()
                );
            }
        }
        assert_eq!(spans.len() as u64, n);
        assert_eq!(n, 10_000);
        let share = failed as f64 / n as f64;
        assert!((0.01..0.04).contains(&share), "{share}");
        assert!((8.0..12.0).contains(&(attrs as f64 / n as f64)));
        let mut roots = 0;
        for ((trace, _), (parent, start, end)) in &spans {
            if parent.is_empty() {
                roots += 1;
            } else {
                let (_, s, e) = spans[&(trace.clone(), parent.clone())];
                assert!(*start >= s && *end <= e);
            }
        }
        assert_eq!(roots, 500);
        assert!(spans.keys().any(|(t, _)| t[..] == trace_id(5, 123)));
    }
}
