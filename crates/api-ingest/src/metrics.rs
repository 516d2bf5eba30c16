//! What passes the doors, counted.

use pharos_base::ErrorClass;
use pharos_gateway::Unit;
use pharos_ingest::{IngestError, IngestReport};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Signal {
    Metrics,
    Traces,
}

impl Signal {
    /// What of it is counted against rates.
    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::Metrics => Unit::Samples,
            Self::Traces => Unit::Spans,
        }
    }
}

/// How it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Protocol {
    OtlpGrpc,
    OtlpHttp,
    RemoteWrite,
    Import,
}

impl Protocol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::OtlpGrpc => "otlp_grpc",
            Self::OtlpHttp => "otlp_http",
            Self::RemoteWrite => "remote_write",
            Self::Import => "import",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Door {
    protocol: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DoorReason {
    protocol: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limited {
    limit: &'static str,
}

/// Counters of all doors.
#[derive(Debug, Clone, Default)]
pub(crate) struct DoorMetrics {
    samples: Family<Door, Counter>,
    histograms: Family<Door, Counter>,
    exemplars: Family<Door, Counter>,
    exemplars_dropped: Family<Door, Counter>,
    spans: Family<Door, Counter>,
    rejected: Family<DoorReason, Counter>,
    failed: Family<DoorReason, Counter>,
    body_bytes: Family<Door, Counter>,
    turned_away: Family<Limited, Counter>,
}

impl DoorMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let families: [(&str, &str, &Family<Door, Counter>); 6] = [
            ("samples", "Float samples stored", &metrics.samples),
            ("histograms", "Native histograms stored", &metrics.histograms),
            ("exemplars", "Exemplars stored", &metrics.exemplars),
            ("exemplars_dropped", "Exemplars left out because they break a rule", &metrics.exemplars_dropped),
            ("spans", "Spans stored", &metrics.spans),
            ("body_bytes", "Bytes of request bodies, as they were sent", &metrics.body_bytes),
        ];
        for (name, help, family) in families {
            registry.register(format!("ingest_{name}"), help, family.clone());
        }
        let rejected = "Samples, data points and spans refused while the rest of their request was stored";
        registry.register("ingest_rejected_items", rejected, metrics.rejected.clone());
        registry.register(
            "ingest_failed_requests",
            "Requests that failed; of imports, blocks before may be stored",
            metrics.failed.clone(),
        );
        registry.register(
            "ingest_turned_away_requests",
            "Requests turned away by a limit of their tenant or credential, because all were busy, or by a fault",
            metrics.turned_away.clone(),
        );
        metrics
    }

    pub(crate) fn body(&self, protocol: Protocol, bytes: usize) {
        self.body_bytes.get_or_create(&Door { protocol: protocol.as_str() }).inc_by(bytes as u64);
    }

    pub(crate) fn report(&self, protocol: Protocol, signal: Signal, report: &IngestReport) {
        let door = Door { protocol: protocol.as_str() };
        let items = match signal {
            Signal::Metrics => &self.samples,
            Signal::Traces => &self.spans,
        };
        for (family, count) in [
            (items, report.items),
            (&self.histograms, report.histograms),
            (&self.exemplars, report.exemplars),
            (&self.exemplars_dropped, report.exemplars_dropped),
        ] {
            if count > 0 {
                family.get_or_create(&door).inc_by(count);
            }
        }
        for rejection in &report.rejections {
            let reason = DoorReason { protocol: protocol.as_str(), reason: rejection.reason.as_str() };
            self.rejected.get_or_create(&reason).inc_by(rejection.count);
        }
    }

    /// `limit`: the name of a limit, or `busy`, or `panicked`.
    pub(crate) fn turned_away(&self, limit: &'static str) {
        self.turned_away.get_or_create(&Limited { limit }).inc();
    }

    pub(crate) fn failure(&self, protocol: Protocol, error: &IngestError) {
        let reason = match error {
            IngestError::BodyTooLarge { .. } | IngestError::BatchTooLarge { .. } => "too_large",
            IngestError::Inflate { .. } => "inflate",
            IngestError::Decode { .. } => "decode",
            IngestError::Closing => "unavailable",
            IngestError::Storage(error) => match error.class() {
                ErrorClass::Unavailable | ErrorClass::Timeout | ErrorClass::Cancelled => "unavailable",
                ErrorClass::LimitExceeded => "limit",
                _ => "internal",
            },
        };
        self.failed.get_or_create(&DoorReason { protocol: protocol.as_str(), reason }).inc();
    }
}
