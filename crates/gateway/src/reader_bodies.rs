//! Bodies of readers: forms, remote reads, messages of gRPC, files that are shown and not stored.
//!
//! A reader's body is small, and held as a whole before anything of it is decoded. Each has a limit of its own, and what those of a
//! tenant hold together is its share of what all may, until their answers begin: while they wait for their turn to be
//! queried, too.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use pharos_base::{ByteSize, ErrorClass};
use pharos_http::{BodyBudget, Dialect, Leftover, QueryLimits, Refusal, hold_body};
use pharos_model::TenantId;

use crate::principal::Principal;
use crate::routes::Route;

/// A flag and the length of the message, before each message of gRPC.
const GRPC_PREFIX_BYTES: usize = 5;

/// How large one body may be: what the settings call the limit, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimit {
    /// The name of the limit, as in the settings.
    pub name: &'static str,
    /// Largest body, bytes.
    pub bytes_max: u64,
}

impl BodyLimit {
    /// This limit, or the one of the tenant or credential that sent a request, if that is lower.
    #[must_use]
    pub fn of_request(self, limits: &QueryLimits) -> Self {
        match limits.body_bytes_max {
            Some(own) if own < self.bytes_max => Self { name: "limits.body_max", bytes_max: own },
            _ => self,
        }
    }

    /// The limit as a length.
    #[must_use]
    pub fn len_max(self) -> usize {
        usize::try_from(self.bytes_max).unwrap_or(usize::MAX)
    }

    /// What the sender of a larger body is told; `what` is a body, or what it inflates to.
    #[must_use]
    pub fn refusal(self, what: &str) -> Refusal {
        let limit = ByteSize(self.bytes_max);
        let message = format!("{what} is larger than {} = {limit}: ask for less at a time, or raise it", self.name);
        Refusal::new(ErrorClass::LimitExceeded, message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
    }
}

/// What bodies of readers may hold; clones share it.
#[derive(Debug, Clone)]
pub struct ReaderBodies {
    budget: BodyBudget,
    limit: BodyLimit,
    time_max: Duration,
}

impl ReaderBodies {
    /// One body may have what `limit` says, and take `time_max` to arrive; `budget` has room for all of them.
    #[must_use]
    pub fn new(budget: BodyBudget, limit: BodyLimit, time_max: Duration) -> Self {
        Self { budget, limit, time_max }
    }

    /// The same, of other bodies that may have another size.
    #[must_use]
    pub fn with_limit(&self, limit: BodyLimit) -> Self {
        Self { limit, ..self.clone() }
    }

    /// Limit of one body.
    #[must_use]
    pub fn limit(&self) -> BodyLimit {
        self.limit
    }

    /// What all of them hold now, bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.budget.held_bytes()
    }
}

/// Middleware around what answers readers: takes the body of a request, within its limits, before anyone decodes it. Who was not let
/// in has no body.
pub async fn hold_reader_body(State(bodies): State<Arc<ReaderBodies>>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let dialect = Dialect::of(parts.uri.path(), &parts.headers);
    let tenant = match tenant_of(&parts) {
        Ok(tenant) => tenant,
        // gRPC reads the message before it asks who sent it.
        Err(refusal) if dialect == Dialect::Grpc => return refusal.render(dialect),
        Err(_) => return next.run(Request::from_parts(parts, Body::empty())).await,
    };
    let limit = bodies.limit.of_request(&QueryLimits::of(&parts.extensions));
    let check = checked(&parts, dialect, limit);
    let reading = hold_body(Leftover::of(&parts), body, bodies.budget.share(&tenant), check);
    let refusal = match tokio::time::timeout(bodies.time_max, reading).await {
        Ok(Ok(held)) => {
            let _held = held.held;
            return next.run(Request::from_parts(parts, Body::from(held.bytes))).await;
        }
        Ok(Err(refusal)) => refusal,
        Err(_) => Refusal::new(ErrorClass::Timeout, "the body took longer to arrive than a query may (query.timeout)"),
    };
    refusal.render(dialect)
}

fn tenant_of(parts: &Parts) -> Result<TenantId, Refusal> {
    let principal = parts.extensions.get::<Principal>();
    let principal = principal.ok_or_else(|| Refusal::new(ErrorClass::Unauthenticated, "no credential"))?;
    let url = Route::of(parts.uri.path()).tenant.map(|tenant| percent_decode_str(tenant).decode_utf8_lossy());
    principal.tenant_for(url.as_deref()).map_err(|error| Refusal::new(error.class(), error.to_string()))
}

/// Looks at what of a body has come: no more of it is read once it is known to be too large.
fn checked(
    parts: &Parts,
    dialect: Dialect,
    limit: BodyLimit,
) -> impl FnMut(&[u8]) -> Result<Option<usize>, Refusal> + Send + use<> {
    let declared = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let is_grpc = dialect == Dialect::Grpc;
    move |bytes: &[u8]| {
        let prefix: Option<[u8; 4]> = bytes.get(1..GRPC_PREFIX_BYTES).and_then(|length| length.try_into().ok());
        let (length, front) = match prefix {
            _ if !is_grpc => (declared, 0),
            Some(length) => (Some(u64::from(u32::from_be_bytes(length))), GRPC_PREFIX_BYTES),
            None => (None, GRPC_PREFIX_BYTES),
        };
        let len = length.unwrap_or(0).max(bytes.len().saturating_sub(front) as u64);
        if len > limit.bytes_max {
            return Err(limit.refusal(if is_grpc { "the message" } else { "the body" }));
        }
        Ok(length.and_then(|length| usize::try_from(length).ok()).map(|length| length + front))
    }
}

#[cfg(test)]
mod tests;
