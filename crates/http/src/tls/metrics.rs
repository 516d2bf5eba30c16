//! When the certificates in use expire, and the lists of revoked ones are due.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::TlsSource;

/// Shows the certificate of each port that speaks TLS.
#[derive(Debug)]
pub struct TlsMetrics(Vec<(&'static str, Arc<TlsSource>)>);

impl TlsMetrics {
    /// Shows them in `registry`; `ports` by name.
    pub fn register(ports: Vec<(&'static str, Arc<TlsSource>)>, registry: &mut Registry) {
        registry.register_collector(Box::new(Self(ports)));
    }
}

impl Collector for TlsMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(0_i64);
        let help = "When the certificate that a port shows expires, Unix seconds";
        let name = "pharos_tls_certificate_expiry_timestamp_seconds";
        let mut descriptor = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
        for (port, source) in &self.0 {
            ConstGauge::new(source.expires_s()).encode(descriptor.encode_family(&[("port", *port)])?)?;
        }
        let help =
            "When the first of a port's lists of revoked certificates is due to be followed by the next, Unix seconds";
        let name = "pharos_tls_client_crl_next_update_timestamp_seconds";
        let mut descriptor = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
        for (port, source) in &self.0 {
            if let Some(due_s) = source.lists_due_s() {
                ConstGauge::new(due_s).encode(descriptor.encode_family(&[("port", *port)])?)?;
            }
        }
        Ok(())
    }
}
