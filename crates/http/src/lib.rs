//! Shared server parts: listeners with TLS and limits of connections, the error dialects, request metrics, the query pool and the listing of its queries.
//!
//! This crate alone maps an [`ErrorClass`](pharos_base::ErrorClass) to HTTP and gRPC status, and
//! alone renders refusals in the dialect a client reads: `google.rpc.Status` for OTLP and gRPC,
//! Prometheus' JSON envelope, Jaeger's envelope, plain text elsewhere.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bodies;
mod conn;
mod cut_short;
mod deadline;
mod dialect;
mod discard;
mod fair;
mod health;
mod metrics;
mod pool;
mod queries;
mod reflection;
mod server;
mod status;
mod tls;

pub use bodies::{BodyBudget, BodyShare, HeldBody, hold_body};
pub use conn::{BodyTooSlow, Connection, ConnectionGate, ConnectionMetrics, ConnectionSettings};
pub use cut_short::body_cut_short;
pub use deadline::grpc_deadline;
pub use dialect::{Dialect, Refusal, error_type};
pub use discard::{DISCARD_BYTES_MAX, Leftover};
pub use fair::{FairPlace, FairPlaces, LaneLimits, LimitOf, NoPlace, OwnLimits};
pub use health::{HEALTH_SERVICE, grpc_health};
pub use metrics::{HttpMetrics, count_requests};
pub use pool::QueryPool;
pub use queries::{
    Asked, Queries, QueriesSettings, QueryKind, QueryLimits, QueryLoad, RunningQuery, TopQueries, TopQuery, Watched,
};
pub use reflection::grpc_reflection;
pub use server::{BindError, ListenerSettings, PeerAddress, bind, remote_address, serve};
pub use status::{grpc_code, http_status};
pub use tls::{
    CertificateError, ClientCertificate, ClientCertificates, TlsError, TlsMetrics, TlsOverride, TlsSettings, TlsSource,
    TlsVersion, watch_tls_files,
};
