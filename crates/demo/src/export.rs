//! The way out: OTLP over gRPC with a bearer token.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// A connection to the doors; it is made at the first use and made again when it breaks.
#[derive(Debug, Clone)]
pub(crate) struct Exporter {
    metrics: MetricsServiceClient<Channel>,
    traces: TraceServiceClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
}

/// The shop cannot reach the doors at all: address or token are no address or token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error("the address is not valid: {0}")]
    Address(#[from] tonic::transport::Error),
    #[error("the token has characters that no header may have")]
    Token,
}

impl Exporter {
    /// An exporter to `endpoint`, such as `http://127.0.0.1:9090`.
    pub(crate) fn new(endpoint: &str, token: Option<&str>) -> Result<Self, ExportError> {
        let channel = Endpoint::from_shared(endpoint.to_owned())?.connect_lazy();
        let header = |token: &str| format!("Bearer {token}").parse().map_err(|_| ExportError::Token);
        Ok(Self {
            metrics: MetricsServiceClient::new(channel.clone()).send_compressed(CompressionEncoding::Gzip),
            traces: TraceServiceClient::new(channel).send_compressed(CompressionEncoding::Gzip),
            authorization: token.map(header).transpose()?,
        })
    }

    /// Sends spans.
    pub(crate) async fn send_traces(&mut self, message: ExportTraceServiceRequest) -> Result<(), Status> {
        let request = self.authorized(message);
        self.traces.export(request).await.map(|_| ())
    }

    /// Sends measurements.
    pub(crate) async fn send_metrics(&mut self, message: ExportMetricsServiceRequest) -> Result<(), Status> {
        let request = self.authorized(message);
        self.metrics.export(request).await.map(|_| ())
    }

    fn authorized<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }
}
