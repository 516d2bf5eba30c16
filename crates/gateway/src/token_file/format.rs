//! The text of the token file: two versions, one meaning.
//!
//! Version 1: `{"version":1,"tokens":[{"id","name","sha256","scopes","tenant","created_at","expires_at"?}]}`.
//!
//! Version 2: `{"version":2,"tokens":[{"name","secrets":[{"id","sha256","created_at","expires_at"?}],"scopes","tenant",
//! "extra_labels"?:{},"limits"?:{},"allow"?:[],"deny"?:[],"not_before"?,"created_at","expires_at"?}]}`.
//!
//! Times are Unix seconds, hashes 64 hexadecimal digits. Both versions are read. Version 2 is written only when a token says
//! something that version 1 has no word for, so that an older Pharos reads the file as long as it can.
//!
//! Invariants, checked on reading
//! - F1 No two secrets of a file are the same: a secret tells one token.
//! - F2 A token has 1 to [`SECRETS_MAX`] secrets.
//! - F3 Names and values of extra labels fit the limits below; no token sets `__name__`.
//! - F4 Every token has a name, and no two have the same; nor have two secrets of a file the same id. A token with several secrets is
//!   one entry: who revokes a name or an id revokes all that is called so.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{SECRETS_MAX, TokenEntry, TokenSecret};
use crate::{AccessRule, AccessRules, LimitOverrides, Scope, TenantAccess};

/// Labels that one token may add.
const EXTRA_LABELS_MAX: usize = 32;
/// Bytes of such a label's name or value.
const EXTRA_LABEL_BYTES_MAX: usize = 1_024;
/// Rules of one token, `allow` and `deny` each.
const RULES_MAX: usize = 100;

/// Why a text is no token file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    /// Not the JSON that is expected.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Of a version that is not known.
    #[error("version {0}")]
    Version(u32),
    /// It says something that makes no sense.
    #[error("{0}")]
    Content(String),
}

#[derive(Deserialize)]
struct Head {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents<T> {
    version: u32,
    tokens: Vec<T>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenV1 {
    id: String,
    name: String,
    #[serde(serialize_with = "as_hex", deserialize_with = "from_hex")]
    sha256: [u8; 32],
    scopes: Vec<Scope>,
    #[serde(serialize_with = "as_display", deserialize_with = "from_text")]
    tenant: TenantAccess,
    created_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenV2 {
    name: String,
    secrets: Vec<SecretV2>,
    scopes: Vec<Scope>,
    #[serde(serialize_with = "as_display", deserialize_with = "from_text")]
    tenant: TenantAccess,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    extra_labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "is_default")]
    limits: LimitOverrides,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow: Vec<AccessRule>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deny: Vec<AccessRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    created_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretV2 {
    id: String,
    #[serde(serialize_with = "as_hex", deserialize_with = "from_hex")]
    sha256: [u8; 32],
    created_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

/// All tokens of a file's text.
pub(super) fn read(text: &str) -> Result<Vec<TokenEntry>, Malformed> {
    let head: Head = serde_json::from_str(text)?;
    let tokens: Vec<TokenEntry> = match head.version {
        1 => serde_json::from_str::<Contents<TokenV1>>(text)?.tokens.into_iter().map(TokenEntry::from).collect(),
        2 => serde_json::from_str::<Contents<TokenV2>>(text)?.tokens.into_iter().map(TokenEntry::from).collect(),
        other => return Err(Malformed::Version(other)),
    };
    check(&tokens).map_err(Malformed::Content)?;
    Ok(tokens)
}

/// The text of a file with these tokens, of the oldest version that has words for all they say.
pub(super) fn write(tokens: &[TokenEntry]) -> Result<String, Malformed> {
    check(tokens).map_err(Malformed::Content)?;
    let old: Option<Vec<TokenV1>> = tokens.iter().map(TokenV1::of).collect();
    Ok(if let Some(tokens) = old {
        serde_json::to_string_pretty(&Contents { version: 1, tokens })?
    } else {
        let tokens: Vec<_> = tokens.iter().map(TokenV2::of).collect();
        serde_json::to_string_pretty(&Contents { version: 2, tokens })?
    })
}

fn check(tokens: &[TokenEntry]) -> Result<(), String> {
    let (mut names, mut ids, mut hashes) = (HashSet::new(), HashSet::new(), HashSet::new());
    for token in tokens {
        let name = &token.name;
        if name.is_empty() {
            return Err("a token has no name".to_owned());
        }
        if !names.insert(name) {
            return Err(format!(
                "two tokens are called {name:?}; several secrets of one token stand in its list `secrets`"
            ));
        }
        if token.secrets.is_empty() || token.secrets.len() > SECRETS_MAX {
            return Err(format!("token {name:?} must have 1 to {SECRETS_MAX} secrets"));
        }
        for secret in &token.secrets {
            if !hashes.insert(secret.sha256) {
                return Err(format!("token {name:?} has a secret that is there twice, {}", secret.id));
            }
            if !ids.insert(&secret.id) {
                return Err(format!("token {name:?} has a secret whose id is there twice, {:?}", secret.id));
            }
        }
        check_labels(token)?;
        if token.rules.allow.len() > RULES_MAX || token.rules.deny.len() > RULES_MAX {
            return Err(format!("token {name:?} has more than {RULES_MAX} rules"));
        }
    }
    Ok(())
}

fn check_labels(token: &TokenEntry) -> Result<(), String> {
    let name = &token.name;
    if token.extra_labels.len() > EXTRA_LABELS_MAX {
        return Err(format!("token {name:?} has more than {EXTRA_LABELS_MAX} extra labels"));
    }
    for (label, value) in &token.extra_labels {
        if label.is_empty() || label == "__name__" {
            return Err(format!("token {name:?} cannot set the label {label:?}"));
        }
        if label.len() > EXTRA_LABEL_BYTES_MAX || value.len() > EXTRA_LABEL_BYTES_MAX {
            return Err(format!("token {name:?} has an extra label of more than {EXTRA_LABEL_BYTES_MAX} bytes"));
        }
    }
    Ok(())
}

impl From<TokenV1> for TokenEntry {
    fn from(old: TokenV1) -> Self {
        let secret = TokenSecret { id: old.id, sha256: old.sha256, created_at: old.created_at, expires_at: None };
        Self {
            name: old.name,
            secrets: vec![secret],
            scopes: old.scopes,
            tenant: old.tenant,
            extra_labels: BTreeMap::new(),
            limits: LimitOverrides::default(),
            rules: AccessRules::default(),
            not_before: None,
            created_at: old.created_at,
            expires_at: old.expires_at,
        }
    }
}

impl TokenV1 {
    /// `None` if version 1 cannot say all of it.
    fn of(token: &TokenEntry) -> Option<Self> {
        let [secret] = token.secrets.as_slice() else { return None };
        let is_plain = token.extra_labels.is_empty()
            && is_default(&token.limits)
            && is_default(&token.rules)
            && token.not_before.is_none()
            && secret.expires_at.is_none()
            && secret.created_at == token.created_at;
        is_plain.then(|| Self {
            id: secret.id.clone(),
            name: token.name.clone(),
            sha256: secret.sha256,
            scopes: token.scopes.clone(),
            tenant: token.tenant.clone(),
            created_at: token.created_at,
            expires_at: token.expires_at,
        })
    }
}

impl From<TokenV2> for TokenEntry {
    fn from(token: TokenV2) -> Self {
        let secrets = token.secrets.into_iter().map(|secret| TokenSecret {
            id: secret.id,
            sha256: secret.sha256,
            created_at: secret.created_at,
            expires_at: secret.expires_at,
        });
        Self {
            name: token.name,
            secrets: secrets.collect(),
            scopes: token.scopes,
            tenant: token.tenant,
            extra_labels: token.extra_labels,
            limits: token.limits,
            rules: AccessRules { allow: token.allow, deny: token.deny },
            not_before: token.not_before,
            created_at: token.created_at,
            expires_at: token.expires_at,
        }
    }
}

impl TokenV2 {
    fn of(token: &TokenEntry) -> Self {
        let secrets = token.secrets.iter().map(|secret| SecretV2 {
            id: secret.id.clone(),
            sha256: secret.sha256,
            created_at: secret.created_at,
            expires_at: secret.expires_at,
        });
        Self {
            name: token.name.clone(),
            secrets: secrets.collect(),
            scopes: token.scopes.clone(),
            tenant: token.tenant.clone(),
            extra_labels: token.extra_labels.clone(),
            limits: token.limits.clone(),
            allow: token.rules.allow.clone(),
            deny: token.rules.deny.clone(),
            not_before: token.not_before,
            created_at: token.created_at,
            expires_at: token.expires_at,
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn as_hex<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(String::deserialize(deserializer)?, &mut bytes).map_err(de::Error::custom)?;
    Ok(bytes)
}

fn as_display<S: Serializer>(tenant: &TenantAccess, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(tenant)
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TenantAccess, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}
