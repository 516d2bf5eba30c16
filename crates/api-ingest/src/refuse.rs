//! Failures of ingest as refusals.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use pharos_base::ErrorClass;
use pharos_http::Refusal;
use pharos_ingest::IngestError;
use pharos_proto::rpc;
use pharos_storage::StorageError;
use prost::Message;

/// When to come back, where the store does not say.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a sender is told; failures that are ours are logged here, once.
pub(crate) fn refusal(error: &IngestError) -> Refusal {
    let message = match error {
        IngestError::Storage(error @ StorageError::Internal { .. }) => {
            tracing::error!(error = error.full_message(), "append failed");
            error.to_string()
        }
        IngestError::Storage(error) if error.class() == ErrorClass::Unavailable => {
            tracing::warn!(error = error.full_message(), "append refused");
            error.full_message()
        }
        error => error.to_string(),
    };
    let refusal = Refusal::new(error.class(), message);
    if error.is_too_large() {
        return refusal.with_status(StatusCode::PAYLOAD_TOO_LARGE);
    }
    refusal.with_retry_after(retry_after(error))
}

fn retry_after(error: &IngestError) -> Option<Duration> {
    match error {
        IngestError::Storage(StorageError::Unavailable { retry_after, .. }) => Some(retry_after.unwrap_or(RETRY_AFTER)),
        IngestError::Closing => Some(RETRY_AFTER),
        _ => None,
    }
}

/// An unsupported content type or encoding.
pub(crate) fn unsupported_media(message: String) -> Refusal {
    Refusal::new(ErrorClass::Invalid, message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

/// A refusal as gRPC says it: with `RetryInfo`, without which clients do not retry.
pub(crate) fn grpc_status(refusal: &Refusal) -> tonic::Status {
    let code = pharos_http::grpc_code(refusal.class());
    let Some(delay) = refusal.retry_after() else {
        return tonic::Status::new(code, refusal.message());
    };
    let details = vec![rpc::Any::pack(rpc::RetryInfo::NAME, &rpc::RetryInfo::after(delay))];
    let status = rpc::Status { code: code as i32, message: refusal.message().to_owned(), details };
    tonic::Status::with_details(code, refusal.message(), Bytes::from(status.encode_to_vec()))
}
