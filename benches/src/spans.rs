//! Traces of a small shop: a root at the front door and the calls behind it.

use std::path::Path;
use std::sync::Arc;

use pharos_base::{HumanDuration, SimClock};
use pharos_model::{
    Attribute, AttributeValue, Resource, Scope, Span, SpanBatch, SpanGroup, SpanId, SpanKind, SpanStatus, StatusCode,
    TenantId, TraceId,
};
use pharos_storage::{BatchId, TraceStore};
use pharos_tracestore::{Components, Settings, SpanStore, SyncPolicy};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::SEED;

/// Spans of every trace.
pub const SPANS_PER_TRACE: usize = 20;
/// What the store's clock says: a little after the newest span.
const NOW_MS: i64 = 1_795_230_000_000;
const SERVICES: [&str; 5] = ["frontend", "cart", "checkout", "payment", "catalog"];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
/// The traces begin this far before [`NOW_MS`], and each starts [`TRACE_GAP_NS`] after the one before.
const LEAD_NS: u64 = 3_600 * 1_000_000_000;
const TRACE_GAP_NS: u64 = 10_000_000;
const CUSTOMERS: u64 = 10_000;
/// One span in this many fails.
const ERROR_ONE_IN: u32 = 100;

/// Makes traces; two loads make the same ones.
#[derive(Debug)]
pub struct SpanLoad {
    random: SmallRng,
    traces: u64,
    newest: TraceId,
    resources: [Arc<Resource>; SERVICES.len()],
    scope: Arc<Scope>,
}

impl Default for SpanLoad {
    fn default() -> Self {
        let resource = |service: &str| {
            let attributes = vec![text("service.name", service), text("host.name", &format!("{service}-7c9f5"))];
            Arc::new(Resource { attributes, ..Resource::default() })
        };
        Self {
            random: SmallRng::seed_from_u64(SEED),
            traces: 0,
            newest: TraceId::default(),
            resources: SERVICES.map(resource),
            scope: Arc::new(Scope { name: "bench".to_owned(), ..Scope::default() }),
        }
    }
}

impl SpanLoad {
    /// The id of the trace that was made last.
    #[must_use]
    pub fn newest(&self) -> TraceId {
        self.newest
    }

    /// The next `traces` traces as one batch, one group per service.
    pub fn batch(&mut self, traces: usize) -> SpanBatch {
        let mut by_service: [Vec<Span>; SERVICES.len()] = std::array::from_fn(|_| Vec::new());
        for _ in 0..traces {
            self.trace(&mut by_service);
        }
        let groups = by_service.into_iter().zip(&self.resources).filter(|(spans, _)| !spans.is_empty());
        SpanBatch {
            groups: groups
                .map(|(spans, resource)| SpanGroup {
                    resource: Arc::clone(resource),
                    scope: Arc::clone(&self.scope),
                    spans,
                })
                .collect(),
        }
    }

    /// Appends `batches` batches of `traces` traces to `store`.
    ///
    /// # Panics
    /// If the store refuses one: what follows would measure nothing.
    pub fn fill(&mut self, store: &dyn TraceStore, tenant: &TenantId, batches: usize, traces: usize) {
        for _ in 0..batches {
            let stored = store.append(tenant, self.batch(traces), BatchId::random()).wait();
            stored.expect("the store is open").expect("there is space");
        }
    }

    fn trace(&mut self, by_service: &mut [Vec<Span>; SERVICES.len()]) {
        let begin_ns = NOW_MS as u64 * 1_000_000 - LEAD_NS + self.traces * TRACE_GAP_NS;
        self.traces += 1;
        let mut id = [0; 16];
        self.random.fill_bytes(&mut id);
        self.newest = TraceId(id);
        let customer = self.random.random_range(0..CUSTOMERS);
        let mut root = SpanId::default();
        for number in 0..SPANS_PER_TRACE {
            let service = if number == 0 { 0 } else { self.random.random_range(0..SERVICES.len()) };
            let mut span = self.span(begin_ns + number as u64 * 200_000, customer);
            if number == 0 {
                root = span.span_id;
            } else {
                span.parent_span_id = root;
            }
            by_service[service].push(span);
        }
    }

    fn span(&mut self, start_ns: u64, customer: u64) -> Span {
        let mut span_id = [0; 8];
        self.random.fill_bytes(&mut span_id);
        let method = METHODS[self.random.random_range(0..METHODS.len())];
        let failed = self.random.random_range(0..ERROR_ONE_IN) == 0;
        Span {
            trace_id: self.newest,
            span_id: SpanId(span_id),
            name: format!("{method} /api/items"),
            kind: SpanKind::Server,
            start_ns,
            end_ns: start_ns + self.random.random_range(50_000..80_000_000_u64),
            attributes: vec![
                text("http.request.method", method),
                text("url.path", &format!("/api/items/{}", self.random.random_range(0..1_000_u32))),
                text("customer.id", &customer.to_string()),
                Attribute {
                    key: "http.response.status_code".to_owned(),
                    value: AttributeValue::Int(if failed { 500 } else { 200 }),
                },
            ],
            status: SpanStatus {
                code: if failed { StatusCode::Error } else { StatusCode::Unset },
                message: String::new(),
            },
            ..Span::default()
        }
    }
}

fn text(key: &str, value: &str) -> Attribute {
    Attribute { key: key.to_owned(), value: AttributeValue::String(value.to_owned()) }
}

/// A store in `folder` that acknowledges before the disk has synced: the disk shall not be what is measured.
///
/// # Panics
/// If the store does not open.
#[must_use]
pub fn open_traces(folder: &Path) -> SpanStore {
    let settings = Settings { sync: SyncPolicy::Interval(HumanDuration::from_ms(1_000)), ..Settings::default() };
    SpanStore::open(folder, settings, Components { clock: SimClock::at_ms(NOW_MS) }).expect("an empty folder opens")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_loads_are_equal_and_traces_are_whole() {
        let (one, other) = (SpanLoad::default().batch(7), SpanLoad::default().batch(7));
        assert_eq!(one, other);
        assert_eq!(one.span_count(), 7 * SPANS_PER_TRACE);
        let roots = one.groups.iter().flat_map(|group| &group.spans).filter(|span| span.parent_span_id.is_zero());
        assert_eq!(roots.count(), 7);
    }
}
