//! Calls, durations and sizes of one tenant's operations.
//!
//! Invariants
//! - R1 Every stored span counts in exactly one series: that of its operation, or where the tenant has too many of them one
//!   of its service's for the rest, or of its tenant's. Kind and status are always told apart, so that rates and errors of
//!   a service stay right whatever its operations are called.
//!   Lost is only what the store takes later than `span_metrics.idle_max` after it came.
//! - R2 Counters only rise while their series lives (`life.rs`). One that ends is marked stale, and begins again from a zero.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use pharos_model::{
    Exemplar, Histogram, Labels, LabelsBuilder, METRIC_NAME, Sample, SpanId, SpanKind, StatusCode, TraceId, stale_nan,
};

use crate::flush::{ExemplarTurn, Instants};
use crate::life::{Life, Settled, Step};
use crate::names::{
    BOUNDS_NS, CALLS, DURATION, MS_NS, OVERFLOW, SERVICE, SERVICE_NAME, SIZE, bounds_in, kind_label, label_name,
    status_label,
};
use crate::output::Output;
use crate::slots::{Place, Slots};
use crate::tally::Tally;

const BUCKETS: usize = BOUNDS_NS.len() + 1;

/// What tells series apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'a> {
    pub(crate) service: &'a Arc<str>,
    /// Hash of `service`, computed once for all spans of a resource.
    pub(crate) service_hash: u64,
    pub(crate) name: &'a str,
    pub(crate) kind: SpanKind,
    pub(crate) status: StatusCode,
    /// Values of the dimensions, see [`push_dimension`].
    pub(crate) dimensions: &'a [u8],
}

/// How far a series is from a single operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Operation,
    RestOfService,
    RestOfTenant,
}

/// A span that stands for its series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Witness {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) duration_ns: u64,
    pub(crate) seen_ms: i64,
}

#[derive(Debug)]
struct Series {
    detail: Detail,
    service: Arc<str>,
    name: Box<str>,
    kind: SpanKind,
    status: StatusCode,
    dimensions: Box<[u8]>,
    durations: Tally<BUCKETS>,
    bytes: f64,
    life: Life,
    /// Made when the series is first flushed.
    labels: Option<SeriesLabels>,
    slowest: Option<Witness>,
    latest: Option<Witness>,
}

#[derive(Debug)]
struct SeriesLabels {
    calls: Labels,
    duration: Labels,
    size: Labels,
}

/// The series of one tenant.
#[derive(Debug)]
pub(crate) struct Red {
    slots: Slots<Series>,
    hasher: foldhash::fast::RandomState,
    series_max: usize,
    dimension_labels: Vec<String>,
    bounds_ms: Vec<f64>,
}

impl Red {
    /// `dimensions` are the keys of attributes, `own` labels before theirs.
    pub(crate) fn new(series_max: usize, own: &[&str], dimensions: &[String]) -> Self {
        Self {
            slots: Slots::default(),
            hasher: foldhash::fast::RandomState::default(),
            series_max,
            dimension_labels: own
                .iter()
                .map(|&label| label.to_owned())
                .chain(dimensions.iter().map(|key| label_name(key)))
                .collect(),
            bounds_ms: bounds_in(&BOUNDS_NS, MS_NS),
        }
    }

    /// How many series there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many places to flush.
    pub(crate) fn places(&self) -> usize {
        self.slots.places()
    }

    /// What [`Key::service_hash`] is.
    pub(crate) fn hash_service(&self, service: &str) -> u64 {
        self.hasher.hash_one(service)
    }

    /// The series of a key, and whether it is that of its operation alone.
    #[inline]
    pub(crate) fn find_or_make(&mut self, key: &Key<'_>, now_ms: i64) -> (Place, bool) {
        let (place, is_own) = self.place_of(key, now_ms);
        if let Some(series) = self.slots.get_mut(place) {
            series.life.see(now_ms);
        }
        (place, is_own)
    }

    #[inline]
    fn place_of(&mut self, key: &Key<'_>, now_ms: i64) -> (Place, bool) {
        if let Some(place) = self.find(key, Detail::Operation) {
            return (place, true);
        }
        if self.slots.len() < self.series_max {
            return (self.make(key, Detail::Operation, now_ms), true);
        }
        let rest = Key { name: "", dimensions: &[], ..*key };
        // Services are named by senders, too: what is kept for their rest is bounded as well.
        let detail = match self.find(&rest, Detail::RestOfService) {
            Some(place) => return (place, false),
            None if self.slots.len() < self.series_max + self.series_max / 4 => Detail::RestOfService,
            None => Detail::RestOfTenant,
        };
        let place = match self.find(&rest, detail) {
            Some(place) => place,
            None => self.make(&rest, detail, now_ms),
        };
        (place, false)
    }

    fn find(&self, key: &Key<'_>, detail: Detail) -> Option<Place> {
        self.slots.find(self.hash(key, detail), |series| series.is(key, detail))
    }

    fn make(&mut self, key: &Key<'_>, detail: Detail, now_ms: i64) -> Place {
        let series = Series {
            detail,
            service: Arc::clone(key.service),
            name: key.name.into(),
            kind: key.kind,
            status: key.status,
            dimensions: key.dimensions.into(),
            durations: Tally::new(),
            bytes: 0.0,
            life: Life::new(now_ms),
            labels: None,
            slowest: None,
            latest: None,
        };
        self.slots.insert(self.hash(key, detail), series)
    }

    fn hash(&self, key: &Key<'_>, detail: Detail) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(detail as u32 | (key.kind as u32) << 8 | (key.status as u32) << 16);
        if detail != Detail::RestOfTenant {
            hasher.write_u64(key.service_hash);
        }
        hasher.write(key.name.as_bytes());
        if !key.dimensions.is_empty() {
            hasher.write(key.dimensions);
        }
        hasher.finish()
    }

    /// Counts a span; false if its series has ended meanwhile.
    #[inline]
    pub(crate) fn count(&mut self, place: Place, witness: Witness, weight: f64, bytes: u32) -> bool {
        let Some(series) = self.slots.get_mut(place) else { return false };
        if series.life.count(witness.seen_ms) {
            series.durations = Tally::new();
            series.bytes = 0.0;
        }
        series.durations.add(witness.duration_ns, weight, &BOUNDS_NS);
        series.bytes += f64::from(bytes) * weight;
        if series.slowest.is_none_or(|slowest| slowest.duration_ns <= witness.duration_ns) {
            series.slowest = Some(witness);
        }
        series.latest = Some(witness);
        true
    }

    /// Writes place number `index`; what of it the store took is then told by [`Red::settle`].
    pub(crate) fn flush(&mut self, index: usize, at: Instants, exemplars: &mut ExemplarTurn, output: &mut Output) {
        let Some(series) = self.slots.at(index) else { return };
        let step = series.life.step(at.now_ms, at.idle_since_ms);
        let begins = match step {
            Step::Nothing => return,
            Step::Forget => return drop(self.slots.remove(index)),
            Step::Values { begins } => Some(begins),
            Step::End => None,
        };
        let labels = series.labels.take().unwrap_or_else(|| series.make_labels(&self.dimension_labels));
        if let Some(begins) = begins {
            series.write(&labels, at.now_ms, begins, &self.bounds_ms, output);
            for witness in series.take_witnesses().into_iter().filter(|_| exemplars.takes(index)) {
                output.exemplar(witness.exemplar());
            }
            output.finish(&labels.duration);
        } else {
            output.end(&labels.calls, at.now_ms);
            output.end(&labels.size, at.now_ms);
            output.end_histogram(&labels.duration, at.now_ms);
        }
        series.labels = Some(labels);
    }

    /// Learns whether the store took what was written of place number `index`.
    pub(crate) fn settle(&mut self, index: usize, is_stored: bool) {
        if self.slots.at(index).is_some_and(|series| series.life.settle(is_stored) == Settled::Ended) {
            self.slots.remove(index);
        }
    }
}

impl Series {
    #[inline]
    fn is(&self, key: &Key<'_>, detail: Detail) -> bool {
        self.detail == detail
            && self.kind == key.kind
            && self.status == key.status
            && *self.name == *key.name
            && *self.dimensions == *key.dimensions
            && (detail == Detail::RestOfTenant
                || Arc::ptr_eq(&self.service, key.service)
                || self.service == *key.service)
    }

    fn make_labels(&self, dimension_labels: &[String]) -> SeriesLabels {
        let mut builder = LabelsBuilder::default();
        let mut of = |metric: &str, service: &str| {
            builder.clear();
            builder.push(METRIC_NAME, metric);
            builder.push("span_kind", kind_label(self.kind));
            builder.push("status_code", status_label(self.status));
            if self.detail != Detail::RestOfTenant {
                builder.push(service, &self.service);
            }
            if self.detail == Detail::Operation {
                builder.push("span_name", &self.name);
                for (label, value) in dimension_labels.iter().zip(dimension_values(&self.dimensions)) {
                    builder.push(label, value);
                }
            } else {
                builder.push(OVERFLOW, "true");
            }
            // Settings are checked: no dimension takes another label's name.
            builder.build().unwrap_or_default()
        };
        SeriesLabels { calls: of(CALLS, SERVICE_NAME), duration: of(DURATION, SERVICE_NAME), size: of(SIZE, SERVICE) }
    }

    fn write(&self, labels: &SeriesLabels, now_ms: i64, begins: bool, bounds_ms: &[f64], output: &mut Output) {
        // A zero where the series begins: without it the first spans would be in no rate.
        let created_ms = self.life.created_ms();
        for (labels, value) in [(&labels.calls, self.durations.count()), (&labels.size, self.bytes)] {
            if begins {
                output.sample(Sample { timestamp_ms: created_ms, value: 0.0 }, created_ms);
            }
            output.sample(Sample { timestamp_ms: now_ms, value }, created_ms);
            output.finish(labels);
        }
        if begins {
            output.histogram(created_ms, Tally::<BUCKETS>::new().histogram(bounds_ms, MS_NS), created_ms);
        }
        output.histogram(now_ms, self.durations.histogram(bounds_ms, MS_NS), created_ms);
    }

    /// The spans that stand for it since the last flush, in the order they came in.
    fn take_witnesses(&mut self) -> Vec<Witness> {
        let (slowest, latest) = (self.slowest.take(), self.latest.take());
        let latest = latest.filter(|latest| slowest.is_none_or(|slowest| slowest.span_id != latest.span_id));
        let mut witnesses: Vec<Witness> = slowest.into_iter().chain(latest).collect();
        witnesses.sort_unstable_by_key(|witness| witness.seen_ms);
        witnesses
    }
}

impl Witness {
    fn exemplar(&self) -> Exemplar {
        let ids = [("trace_id", self.trace_id.to_string()), ("span_id", self.span_id.to_string())];
        Exemplar {
            labels: Labels::from_pairs(ids).unwrap_or_default(),
            timestamp_ms: self.seen_ms,
            value: self.duration_ns as f64 / MS_NS,
        }
    }
}

/// Appends the value of the next dimension; empty where a span has none.
pub(crate) fn push_dimension(dimensions: &mut Vec<u8>, value: &str) {
    dimensions.extend_from_slice(&(value.len() as u16).to_le_bytes());
    dimensions.extend_from_slice(value.as_bytes());
}

fn dimension_values(mut dimensions: &[u8]) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (length, rest) = dimensions.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        dimensions = rest;
        std::str::from_utf8(value).ok()
    })
}

/// The marks of an end.
impl Output {
    pub(crate) fn end(&mut self, labels: &Labels, now_ms: i64) {
        self.sample(Sample { timestamp_ms: now_ms, value: stale_nan() }, 0);
        self.finish(labels);
    }

    pub(crate) fn end_histogram(&mut self, labels: &Labels, now_ms: i64) {
        self.histogram(now_ms, Histogram::stale(), 0);
        self.finish(labels);
    }
}
