//! From claims that are proved to a grant.

use std::sync::Arc;

use pharos_model::{Matcher, TenantId};
use serde_json::{Map, Value};

use super::error::JwtError;
use super::settings::{ClaimNames, IssuerSettings, ScopeMapping};
use crate::identities::{GrantSettings, is_name};
use crate::{Grant, Scope, TenantAccess};

/// Tenants one token may name.
const TENANTS_MAX: usize = 100;

/// What the claims of one issuer's tokens mean.
#[derive(Debug)]
pub(super) struct ClaimRules {
    issuer: Arc<str>,
    audience: Vec<String>,
    leeway_s: i64,
    claims: ClaimNames,
    scopes: Vec<ScopeMapping>,
    require: Vec<Matcher>,
    tenants: Option<TenantAccess>,
    grant: GrantSettings,
}

impl ClaimRules {
    pub(super) fn new(settings: &IssuerSettings) -> Result<Self, String> {
        Ok(Self {
            issuer: Arc::from(settings.issuer.as_str()),
            audience: settings.audience.clone(),
            leeway_s: settings.leeway.as_ms().div_euclid(1_000),
            claims: settings.claims.clone(),
            scopes: settings.scopes.clone(),
            require: settings.require.iter().map(super::settings::Requirement::matcher).collect::<Result<_, _>>()?,
            tenants: settings.grant.tenants()?,
            grant: settings.grant.clone(),
        })
    }

    /// What the claims bring. The grant's times have the leeway in them, and `now_s` is within.
    pub(super) fn grant(&self, claims: &Map<String, Value>, now_s: i64) -> Result<Grant, JwtError> {
        let expires_s = seconds(claims, "exp")?.ok_or_else(|| claim("exp", "is not there"))?;
        let expires_s = expires_s.saturating_add(self.leeway_s);
        let not_before_s = seconds(claims, "nbf")?.map(|at_s| at_s.saturating_sub(self.leeway_s));
        if now_s >= expires_s {
            return Err(JwtError::Expired);
        }
        if not_before_s.is_some_and(|at_s| now_s < at_s) {
            return Err(JwtError::NotYet);
        }
        if !texts(claims.get("aud")).iter().any(|audience| self.audience.iter().any(|own| own == audience)) {
            return Err(JwtError::Audience);
        }
        for requirement in &self.require {
            let values = texts(lookup(claims, requirement.name()));
            if !values.iter().any(|value| requirement.matches(value)) {
                return Err(JwtError::Requirement { claim: requirement.name().to_owned() });
            }
        }
        let name = self.name(claims)?;
        let grant = self.grant.grant(name, self.tenants(claims)?, &self.scopes(claims)?);
        let authority = Arc::clone(&self.issuer);
        Ok(Grant { authority, not_before_s, expires_s: Some(expires_s), ..grant })
    }

    /// When the token of a grant ends by its issuer's clock, without the leeway.
    pub(super) fn end_s(&self, grant: &Grant) -> Option<i64> {
        grant.expires_s.map(|expires_s| expires_s.saturating_sub(self.leeway_s))
    }

    fn name<'a>(&self, claims: &'a Map<String, Value>) -> Result<&'a str, JwtError> {
        let path = &self.claims.name;
        let name = lookup(claims, path).and_then(Value::as_str).filter(|name| is_name(name));
        name.ok_or_else(|| claim(path, "is no name: a text of 1 to 256 bytes"))
    }

    fn scopes(&self, claims: &Map<String, Value>) -> Result<Vec<Scope>, JwtError> {
        let path = &self.claims.scopes;
        let values: Vec<&str> = match lookup(claims, path) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            Some(_) => return Err(claim(path, "is neither a text nor a list")),
        };
        if self.scopes.is_empty() {
            return Ok(values.into_iter().filter_map(|value| value.parse().ok()).collect());
        }
        let granted = self.scopes.iter().filter(|mapping| values.contains(&mapping.value.as_str()));
        Ok(granted.flat_map(|mapping| mapping.grants.iter().copied()).collect())
    }

    /// A claim that is there decides, or refuses: what is wrong in it is never made good by the settings' own tenant.
    fn tenants(&self, claims: &Map<String, Value>) -> Result<TenantAccess, JwtError> {
        let path = &self.claims.tenant;
        let named = match lookup(claims, path) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(vec![text.clone()]),
            Some(Value::Number(number)) => Some(vec![number.to_string()]),
            Some(Value::Array(list)) => {
                let texts: Option<_> = list.iter().map(|value| value.as_str().map(str::to_owned)).collect();
                Some(texts.ok_or_else(|| claim(path, "is a list of other things than texts"))?)
            }
            Some(_) => return Err(claim(path, "is neither a text nor a list")),
        };
        let Some(named) = named else {
            return self.tenants.clone().ok_or_else(|| claim(path, "is not there, and names the tenant"));
        };
        if named == ["*"] {
            return Ok(TenantAccess::Any);
        }
        if named.len() > TENANTS_MAX {
            return Err(claim(path, "names more than 100 tenants"));
        }
        let mut tenants = Vec::<TenantId>::new();
        for text in named {
            // A lone `*` is every tenant, and in a list it would be one called so.
            let tenant: TenantId = text.parse().map_err(|_| claim(path, "is no tenant's name"))?;
            if text == "*" {
                return Err(claim(path, "has \"*\" beside others"));
            }
            if !tenants.contains(&tenant) {
                tenants.push(tenant);
            }
        }
        match tenants.len() {
            0 => Err(claim(path, "is an empty list")),
            1 => Ok(TenantAccess::One(tenants.swap_remove(0))),
            _ => Ok(TenantAccess::Some(tenants.into())),
        }
    }
}

fn claim(name: &str, problem: &'static str) -> JwtError {
    JwtError::Claim { claim: name.to_owned(), problem }
}

/// A claim of just that name; else, the text before a dot names an object that has the rest.
fn lookup<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    claims.get(path).or_else(|| {
        path.match_indices('.').find_map(|(at, _)| match claims.get(&path[..at]) {
            Some(Value::Object(inner)) => lookup(inner, &path[at + 1..]),
            _ => None,
        })
    })
}

/// A text, or the texts of a list.
fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Seconds since the Unix epoch, a fraction cut off; RFC 7519 allows one.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, JwtError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64));
    seconds.map(Some).ok_or_else(|| claim(name, "is no number of seconds"))
}
