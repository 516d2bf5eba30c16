//! The meter: looks at all spans on their way in, and says what was counted.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use pharos_base::{Clock, Completion};
use pharos_model::{MetricBatch, SpanBatch, TenantId};
use pharos_storage::{AppendOutcome, NoticedSpans, SpanTap, StorageError};

use crate::tenant::{Held, Notice, SpareNotices, Tenant};
use crate::{ServiceGraphSettings, SettingsError, SpanMetricsSettings};

/// Makes metrics of spans. It has no I/O: its owner calls [`SpanMeter::flush`] every
/// [`SpanMetricsSettings::flush_interval`] and appends what it is handed to the metrics store.
#[derive(Debug)]
pub struct SpanMeter {
    red: SpanMetricsSettings,
    graph: ServiceGraphSettings,
    clock: Arc<dyn Clock>,
    tenants: RwLock<Tenants>,
    spare: Arc<SpareNotices>,
    /// Held by the flush under way: there is one at a time. Taken before any other lock.
    flushing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Tenants {
    by_id: HashMap<TenantId, Arc<Tenant>>,
    /// What was counted of tenants that were forgotten.
    forgotten: SpanMeterStats,
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
    /// Resources that sent spans and are told of.
    pub targets: u64,
    /// How often a resource was not told of, as its tenant has too many.
    pub targets_dropped: u64,
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
        let (tenants, spare) = (RwLock::default(), Arc::default());
        Ok(Self { red, graph, clock, tenants, spare, flushing: Mutex::default() })
    }

    /// Whether it counts anything.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.red.enabled || self.graph.enabled
    }

    /// Hands on where all counts stand now, in batches of some thousand samples. Blocks nobody for long.
    ///
    /// `append` says whether the metrics store took the batch. Of one that it refused, beginnings and ends of series and
    /// metadata come again with the next flush, as the counts do; exemplars do not.
    pub fn flush(&self, mut append: impl FnMut(&TenantId, MetricBatch) -> bool) {
        let _alone = self.flushing.lock();
        let now_ms = self.clock.unix_ms();
        let tenants: Vec<_> =
            self.tenants.read().by_id.iter().map(|(id, tenant)| (id.clone(), Arc::clone(tenant))).collect();
        for (id, tenant) in tenants {
            tenant.flush(now_ms, &mut |batch| append(&id, batch));
        }
        self.tenants.write().forget_idle();
    }

    /// Numbers for our own metrics.
    #[must_use]
    pub fn stats(&self) -> SpanMeterStats {
        let tenants = self.tenants.read();
        let mut all = tenants.forgotten;
        for tenant in tenants.by_id.values() {
            all.add(&tenant.held());
        }
        all
    }

    fn tenant(&self, id: &TenantId) -> Arc<Tenant> {
        if let Some(tenant) = self.tenants.read().by_id.get(id) {
            return Arc::clone(tenant);
        }
        let mut tenants = self.tenants.write();
        let new = || Arc::new(Tenant::new(&self.red, &self.graph, Arc::clone(&self.spare)));
        Arc::clone(tenants.by_id.entry(id.clone()).or_insert_with(new))
    }
}

impl Tenants {
    /// Forgets tenants that have neither series nor batches on their way.
    fn forget_idle(&mut self) {
        let Self { by_id, forgotten } = self;
        by_id.retain(|_, tenant| {
            // A batch on its way holds its tenant, and nobody gets hold of it while the map is locked for writing.
            let is_idle = Arc::strong_count(tenant) == 1 && tenant.is_idle();
            if is_idle {
                forgotten.add(&tenant.held());
            }
            !is_idle
        });
    }
}

impl SpanMeterStats {
    fn add(&mut self, held: &Held) {
        self.spans_counted += held.counts.counted;
        self.spans_overflowed += held.counts.overflowed;
        self.spans_too_old += held.counts.too_old;
        self.series += held.series as u64;
        self.edges += held.edges as u64;
        self.targets += held.targets as u64;
        self.targets_dropped += held.targets_dropped;
        self.calls_waiting += held.waiting as u64;
        self.calls_unpaired += held.graph_counts.unpaired;
        self.calls_dropped += held.graph_counts.dropped;
        self.calls_overflowed += held.graph_counts.overflowed;
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

    fn stored_if(mut self: Box<Self>, answer: Completion<Result<AppendOutcome, StorageError>>) {
        let notices = std::mem::take(&mut self.notices);
        self.tenant.count_if(notices, self.now_ms, answer);
    }
}

impl Drop for NoticedBatch {
    fn drop(&mut self) {
        self.tenant.forget(std::mem::take(&mut self.notices));
    }
}

#[cfg(test)]
mod tests {
    use pharos_base::SimClock;
    use pharos_model::{Resource, Scope, Span, SpanGroup};

    use super::*;

    #[test]
    fn m4_a_tenant_without_spans_is_forgotten_and_what_it_counted_is_not() {
        let clock = SimClock::at_ms(1_700_000_000_000);
        let red = SpanMetricsSettings::default();
        let meter = SpanMeter::new(red, ServiceGraphSettings::default(), Arc::clone(&clock) as _).unwrap();
        let (resource, scope) = (Arc::new(Resource::default()), Arc::new(Scope::default()));
        let batch = SpanBatch { groups: vec![SpanGroup { resource, scope, spans: vec![Span::default()] }] };
        let flush_after = |ms| {
            clock.advance_ms(ms);
            meter.flush(|_, _| true);
            meter.tenants.read().by_id.len()
        };
        let tenant = TenantId::default();
        meter.notice(&tenant, &batch).stored();
        assert_eq!(flush_after(15_000), 1);
        let under_way = meter.notice(&tenant, &batch);
        assert_eq!(flush_after(3_600_000), 1, "ends");
        assert_eq!((meter.stats().series, flush_after(15_000)), (0, 1), "a batch is on its way");
        drop(under_way);
        assert_eq!(flush_after(15_000), 0);
        assert_eq!(meter.stats(), SpanMeterStats { spans_counted: 1, ..SpanMeterStats::default() });
    }
}
