//! What is known of one tenant's spans.
//!
//! One lock a tenant: it is held while a batch is looked at and while it is counted, some hundred nanoseconds a span, and at
//! a flush for a bounded number of series at a time.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use parking_lot::Mutex;
use pharos_model::{Attribute, AttributeValue, Resource, Span, SpanBatch, SpanGroup, SpanKind, StatusCode};
use pharos_storage::render_attribute_value;

use crate::adjusted::adjusted_count;
use crate::graph::{CallSpan, Graph, Peer};
use crate::names::cut;
use crate::output::Output;
use crate::red::{Key, Red, Witness, push_dimension};
use crate::slots::Place;
use crate::wire_size::span_bytes;
use crate::{ServiceGraphSettings, SpanMetricsSettings};

/// Names of services kept to be shared; further ones are copied for each batch.
const NAMES_MAX: usize = 100_000;
/// Series written before the lock is let go for a moment.
const FLUSH_PLACES: usize = 256;
/// Buffers kept for the next batches, and their largest size in spans.
const SPARE_MAX: (usize, usize) = (4, 16_384);

/// What a span will count for once it is stored.
#[derive(Debug)]
pub(crate) struct Notice {
    place: Option<Place>,
    witness: Witness,
    weight: f64,
    bytes: u32,
    call: Option<CallSpan>,
}

/// One tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    state: Mutex<State>,
    spare: Mutex<Vec<Vec<Notice>>>,
    red: Option<SpanMetricsSettings>,
    graph: Option<ServiceGraphSettings>,
    adjusted_counts: bool,
    age_max_ns: Option<u64>,
}

#[derive(Debug)]
struct State {
    names: HashSet<Arc<str>, RandomState>,
    red: Option<Red>,
    graph: Option<Graph>,
    dimensions: Vec<u8>,
    counts: Counts,
    has_metadata: bool,
    flushed_ms: i64,
}

/// What became of spans since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) counted: u64,
    pub(crate) overflowed: u64,
    pub(crate) too_old: u64,
}

/// What a tenant holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) counts: Counts,
    pub(crate) graph_counts: crate::graph::GraphCounts,
    pub(crate) series: usize,
    pub(crate) edges: usize,
    pub(crate) waiting: usize,
}

impl Tenant {
    pub(crate) fn new(red: &SpanMetricsSettings, graph: &ServiceGraphSettings) -> Self {
        let state = State {
            names: HashSet::default(),
            red: red.enabled.then(|| Red::new(red.series_max, &red.dimensions)),
            graph: graph.enabled.then(|| Graph::new(graph)),
            dimensions: Vec::new(),
            counts: Counts::default(),
            has_metadata: false,
            flushed_ms: i64::MIN,
        };
        Self {
            state: Mutex::new(state),
            spare: Mutex::new(Vec::new()),
            red: red.enabled.then(|| red.clone()),
            graph: graph.enabled.then(|| graph.clone()),
            adjusted_counts: red.adjusted_counts,
            age_max_ns: red.span_age_max.map(|age| age.as_ms().max(0) as u64 * pharos_model::NS_PER_MS),
        }
    }

    /// What the spans of a batch will count for.
    pub(crate) fn notice(&self, batch: &SpanBatch, now_ms: i64) -> Vec<Notice> {
        let mut notices = self.spare.lock().pop().unwrap_or_default();
        notices.reserve(batch.span_count());
        let oldest_ns = self.age_max_ns.map_or(0, |age_ns| pharos_model::ms_to_ns(now_ms).saturating_sub(age_ns));
        let mut state = self.state.lock();
        for group in &batch.groups {
            let service = state.shared(group.resource.service_name());
            let service_hash = state.red.as_ref().map_or(0, |red| red.hash_service(&service));
            for span in &group.spans {
                if span.end_ns < oldest_ns {
                    state.counts.too_old += 1;
                    continue;
                }
                notices.push(self.notice_span(&mut state, group, span, &service, service_hash, now_ms));
            }
        }
        notices
    }

    fn notice_span(
        &self,
        state: &mut State,
        group: &SpanGroup,
        span: &Span,
        service: &Arc<str>,
        service_hash: u64,
        now_ms: i64,
    ) -> Notice {
        let weight = if self.adjusted_counts { adjusted_count(&span.trace_state) } else { 1.0 };
        let State { red, dimensions, counts, .. } = state;
        let mut bytes = 0;
        let place = red.as_mut().zip(self.red.as_ref()).map(|(red, settings)| {
            bytes = u32::try_from(span_bytes(span)).unwrap_or(u32::MAX);
            dimensions.clear();
            for key in &settings.dimensions {
                let value = attribute(&span.attributes, key).or_else(|| attribute(&group.resource.attributes, key));
                push_dimension(dimensions, cut(&value.map(render_attribute_value).unwrap_or_default()));
            }
            let (kind, status) = (span.kind, span.status.code);
            let key = Key { service, service_hash, name: cut(&span.name), kind, status, dimensions };
            let (place, is_own) = red.find_or_make(&key, now_ms);
            counts.overflowed += u64::from(!is_own);
            place
        });
        let call = match (&self.graph, span.kind) {
            (None, _) | (_, SpanKind::Internal | SpanKind::Unspecified) => None,
            (Some(settings), kind) => Some(CallSpan {
                service: Arc::clone(service),
                peer: if kind == SpanKind::Client {
                    state.peer(settings, span, &group.resource)
                } else {
                    Peer::Unknown
                },
                kind,
                is_failed: span.status.code == StatusCode::Error,
                trace_id: span.trace_id,
                span_id: span.span_id,
                parent_span_id: span.parent_span_id,
                start_ns: span.start_ns,
                end_ns: span.end_ns,
                weight,
            }),
        };
        let witness = Witness {
            trace_id: span.trace_id,
            span_id: span.span_id,
            duration_ns: span.duration_ns(),
            seen_ms: now_ms,
        };
        Notice { place, witness, weight, bytes, call }
    }

    /// Counts a batch that was stored.
    pub(crate) fn count(&self, mut notices: Vec<Notice>, now_ms: i64) {
        let mut state = self.state.lock();
        let State { red, graph, counts, .. } = &mut *state;
        if let Some(graph) = graph {
            graph.expire(now_ms);
        }
        for notice in notices.drain(..) {
            counts.counted += 1;
            if let (Some(red), Some(place)) = (&mut *red, notice.place) {
                red.count(place, notice.witness, notice.weight, notice.bytes);
            }
            if let (Some(graph), Some(call)) = (&mut *graph, notice.call) {
                graph.add(call, now_ms);
            }
        }
        drop(state);
        self.keep(notices);
    }

    /// Keeps the memory of a buffer for another batch.
    pub(crate) fn keep(&self, mut notices: Vec<Notice>) {
        notices.clear();
        let mut spare = self.spare.lock();
        if spare.len() < SPARE_MAX.0 && notices.capacity() <= SPARE_MAX.1 {
            spare.push(notices);
        }
    }

    /// Writes everything to `each`, in batches of bounded size. Nothing if time has not gone on.
    pub(crate) fn flush(&self, now_ms: i64, each: &mut dyn FnMut(pharos_model::MetricBatch)) {
        let mut output = Output::default();
        let mut exemplars_left = self.red.as_ref().map_or(0, |red| red.exemplars_max);
        {
            let mut state = self.state.lock();
            if now_ms <= state.flushed_ms {
                return;
            }
            state.flushed_ms = now_ms;
            state.names.retain(|name| Arc::strong_count(name) > 1);
            if let Some(graph) = &mut state.graph {
                graph.expire(now_ms);
            }
            if !std::mem::replace(&mut state.has_metadata, true) {
                crate::metadata::write(self.red.is_some(), self.graph.is_some(), &mut output);
            }
        }
        let idle_ms = self.red.as_ref().map_or_else(|| SpanMetricsSettings::default().idle_max, |red| red.idle_max);
        let idle_since_ms = now_ms.saturating_sub(idle_ms.as_ms());
        let mut hand_on = |output: &mut Output| {
            let batch = output.take();
            if !batch.is_empty() {
                each(batch);
            }
        };
        let mut first = 0;
        loop {
            let mut state = self.state.lock();
            let State { red, graph, .. } = &mut *state;
            let red_places = red.as_ref().map_or(0, Red::places);
            let graph_places = graph.as_ref().map_or(0, Graph::places);
            for index in first..first + FLUSH_PLACES {
                if let Some(red) = red.as_mut().filter(|_| index < red_places) {
                    red.flush(index, now_ms, idle_since_ms, &mut exemplars_left, &mut output);
                }
                if let Some(graph) = graph.as_mut().filter(|_| index < graph_places) {
                    graph.flush(index, now_ms, idle_since_ms, &mut output);
                }
            }
            drop(state);
            first += FLUSH_PLACES;
            let is_done = first >= red_places.max(graph_places);
            if is_done || output.is_full() {
                hand_on(&mut output);
            }
            if is_done {
                return;
            }
        }
    }

    pub(crate) fn held(&self) -> Held {
        let state = self.state.lock();
        let graph = state.graph.as_ref();
        Held {
            counts: state.counts,
            graph_counts: graph.map(Graph::counts).unwrap_or_default(),
            series: state.red.as_ref().map_or(0, Red::len),
            edges: graph.map_or(0, Graph::len),
            waiting: graph.map_or(0, Graph::waiting),
        }
    }
}

impl State {
    /// A name that is in memory once.
    fn shared(&mut self, name: &str) -> Arc<str> {
        let name = cut(name);
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = Arc::from(name);
        if self.names.len() < NAMES_MAX {
            self.names.insert(Arc::clone(&name));
        }
        name
    }

    fn peer(&mut self, settings: &ServiceGraphSettings, span: &Span, resource: &Resource) -> Peer {
        if let Some(database) = first_text(&span.attributes, &settings.database_attributes) {
            return Peer::Database(self.shared(database));
        }
        let peers = &settings.peer_attributes;
        let named = first_text(&span.attributes, peers).or_else(|| first_text(&resource.attributes, peers));
        named.map_or(Peer::Unknown, |name| Peer::Named(self.shared(name)))
    }
}

#[inline]
fn attribute<'a>(attributes: &'a [Attribute], key: &str) -> Option<&'a AttributeValue> {
    attributes.iter().find(|attribute| attribute.key == *key).map(|attribute| &attribute.value)
}

/// The text of the first of `keys` that is there with one.
fn first_text<'a>(attributes: &'a [Attribute], keys: &[String]) -> Option<&'a str> {
    let mut found: Option<(usize, &str)> = None;
    for attribute in attributes {
        let before = found.map_or(keys.len(), |(rank, _)| rank);
        if let Some(rank) = keys[..before].iter().position(|key| *key == attribute.key)
            && let AttributeValue::String(text) = &attribute.value
            && !text.is_empty()
        {
            found = Some((rank, text));
        }
    }
    found.map(|(_, text)| text)
}
