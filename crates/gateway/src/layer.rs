//! The gateway as middleware: who comes, what the path asks for, and what becomes of those who may not.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::percent_decode_str;
use pharos_base::ErrorClass;
use pharos_http::{Connection, Dialect, Leftover, Refusal};

use crate::authenticate::{AuthError, Authenticator, single};
use crate::presented::Presented;
use crate::principal::{GatewayError, Principal};
use crate::routes::{Access, Reach, Route};

/// The header in which a sender names its tenant, as Grafana's products do.
#[must_use]
pub fn tenant_header() -> HeaderName {
    HeaderName::from_static("x-scope-orgid")
}

/// Middleware around the whole router: authenticates before anything reads the body, checks the scope of
/// the path, and leaves the [`Principal`] in the request's extensions, and beside it the limits of its queries if it has any.
pub async fn authenticate_request(
    State(authenticator): State<Arc<Authenticator>>,
    request: Request,
    next: Next,
) -> Response {
    // A browser's preflight carries no credential, and its answer none of our data.
    if request.method() == Method::OPTIONS {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let outcome = match authenticator.check_host(&parts.uri, &parts.headers) {
        Ok(()) => admit(&authenticator, &Presented::of(&parts)).await,
        Err(error) => {
            let presented = Presented::of(&parts);
            let client = presented.client(authenticator.trusted_networks());
            authenticator.audit().refused(&presented, client, "", &error);
            Err(error)
        }
    };
    match outcome {
        Ok(principal) => {
            if let Some(principal) = principal {
                if let Some(connection) = parts.extensions.get::<Connection>() {
                    connection.admit();
                }
                if let Some(limits) = authenticator.query_limits(&principal) {
                    parts.extensions.insert(limits);
                }
                parts.extensions.insert(principal);
            }
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => {
            let refused = refuse(&error, Dialect::of(parts.uri.path(), &parts.headers));
            Leftover::of(&parts).discard(body).await;
            refused
        }
    }
}

/// Who may do what is asked: `None` where the path is open to all. Refusals are counted, and told in the log.
pub(crate) async fn admit(
    authenticator: &Authenticator,
    presented: &Presented<'_>,
) -> Result<Option<Principal>, AuthError> {
    let route = Route::of(presented.path);
    if route.access == Access::Public {
        return Ok(None);
    }
    let client = presented.client(authenticator.trusted_networks());
    let principal = match authenticator.authenticate(presented).await {
        Ok(principal) => principal,
        Err(error) => {
            authenticator.audit().refused(presented, client, "", &error);
            return Err(error);
        }
    };
    let name = Arc::clone(&principal.grant().name);
    let trusts_the_browser = authenticator.trusts_the_browser(presented.headers);
    let allowed = || {
        if trusts_the_browser && !is_same_site(&route, presented.method, presented.headers) {
            return Err(AuthError::OtherSite);
        }
        match route.access {
            Access::Scope(scope) => principal.require(scope)?,
            Access::AnyOf(scopes) => principal.require_any(scopes)?,
            Access::Public | Access::Authenticated => {}
        }
        if route.reach == Reach::AllTenants {
            principal.require_all_tenants()?;
        }
        principal.require_permission(client, presented.path, presented.method)?;
        // Bytes that are no text are no tenant either; the principal says so.
        let asked = single(presented.headers, &tenant_header(), "X-Scope-OrgID")?;
        let asked = asked.map(|value| String::from_utf8_lossy(value.as_bytes()));
        let url = route.tenant.map(|tenant| percent_decode_str(tenant).decode_utf8_lossy());
        Ok(principal.asking_for(url.as_deref(), asked.as_deref())?)
    };
    match allowed() {
        Ok(principal) => {
            authenticator.audit().admitted(presented, client, &principal);
            Ok(Some(principal))
        }
        Err(error) => {
            authenticator.audit().refused(presented, client, &name, &error);
            Err(error)
        }
    }
}

/// A cookie proves nothing about who made the browser send it: a request that changes something must
/// come from our own pages.
fn is_same_site(route: &Route<'_>, method: &Method, headers: &HeaderMap) -> bool {
    let reads = !route.changes && matches!(*method, Method::GET | Method::HEAD);
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    reads || matches!(site, None | Some("same-origin" | "none"))
}

/// When a sender comes again whose issuer's keys cannot be had.
const KEYS_RETRY_AFTER: Duration = Duration::from_secs(5);

/// The answer to who may not; what is wrong with a credential that was shown is told as RFC 6750 (section 3.1) has it.
pub(crate) fn refuse(error: &AuthError, dialect: Dialect) -> Response {
    // Of these, only an issuer's keys that cannot be had pass by themselves.
    let retry_after = (error.class() == ErrorClass::Unavailable).then_some(KEYS_RETRY_AFTER);
    let refused = Refusal::new(error.class(), error.to_string()).with_retry_after(retry_after);
    let mut refused = refused.render(dialect);
    let challenge = match error {
        AuthError::Refused(GatewayError::MissingScope { .. }) => {
            "Bearer realm=\"pharos\", error=\"insufficient_scope\""
        }
        AuthError::Missing => return refused,
        _ if error.class() == ErrorClass::Unauthenticated => "Bearer realm=\"pharos\", error=\"invalid_token\"",
        _ => return refused,
    };
    refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    refused
}

#[cfg(test)]
mod tests;
