//! What the services measure: request durations with exemplars, orders and revenue, carts, memory.

use std::collections::BTreeMap;

use crate::calls::{SERVICES, Work};
use crate::traffic::{Side, SimulatedSpan};

/// Upper bounds of the duration buckets, seconds: OpenTelemetry's advice for HTTP.
pub(crate) const DURATION_BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// An observation that links to its trace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TraceLink {
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
    pub(crate) at_ns: u64,
    pub(crate) seconds: f64,
}

/// Durations of one route with one outcome, since the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durations {
    pub(crate) buckets: [u64; DURATION_BOUNDS.len() + 1],
    pub(crate) count: u64,
    pub(crate) sum: f64,
    /// The newest observation of each bucket since the last report.
    pub(crate) links: BTreeMap<usize, TraceLink>,
}

/// A route of a service with its outcome.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) service: &'static str,
    pub(crate) name: &'static str,
    pub(crate) failed: bool,
}

/// All measurements since the start.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub(crate) durations: BTreeMap<Route, Durations>,
    pub(crate) orders: u64,
    pub(crate) orders_failed: u64,
    pub(crate) revenue: f64,
    pub(crate) open_carts: i64,
}

impl Meters {
    /// Takes the measurements of a span.
    pub(crate) fn observe(&mut self, span: &SimulatedSpan) {
        if span.side != Side::Server || span.call.work != Work::Http {
            return;
        }
        self.observe_business(span);
        let seconds = (span.end_ns - span.start_ns) as f64 / 1e9;
        let route = Route { service: span.service, name: span.call.name, failed: span.failed };
        let durations = self.durations.entry(route).or_default();
        let bucket = DURATION_BOUNDS.partition_point(|bound| *bound < seconds);
        durations.buckets[bucket] += 1;
        durations.count += 1;
        durations.sum += seconds;
        let link = TraceLink { trace_id: span.trace_id, span_id: span.span_id, at_ns: span.end_ns, seconds };
        durations.links.insert(bucket, link);
    }

    /// Forgets links to the trace of these spans.
    pub(crate) fn forget_links(&mut self, spans: &[SimulatedSpan]) {
        let Some(trace_id) = spans.first().map(|span| span.trace_id) else { return };
        for durations in self.durations.values_mut() {
            durations.links.retain(|_, link| link.trace_id != trace_id);
        }
    }

    fn observe_business(&mut self, span: &SimulatedSpan) {
        match span.call.name {
            "POST /orders" if span.failed => self.orders_failed += 1,
            "POST /orders" => {
                self.orders += 1;
                self.revenue += 5.0 + f64::from(span.customer % 97);
            }
            "POST /cart/items" => self.open_carts = (self.open_carts + 1).min(900),
            "DELETE /cart" => self.open_carts = (self.open_carts - 2).max(0),
            _ => {}
        }
    }

    /// Memory of a service at a time, bytes: a sawtooth, each service with its own period.
    pub(crate) fn memory_bytes(service: &str, at_ns: u64) -> i64 {
        let index = SERVICES.iter().position(|name| *name == service).unwrap_or(0) as u64;
        let period_ns = (90 + 20 * index) * 1_000_000_000;
        let filled = at_ns % period_ns * 64 / period_ns;
        (48 + 16 * index as i64 + filled as i64) << 20
    }
}
