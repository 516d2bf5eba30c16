//! Requests through the call trees: spans with random latencies, and the measurements that go with them.

use pharos_base::random_bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::calls::{Call, VISITS, Work};

/// The payment provider has a bad moment this often, and for so long, nanoseconds.
const INCIDENT_PERIOD_NS: u64 = 7 * 60 * 1_000_000_000;
const INCIDENT_LENGTH_NS: u64 = 75 * 1_000_000_000;
const NS_PER_MS: f64 = 1e6;
/// A call over the network takes at least so long, milliseconds.
const NETWORK_MS: f64 = 0.3;

/// Which end of a call a span saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

/// A span before it becomes a message.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedSpan {
    pub(crate) service: &'static str,
    pub(crate) call: &'static Call,
    pub(crate) side: Side,
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
    pub(crate) parent_id: Option<[u8; 8]>,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) failed: bool,
    pub(crate) customer: u32,
}

/// Makes requests.
#[derive(Debug)]
pub(crate) struct Traffic {
    random: SmallRng,
}

struct Outcome {
    end_ns: u64,
    failed: bool,
}

/// What the spans of one request share.
struct Request {
    trace_id: [u8; 16],
    customer: u32,
    spans: Vec<SimulatedSpan>,
}

impl Traffic {
    /// Traffic that is different at each start: trace ids must be unique.
    pub(crate) fn new() -> Self {
        Self { random: SmallRng::from_seed(random_bytes()) }
    }

    /// How many visits a second begin at `at_ns`: a slow wave with some noise.
    pub(crate) fn visits_per_second(&mut self, at_ns: u64) -> u32 {
        let minutes = at_ns as f64 / 6e10;
        let wave = 8.0 + 4.0 * (minutes / 11.0).sin() + 2.0 * (minutes / 3.0).cos();
        (wave * self.random.random_range(0.7..1.3)).round() as u32
    }

    /// The spans of one visit that begins at `start_ns`.
    pub(crate) fn visit(&mut self, start_ns: u64) -> Vec<SimulatedSpan> {
        let total: u32 = VISITS.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.random.random_range(0..total);
        let call = VISITS.iter().find(|(weight, _)| {
            let hit = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            hit
        });
        let Some((_, call)) = call else { return Vec::new() };
        let trace_id = self.random.random();
        let mut request = Request { trace_id, customer: self.random.random_range(1..5_000), spans: Vec::new() };
        self.serve(&mut request, call, None, start_ns);
        request.spans
    }

    /// The server's side of a call: own work, then everything it calls in turn.
    fn serve(&mut self, request: &mut Request, call: &'static Call, parent: Option<[u8; 8]>, start_ns: u64) -> Outcome {
        let span_id: [u8; 8] = self.random.random();
        let (own_ms, error_rate) = weather(call, start_ns);
        let mut now_ns = start_ns + self.latency_ns(own_ms / 2.0);
        let mut failed = self.random.random_bool(error_rate);
        for inner in call.calls {
            if failed {
                break;
            }
            let outcome = self.ask(request, call.service, inner, span_id, now_ns);
            // A shop that cannot recommend still sells.
            failed |= outcome.failed && inner.service != "recommendations";
            now_ns = outcome.end_ns;
        }
        now_ns += self.latency_ns(own_ms / 2.0);
        let own = Seen { service: call.service, call, side: Side::Server, span_id, parent_id: parent };
        request.record(&own, start_ns, now_ns, failed);
        Outcome { end_ns: now_ns, failed }
    }

    /// The client's side of a call, with the server's side inside where the shop runs that server.
    fn ask(
        &mut self,
        request: &mut Request,
        caller: &'static str,
        call: &'static Call,
        parent: [u8; 8],
        start_ns: u64,
    ) -> Outcome {
        let span_id: [u8; 8] = self.random.random();
        let outcome = if call.work == Work::Http {
            let arrived_ns = start_ns + self.latency_ns(NETWORK_MS);
            let inner = self.serve(request, call, Some(span_id), arrived_ns);
            Outcome { end_ns: inner.end_ns + self.latency_ns(NETWORK_MS), ..inner }
        } else {
            let failed = self.random.random_bool(call.error_rate);
            Outcome { end_ns: start_ns + self.latency_ns(call.own_ms + NETWORK_MS), failed }
        };
        let own = Seen { service: caller, call, side: Side::Client, span_id, parent_id: Some(parent) };
        request.record(&own, start_ns, outcome.end_ns, outcome.failed);
        outcome
    }

    /// A latency around `typical_ms`: never zero, now and then much longer.
    fn latency_ns(&mut self, typical_ms: f64) -> u64 {
        let spread: f64 = self.random.random_range(0.5..1.6);
        let tail = if self.random.random_bool(0.02) { self.random.random_range(2.0..8.0) } else { 1.0 };
        (typical_ms * spread * tail * NS_PER_MS) as u64 + 1_000
    }
}

/// Latency and error rate of a call at a time: payments have bad moments.
fn weather(call: &Call, at_ns: u64) -> (f64, f64) {
    if call.service == "payment" && at_ns % INCIDENT_PERIOD_NS < INCIDENT_LENGTH_NS {
        (call.own_ms * 12.0, 0.25)
    } else {
        (call.own_ms, call.error_rate)
    }
}

/// Who saw a call, from which side.
struct Seen {
    service: &'static str,
    call: &'static Call,
    side: Side,
    span_id: [u8; 8],
    parent_id: Option<[u8; 8]>,
}

impl Request {
    fn record(&mut self, seen: &Seen, start_ns: u64, end_ns: u64, failed: bool) {
        self.spans.push(SimulatedSpan {
            service: seen.service,
            call: seen.call,
            side: seen.side,
            trace_id: self.trace_id,
            span_id: seen.span_id,
            parent_id: seen.parent_id,
            start_ns,
            end_ns,
            failed,
            customer: self.customer,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_span_lies_within_its_parent() {
        let mut traffic = Traffic::new();
        for _ in 0..200 {
            let spans = traffic.visit(1_700_000_000_000_000_000);
            assert_eq!(spans.iter().filter(|span| span.parent_id.is_none()).count(), 1);
            for span in &spans {
                assert!(span.start_ns < span.end_ns);
                if let Some(parent) = span.parent_id {
                    let parent = spans.iter().find(|other| other.span_id == parent).unwrap();
                    assert!(parent.start_ns <= span.start_ns && span.end_ns <= parent.end_ns);
                }
            }
        }
    }

    #[test]
    fn payments_fail_more_during_an_incident() {
        let mut traffic = Traffic::new();
        let mut failures = |at_ns: u64| {
            let spans: Vec<_> = (0..4_000).flat_map(|_| traffic.visit(at_ns)).collect();
            spans.iter().filter(|span| span.service == "payment" && span.failed).count()
        };
        let incident_ns = 1_000 * INCIDENT_PERIOD_NS;
        assert!(failures(incident_ns) > 4 * failures(incident_ns + 2 * INCIDENT_LENGTH_NS));
    }
}
