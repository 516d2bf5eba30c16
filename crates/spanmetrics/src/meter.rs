//! The meter: looks at all spans on their way in, and says what was counted.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::RwLock;
use pharos_base::Clock;
use pharos_model::{MetricBatch, SpanBatch, TenantId};
use pharos_storage::{NoticedSpans, SpanTap};

use crate::tenant::{Notice, Tenant};
use crate::{ServiceGraphSettings, SettingsError, SpanMetricsSettings};

/// Makes metrics of spans. It has no I/O: its owner calls [`SpanMeter::flush`] every
/// [`SpanMetricsSettings::flush_interval`] and appends what it is handed to the metrics store.
#[derive(Debug)]
pub struct SpanMeter {
    red: SpanMetricsSettings,
    graph: ServiceGraphSettings,
    clock: Arc<dyn Clock>,
    tenants: RwLock<HashMap<TenantId, Arc<Tenant>>>,
}

/// What the meter holds and has counted since the start, all tenants together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanMeterStats {
    /// Spans counted.
    pub spans_counted: u64,
    /// Those that counted for the rest of their service, as their tenant has too many series.
    pub spans_overflowed: u64,
    /// Spans not counted, as they ended too long ago.
    pub spans_too_old: u64,
    /// Series of operations.
    pub series: u64,
    /// Edges of service graphs.
    pub edges: u64,
    /// Halves of calls that wait for the other half.
    pub calls_waiting: u64,
    /// Halves that waited in vain.
    pub calls_unpaired: u64,
    /// Halves that found no room to wait.
    pub calls_dropped: u64,
    /// Calls that counted along the edge of the rest, as their tenant has too many edges.
    pub calls_overflowed: u64,
}

impl SpanMeter {
    /// A meter that has counted nothing.
    ///
    /// # Errors
    /// [`SettingsError`] for settings that make no sense.
    pub fn new(
        red: SpanMetricsSettings,
        graph: ServiceGraphSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SettingsError> {
        red.check()?;
        graph.check()?;
        Ok(Self { red, graph, clock, tenants: RwLock::default() })
    }

    /// Whether it counts anything.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.red.enabled || self.graph.enabled
    }

    /// Hands on where all counts stand now, in batches of some thousand samples. Blocks nobody for long.
    pub fn flush(&self, mut each: impl FnMut(&TenantId, MetricBatch)) {
        let now_ms = self.clock.unix_ms();
        let tenants: Vec<_> = self.tenants.read().iter().map(|(id, tenant)| (id.clone(), Arc::clone(tenant))).collect();
        for (id, tenant) in tenants {
            tenant.flush(now_ms, &mut |batch| each(&id, batch));
        }
    }

    /// Numbers for our own metrics.
    #[must_use]
    pub fn stats(&self) -> SpanMeterStats {
        let mut all = SpanMeterStats::default();
        for tenant in self.tenants.read().values() {
            let held = tenant.held();
            all.spans_counted += held.counts.counted;
            all.spans_overflowed += held.counts.overflowed;
            all.spans_too_old += held.counts.too_old;
            all.series += held.series as u64;
            all.edges += held.edges as u64;
            all.calls_waiting += held.waiting as u64;
            all.calls_unpaired += held.graph_counts.unpaired;
            all.calls_dropped += held.graph_counts.dropped;
            all.calls_overflowed += held.graph_counts.overflowed;
        }
        all
    }

    fn tenant(&self, id: &TenantId) -> Arc<Tenant> {
        if let Some(tenant) = self.tenants.read().get(id) {
            return Arc::clone(tenant);
        }
        let mut tenants = self.tenants.write();
        let new = || Arc::new(Tenant::new(&self.red, &self.graph));
        Arc::clone(tenants.entry(id.clone()).or_insert_with(new))
    }
}

impl SpanTap for SpanMeter {
    fn notice(&self, tenant: &TenantId, batch: &SpanBatch) -> Box<dyn NoticedSpans> {
        let (tenant, now_ms) = (self.tenant(tenant), self.clock.unix_ms());
        let notices = tenant.notice(batch, now_ms);
        Box::new(NoticedBatch { tenant, notices, now_ms })
    }
}

/// A batch on its way.
#[derive(Debug)]
struct NoticedBatch {
    tenant: Arc<Tenant>,
    notices: Vec<Notice>,
    now_ms: i64,
}

impl NoticedSpans for NoticedBatch {
    fn stored(mut self: Box<Self>) {
        let notices = std::mem::take(&mut self.notices);
        self.tenant.count(notices, self.now_ms);
    }
}

impl Drop for NoticedBatch {
    fn drop(&mut self) {
        let notices = std::mem::take(&mut self.notices);
        if notices.capacity() > 0 {
            self.tenant.keep(notices);
        }
    }
}
