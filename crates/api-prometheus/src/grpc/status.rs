//! Refusals as gRPC says them.

use std::time::Instant;

use http::HeaderMap;
use pharos_base::ErrorClass;
use pharos_http::{Refusal, error_type, grpc_code, grpc_deadline};
use pharos_proto::rpc;
use prost::Message;
use prost::bytes::Bytes;
use tonic::{Code, Status};

/// Who names the reasons of [`rpc::ErrorInfo`].
const DOMAIN: &str = "pharos";

/// A refusal with its details.
pub(super) fn status_of(refusal: &Refusal) -> Status {
    let code = match refusal.class() {
        // The question is understood and these data have no answer to it. UNIMPLEMENTED would say that there is no such method.
        ErrorClass::Unsupported => Code::FailedPrecondition,
        class => grpc_code(class),
    };
    let reason = error_type(refusal.class()).to_uppercase();
    let info = rpc::ErrorInfo { reason, domain: DOMAIN.to_owned(), ..rpc::ErrorInfo::default() };
    let mut details = vec![rpc::Any::pack(rpc::ErrorInfo::NAME, &info)];
    if let Some(after) = refusal.retry_after() {
        details.push(rpc::Any::pack(rpc::RetryInfo::NAME, &rpc::RetryInfo::after(after)));
    }
    let status = rpc::Status { code: code as i32, message: refusal.message().to_owned(), details };
    Status::with_details(code, refusal.message(), Bytes::from(status.encode_to_vec()))
}

/// A wrong request.
pub(super) fn bad(message: &str) -> Status {
    status_of(&Refusal::new(ErrorClass::Invalid, message))
}

/// When a call that just arrived has to be answered.
pub(super) fn deadline_of(headers: &HeaderMap) -> Result<Option<Instant>, Status> {
    grpc_deadline(headers).map_err(|refusal| status_of(&refusal))
}
