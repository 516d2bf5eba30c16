//! A client's certificate, as far as it says who the client is.

use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// A certificate that says nothing we can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum CertificateError {
    #[error("it is no X.509 certificate: {reason}")]
    Malformed { reason: String },
    #[error("bytes follow after its end")]
    Trailing,
}

/// What a peer proved to hold the key of: in the extensions of every request of its connection, as an `Arc`.
///
/// It was checked against the port's authorities and lists of revoked certificates before. Names are as they stand in the
/// certificate: case and form are not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate itself.
    pub der: Box<[u8]>,
    /// Of `der`.
    pub sha256: [u8; 32],
    /// Valid from, Unix seconds, inclusive.
    pub not_before_s: i64,
    /// Valid until, Unix seconds, inclusive. Its connections are closed then.
    pub not_after_s: i64,
    /// The subject's common name; the last, if there are several.
    pub common_name: Option<String>,
    /// Alternative names of type URI, such as `spiffe://…`.
    pub uris: Vec<String>,
    /// Alternative names of type DNS.
    pub dns: Vec<String>,
    /// Alternative names of type e-mail.
    pub emails: Vec<String>,
}

impl ClientCertificate {
    /// Reads a certificate's names and times. Signatures are not its business.
    ///
    /// # Errors
    /// [`CertificateError`]: the bytes are no certificate, or one of its alternative names is no text.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let malformed = |reason: &dyn std::fmt::Display| CertificateError::Malformed { reason: reason.to_string() };
        let (rest, certificate) = parse_x509_certificate(der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(CertificateError::Trailing);
        }
        let (mut uris, mut dns, mut emails) = (Vec::new(), Vec::new(), Vec::new());
        // An extension that is there twice, or damaged, is an error and not an absence.
        let names = certificate.subject_alternative_name().map_err(|error| malformed(&error))?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(name) => uris.push((*name).to_owned()),
                GeneralName::DNSName(name) => dns.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => emails.push((*name).to_owned()),
                GeneralName::Invalid(..) => return Err(malformed(&"an alternative name is no text")),
                _ => {}
            }
        }
        let common_name = certificate.subject().iter_common_name().last().and_then(|name| name.as_str().ok());
        Ok(Self {
            der: der.into(),
            sha256: Sha256::digest(der).into(),
            not_before_s: certificate.validity().not_before.timestamp(),
            not_after_s: certificate.validity().not_after.timestamp(),
            common_name: common_name.map(str::to_owned),
            uris,
            dns,
            emails,
        })
    }
}
