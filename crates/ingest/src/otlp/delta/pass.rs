//! Deltas of one request: the tenant's streams are locked with its first, and let go with the request.

use parking_lot::{Mutex, MutexGuard};
use pharos_model::Fingerprint;

use super::{Cumulative, Interval, StreamKey, TenantStreams, Value};
use crate::sink::Refusal;

/// A request that adds to a tenant's streams. Dropped without [`keep`](Self::keep) it was never there.
#[derive(Debug)]
pub(in crate::otlp) struct DeltaPass<'a> {
    streams: &'a Mutex<TenantStreams>,
    locked: Option<MutexGuard<'a, TenantStreams>>,
    labels: u64,
    now_ms: i64,
}

impl<'a> DeltaPass<'a> {
    /// `labels`: see [`StreamKey::labels`].
    pub(in crate::otlp) fn new(streams: &'a Mutex<TenantStreams>, labels: u64, now_ms: i64) -> Self {
        Self { streams, locked: None, labels, now_ms }
    }

    /// Locks the streams, if they are not yet. Before any lock of what is known is taken.
    pub(in crate::otlp) fn lock(&mut self) {
        let streams = self.streams;
        self.locked.get_or_insert_with(|| streams.lock());
    }

    /// As [`TenantStreams::add`], after [`lock`](Self::lock).
    pub(in crate::otlp) fn add(
        &mut self,
        (series, kind): (Fingerprint, u8),
        interval: Interval,
        delta: Option<Value>,
        buckets_max: usize,
    ) -> Result<Cumulative, Refusal> {
        let streams = self.locked.get_or_insert_with(|| self.streams.lock());
        let key = StreamKey { series, kind, labels: self.labels };
        streams.add(key, interval, delta, (buckets_max, self.now_ms))
    }

    /// The request stands.
    pub(in crate::otlp) fn keep(mut self) {
        if let Some(streams) = &mut self.locked {
            streams.keep();
        }
    }
}

impl Drop for DeltaPass<'_> {
    fn drop(&mut self) {
        if let Some(streams) = &mut self.locked {
            streams.undo();
        }
    }
}
