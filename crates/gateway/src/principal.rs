//! Who sent a request, and what they may do.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use pharos_base::ErrorClass;
use pharos_model::TenantId;
use serde::{Deserialize, Serialize};

/// What a credential allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Push samples.
    #[serde(rename = "metrics:write")]
    MetricsWrite,
    /// Query samples.
    #[serde(rename = "metrics:read")]
    MetricsRead,
    /// Push spans.
    #[serde(rename = "traces:write")]
    TracesWrite,
    /// Query spans.
    #[serde(rename = "traces:read")]
    TracesRead,
    /// Operate: flush, compact, reload.
    #[serde(rename = "admin")]
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 5] =
        [Self::MetricsWrite, Self::MetricsRead, Self::TracesWrite, Self::TracesRead, Self::Admin];

    /// The scope as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MetricsWrite => "metrics:write",
            Self::MetricsRead => "metrics:read",
            Self::TracesWrite => "traces:write",
            Self::TracesRead => "traces:read",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = GatewayError;

    fn from_str(text: &str) -> Result<Self, GatewayError> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| GatewayError::UnknownScope { text: text.to_owned() })
    }
}

/// Which tenants a credential reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantAccess {
    /// This one only.
    One(TenantId),
    /// Every tenant; the default tenant where a request names none.
    Any,
}

impl fmt::Display for TenantAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(tenant) => write!(f, "{tenant}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl FromStr for TenantAccess {
    type Err = pharos_model::TenantIdError;

    /// A tenant's name, or `*` for every tenant (`*` alone is therefore no tenant's name here).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" { Ok(Self::Any) } else { text.parse().map(Self::One) }
    }
}

/// Why the gateway turns a request away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum GatewayError {
    #[error("this credential lacks the scope {needed}; it has: {has}")]
    MissingScope { needed: Scope, has: String },
    #[error("this credential belongs to tenant {own} and may not act for tenant {asked}")]
    WrongTenant { own: String, asked: String },
    #[error(transparent)]
    Tenant(#[from] pharos_model::TenantIdError),
    #[error("{text:?} is not a scope: use metrics:write, metrics:read, traces:write, traces:read or admin")]
    UnknownScope { text: String },
}

impl GatewayError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::MissingScope { .. } | Self::WrongTenant { .. } => ErrorClass::Forbidden,
            Self::Tenant(_) | Self::UnknownScope { .. } => ErrorClass::Invalid,
        }
    }
}

/// An authenticated sender, in the extensions of every request that passed the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    name: Arc<str>,
    scopes: Arc<[Scope]>,
    tenants: TenantAccess,
    tenant_asked: Option<TenantId>,
}

impl Principal {
    /// A principal called `name`.
    #[must_use]
    pub fn new(name: &str, scopes: &[Scope], tenants: TenantAccess) -> Self {
        Self { name: Arc::from(name), scopes: Arc::from(scopes), tenants, tenant_asked: None }
    }

    /// Everyone, where authentication is off.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new("anonymous", &Scope::ALL, TenantAccess::Any)
    }

    /// The name of the credential.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it may do.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// Which tenants it reaches.
    #[must_use]
    pub fn tenants(&self) -> &TenantAccess {
        &self.tenants
    }

    /// Checks one scope.
    ///
    /// # Errors
    /// [`GatewayError::MissingScope`].
    pub fn require(&self, needed: Scope) -> Result<(), GatewayError> {
        if self.scopes.contains(&needed) {
            return Ok(());
        }
        let has = self.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ");
        Err(GatewayError::MissingScope { needed, has })
    }

    /// Remembers the tenant that the `X-Scope-OrgID` header asked for, if the principal may act for it.
    ///
    /// # Errors
    /// As [`Principal::tenant_for`].
    pub fn asking_for(mut self, header: Option<&str>) -> Result<Self, GatewayError> {
        if let Some(text) = header {
            self.tenant_asked = Some(self.tenant_for(Some(text))?);
        }
        Ok(self)
    }

    /// Whether this is an operator of all tenants whose request named none of them.
    #[must_use]
    pub fn oversees_all(&self) -> bool {
        self.tenants == TenantAccess::Any && self.tenant_asked.is_none() && self.scopes.contains(&Scope::Admin)
    }

    /// The tenant of a request: the one in its URL, else the one its header asked for, else the
    /// principal's own.
    ///
    /// # Errors
    /// - [`GatewayError::Tenant`]: the URL's text is no tenant.
    /// - [`GatewayError::WrongTenant`]: the principal may not act for it.
    pub fn tenant_for(&self, url_tenant: Option<&str>) -> Result<TenantId, GatewayError> {
        let asked = match url_tenant {
            Some(text) => Some(text.parse::<TenantId>()?),
            None => self.tenant_asked.clone(),
        };
        match (&self.tenants, asked) {
            (TenantAccess::Any, asked) => Ok(asked.unwrap_or_default()),
            (TenantAccess::One(own), None) => Ok(own.clone()),
            (TenantAccess::One(own), Some(asked)) if *own == asked => Ok(asked),
            (TenantAccess::One(own), Some(asked)) => {
                Err(GatewayError::WrongTenant { own: own.to_string(), asked: asked.to_string() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(tenants: &str) -> Principal {
        Principal::new("test", &[Scope::MetricsRead], tenants.parse().unwrap())
    }

    #[test]
    fn a_principal_of_one_tenant_reaches_no_other() {
        let own = principal("7");
        assert_eq!(own.tenant_for(None).unwrap().as_str(), "7");
        assert_eq!(own.tenant_for(Some("7:0")).unwrap().as_str(), "7");
        assert_eq!(own.tenant_for(Some("8")).unwrap_err().class(), ErrorClass::Forbidden);
        assert_eq!(own.clone().asking_for(Some("8")).unwrap_err().class(), ErrorClass::Forbidden);
        assert_eq!(own.tenant_for(Some("../8")).unwrap_err().class(), ErrorClass::Invalid);
    }

    #[test]
    fn a_principal_of_all_tenants_acts_for_the_one_asked_for() {
        let any = principal("*");
        assert_eq!(any.tenant_for(None).unwrap(), TenantId::default());
        let asking = any.asking_for(Some("team-a")).unwrap();
        assert_eq!(asking.tenant_for(None).unwrap().as_str(), "team-a");
        assert_eq!(asking.tenant_for(Some("9")).unwrap().as_str(), "9");
    }

    #[test]
    fn only_an_operator_of_all_tenants_who_names_none_oversees_all() {
        let admin = |tenants: &str| Principal::new("root", &[Scope::Admin], tenants.parse().unwrap());
        assert!(admin("*").oversees_all());
        assert!(!admin("7").oversees_all() && !principal("*").oversees_all());
        assert!(!admin("*").asking_for(Some("7")).unwrap().oversees_all());
    }

    #[test]
    fn a_missing_scope_is_named() {
        let error = principal("0").require(Scope::Admin).unwrap_err();
        assert_eq!(error.to_string(), "this credential lacks the scope admin; it has: metrics:read");
    }
}
