//! Lists of revoked certificates: which there are, and until when they are fresh.
//!
//! A list that is late still counts: what it revokes stays revoked, and everyone else gets in, with a warning. To refuse all clients
//! until the next list comes would make an authority's delay our outage; whoever wants that removes the authority.

use std::path::Path;

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::parse_x509_crl;

use super::source::{TlsError, nothing};

/// Lists, and when the first of them is due to be followed by the next, Unix seconds; `None` if none says so.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) all: Vec<CertificateRevocationListDer<'static>>,
    pub(super) due_s: Option<i64>,
}

impl Lists {
    /// Reads all lists of a file in PEM.
    pub(super) fn read(path: &Path, pem: &[u8]) -> Result<Self, TlsError> {
        let all: Vec<_> = CertificateRevocationListDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| TlsError::Pem { path: path.to_owned(), reason: error.to_string() })?;
        if all.is_empty() {
            return Err(nothing(path, "list of revoked certificates"));
        }
        let due = |list: &CertificateRevocationListDer<'_>| {
            let (_, list) = parse_x509_crl(list).ok()?;
            list.next_update().map(|at| at.timestamp())
        };
        let due_s = all.iter().filter_map(due).min();
        Ok(Self { all, due_s })
    }
}
