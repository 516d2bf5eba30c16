//! What is known of one tenant's spans.
//!
//! One lock a tenant: it is held while a batch is looked at and while it is counted, some hundred nanoseconds a span, and at
//! a flush (`flush.rs`) for a bounded number of series at a time. Those of batches without an answer and of spare buffers
//! are never held with it.

use std::sync::Arc;

use parking_lot::Mutex;
use pharos_base::Completion;
use pharos_model::{
    Attribute, AttributeValue, Resource, Span, SpanBatch, SpanGroup, SpanKind, StatusCode, adjusted_count,
};
use pharos_storage::{AppendOutcome, StorageError, render_attribute_value};

use crate::graph::{CallSpan, Graph, Peer};
use crate::names::{INSTANCE, JOB, cut};
use crate::red::{Key, Red, Witness, push_dimension};
use crate::shared_names::SharedNames;
use crate::slots::Place;
use crate::targets::{Targets, instance, job};
use crate::wire_size::span_bytes;
use crate::{ServiceGraphSettings, SpanMetricsSettings};

/// Buffers kept for the next batches of all tenants, and their largest size in spans.
const SPARE_MAX: (usize, usize) = (4, 16_384);

/// What a store answers to a batch of spans.
pub(crate) type Answer = Completion<Result<AppendOutcome, StorageError>>;

/// What a span will count for once it is stored.
#[derive(Debug)]
pub(crate) struct Notice {
    place: Option<Place>,
    witness: Witness,
    weight: f64,
    bytes: u32,
    call: Option<CallSpan>,
}

/// Buffers for notices of the next batches, of all tenants together.
#[derive(Debug, Default)]
pub(crate) struct SpareNotices(Mutex<Vec<Vec<Notice>>>);

impl SpareNotices {
    fn take(&self) -> Vec<Notice> {
        self.0.lock().pop().unwrap_or_default()
    }

    fn give_back(&self, mut notices: Vec<Notice>) {
        notices.clear();
        let mut spare = self.0.lock();
        if spare.len() < SPARE_MAX.0 && notices.capacity() > 0 && notices.capacity() <= SPARE_MAX.1 {
            spare.push(notices);
        }
    }
}

/// A batch whose sender is gone before the store has answered.
#[derive(Debug)]
struct Unanswered {
    notices: Vec<Notice>,
    now_ms: i64,
    answer: Answer,
}

/// One tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) state: Mutex<State>,
    unanswered: Mutex<Vec<Unanswered>>,
    spare: Arc<SpareNotices>,
    pub(crate) red: Option<SpanMetricsSettings>,
    pub(crate) graph: Option<ServiceGraphSettings>,
    adjusted_counts: bool,
    age_max_ns: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) names: SharedNames,
    pub(crate) red: Option<Red>,
    pub(crate) graph: Option<Graph>,
    pub(crate) targets: Option<Targets>,
    /// Of the span that is looked at.
    dimensions: Vec<u8>,
    /// The part of it that all spans of its resource have.
    resource_dimensions: Vec<u8>,
    counts: Counts,
    /// The store has the metadata.
    pub(crate) has_metadata: bool,
    pub(crate) flushed_ms: i64,
    /// The place of the series whose links to traces come first at the next flush.
    pub(crate) exemplars_from: usize,
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
    pub(crate) targets: usize,
    pub(crate) targets_dropped: u64,
}

impl Tenant {
    pub(crate) fn new(red: &SpanMetricsSettings, graph: &ServiceGraphSettings, spare: Arc<SpareNotices>) -> Self {
        let state = State {
            names: SharedNames::default(),
            red: red.enabled.then(|| {
                let own: &[_] = if red.target_info { &[JOB, INSTANCE] } else { &[] };
                Red::new(red.series_max, own, &red.dimensions)
            }),
            graph: graph.enabled.then(|| Graph::new(graph)),
            targets: (red.enabled && red.target_info).then(|| Targets::new(red.target_info_max)),
            dimensions: Vec::new(),
            resource_dimensions: Vec::new(),
            counts: Counts::default(),
            has_metadata: false,
            flushed_ms: i64::MIN,
            exemplars_from: 0,
        };
        Self {
            state: Mutex::new(state),
            unanswered: Mutex::default(),
            spare,
            red: red.enabled.then(|| red.clone()),
            graph: graph.enabled.then(|| graph.clone()),
            adjusted_counts: red.adjusted_counts,
            age_max_ns: red.span_age_max.map(|age| age.as_ms().max(0) as u64 * pharos_model::NS_PER_MS),
        }
    }

    /// What the spans of a batch will count for.
    pub(crate) fn notice(&self, batch: &SpanBatch, now_ms: i64) -> Vec<Notice> {
        self.count_answered();
        let mut notices = self.spare.take();
        notices.reserve(batch.span_count());
        let oldest_ns = self.age_max_ns.map_or(0, |age_ns| pharos_model::ms_to_ns(now_ms).saturating_sub(age_ns));
        let mut state = self.state.lock();
        for group in &batch.groups {
            let service = state.names.shared(group.resource.service_name());
            state.see_resource(&group.resource, now_ms);
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
        let State { red, dimensions, resource_dimensions, counts, .. } = state;
        let mut bytes = 0;
        let place = red.as_mut().zip(self.red.as_ref()).map(|(red, settings)| {
            bytes = u32::try_from(span_bytes(span)).unwrap_or(u32::MAX);
            dimensions.clear();
            dimensions.extend_from_slice(resource_dimensions);
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
            let mut is_counted = red.is_none();
            if let (Some(red), Some(place)) = (&mut *red, notice.place) {
                is_counted = red.count(place, notice.witness, notice.weight, notice.bytes);
            }
            counts.counted += u64::from(is_counted);
            if let (Some(graph), Some(call)) = (&mut *graph, notice.call) {
                graph.add(call, now_ms);
            }
        }
        drop(state);
        self.spare.give_back(notices);
    }

    /// Counts a batch nobody waits for any more, if and when the store takes it.
    pub(crate) fn count_if(&self, notices: Vec<Notice>, now_ms: i64, answer: Answer) {
        // No more of them than batches in the store's queue, and each is smaller than its batch.
        self.unanswered.lock().push(Unanswered { notices, now_ms, answer });
        self.count_answered();
    }

    /// Counts what has been answered meanwhile of what nobody waits for.
    pub(crate) fn count_answered(&self) {
        let mut answered = Vec::new();
        self.unanswered.lock().retain_mut(|batch| {
            let Some(answer) = batch.answer.try_take() else { return true };
            answered.push((matches!(answer, Some(Ok(_))), std::mem::take(&mut batch.notices), batch.now_ms));
            false
        });
        for (is_stored, notices, now_ms) in answered {
            if is_stored {
                self.count(notices, now_ms);
            } else {
                self.spare.give_back(notices);
            }
        }
    }

    /// Forgets a batch that was refused.
    pub(crate) fn forget(&self, notices: Vec<Notice>) {
        self.spare.give_back(notices);
    }

    /// Whether nothing is known of it but what has been counted so far.
    pub(crate) fn is_idle(&self) -> bool {
        let held = self.held();
        held.series + held.edges + held.waiting + held.targets == 0 && self.unanswered.lock().is_empty()
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
            targets: state.targets.as_ref().map_or(0, Targets::len),
            targets_dropped: state.targets.as_ref().map_or(0, Targets::dropped),
        }
    }
}

impl State {
    /// Tells of who sends spans, if that is wanted.
    fn see_resource(&mut self, resource: &Resource, now_ms: i64) {
        let Some(targets) = &mut self.targets else { return };
        targets.see(resource, now_ms);
        self.resource_dimensions.clear();
        push_dimension(&mut self.resource_dimensions, &job(resource));
        push_dimension(&mut self.resource_dimensions, &instance(resource));
    }

    fn peer(&mut self, settings: &ServiceGraphSettings, span: &Span, resource: &Resource) -> Peer {
        if let Some(database) = first_text(&span.attributes, &settings.database_attributes) {
            return Peer::Database(self.names.shared(database));
        }
        let peers = &settings.peer_attributes;
        let named = first_text(&span.attributes, peers).or_else(|| first_text(&resource.attributes, peers));
        named.map_or(Peer::Unknown, |name| Peer::Named(self.names.shared(name)))
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
