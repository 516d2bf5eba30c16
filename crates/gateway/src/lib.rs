//! The gateway: who are you, which tenant, what may you do.
//!
//! Runs before any body is read: a request without a valid credential costs a header parse and one
//! hash. Tokens are kept as SHA-256 of 256 random bits; the file is re-read when it changes.
//!
//! Invariants
//! - G1 No handler runs for a path that is not public unless a [`Principal`] with the needed scope is in
//!   the request's extensions.
//! - G2 The tenant comes from the principal alone, or from the URL or `X-Scope-OrgID` where the principal
//!   may act for that tenant.
//! - G3 Nothing secret is logged, printed or stored in clear, except once when a token is made.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod audit;
mod authenticate;
mod certificate;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grant;
mod identities;
mod jwt;
mod layer;
mod limits;
mod live_tokens;
mod login;
mod names;
mod presented;
mod principal;
mod proxy;
mod quota;
mod reader_bodies;
mod routes;
mod rules;
mod session;
mod token_file;
mod verify;

pub use audit::{AuditLevel, AuditSettings};
pub use authenticate::{AuthError, AuthSettings, Authenticator, loopback_networks};
pub use certificate::CertificateRefused;
pub use grant::{Grant, IdentitySource};
pub use identities::{
    CertificateMatch, CertificateSettings, GrantSettings, Identities, IdentityError, IdentitySettings, ProxySettings,
};
pub use jwt::{
    ClaimNames, IssuerSettings, IssuerState, JwtAlgorithm, JwtError, KeyFile, KeySettings, KeysWanted, Requirement,
    ScopeMapping,
};
pub use layer::{authenticate_request, tenant_header};
pub use limits::LimitOverrides;
pub use login::session_routes;
pub use presented::Presented;
pub use principal::{GatewayError, Principal, Scope, TenantAccess};
pub use proxy::ProxyError;
pub use quota::{Credential, InFlight, LimitSettings, OverLimit, Quota, Quotas, SeriesGate, TenantLimits, Unit, Whose};
pub use reader_bodies::{BodyLimit, ReaderBodies, hold_reader_body};
pub use routes::{Access, INSIDE_SCOPES, Reach, Route};
pub use rules::{AccessRule, AccessRules};
pub use token_file::{NewToken, Revoked, TokenEntry, TokenFile, TokenFileError, TokenSecret};
