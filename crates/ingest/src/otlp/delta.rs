//! Deltas become cumulative: what came of a stream is added up, and each point leaves as the sum so far.
//!
//! Senders send again what was refused, or what they believe lost; so the last few points of a stream are remembered with
//! their sums, and a point that comes again leaves as the same sample, to the bit. What cannot be added exactly once is
//! refused and told: a point whose interval overlaps what was counted.
//!
//! Invariants
//! - D1 A point is counted once, however often it comes, while it is one of the last [`POINTS_MAX`] of its stream.
//! - D2 A request that fails as a whole leaves no trace: what it changed is taken back.
//! - D3 A stream's sum begins anew, with a new start, only where its buckets change, it would grow beyond all numbers, or it was
//!   ended, or forgotten; the sums of one start never fall, if its deltas do not. It is always a number.
//! - D4 Memory is bounded per tenant. When it is full, known streams go on and new ones are refused by name.
//!
//! Lock order: tenants, then none; a tenant's streams before all that is [`known`](super::known).

mod pass;
mod value;

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hashbrown::{DefaultHashBuilder, HashMap};
use parking_lot::Mutex;
use pharos_model::{Fingerprint, TenantId};
use pharos_storage::RejectReason;

use super::OtlpSettings;
use crate::sink::Refusal;

pub(super) use pass::DeltaPass;
pub(super) use value::{Buckets, Total, Value};

/// Points of a stream that are remembered: an exporter has one batch on its way, a collector's queue some.
const POINTS_MAX: usize = 8;
const MINUTE_MS: i64 = 60_000;
/// What a stream takes beside its points: its place in the table, and what allocations waste.
const STREAM_BYTES: usize = size_of::<(StreamKey, Stream)>() + 48;

/// The streams of all tenants.
#[derive(Debug)]
pub(super) struct DeltaStreams {
    tenants: Mutex<HashMap<TenantId, Arc<Mutex<TenantStreams>>>>,
    limits: DeltaLimits,
    swept_ms: AtomicI64,
}

/// How much is remembered of a tenant, and for how long.
#[derive(Debug, Clone, Copy)]
struct DeltaLimits {
    streams_max: usize,
    memory_bytes_max: usize,
    stale_ms: i64,
}

/// What tells the streams of a tenant apart: the first series of its points, their kind, and the labels that the credential of
/// their sender sets beside, which alone may tell two clusters apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StreamKey {
    pub series: Fingerprint,
    pub kind: u8,
    /// A hash of those labels; 0 without.
    pub labels: u64,
}

/// The streams of one tenant.
#[derive(Debug)]
pub(super) struct TenantStreams {
    streams: HashMap<StreamKey, Stream>,
    hasher: DefaultHashBuilder,
    limits: DeltaLimits,
    bytes: usize,
    /// What the request at hand changed, to be taken back if it fails.
    undo: Vec<Undo>,
}

/// A stream: its last points, ascending in time, at least one.
#[derive(Debug, Default)]
struct Stream {
    points: VecDeque<Point>,
    /// When it was last added to, by the server's clock.
    used_ms: i64,
}

/// A point, and what the stream came to with it.
#[derive(Debug)]
struct Point {
    interval: Interval,
    digest: u64,
    /// Start of the sum, Unix nanoseconds; 0 if not known.
    first_ns: u64,
    /// `None`: the stream ended here.
    value: Option<Value>,
}

#[derive(Debug)]
struct Undo {
    key: StreamKey,
    /// The point that made room.
    forgotten: Option<Point>,
}

/// What a delta covers, Unix nanoseconds: `(start, end]`; a start of 0 is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub start_ns: u64,
    pub end_ns: u64,
}

/// What a stream came to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cumulative {
    /// Start of the sum, Unix nanoseconds; 0 if not known.
    pub first_ns: u64,
    /// `None`: the stream ended.
    pub value: Option<Value>,
}

impl DeltaStreams {
    pub(super) fn new(settings: &OtlpSettings) -> Self {
        let limits = DeltaLimits {
            streams_max: settings.delta_streams_max,
            memory_bytes_max: usize::try_from(settings.delta_memory_max.0).unwrap_or(usize::MAX),
            stale_ms: settings.delta_stale.as_ms(),
        };
        Self { tenants: Mutex::default(), limits, swept_ms: AtomicI64::new(i64::MIN) }
    }

    /// The streams of a tenant, none at first.
    pub(super) fn of(&self, tenant: &TenantId, now_ms: i64) -> Arc<Mutex<TenantStreams>> {
        self.sweep(now_ms);
        let mut tenants = self.tenants.lock();
        if let Some(streams) = tenants.get(tenant) {
            return Arc::clone(streams);
        }
        let streams = Arc::new(Mutex::new(TenantStreams::new(self.limits)));
        tenants.insert(tenant.clone(), Arc::clone(&streams));
        streams
    }

    /// Streams and their memory, all tenants together; those of a tenant that is being written are left out.
    pub(super) fn size(&self) -> (u64, u64) {
        let tenants: Vec<_> = self.tenants.lock().values().map(Arc::clone).collect();
        let sizes = tenants.iter().filter_map(|streams| {
            let streams = streams.try_lock()?;
            Some((streams.streams.len() as u64, streams.bytes as u64))
        });
        sizes.fold((0, 0), |(count, bytes), (more, more_bytes)| (count + more, bytes + more_bytes))
    }

    /// Forgets streams that were not added to for long, once a minute. A tenant that is being written waits for the next.
    fn sweep(&self, now_ms: i64) {
        let swept_ms = self.swept_ms.load(Ordering::Relaxed);
        if (swept_ms..swept_ms.saturating_add(MINUTE_MS)).contains(&now_ms) {
            return;
        }
        self.swept_ms.store(now_ms, Ordering::Relaxed);
        let tenants: Vec<_> = self.tenants.lock().values().map(Arc::clone).collect();
        for streams in &tenants {
            if let Some(mut streams) = streams.try_lock() {
                streams.forget_before(now_ms.saturating_sub(self.limits.stale_ms));
            }
        }
        drop(tenants);
        // Who holds a clone may be about to add to it.
        self.tenants.lock().retain(|_, streams| {
            Arc::strong_count(streams) > 1 || streams.try_lock().is_none_or(|streams| !streams.streams.is_empty())
        });
    }
}

impl TenantStreams {
    fn new(limits: DeltaLimits) -> Self {
        Self { streams: HashMap::new(), hasher: DefaultHashBuilder::default(), limits, bytes: 0, undo: Vec::new() }
    }

    fn forget_before(&mut self, oldest_ms: i64) {
        let mut forgotten_bytes = 0;
        self.streams.retain(|_, stream| {
            let stays = stream.used_ms >= oldest_ms;
            if !stays {
                forgotten_bytes += STREAM_BYTES + stream.points.iter().map(Point::bytes).sum::<usize>();
            }
            stays
        });
        self.bytes -= forgotten_bytes;
        if self.streams.capacity() > 4 * self.streams.len() {
            self.streams.shrink_to_fit();
        }
    }

    /// Adds a delta to its stream (`None`: the stream ends), and answers what the stream came to; where the point was met
    /// before, what it came to then.
    ///
    /// # Errors
    /// The interval overlaps what was counted, or ends before it starts; or there is no room for a new stream.
    fn add(
        &mut self,
        key: StreamKey,
        interval: Interval,
        delta: Option<Value>,
        (buckets_max, now_ms): (usize, i64),
    ) -> Result<Cumulative, Refusal> {
        let Interval { start_ns, end_ns } = interval;
        if start_ns > end_ns {
            return Err(unsupported(format!("delta point ends {} ns before it starts", start_ns - end_ns)));
        }
        let digest = self.hasher.hash_one(delta.as_ref().map(Value::words));
        let point = match self.streams.get(&key).and_then(|stream| Some((stream, stream.points.back()?))) {
            Some((stream, last)) => {
                let is_same = |point: &&Point| point.interval == interval && point.digest == digest;
                if let Some(point) = stream.points.iter().rev().find(is_same) {
                    return Ok(point.cumulative());
                }
                let last_ns = last.interval.end_ns;
                if end_ns <= last_ns || (start_ns > 0 && start_ns < last_ns) {
                    return Err(unsupported(format!(
                        "delta point of ({start_ns}, {end_ns}] ns overlaps what was counted up to {last_ns} ns"
                    )));
                }
                last.followed_by(interval, digest, delta, buckets_max)
            }
            // The end of what nobody knows is no stream.
            None if delta.is_none() => return Ok(Cumulative { first_ns: start_ns, value: None }),
            None => Point { interval, digest, first_ns: start_ns, value: delta },
        };
        self.push(key, point, now_ms)
    }

    fn push(&mut self, key: StreamKey, point: Point, now_ms: i64) -> Result<Cumulative, Refusal> {
        let DeltaLimits { streams_max, memory_bytes_max, .. } = self.limits;
        let known = self.streams.get(&key);
        let is_full = known.is_none() && self.streams.len() >= streams_max;
        let forgotten = known.filter(|stream| stream.points.len() >= POINTS_MAX).and_then(|s| s.points.front());
        let taken = point.bytes() + if known.is_none() { STREAM_BYTES } else { 0 };
        let bytes = self.bytes + taken - forgotten.map_or(0, Point::bytes);
        let is_short =
            bytes > memory_bytes_max && (known.is_none() || point.value.as_ref().is_some_and(Value::has_buckets));
        if is_full || is_short {
            let limit = if is_full {
                format!("ingest.otlp.delta_streams_max = {streams_max}")
            } else {
                format!("ingest.otlp.delta_memory_max = {memory_bytes_max}")
            };
            let message = format!(
                "no room to add up another delta stream: {limit} of the tenant is reached; send cumulative temporality, or raise it"
            );
            return Err(Refusal { reason: RejectReason::Limit, message });
        }
        let stream = self.streams.entry(key).or_default();
        let forgotten = if stream.points.len() >= POINTS_MAX { stream.points.pop_front() } else { None };
        let cumulative = point.cumulative();
        stream.points.push_back(point);
        stream.used_ms = now_ms;
        self.bytes = bytes;
        self.undo.push(Undo { key, forgotten });
        Ok(cumulative)
    }

    /// Takes back what was added since the last [`keep`](Self::keep).
    fn undo(&mut self) {
        while let Some(Undo { key, forgotten }) = self.undo.pop() {
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            let added = stream.points.pop_back();
            self.bytes -= added.as_ref().map_or(0, Point::bytes);
            if let Some(point) = forgotten {
                self.bytes += point.bytes();
                stream.points.push_front(point);
            }
            if stream.points.is_empty() {
                self.streams.remove(&key);
                self.bytes -= STREAM_BYTES;
            }
        }
    }

    fn keep(&mut self) {
        self.undo.clear();
        self.undo.shrink_to(1024);
    }
}

impl Point {
    /// The point after this one.
    fn followed_by(&self, interval: Interval, digest: u64, delta: Option<Value>, buckets_max: usize) -> Self {
        let sum = match (&self.value, &delta) {
            (Some(total), Some(delta)) => total.plus(delta, buckets_max),
            _ => None,
        };
        match sum {
            Some(sum) => Self { interval, digest, first_ns: self.first_ns, value: Some(sum) },
            None if delta.is_none() => Self { interval, digest, first_ns: self.first_ns, value: None },
            None => {
                let first_ns = if interval.start_ns > 0 { interval.start_ns } else { self.interval.end_ns };
                Self { interval, digest, first_ns, value: delta }
            }
        }
    }

    fn cumulative(&self) -> Cumulative {
        Cumulative { first_ns: self.first_ns, value: self.value.clone() }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.value.as_ref().map_or(0, Value::heap_bytes)
    }
}

fn unsupported(message: String) -> Refusal {
    Refusal { reason: RejectReason::Unsupported, message }
}

#[cfg(test)]
mod tests;
