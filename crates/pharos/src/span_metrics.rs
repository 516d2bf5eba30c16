//! Brings what is counted of spans into the metrics store, now and then and once more at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use pharos_model::{MetricBatch, TenantId};
use pharos_spanmetrics::SpanMeter;
use pharos_storage::{AppendOutcome, BatchId, MetricStore, StorageError};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// The meter and where its counts go.
pub(crate) struct SpanMetrics {
    pub(crate) meter: Arc<SpanMeter>,
    store: Arc<dyn MetricStore>,
    failures: AtomicU64,
    rejected: AtomicU64,
}

impl SpanMetrics {
    pub(crate) fn new(meter: Arc<SpanMeter>, store: Arc<dyn MetricStore>) -> Arc<Self> {
        Arc::new(Self { meter, store, failures: AtomicU64::new(0), rejected: AtomicU64::new(0) })
    }

    /// Batches that the store did not take. Counts go on from where they stood; only that instant and its exemplars are
    /// missing.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Samples that the store refused, as a tenant reached its limit of series.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }

    /// Flushes until `stop`.
    pub(crate) async fn run(self: Arc<Self>, interval: Duration, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let this = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || this.flush()).await {
                tracing::error!(%error, "the flush of span metrics panicked");
            }
        }
    }

    /// Brings all counts to the store; returns when it has them. Not for an async worker.
    pub(crate) fn flush(&self) {
        let mut first_error = None;
        self.meter.flush(|tenant, batch| {
            let appended = self.append(tenant, batch);
            let is_stored = appended.is_ok();
            if let Err(error) = appended {
                self.failures.fetch_add(1, Relaxed);
                first_error.get_or_insert(error);
            }
            is_stored
        });
        if let Some(error) = first_error {
            tracing::warn!(%error, "the metrics store did not take metrics of spans; their counts go on");
        }
    }

    fn append(&self, tenant: &TenantId, batch: MetricBatch) -> Result<(), StorageError> {
        let answer = self.store.append(tenant, batch, BatchId::random()).wait();
        let outcome: AppendOutcome = answer.transpose()?.ok_or_else(|| StorageError::Unavailable {
            reason: "the store closed before it answered".to_owned(),
            retry_after: None,
        })?;
        let rejected = outcome.rejected();
        if rejected > 0 {
            let message = outcome.rejections.first().map_or("", |rejection| &rejection.message);
            tracing::warn!(%tenant, rejected, message, "the metrics store refused metrics of spans");
            self.rejected.fetch_add(rejected, Relaxed);
        }
        Ok(())
    }
}
