//! The dialects in which clients read a refusal.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};
use pharos_base::ErrorClass;
use pharos_proto::rpc;
use prost::Message;
use serde_json::json;

use crate::status::{grpc_code, http_status};

/// Which form of error a client understands; told by the path and content type of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// gRPC: HTTP 200 with `grpc-status` and `grpc-message`.
    Grpc,
    /// OTLP/HTTP with protobuf bodies: a binary `google.rpc.Status`.
    OtlpProtobuf,
    /// OTLP/HTTP with JSON bodies: a JSON `google.rpc.Status`.
    OtlpJson,
    /// `{"status":"error","errorType":…,"error":…}`.
    Prometheus,
    /// `{"data":null,…,"errors":[{"code":…,"msg":…}]}`.
    Jaeger,
    /// `{"error":{"grpcCode":…,"httpCode":…,"message":…}}`, of Jaeger's API v3.
    JaegerV3,
    /// One line of text: remote write and read, operation.
    Plain,
}

/// An answer that says no: the class of failure and what to do about it.
#[derive(Debug, Clone)]
pub struct Refusal {
    class: ErrorClass,
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with the usual status of its class.
    #[must_use]
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, status: http_status(class), message: message.into(), retry_after: None }
    }

    /// With another HTTP status, such as 413 or 415, where the protocol asks for it.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// With other words.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// With the time after which a retry may succeed.
    #[must_use]
    pub fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after;
        self
    }

    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// What happened, in words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// When a retry may succeed.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The answer in `dialect`.
    #[must_use]
    pub fn render(&self, dialect: Dialect) -> Response {
        let mut response = match dialect {
            Dialect::Grpc => return self.grpc(),
            Dialect::OtlpProtobuf => body("application/x-protobuf", self.rpc_status().encode_to_vec()),
            Dialect::OtlpJson => {
                let status = json!({"code": grpc_code(self.class) as i32, "message": self.message});
                body("application/json", status.to_string())
            }
            Dialect::Prometheus => {
                let status = json!({"status": "error", "errorType": error_type(self.class), "error": self.message});
                body("application/json", status.to_string())
            }
            Dialect::Jaeger => {
                let error = json!({"code": self.status.as_u16(), "msg": self.message});
                let status = json!({"data": null, "total": 0, "limit": 0, "offset": 0, "errors": [error]});
                json_as_text(&status)
            }
            Dialect::JaegerV3 => {
                let code = self.status.as_u16();
                let reason = self.status.canonical_reason().unwrap_or("");
                let grpc = grpc_code(self.class) as i32;
                let error = json!({"grpcCode": grpc, "httpCode": code, "message": self.message, "httpStatus": reason});
                json_as_text(&json!({"error": error}))
            }
            Dialect::Plain => body("text/plain; charset=utf-8", format!("{}\n", self.message)),
        };
        *response.status_mut() = self.status;
        self.add_headers(response.headers_mut());
        response
    }

    fn add_headers(&self, headers: &mut HeaderMap) {
        if self.class == ErrorClass::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pharos\""));
        }
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
    }

    /// With `RetryInfo` where a retry may succeed: without it OTLP's clients drop what was refused for a limit.
    fn rpc_status(&self) -> rpc::Status {
        let retry = self.retry_after.map(|after| {
            let after = after.saturating_add(jitter());
            rpc::Any::pack(rpc::RetryInfo::NAME, &rpc::RetryInfo::after(after))
        });
        let details = retry.into_iter().collect();
        rpc::Status { code: grpc_code(self.class) as i32, message: self.message.clone(), details }
    }

    fn grpc(&self) -> Response {
        let code = grpc_code(self.class);
        let status = if self.retry_after.is_none() {
            tonic::Status::new(code, self.message.clone())
        } else {
            let details = Bytes::from(self.rpc_status().encode_to_vec());
            tonic::Status::with_details(code, self.message.clone(), details)
        };
        let mut response = status.into_http::<Body>();
        self.add_headers(response.headers_mut());
        response
    }
}

/// A media type is the same in capitals.
const JSON: &str = "application/json";

impl Dialect {
    /// The dialect of a request.
    #[must_use]
    pub fn of(path: &str, headers: &HeaderMap) -> Self {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let is_json = content_type.get(..JSON.len()).is_some_and(|front| front.eq_ignore_ascii_case(JSON));
        if content_type.starts_with("application/grpc") {
            return Self::Grpc;
        }
        let below_tenant = path.strip_prefix("/select/").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
        let path = below_tenant.unwrap_or(path);
        let path = path.strip_prefix("/jaeger").unwrap_or(path);
        let writes_samples = path.ends_with("/api/v1/write") || path.ends_with("/api/v1/push");
        if is_otlp(path) {
            if is_json { Self::OtlpJson } else { Self::OtlpProtobuf }
        } else if writes_samples || path.contains("/api/v1/import") || path.ends_with("/api/v1/read") {
            Self::Plain
        } else if path.contains("/api/v1/") || path.ends_with("/federate") {
            Self::Prometheus
        } else if path.starts_with("/api/v3/") {
            Self::JaegerV3
        } else if path.starts_with("/api/") {
            Self::Jaeger
        } else {
            Self::Plain
        }
    }
}

fn is_otlp(path: &str) -> bool {
    let signal = ["/v1/metrics", "/v1/traces", "/v1/logs"].iter().any(|signal| path.ends_with(signal));
    signal && (path.len() <= "/v1/metrics".len() || path.contains("/otlp/") || path.contains("/opentelemetry/"))
}

/// Prometheus' `errorType` of a class.
#[must_use]
pub fn error_type(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Invalid => "bad_data",
        ErrorClass::Unauthenticated => "unauthorized",
        ErrorClass::Forbidden => "forbidden",
        ErrorClass::NotFound => "not_found",
        ErrorClass::LimitExceeded | ErrorClass::Unsupported => "execution",
        ErrorClass::Timeout => "timeout",
        ErrorClass::Cancelled => "canceled",
        ErrorClass::Unavailable => "unavailable",
        ErrorClass::Internal => "internal",
    }
}

/// Below a second, another one for each refusal, so that a fleet that was refused at once does not come back at once.
fn jitter() -> Duration {
    // Steps of the golden ratio spread any number of refusals evenly.
    const STEP_NS: u32 = 618_033_989;
    static REFUSALS: AtomicU32 = AtomicU32::new(0);
    let count = u64::from(REFUSALS.fetch_add(1, Ordering::Relaxed));
    Duration::from_nanos(count * u64::from(STEP_NS) % 1_000_000_000)
}

/// Jaeger's errors are JSON and a line feed, and call themselves text.
fn json_as_text(value: &serde_json::Value) -> Response {
    let mut response = body("text/plain; charset=utf-8", format!("{value}\n"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn body(content_type: &'static str, bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(path: &str, content_type: &'static str) -> Dialect {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Dialect::of(path, &headers)
    }

    #[test]
    fn paths_tell_the_dialect() {
        let form = "application/x-www-form-urlencoded";
        assert_eq!(
            dialect("/opentelemetry.proto.collector.trace.v1.TraceService/Export", "application/grpc"),
            Dialect::Grpc
        );
        assert_eq!(dialect("/v1/traces", "application/json"), Dialect::OtlpJson);
        assert_eq!(dialect("/v1/traces", "Application/JSON; charset=utf-8"), Dialect::OtlpJson);
        assert_eq!(dialect("/v1/metrics", "application/x-protobuf"), Dialect::OtlpProtobuf);
        assert_eq!(dialect("/api/v1/otlp/v1/metrics", "application/x-protobuf"), Dialect::OtlpProtobuf);
        assert_eq!(dialect("/insert/0/prometheus/api/v1/write", "application/x-protobuf"), Dialect::Plain);
        assert_eq!(dialect("/select/0/prometheus/api/v1/query", form), Dialect::Prometheus);
        assert_eq!(dialect("/select/0/prometheus/federate", form), Dialect::Prometheus);
        assert_eq!(dialect("/api/v1/query", form), Dialect::Prometheus);
        assert_eq!(dialect("/api/traces", form), Dialect::Jaeger);
        assert_eq!(dialect("/jaeger/api/traces", form), Dialect::Jaeger);
        assert_eq!(dialect("/api/v3/services", form), Dialect::JaegerV3);
        assert_eq!(dialect("/select/0/jaeger/api/traces", form), Dialect::Jaeger);
        assert_eq!(dialect("/select/0/jaeger/api/v3/services", form), Dialect::JaegerV3);
        assert_eq!(dialect("/select/0/tempo/api/search", form), Dialect::Plain);
        assert_eq!(dialect("/-/flush", form), Dialect::Plain);
    }

    #[test]
    fn a_refused_grpc_call_answers_200_with_its_code_in_the_header() {
        let response = Refusal::new(ErrorClass::Unauthenticated, "no token").render(Dialect::Grpc);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "16");
        assert!(response.headers().contains_key(WWW_AUTHENTICATE));
    }

    #[test]
    fn an_overloaded_store_tells_when_to_come_back() {
        let refusal = Refusal::new(ErrorClass::Unavailable, "disk full").with_retry_after(Some(Duration::from_secs(7)));
        let response = refusal.render(Dialect::Prometheus);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "7");
    }
}
