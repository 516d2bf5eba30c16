//! Random spans and queries from a seed: few services, names and values, so that everything collides;
//! late, duplicate and cross-day spans; every field of the model in use.

use std::sync::Arc;

use pharos_model::{
    Attribute, AttributeValue, Attributes, Link, Resource, Scope, Span, SpanBatch, SpanEvent, SpanGroup, SpanId,
    SpanKind, SpanStatus, StatusCode, TimeRangeNs, TraceId,
};

use crate::{SpanFilter, TraceQuery};

const KINDS: [SpanKind; 6] = [
    SpanKind::Unspecified,
    SpanKind::Internal,
    SpanKind::Server,
    SpanKind::Client,
    SpanKind::Producer,
    SpanKind::Consumer,
];
const STATUSES: [StatusCode; 3] = [StatusCode::Unset, StatusCode::Ok, StatusCode::Error];
const KEYS: [&str; 4] = ["http.status", "user", "region", "service.name"];
const NS_PER_HOUR: u64 = 3_600_000_000_000;

/// Makes batches; equal seeds make equal batches.
#[derive(Debug)]
pub struct SpanGenerator {
    state: u64,
    now_ns: u64,
    traces: u8,
    sent: Vec<SpanBatch>,
}

impl SpanGenerator {
    /// Spans of at most `traces` traces that start within the 48 hours before `now_ns`.
    #[must_use]
    pub fn new(seed: u64, now_ns: u64, traces: u8) -> Self {
        Self { state: seed, now_ns, traces, sent: Vec::new() }
    }

    /// A number in `0..below`, by the `SplitMix64` sequence.
    pub fn below(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A time at which some spans may start.
    pub(super) fn recent_ns(&mut self) -> u64 {
        self.now_ns - self.below(48) * NS_PER_HOUR
    }

    /// Every id that a batch may hold.
    #[must_use]
    pub fn trace_ids(&self) -> Vec<TraceId> {
        (0..self.traces).map(|number| TraceId([number; 16])).collect()
    }

    /// The next batch: new spans, or one that was sent before, or parts of it.
    pub fn batch(&mut self) -> SpanBatch {
        if !self.sent.is_empty() && self.one_in(5) {
            let index = self.below(self.sent.len() as u64) as usize;
            let mut again = self.sent[index].clone();
            if self.one_in(2) {
                again.groups.iter_mut().for_each(|group| group.spans.truncate(1));
            }
            return again;
        }
        let group_count = 1 + self.below(3);
        let batch = SpanBatch { groups: (0..group_count).map(|_| self.group()).collect() };
        self.sent.push(batch.clone());
        batch
    }

    fn group(&mut self) -> SpanGroup {
        let mut resource = Resource { attributes: self.attributes(2), ..Resource::default() };
        if !self.one_in(8) {
            let service = self.pick(&["web", "shop", "db", ""]);
            resource.attributes.push(text("service.name", service));
        }
        if self.one_in(4) {
            "https://example.org/1".clone_into(&mut resource.schema_url);
            resource.dropped_attributes_count = 2;
        }
        let scope = Scope {
            name: self.pick(&["", "lib", "http"]).to_owned(),
            version: self.pick(&["", "1", "2"]).to_owned(),
            attributes: self.attributes(1),
            dropped_attributes_count: self.below(2) as u32,
            schema_url: String::new(),
        };
        let span_count = 1 + self.below(5);
        let spans = (0..span_count).map(|_| self.span()).collect();
        SpanGroup { resource: Arc::new(resource), scope: Arc::new(scope), spans }
    }

    fn span(&mut self) -> Span {
        // Whole hours, so that many spans start at the same instant.
        let mut start_ns = self.now_ns - self.below(48) * NS_PER_HOUR;
        if self.one_in(2) {
            start_ns -= self.below(NS_PER_HOUR);
        }
        let duration_ns = match self.below(4) {
            0 => self.below(3),
            1 => 1_000_000 + self.below(3),
            2 => 1 << self.below(40),
            _ => self.below(10 * NS_PER_HOUR),
        };
        let mut span = Span {
            trace_id: TraceId([self.below(u64::from(self.traces)) as u8; 16]),
            span_id: SpanId([self.below(12) as u8; 8]),
            parent_span_id: SpanId([self.below(12) as u8; 8]),
            name: self.pick(&["GET /", "POST /cart", "query", ""]).to_owned(),
            kind: self.pick(&KINDS),
            start_ns,
            end_ns: start_ns + duration_ns,
            attributes: self.attributes(3),
            status: SpanStatus { code: self.pick(&STATUSES), message: self.pick(&["", "failed"]).to_owned() },
            ..Span::default()
        };
        if self.one_in(6) {
            span.end_ns = span.start_ns - 5;
            "k=v".clone_into(&mut span.trace_state);
            span.flags = 0x101;
            span.dropped_attributes_count = 1;
            span.dropped_events_count = 2;
            span.dropped_links_count = u32::MAX;
        }
        for _ in 0..self.below(3) {
            let time_ns = if self.one_in(4) { 0 } else { start_ns + self.below(100) };
            let attributes = self.attributes(2);
            span.events.push(SpanEvent { time_ns, name: "event".to_owned(), attributes, dropped_attributes_count: 3 });
        }
        if self.one_in(3) {
            span.links.push(Link {
                trace_id: TraceId([7; 16]),
                span_id: SpanId([8; 8]),
                trace_state: "x=y".to_owned(),
                attributes: self.attributes(2),
                dropped_attributes_count: 4,
                flags: 1,
            });
        }
        span
    }

    fn attributes(&mut self, count_max: u64) -> Attributes {
        let count = self.below(count_max + 1);
        (0..count).map(|_| Attribute { key: self.pick(&KEYS).to_owned(), value: self.value(0) }).collect()
    }

    fn value(&mut self, depth: u8) -> AttributeValue {
        match self.below(if depth < 2 { 12 } else { 7 }) {
            0 => AttributeValue::Empty,
            1 => AttributeValue::Bool(self.one_in(2)),
            2 => AttributeValue::Int(self.pick(&[500, 200, -1, i64::MIN, i64::MAX])),
            3 => AttributeValue::Double(self.pick(&[72.5, -0.0, f64::NAN, f64::INFINITY, 1e300])),
            4 => AttributeValue::Bytes(vec![self.below(3) as u8; self.below(3) as usize]),
            7 => AttributeValue::Array((0..self.below(3)).map(|_| self.value(depth + 1)).collect()),
            8 => AttributeValue::Map(self.attributes(2)),
            9 => AttributeValue::String("long ".repeat(60 + self.below(2) as usize)),
            _ => AttributeValue::String(self.pick(&["500", "eu", "ada", ""]).to_owned()),
        }
    }
}

fn text(key: &str, value: &str) -> Attribute {
    Attribute { key: key.to_owned(), value: AttributeValue::String(value.to_owned()) }
}

/// A query that has good chances to find some of the generator's spans, and to miss others.
pub fn random_query(generator: &mut SpanGenerator) -> TraceQuery {
    let now_ns = generator.now_ns;
    let mut query = TraceQuery {
        service: None,
        operation: None,
        filters: Vec::new(),
        predicate: None,
        start: TimeRangeNs::ALL,
        duration_min_ns: None,
        duration_max_ns: None,
        limit: generator.below(6) as usize,
    };
    if generator.one_in(2) {
        query.service = Some(generator.pick(&["web", "shop", "db", "unknown_service", "absent"]).to_owned());
    }
    if generator.one_in(4) {
        query.operation = Some(generator.pick(&["GET /", "query", "", "absent"]).to_owned());
    }
    for _ in 0..generator.below(3) {
        let key = generator.pick(&KEYS).to_owned();
        let value = generator.pick(&["500", "eu", "true", "72.5", "", "web", "lib", "AA==", "absent"]).to_owned();
        let value = if generator.one_in(8) { "long ".repeat(60) } else { value };
        query.filters.push(match generator.below(7) {
            0 | 1 => SpanFilter::Attribute { key, value },
            2 => SpanFilter::ResourceAttribute { key, value },
            3 => SpanFilter::Kind(generator.pick(&KINDS)),
            4 => SpanFilter::Status(generator.pick(&STATUSES)),
            5 => SpanFilter::NotStatus(generator.pick(&STATUSES)),
            _ => match generator.below(2) {
                0 => SpanFilter::ScopeName(generator.pick(&["", "lib", "absent"]).to_owned()),
                _ => SpanFilter::ScopeVersion(generator.pick(&["", "1", "absent"]).to_owned()),
            },
        });
    }
    if generator.one_in(2) {
        let start_ns = now_ns - generator.below(48) * NS_PER_HOUR;
        let end_ns = start_ns + generator.below(30) * NS_PER_HOUR;
        query.start = TimeRangeNs { start_ns, end_ns };
    }
    if generator.one_in(4) {
        query.duration_min_ns = Some(generator.pick(&[1, 1_000_000, 1_000_001, 1 << 34]));
    }
    if generator.one_in(4) {
        query.duration_max_ns = Some(generator.pick(&[0, 2, 1_000_001, 1 << 33, NS_PER_HOUR]));
    }
    query
}
