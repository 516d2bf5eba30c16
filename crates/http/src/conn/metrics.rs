//! What becomes of connections, by port.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Port {
    port: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortReason {
    port: &'static str,
    reason: &'static str,
}

/// Counts connections: those that are open, came, and were ended from our side.
#[derive(Debug, Clone, Default)]
pub struct ConnectionMetrics {
    open: Family<Port, Gauge>,
    accepted: Family<Port, Counter>,
    cut: Family<PortReason, Counter>,
}

impl ConnectionMetrics {
    /// Shows them in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("pharos_http_connections", "Connections that are open, by port", self.open.clone());
        registry.register("pharos_http_connections_accepted", "Connections that came, by port", self.accepted.clone());
        let help =
            "Connections that were turned away or cut, by port and reason: a setting of connections, or handshake";
        registry.register("pharos_http_connections_cut", help, self.cut.clone());
    }

    pub(crate) fn opened(&self, port: &'static str) {
        self.accepted.get_or_create(&Port { port }).inc();
        self.open.get_or_create(&Port { port }).inc();
    }

    pub(crate) fn closed(&self, port: &'static str) {
        self.open.get_or_create(&Port { port }).dec();
    }

    pub(crate) fn cut(&self, port: &'static str, reason: &'static str) {
        self.cut.get_or_create(&PortReason { port, reason }).inc();
    }
}
