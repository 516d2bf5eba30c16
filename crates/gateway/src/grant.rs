//! What a credential brings: the same whatever kind of credential it is.

use std::sync::Arc;

use pharos_model::TenantId;

use crate::{AccessRules, LimitOverrides, Scope, TenantAccess};

/// Everything that an identity says about requests made with it.
///
/// Made once for a token of the file, an issuer's claims, a certificate or a proxy's header, and shared by all requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// For people, logs and metrics; unique among those of one authority.
    pub name: Arc<str>,
    /// Who vouches for the name: an issuer, a rule for certificates, a proxy; empty for the token file.
    pub authority: Arc<str>,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Which tenants it reaches.
    pub tenants: TenantAccess,
    /// Labels that every series and resource written with it gets, whatever the sender says.
    pub extra_labels: Vec<(String, String)>,
    /// From where, which paths, which methods.
    pub rules: AccessRules,
    /// How much; `None` leaves it to the tenant.
    pub limits: LimitOverrides,
    /// When it begins to work, Unix seconds.
    pub not_before_s: Option<i64>,
    /// When it stops working, Unix seconds.
    pub expires_s: Option<i64>,
}

impl Grant {
    /// A grant without labels, rules, limits or times.
    #[must_use]
    pub fn new(name: &str, scopes: &[Scope], tenants: TenantAccess) -> Self {
        Self {
            name: Arc::from(name),
            authority: Arc::default(),
            scopes: scopes.to_vec(),
            tenants,
            extra_labels: Vec::new(),
            rules: AccessRules::default(),
            limits: LimitOverrides::default(),
            not_before_s: None,
            expires_s: None,
        }
    }

    /// The tenant of requests that name none.
    #[must_use]
    pub fn default_tenant(&self) -> TenantId {
        match &self.tenants {
            TenantAccess::One(own) => own.clone(),
            TenantAccess::Some(own) => own.first().cloned().unwrap_or_default(),
            TenantAccess::Any => TenantId::default(),
        }
    }
}

/// What kind of credential a request was admitted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentitySource {
    /// None: authentication is off.
    Anonymous,
    /// A token of the file.
    Token,
    /// A browser's session, opened with a token.
    Session,
    /// A JSON web token.
    Jwt,
    /// A client's certificate.
    Certificate,
    /// A header of a trusted proxy.
    Proxy,
}

impl IdentitySource {
    /// The word for it in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Token => "token",
            Self::Session => "session",
            Self::Jwt => "jwt",
            Self::Certificate => "certificate",
            Self::Proxy => "proxy",
        }
    }
}
