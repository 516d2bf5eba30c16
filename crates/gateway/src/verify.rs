//! `/auth/verify`: answers nginx' `auth_request` about a request that nginx describes.
//!
//! The request is described by `X-Original-URI` and `X-Original-Method`; credentials and tenant are its own headers.
//!
//! Invariants
//! - V1 The answer is 204, 401 or 403. nginx makes 500 of anything else, which senders repeat: it is left to what passes by
//!   itself (no answer, or 503 where an identity cannot be judged at the moment).
//! - V2 Nothing is changed, no body is read.
//! - V3 What would be refused by the door behind is refused here, the tenant in the path included.
//! - V4 What is judged is what the door behind reads, whether it decodes paths before it looks at them, as most programs do, or
//!   after, as Pharos does: a path that the two read differently is refused.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pharos_base::ErrorClass;
use pharos_http::{Dialect, Refusal};

use crate::authenticate::{AuthError, Authenticator};
use crate::layer::{admit, refuse};
use crate::presented::Presented;
use crate::principal::Principal;
use crate::routes::{Reach, Route};

pub(crate) async fn verify(State(authenticator): State<Arc<Authenticator>>, parts: Parts) -> Response {
    let (path, method) = match original(&parts) {
        Ok(original) => original,
        Err(error) => {
            let presented = Presented::of(&parts);
            let client = presented.client(authenticator.trusted_networks());
            authenticator.audit().refused(&presented, client, "", &error);
            return refuse(&error, Dialect::Plain);
        }
    };
    // A preflight carries no credential and moves no data: without an answer to it no browser would send what follows, which
    // is asked about by itself.
    let is_preflight = method == Method::OPTIONS
        && parts.headers.contains_key(ORIGIN)
        && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if is_preflight {
        return StatusCode::NO_CONTENT.into_response();
    }
    let asked = Presented { method: &method, path, ..Presented::of(&parts) };
    match admit(&authenticator, &asked).await {
        Ok(principal) => admitted(principal.as_ref(), &Route::of(path)),
        Err(error) if error.class() == ErrorClass::Invalid => {
            Refusal::new(ErrorClass::Forbidden, error.to_string()).render(Dialect::Plain)
        }
        Err(error) => refuse(&error, Dialect::Plain),
    }
}

/// What nginx was asked for: path and method.
fn original(parts: &Parts) -> Result<(&str, Method), AuthError> {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let no_uri = "nginx must pass the header X-Original-URI: proxy_set_header X-Original-URI $request_uri";
    let uri = text("x-original-uri").ok_or(AuthError::Original { what: no_uri })?;
    let no_method = "nginx must pass the header X-Original-Method: proxy_set_header X-Original-Method $request_method";
    let method = text("x-original-method").and_then(|method| method.parse().ok());
    let method = method.ok_or(AuthError::Original { what: no_method })?;
    let path = uri.split(['?', '#']).next().unwrap_or(uri);
    if is_plain(path) {
        return Ok((path, method));
    }
    Err(AuthError::Original { what: "this path is written so that another server may read it differently" })
}

/// 204, and who it is for which tenant: `*` where the whole server is concerned.
fn admitted(principal: Option<&Principal>, route: &Route<'_>) -> Response {
    let mut answer = StatusCode::NO_CONTENT.into_response();
    let Some(principal) = principal else { return answer };
    let tenant = match route.reach {
        Reach::AllTenants => "*".to_owned(),
        Reach::Tenant => principal.tenant_for(None).map(|tenant| tenant.to_string()).unwrap_or_default(),
    };
    for (header, value) in [("x-pharos-principal", principal.name()), ("x-pharos-tenant", tenant.as_str())] {
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.headers_mut().insert(HeaderName::from_static(header), value);
        }
    }
    answer
}

/// Whether every server reads a path alike: nothing in it is removed, joined or split on the way, and nothing is encoded that
/// need not be. Of what is left over, decoded or not, the same words stand between the same slashes.
fn is_plain(path: &str) -> bool {
    // Some take what follows a semicolon out of its segment.
    let ambiguous = ["//", "/./", "/../", "\\", ";"];
    path.starts_with('/')
        && !ambiguous.iter().any(|part| path.contains(part))
        && !path.ends_with("/..")
        && !path.ends_with("/.")
        && path.split('%').skip(1).all(is_needed_escape)
}

/// Whether `rest`, which stands after a percent sign, begins with the two digits of an octet that has to be encoded and stays what it
/// is when it is decoded: letters, digits and `-._~` are the same without (RFC 3986, 2.3), and a slash, a backslash, a percent sign or
/// a control character is something else to who decodes before he looks.
fn is_needed_escape(rest: &str) -> bool {
    let digits = rest.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let octet = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
    octet.is_some_and(|octet| {
        let is_unreserved = octet.is_ascii_alphanumeric() || b"-._~".contains(&octet);
        !is_unreserved && !octet.is_ascii_control() && !b"/\\%".contains(&octet)
    })
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;
    use crate::names::names_of;

    /// Paths near those that we know, each of their letters perhaps percent-encoded.
    fn arb_path() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            prop::sample::select(vec![
                "api",
                "v1",
                "v3",
                "admin",
                "tsdb",
                "query",
                "export",
                "select",
                "insert",
                "delete",
                "prometheus",
                "jaeger",
                "tempo",
                "7",
                "8:1",
                "metrics",
                "traces",
                "write",
                "otlp",
                "-",
                "flush",
                "snapshot",
                "auth",
                "assets",
                ".",
                "..",
                "a b",
                "é",
                "jaeger.api_v3.QueryService",
                "opentelemetry",
            ])
            .prop_map(str::to_owned),
            ".{0,3}",
        ];
        let letters = prop::collection::vec(word, 0..7).prop_map(|words| format!("/{}", words.join("/")));
        (letters, prop::collection::vec(0_u8..40, 1..20)).prop_map(|(path, chosen)| {
            let spelled = path.bytes().zip(chosen.iter().cycle()).map(|(byte, chosen)| match chosen {
                0 => format!("%{byte:02x}"),
                1 => format!("%{byte:02X}"),
                _ if byte.is_ascii_graphic() => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            });
            spelled.collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        /// V4: who decodes the path before he looks at it reads the same scope, reach and tenant, and no door that a rule could
        /// have closed.
        #[test]
        fn what_passes_is_read_alike_by_who_decodes_it_first(path in arb_path()) {
            if !is_plain(&path) {
                return Ok(());
            }
            let decoded = percent_decode_str(&path).decode_utf8_lossy().into_owned();
            let (here, there) = (Route::of(&path), Route::of(&decoded));
            prop_assert_eq!((here.access, here.reach, here.changes), (there.access, there.reach, there.changes));
            let tenant = here.tenant.map(|tenant| percent_decode_str(tenant).decode_utf8_lossy().into_owned());
            prop_assert_eq!(tenant.as_deref(), there.tenant);
            let names = names_of(&path);
            for name in names_of(&decoded) {
                prop_assert!(names.contains(&name), "{} is not among {:?}", name, names);
            }
        }
    }

    #[test]
    fn paths_of_programs_pass() {
        for path in [
            "/",
            "/api/v1/query",
            "/insert/7:1/prometheus",
            "/api/v1/label/a%20b/values",
            "/x/~user/a_b-c.d",
            "/%C3%A9",
        ] {
            assert!(is_plain(path), "{path}");
        }
    }
}
