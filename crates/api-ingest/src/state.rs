//! What all doors share.

use std::sync::Arc;

use bytes::Bytes;
use http::Extensions;
use pharos_base::ErrorClass;
use pharos_gateway::{Principal, Scope};
use pharos_http::Refusal;
use pharos_ingest::{IngestError, IngestReport, Ingestor, PendingReport};
use pharos_model::{LabelRewrite, TenantId};
use prometheus_client::registry::Registry;

use crate::body::{BodyBudget, HeldBody};
use crate::metrics::{DoorMetrics, Protocol, Signal};
use crate::pool::DecodePool;
use crate::refuse::refusal;
use crate::remembered::Memories;

/// The doors' common state; clones share it.
#[derive(Debug, Clone)]
pub struct DoorState {
    ingestor: Arc<Ingestor>,
    pool: DecodePool,
    bodies: BodyBudget,
    metrics: DoorMetrics,
}

impl DoorState {
    /// Doors to `ingestor`; what passes them is counted in `registry`.
    #[must_use]
    pub fn new(ingestor: Arc<Ingestor>, registry: &mut Registry) -> Self {
        let limits = &ingestor.settings().limits;
        let bodies = BodyBudget::new(limits.bodies_max.0.max(limits.body_max.0));
        registry.register_collector(Box::new(Memories(Arc::clone(&ingestor))));
        Self { bodies, pool: DecodePool::for_this_machine(), metrics: DoorMetrics::register(registry), ingestor }
    }

    /// Largest body, inflated or not.
    pub(crate) fn body_bytes_max(&self) -> usize {
        usize::try_from(self.ingestor.settings().limits.body_max.0).unwrap_or(usize::MAX)
    }

    /// What bodies may hold together.
    pub(crate) fn bodies(&self) -> &BodyBudget {
        &self.bodies
    }

    /// Runs `accept` (inflate, decode, append) on the pool, then awaits the store.
    pub(crate) async fn ingest(
        &self,
        protocol: Protocol,
        signal: Signal,
        body: HeldBody,
        accept: impl FnOnce(&Ingestor, Bytes) -> Result<PendingReport, IngestError> + Send + 'static,
    ) -> Result<IngestReport, Refusal> {
        let HeldBody { bytes: body, held } = body;
        self.count_body(protocol, body.len());
        let pending = self.work(move |ingestor| accept(ingestor, body)).await?;
        let done = match pending {
            Ok(pending) => self.settle(protocol, signal, pending).await,
            Err(error) => Err(self.fail(protocol, &error)),
        };
        drop(held);
        done
    }

    /// The way in behind the doors.
    pub(crate) fn ingestor(&self) -> &Ingestor {
        &self.ingestor
    }

    /// Counts bytes of a body.
    pub(crate) fn count_body(&self, protocol: Protocol, bytes: usize) {
        self.metrics.body(protocol, bytes);
    }

    /// Runs `work` on the pool.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ingestor) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let ingestor = Arc::clone(&self.ingestor);
        self.pool.run(move || work(&ingestor)).await
    }

    /// Awaits the store, and counts.
    pub(crate) async fn settle(
        &self,
        protocol: Protocol,
        signal: Signal,
        pending: PendingReport,
    ) -> Result<IngestReport, Refusal> {
        match pending.await {
            Ok(report) => {
                self.metrics.report(protocol, signal, &report);
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
}

/// What the sender's credential says about labels, if anything.
pub(crate) fn labels(extensions: &Extensions) -> Option<Arc<LabelRewrite>> {
    let principal = extensions.get::<Principal>()?;
    LabelRewrite::new(&principal.grant().extra_labels, None).map(Arc::new)
}

/// The tenant that the request writes for, if its sender may write there.
pub(crate) fn tenant(extensions: &Extensions, url_tenant: Option<&str>, signal: Signal) -> Result<TenantId, Refusal> {
    let Some(principal) = extensions.get::<Principal>() else {
        return Err(Refusal::new(ErrorClass::Unauthenticated, "no credential"));
    };
    let scope = match signal {
        Signal::Metrics => Scope::MetricsWrite,
        Signal::Traces => Scope::TracesWrite,
    };
    let allowed = principal.require(scope).and_then(|()| principal.tenant_for(url_tenant));
    allowed.map_err(|error| Refusal::new(error.class(), error.to_string()))
}
