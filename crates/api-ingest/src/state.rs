//! What all doors share.
//!
//! Invariants
//! - A1 What is handed to a store is charged where that happens, whether or not its sender stays to hear of it; what the store did
//!   not take is given back.
//! - A2 A request's place among those under way and its share of all bodies are held for as long as a thread works for it, and while
//!   its sender waits.
//! - A3 What is limited and charged is what is to be stored: duplicates are left out and labels are set before.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use pharos_base::{ByteSize, ErrorClass};
use pharos_gateway::{InFlight, OverLimit, Principal, Quota, Quotas, Scope, Unit};
use pharos_http::{BodyBudget, BodyShare, HeldBody, Refusal};
use pharos_ingest::otlp::DecodedSpans;
use pharos_ingest::{DecodedMetrics, IngestError, IngestReport, Ingestor, PendingReport};
use pharos_model::{LabelRewrite, TenantId};
use prometheus_client::registry::Registry;

use crate::metrics::{DoorMetrics, Protocol, Signal};
use crate::own_limits::{keep_series, keep_spans};
use crate::patience::Patience;
use crate::pool::{DecodePool, PoolError, busy};
use crate::refuse::refusal;
use crate::remembered::Memories;

/// The doors' common state; clones share it.
#[derive(Debug, Clone)]
pub struct DoorState {
    ingestor: Arc<Ingestor>,
    quotas: Arc<Quotas>,
    samples_pool: DecodePool,
    spans_pool: DecodePool,
    bodies: BodyBudget,
    metrics: DoorMetrics,
}

/// A request that may be read: whose it is, and what it may hold.
#[derive(Debug)]
pub(crate) struct Admission {
    tenant: TenantId,
    signal: Signal,
    /// What the sender's credential says about labels.
    labels: Option<Arc<LabelRewrite>>,
    quota: Quota,
    body_max: ByteSize,
    in_flight: Place,
}

/// A place among the requests under way, free once all who share it are gone.
pub(crate) type Place = Arc<InFlight>;

/// A body as the stores take it.
pub(crate) enum Decoded {
    Metrics(DecodedMetrics),
    /// Whose replicas may be told apart.
    RemoteWrite(DecodedMetrics),
    Spans(DecodedSpans),
}

/// What a store was given, on its way.
pub(crate) struct Charged {
    pending: PendingReport,
    /// What was charged for it.
    units: u64,
}

/// Why a body did not come to the store.
enum NotAppended {
    Refused(IngestError),
    /// Reading it panicked; it will do so each time it comes.
    Panicked,
}

impl DoorState {
    /// Doors to `ingestor`, within `quotas`; what passes them is counted in `registry`.
    #[must_use]
    pub fn new(ingestor: Arc<Ingestor>, quotas: Arc<Quotas>, registry: &mut Registry) -> Self {
        let limits = &ingestor.settings().limits;
        let bodies = BodyBudget::new("ingest.limits.bodies_max", limits.bodies_max.0.max(limits.body_max.0));
        let pool = || DecodePool::for_this_machine(Patience::new(limits.queue_wait.0, limits.overload_wait.0));
        let (samples_pool, spans_pool) = (pool(), pool());
        registry.register_collector(Box::new(Memories(Arc::clone(&ingestor))));
        Self { bodies, samples_pool, spans_pool, metrics: DoorMetrics::register(registry), quotas, ingestor }
    }

    /// An empty share of what bodies may hold together, for one of this request.
    pub(crate) fn share(&self, admission: &Admission) -> BodyShare {
        self.bodies.share(&admission.tenant)
    }

    /// Admits a request before its body is read: its sender may write there, nothing that is limited is used up, and what is
    /// ahead of it will be done in time.
    pub(crate) fn admit(&self, parts: &Parts, url_tenant: Option<&str>, signal: Signal) -> Result<Admission, Refusal> {
        let admission = self.admit_stream(parts, url_tenant, signal)?;
        self.pool(signal).has_room(&admission.tenant).map_err(|error| self.not_run(signal, error))?;
        Ok(admission)
    }

    /// As [`DoorState::admit`], for a body that is taken piece by piece and may wait.
    pub(crate) fn admit_stream(
        &self,
        parts: &Parts,
        url_tenant: Option<&str>,
        signal: Signal,
    ) -> Result<Admission, Refusal> {
        let Some(principal) = parts.extensions.get::<Principal>() else {
            return Err(Refusal::new(ErrorClass::Unauthenticated, "no credential"));
        };
        let tenant = tenant(principal, url_tenant, signal)?;
        let is_let_in = match signal {
            Signal::Metrics => self.ingestor.admits_metrics(&tenant),
            Signal::Traces => self.ingestor.admits_spans(&tenant),
        };
        is_let_in.map_err(|error| {
            self.metrics.turned_away("tenants_max");
            refusal(&IngestError::Storage(error))
        })?;
        let quota = self.quotas.of(principal, &tenant);
        let within = quota.check(Unit::Bytes).and_then(|()| quota.check(signal.unit())).and_then(|()| quota.begin());
        let in_flight = within.map_err(|over| self.over(over))?;
        let server_max = self.ingestor.settings().limits.body_max;
        let body_max = quota.limits().body_max.map_or(server_max, |own| own.min(server_max));
        Ok(Admission { tenant, signal, labels: labels(principal), quota, body_max, in_flight: Arc::new(in_flight) })
    }

    /// Runs `decode` (inflate, read) on the pool, hands what it found to the store and awaits that. Doors box it: it is large, and
    /// most of the time of most requests goes by before their bodies have come.
    pub(crate) async fn ingest(
        &self,
        protocol: Protocol,
        admission: Admission,
        body: HeldBody,
        decode: impl FnOnce(&Ingestor, &TenantId, Bytes) -> Result<Decoded, IngestError> + Send + 'static,
    ) -> Result<IngestReport, Refusal> {
        let HeldBody { bytes: body, held } = body;
        let length = body.len();
        self.count_body(protocol, &admission, length);
        let (ingestor, tenant) = (Arc::clone(&self.ingestor), admission.tenant.clone());
        let (labels, quota) = (admission.labels.clone(), admission.quota.clone());
        // The thread has them, as it may work on when the sender is gone (A2), and gives them back.
        let held = (held, admission.place());
        let job = move || {
            let done = match catch_unwind(AssertUnwindSafe(|| decode(&ingestor, &tenant, body))) {
                Ok(Ok(decoded)) => Ok(hand_over(&ingestor, &tenant, labels.as_ref(), &quota, decoded)),
                Ok(Err(error)) => Err(NotAppended::Refused(error)),
                Err(_) => Err(NotAppended::Panicked),
            };
            (done, held)
        };
        let signal = admission.signal;
        let store_is_busy = || match signal {
            Signal::Metrics => self.ingestor.is_metrics_busy(),
            Signal::Traces => self.ingestor.is_traces_busy(),
        };
        let ran = self.pool(signal).run(&admission.tenant, length, store_is_busy, job).await;
        let (done, held) = ran.map_err(|error| self.not_run(signal, error))?;
        let told = match done {
            Ok(charged) => self.settle(protocol, &admission, charged).await,
            Err(NotAppended::Refused(error)) => Err(self.fail(protocol, &error)),
            Err(NotAppended::Panicked) => Err(self.unreadable(protocol)),
        };
        drop(held);
        told
    }

    fn pool(&self, signal: Signal) -> &DecodePool {
        match signal {
            Signal::Metrics => &self.samples_pool,
            Signal::Traces => &self.spans_pool,
        }
    }

    /// The way in behind the doors.
    pub(crate) fn ingestor(&self) -> &Ingestor {
        &self.ingestor
    }

    /// Counts bytes of a body.
    pub(crate) fn count_body(&self, protocol: Protocol, admission: &Admission, bytes: usize) {
        admission.quota.take(Unit::Bytes, bytes as u64);
        self.metrics.body(protocol, bytes);
    }

    /// Runs `work` on `bytes` of a tenant's samples on their pool, with the patience of a body that comes piece by piece. Whether the
    /// store has room for what it finds is for `work` to ask.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        bytes: usize,
        work: impl FnOnce(&Ingestor) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let ingestor = Arc::clone(&self.ingestor);
        let job = move || work(&ingestor);
        let done = self.samples_pool.run_within(PIECE_WAIT_MAX, tenant, bytes, || false, job).await;
        done.map_err(|error| self.not_run(Signal::Metrics, error))
    }

    /// Awaits the store, and counts; what it did not take is not charged.
    pub(crate) async fn settle(
        &self,
        protocol: Protocol,
        admission: &Admission,
        Charged { pending, units }: Charged,
    ) -> Result<IngestReport, Refusal> {
        let answer = pending.await;
        let stored = answer.as_ref().map_or(0, |report| report.items + report.histograms);
        admission.quota.give_back(admission.signal.unit(), units.saturating_sub(stored));
        match answer {
            Ok(report) => {
                self.metrics.report(protocol, admission.signal, &report);
                Ok(report)
            }
            Err(error) => Err(self.fail(protocol, &error)),
        }
    }

    /// Counts a failure; answers what the sender is told.
    pub(crate) fn fail(&self, protocol: Protocol, error: &IngestError) -> Refusal {
        self.metrics.failure(protocol, error);
        refusal(error)
    }

    /// Counts a request over a limit; answers what the sender is told.
    pub(crate) fn over(&self, over: OverLimit) -> Refusal {
        self.metrics.turned_away(over.limit);
        over.into()
    }

    fn not_run(&self, signal: Signal, error: PoolError) -> Refusal {
        match error {
            PoolError::Busy | PoolError::StoreBusy => {
                self.metrics.turned_away("busy");
                busy(self.pool(signal).patience(), error == PoolError::StoreBusy)
            }
            // Past the reading of the body: nothing is acknowledged, and the same may pass once we are restarted.
            PoolError::Panicked => Refusal::new(ErrorClass::Unavailable, FAULT).with_retry_after(Some(PANIC_RETRY)),
        }
    }

    /// A body that we cannot read for a fault of ours must not come for ever: OTLP's senders drop what is answered 500, those of
    /// remote write repeat it. All of these drop what is 409; vmagent would take 400 for a word on its packing.
    fn unreadable(&self, protocol: Protocol) -> Refusal {
        tracing::error!(protocol = protocol.as_str(), "reading a request panicked");
        self.metrics.turned_away("panicked");
        match protocol {
            Protocol::RemoteWrite => Refusal::new(ErrorClass::Invalid, FAULT).with_status(StatusCode::CONFLICT),
            Protocol::OtlpGrpc | Protocol::OtlpHttp | Protocol::Import => Refusal::new(ErrorClass::Internal, FAULT),
        }
    }
}

const FAULT: &str = "the request could not be read because of a fault in the server; its log says more";
/// How long a piece of a body waits for its turn: what came before it is stored.
const PIECE_WAIT_MAX: Duration = Duration::from_secs(6);
const PANIC_RETRY: Duration = Duration::from_secs(5);

impl Admission {
    /// Whose data it writes.
    pub(crate) fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// What its sender's credential says about labels.
    pub(crate) fn labels(&self) -> Option<&Arc<LabelRewrite>> {
        self.labels.as_ref()
    }

    /// Largest body, inflated or not.
    pub(crate) fn body_max(&self) -> ByteSize {
        self.body_max
    }

    /// [`Admission::body_max`] as a length.
    pub(crate) fn body_bytes_max(&self) -> usize {
        usize::try_from(self.body_max.0).unwrap_or(usize::MAX)
    }

    /// What it may.
    pub(crate) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Its place among the requests under way, to be held by who works for it.
    pub(crate) fn place(&self) -> Place {
        Arc::clone(&self.in_flight)
    }

    /// Whether more of it may come now, for what comes piece by piece.
    pub(crate) fn goes_on(&self) -> Result<(), OverLimit> {
        self.quota.check(Unit::Bytes).and_then(|()| self.quota.check(self.signal.unit()))
    }
}

/// Hands what was read to its store, and charges for it: with the labels of its sender's credential, as far as it breaks no limit.
fn hand_over(
    ingestor: &Ingestor,
    tenant: &TenantId,
    labels: Option<&Arc<LabelRewrite>>,
    quota: &Quota,
    decoded: Decoded,
) -> Charged {
    let mut decoded = match decoded {
        Decoded::Metrics(mut decoded) => {
            ingestor.label_metrics(tenant, &mut decoded, labels);
            decoded
        }
        Decoded::RemoteWrite(mut decoded) => {
            ingestor.elect_and_label(tenant, &mut decoded, labels);
            decoded
        }
        Decoded::Spans(mut decoded) => {
            keep_spans(&mut decoded, quota.limits());
            ingestor.label_spans(&mut decoded, labels);
            let units = decoded.batch.span_count() as u64;
            quota.take(Unit::Spans, units);
            return Charged { pending: ingestor.append_spans(tenant, decoded), units };
        }
    };
    keep_series(&mut decoded, quota);
    append_series(ingestor, tenant, quota, decoded)
}

/// Hands samples to the store, and charges for them.
pub(crate) fn append_series(ingestor: &Ingestor, tenant: &TenantId, quota: &Quota, decoded: DecodedMetrics) -> Charged {
    let units = decoded.batch.sample_count() as u64;
    quota.take(Unit::Samples, units);
    Charged { pending: ingestor.append_metrics(tenant, decoded), units }
}

/// What the sender's credential says about labels, if anything.
fn labels(principal: &Principal) -> Option<Arc<LabelRewrite>> {
    LabelRewrite::new(&principal.grant().extra_labels, None).map(Arc::new)
}

/// The tenant that the request writes for, if its sender may write there.
fn tenant(principal: &Principal, url_tenant: Option<&str>, signal: Signal) -> Result<TenantId, Refusal> {
    let scope = match signal {
        Signal::Metrics => Scope::MetricsWrite,
        Signal::Traces => Scope::TracesWrite,
    };
    let allowed = principal.require(scope).and_then(|()| principal.tenant_for(url_tenant));
    allowed.map_err(|error| Refusal::new(error.class(), error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pharos_base::SimClock;
    use pharos_ingest::{IngestComponents, IngestSettings};
    use pharos_storage::memory::{MemoryMetricStore, MemoryTraceStore};

    fn doors() -> DoorState {
        let clock = SimClock::at_ms(1_700_000_000_000);
        let components = IngestComponents {
            metrics: Arc::new(MemoryMetricStore::new()),
            traces: Arc::new(MemoryTraceStore::new()),
            clock: Arc::clone(&clock) as _,
            metrics_retention: None,
        };
        let mut settings = IngestSettings::default();
        settings.limits.queue_wait = pharos_base::HumanDuration::from_ms(60_000);
        let quotas = Arc::new(Quotas::unlimited(clock));
        DoorState::new(Arc::new(Ingestor::new(components, settings)), quotas, &mut Registry::default())
    }

    #[tokio::test]
    async fn a_body_that_cannot_be_read_does_not_come_for_ever() {
        let doors = doors();
        for (protocol, class, status) in [
            (Protocol::RemoteWrite, ErrorClass::Invalid, 409),
            (Protocol::OtlpHttp, ErrorClass::Internal, 500),
            (Protocol::OtlpGrpc, ErrorClass::Internal, 500),
        ] {
            let mut parts = http::Request::new(()).into_parts().0;
            parts.extensions.insert(Principal::anonymous());
            let admission = doors.admit(&parts, None, Signal::Metrics).unwrap();
            let body = HeldBody { bytes: Bytes::from_static(b"poison"), held: doors.share(&admission) };
            let refused = doors.ingest(protocol, admission, body, |_, _, _| panic!("a bug")).await.unwrap_err();
            assert_eq!((refused.class(), refused.retry_after()), (class, None), "{protocol:?}");
            assert_eq!(refused.render(pharos_http::Dialect::Plain).status(), status, "{protocol:?}");
        }
    }
}
