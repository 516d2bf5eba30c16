//! TLS on our own ports: certificates from files that may change at any time, clients that show one of their own.
//!
//! The provider of cryptography is named at every use (`aws-lc-rs`): the process has no default that others could set.
//!
//! Invariants
//! - T1 What is in use was read whole, fits together and was within its time when it was read; files that do not are
//!   named, and what was in use stays.
//! - T2 A change of whom clients' certificates are checked against ends the connections that were made before it.

mod certificate;
mod handshake;
mod metrics;
mod revoked;
mod settings;
mod source;

pub use certificate::{CertificateError, ClientCertificate};
pub(crate) use handshake::{Arrived, arrive};
pub use metrics::TlsMetrics;
pub use settings::{ClientCertificates, TlsOverride, TlsSettings, TlsVersion};
pub use source::{TlsError, TlsSource, watch_tls_files};

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[cfg(test)]
pub(crate) mod tests;
