//! Settings of TLS: for all ports, and what one port has otherwise.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// They are not.
    #[default]
    Off,
    /// They are, and may have none. One that is shown must be valid.
    Optional,
    /// They are, and the handshake fails without: nothing is answered, not even whether the server is healthy.
    Required,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// TLS of a port. All files are PEM.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate and those between it and its authority, in this order. `None`: no TLS.
    pub certificate: Option<PathBuf>,
    /// Its private key, not encrypted.
    pub key: Option<PathBuf>,
    /// Authorities whose clients are believed.
    pub client_ca: Option<PathBuf>,
    /// Lists of revoked certificates. If there are any, every authority in a client's chain must have its own.
    pub client_crl: Option<PathBuf>,
    /// Whether clients are asked for a certificate.
    pub clients: ClientCertificates,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// What one port has otherwise than all: what is left out is as for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is as in TlsSettings")]
pub struct TlsOverride {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_crl: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientCertificates>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
}

impl TlsSettings {
    /// Whether the port speaks TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.certificate.is_some()
    }

    /// These settings with what one port has otherwise.
    #[must_use]
    pub fn with(&self, other: &TlsOverride) -> Self {
        let either = |ours: &Option<PathBuf>, theirs: &Option<PathBuf>| theirs.as_ref().or(ours.as_ref()).cloned();
        Self {
            certificate: either(&self.certificate, &other.certificate),
            key: either(&self.key, &other.key),
            client_ca: either(&self.client_ca, &other.client_ca),
            client_crl: either(&self.client_crl, &other.client_crl),
            clients: other.clients.unwrap_or(self.clients),
            min_version: other.min_version.unwrap_or(self.min_version),
        }
    }

    /// What makes no sense together, each fault with the name of a key.
    #[must_use]
    pub fn faults(&self) -> Vec<&'static str> {
        let mut faults = Vec::new();
        if self.certificate.is_some() != self.key.is_some() {
            faults.push("certificate and key: name both files, or neither");
        }
        if self.clients != ClientCertificates::Off {
            if self.certificate.is_none() {
                faults.push("clients: certificates of clients need TLS, name certificate and key");
            }
            if self.client_ca.is_none() {
                faults.push("clients: name in client_ca the authorities whose clients are believed");
            }
        } else if self.client_crl.is_some() || self.client_ca.is_some() {
            faults.push("client_ca and client_crl: nothing is checked against them while clients is off");
        }
        faults
    }
}
