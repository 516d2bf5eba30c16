//! What can go wrong between the bytes of a request and the answer of the store.

use pharos_base::{ByteSize, ErrorClass};
use pharos_storage::StorageError;

use crate::Encoding;

/// Why a request failed as a whole; single samples and spans that are refused are
/// [`Rejection`](pharos_storage::Rejection)s of an otherwise stored request.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum IngestError {
    /// The body is, or would inflate to, more than the limit.
    #[error(
        "request body exceeds the limit of {limit}, counted after inflation; send smaller batches or raise ingest.limits.body_max (limits.body_max where a tenant or credential has its own)"
    )]
    BodyTooLarge { limit: ByteSize },
    /// The decoded batch would hold more than the limit.
    #[error("decoded request exceeds the limit of {limit} ({what}); send smaller batches or raise {setting}")]
    BatchTooLarge { what: &'static str, setting: &'static str, limit: u64 },
    /// The body is not what its content encoding says.
    #[error("cannot inflate the {encoding} body: {message}")]
    Inflate { encoding: Encoding, message: String },
    /// The inflated body is not the message it should be.
    #[error("cannot decode {message_name}: {message}")]
    Decode { message_name: &'static str, message: String },
    /// The store refused the batch as a whole.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The store was closed before the batch was durable.
    #[error("server is shutting down; nothing of the request is acknowledged, send it again")]
    Closing,
}

impl IngestError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::BodyTooLarge { .. } | Self::BatchTooLarge { .. } => ErrorClass::LimitExceeded,
            Self::Inflate { .. } | Self::Decode { .. } => ErrorClass::Invalid,
            Self::Storage(error) => error.class(),
            Self::Closing => ErrorClass::Unavailable,
        }
    }

    /// Whether the request is too large to be taken, now or later: 413 on HTTP.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::BodyTooLarge { .. } | Self::BatchTooLarge { .. })
    }
}
