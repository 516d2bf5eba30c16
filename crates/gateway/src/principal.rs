//! Who sent a request, and what they may do.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use http::Method;
use pharos_base::ErrorClass;
use pharos_model::TenantId;
use serde::{Deserialize, Serialize};

use crate::grant::{Grant, IdentitySource};

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
    /// Operate: delete; flush, compact, snapshots and reload with all tenants.
    #[serde(rename = "admin")]
    Admin,
    /// Look into the server: its own metrics, flags, runtime.
    #[serde(rename = "debug")]
    Debug,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 6] =
        [Self::MetricsWrite, Self::MetricsRead, Self::TracesWrite, Self::TracesRead, Self::Admin, Self::Debug];

    /// The scope as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MetricsWrite => "metrics:write",
            Self::MetricsRead => "metrics:read",
            Self::TracesWrite => "traces:write",
            Self::TracesRead => "traces:read",
            Self::Admin => "admin",
            Self::Debug => "debug",
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TenantAccess {
    /// This one only.
    One(TenantId),
    /// These, at least two; the first where a request names none.
    Some(Arc<[TenantId]>),
    /// Every tenant; the default tenant where a request names none.
    Any,
}

impl fmt::Display for TenantAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(tenant) => write!(f, "{tenant}"),
            Self::Some(tenants) => tenants
                .iter()
                .enumerate()
                .try_for_each(|(at, tenant)| if at > 0 { write!(f, ",{tenant}") } else { write!(f, "{tenant}") }),
            Self::Any => f.write_str("*"),
        }
    }
}

impl FromStr for TenantAccess {
    type Err = pharos_model::TenantIdError;

    /// A tenant's name, names with commas between, or `*` for every tenant (`*` alone is therefore no tenant's name here).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let mut tenants = Vec::<TenantId>::new();
        for name in text.split(',') {
            let tenant = name.trim().parse()?;
            if !tenants.contains(&tenant) {
                tenants.push(tenant);
            }
        }
        Ok(if tenants.len() == 1 { Self::One(tenants.swap_remove(0)) } else { Self::Some(tenants.into()) })
    }
}

/// Why the gateway turns a request away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum GatewayError {
    #[error("this credential lacks the scope {needed}; it has: {has}")]
    MissingScope { needed: String, has: String },
    #[error("this credential belongs to tenant {own} and may not act for tenant {asked}")]
    WrongTenant { own: String, asked: String },
    #[error(
        "this concerns all tenants, and this credential belongs to tenant {own}; it needs one made for all (--tenant '*')"
    )]
    OneTenant { own: String },
    #[error("the URL names tenant {url} and the header X-Scope-OrgID names {header}; name one of them")]
    TenantsDiffer { url: String, header: String },
    #[error("the rules of this credential do not let it do this here")]
    Denied,
    #[error(transparent)]
    Tenant(#[from] pharos_model::TenantIdError),
    #[error("{text:?} is not a scope: use metrics:write, metrics:read, traces:write, traces:read, admin or debug")]
    UnknownScope { text: String },
}

impl GatewayError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::MissingScope { .. } | Self::WrongTenant { .. } | Self::OneTenant { .. } | Self::Denied => {
                ErrorClass::Forbidden
            }
            Self::TenantsDiffer { .. } | Self::Tenant(_) | Self::UnknownScope { .. } => ErrorClass::Invalid,
        }
    }
}

/// An authenticated sender, in the extensions of every request that passed the gateway; a clone is cheap.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    grant: Arc<Grant>,
    source: IdentitySource,
    tenant_asked: Option<TenantId>,
}

impl Principal {
    /// A principal called `name`, with a token that says no more.
    #[must_use]
    pub fn new(name: &str, scopes: &[Scope], tenants: TenantAccess) -> Self {
        Self::of(Arc::new(Grant::new(name, scopes, tenants)), IdentitySource::Token)
    }

    /// Who holds a grant.
    #[must_use]
    pub fn of(grant: Arc<Grant>, source: IdentitySource) -> Self {
        Self { grant, source, tenant_asked: None }
    }

    /// Everyone, where authentication is off.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::of(Arc::new(Grant::new("anonymous", &Scope::ALL, TenantAccess::Any)), IdentitySource::Anonymous)
    }

    /// All that its credential brings.
    #[must_use]
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// What kind of credential it showed.
    #[must_use]
    pub fn source(&self) -> IdentitySource {
        self.source
    }

    /// The name of the credential.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.grant.name
    }

    /// What it may do.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        &self.grant.scopes
    }

    /// Which tenants it reaches.
    #[must_use]
    pub fn tenants(&self) -> &TenantAccess {
        &self.grant.tenants
    }

    /// Checks one scope.
    ///
    /// # Errors
    /// [`GatewayError::MissingScope`].
    pub fn require(&self, needed: Scope) -> Result<(), GatewayError> {
        self.require_any(&[needed])
    }

    /// Checks that it has one of several scopes.
    ///
    /// # Errors
    /// [`GatewayError::MissingScope`].
    pub fn require_any(&self, needed: &[Scope]) -> Result<(), GatewayError> {
        if needed.iter().any(|scope| self.scopes().contains(scope)) {
            return Ok(());
        }
        let words = |scopes: &[Scope], between: &str| {
            scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(between)
        };
        Err(GatewayError::MissingScope { needed: words(needed, " or "), has: words(self.scopes(), ", ") })
    }

    /// Checks that it reaches every tenant.
    ///
    /// # Errors
    /// [`GatewayError::OneTenant`].
    pub fn require_all_tenants(&self) -> Result<(), GatewayError> {
        match self.tenants() {
            TenantAccess::Any => Ok(()),
            own => Err(GatewayError::OneTenant { own: own.to_string() }),
        }
    }

    /// Checks the credential's own rules.
    ///
    /// # Errors
    /// [`GatewayError::Denied`].
    pub fn require_permission(&self, client: Option<IpAddr>, path: &str, method: &Method) -> Result<(), GatewayError> {
        if self.grant.rules.permit(client, path, method) { Ok(()) } else { Err(GatewayError::Denied) }
    }

    /// Checks the credential's own rules for a session, which moves no data.
    ///
    /// # Errors
    /// [`GatewayError::Denied`].
    pub(crate) fn require_session(
        &self,
        client: Option<IpAddr>,
        path: &str,
        method: &Method,
    ) -> Result<(), GatewayError> {
        if self.grant.rules.permit_session(client, path, method) { Ok(()) } else { Err(GatewayError::Denied) }
    }

    /// Remembers the tenant that the URL or the `X-Scope-OrgID` header names, if the principal may act for it.
    ///
    /// # Errors
    /// [`GatewayError::TenantsDiffer`], and as [`Principal::tenant_for`].
    pub fn asking_for(mut self, url: Option<&str>, header: Option<&str>) -> Result<Self, GatewayError> {
        if let (Some(url), Some(header)) = (url, header)
            && url.parse::<TenantId>()? != header.parse()?
        {
            return Err(GatewayError::TenantsDiffer { url: url.to_owned(), header: header.to_owned() });
        }
        if let Some(text) = url.or(header) {
            self.tenant_asked = Some(self.tenant_for(Some(text))?);
        }
        Ok(self)
    }

    /// Whether this is an operator of all tenants whose request named none of them.
    #[must_use]
    pub fn oversees_all(&self) -> bool {
        *self.tenants() == TenantAccess::Any && self.tenant_asked.is_none() && self.scopes().contains(&Scope::Admin)
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
        let Some(asked) = asked else { return Ok(self.grant.default_tenant()) };
        let may = match self.tenants() {
            TenantAccess::Any => true,
            TenantAccess::One(own) => *own == asked,
            TenantAccess::Some(own) => own.contains(&asked),
        };
        if may {
            return Ok(asked);
        }
        Err(GatewayError::WrongTenant { own: self.tenants().to_string(), asked: asked.to_string() })
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
        assert_eq!(own.clone().asking_for(None, Some("8")).unwrap_err().class(), ErrorClass::Forbidden);
        assert_eq!(own.tenant_for(Some("../8")).unwrap_err().class(), ErrorClass::Invalid);
    }

    #[test]
    fn a_principal_of_all_tenants_acts_for_the_one_asked_for() {
        let any = principal("*");
        assert_eq!(any.tenant_for(None).unwrap(), TenantId::default());
        let asking = any.asking_for(None, Some("team-a")).unwrap();
        assert_eq!(asking.tenant_for(None).unwrap().as_str(), "team-a");
        assert_eq!(asking.tenant_for(Some("9")).unwrap().as_str(), "9");
    }

    #[test]
    fn a_principal_of_several_tenants_reaches_these() {
        let some = principal("7, 8,7");
        assert_eq!(some.tenants().to_string(), "7,8");
        assert_eq!(some.tenant_for(None).unwrap().as_str(), "7");
        assert_eq!(some.clone().asking_for(None, Some("8")).unwrap().tenant_for(None).unwrap().as_str(), "8");
        assert_eq!(
            some.tenant_for(Some("9")).unwrap_err().to_string(),
            "this credential belongs to tenant 7,8 and may not act for tenant 9"
        );
        assert_eq!(some.require_all_tenants().unwrap_err().class(), ErrorClass::Forbidden);
        assert!(principal("*").require_all_tenants().is_ok());
        assert!("7,,8".parse::<TenantAccess>().is_err());
    }

    #[test]
    fn a_request_that_names_two_tenants_is_not_guessed_at() {
        let any = principal("*");
        assert!(any.clone().asking_for(Some("7:0"), Some("7")).is_ok());
        let error = any.asking_for(Some("7"), Some("8")).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Invalid);
        assert!(error.to_string().contains("tenant 7") && error.to_string().contains("names 8"), "{error}");
    }

    #[test]
    fn only_an_operator_of_all_tenants_who_names_none_oversees_all() {
        let admin = |tenants: &str| Principal::new("root", &[Scope::Admin], tenants.parse().unwrap());
        assert!(admin("*").oversees_all());
        assert!(!admin("7").oversees_all() && !principal("*").oversees_all());
        assert!(!admin("*").asking_for(None, Some("7")).unwrap().oversees_all());
    }

    #[test]
    fn a_missing_scope_is_named() {
        let error = principal("0").require(Scope::Admin).unwrap_err();
        assert_eq!(error.to_string(), "this credential lacks the scope admin; it has: metrics:read");
    }
}
