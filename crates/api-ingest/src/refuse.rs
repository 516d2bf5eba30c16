//! Failures of ingest as refusals.

use std::time::Duration;

use http::StatusCode;
use pharos_base::ErrorClass;
use pharos_http::Refusal;
use pharos_ingest::IngestError;
use pharos_storage::StorageError;

/// When to come back, where the store does not say.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// When to come back to a store whose limit is reached.
const LIMIT_RETRY_AFTER: Duration = Duration::from_mins(1);

/// What a sender is told; failures that are ours are logged here, once.
///
/// Whatever the store says of an append, but that it is unsound, means "not now": what one append meets (a failed sync, a store
/// that panicked, a full disk) is over once somebody has seen to it, and a sender that is told 500 would have dropped its batch.
pub(crate) fn refusal(error: &IngestError) -> Refusal {
    match error {
        IngestError::Storage(error) => of_append(error),
        IngestError::Closing => not_now(error.to_string(), None),
        error if error.is_too_large() => {
            Refusal::new(error.class(), error.to_string()).with_status(StatusCode::PAYLOAD_TOO_LARGE)
        }
        error => Refusal::new(error.class(), error.to_string()),
    }
}

fn of_append(error: &StorageError) -> Refusal {
    match error {
        StorageError::Invalid { .. } | StorageError::Unsupported { .. } => {
            Refusal::new(error.class(), error.to_string())
        }
        StorageError::LimitExceeded { .. } | StorageError::Memory(_) => {
            Refusal::new(ErrorClass::LimitExceeded, error.to_string()).with_retry_after(Some(LIMIT_RETRY_AFTER))
        }
        StorageError::Unavailable { retry_after, .. } => {
            tracing::warn!(error = error.full_message(), "append refused");
            not_now(error.full_message(), *retry_after)
        }
        StorageError::Interrupted(_) => not_now(error.to_string(), None),
        StorageError::Internal { .. } => {
            tracing::error!(error = error.full_message(), "append failed");
            not_now(format!("{error}; nothing of it is acknowledged, send it again"), None)
        }
    }
}

fn not_now(message: String, retry_after: Option<Duration>) -> Refusal {
    Refusal::new(ErrorClass::Unavailable, message).with_retry_after(Some(retry_after.unwrap_or(RETRY_AFTER)))
}

/// An unsupported content type or encoding.
pub(crate) fn unsupported_media(message: String) -> Refusal {
    Refusal::new(ErrorClass::Invalid, message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pharos_base::Interrupted;

    #[test]
    fn what_an_append_meets_is_never_internal() {
        let internal = StorageError::Internal { action: "syncing the log", source: "EIO".into() };
        let limit = StorageError::LimitExceeded { what: "tenants", limit: 7, hint: "fewer" };
        for (error, class, status) in [
            (internal, ErrorClass::Unavailable, 503),
            (StorageError::Interrupted(Interrupted::DeadlineExceeded), ErrorClass::Unavailable, 503),
            (StorageError::unavailable("disk full"), ErrorClass::Unavailable, 503),
            (limit, ErrorClass::LimitExceeded, 429),
        ] {
            let refusal = refusal(&IngestError::Storage(error));
            let answer = refusal.render(pharos_http::Dialect::OtlpProtobuf);
            assert_eq!((refusal.class(), answer.status().as_u16()), (class, status));
            assert!(answer.headers().contains_key("retry-after"), "{refusal:?}");
            let grpc = refusal.render(pharos_http::Dialect::Grpc);
            assert!(grpc.headers().contains_key("grpc-status-details-bin"), "{refusal:?}");
        }
    }
}
