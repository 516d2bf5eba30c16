//! Tenants: owners whose data nobody else sees.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The tenant of everything that names none. It is `0`, so that data written through
/// `/api/v1/write` and through `/insert/0/prometheus/api/v1/write` are the same data.
pub const DEFAULT_TENANT: &str = "0";

const LENGTH_MAX: usize = 150;

/// A tenant's name: 1 to 150 of `a-z A-Z 0-9 ! - _ . * ' ( ) :`, and neither `.` nor `..`.
///
/// The character set is the one of Grafana Mimir's tenant ids plus `:`, which joins account and
/// project in VictoriaMetrics' cluster URLs. `N:0` is the same tenant as `N`, as it is there.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

/// The text is no tenant name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a tenant: use 1 to 150 of letters, digits and !-_.*'():")]
pub struct TenantIdError(String);

impl TenantId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self(Arc::from(DEFAULT_TENANT))
    }
}

impl FromStr for TenantId {
    type Err = TenantIdError;

    fn from_str(text: &str) -> Result<Self, TenantIdError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!-_.*'():".contains(&byte);
        if text.is_empty() || text.len() > LENGTH_MAX || matches!(text, "." | "..") || !text.bytes().all(allowed) {
            return Err(TenantIdError(text.chars().take(64).collect()));
        }
        let name = match text.strip_suffix(":0") {
            Some(account) if !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit()) => account,
            _ => text,
        };
        Ok(Self(Arc::from(name)))
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({})", self.0)
    }
}

impl Serialize for TenantId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_zero_project_zero_is_the_default_tenant() {
        assert_eq!("0:0".parse(), Ok(TenantId::default()));
        assert_eq!("7:0".parse::<TenantId>().unwrap().as_str(), "7");
        assert_eq!("7:3".parse::<TenantId>().unwrap().as_str(), "7:3");
    }

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for wrong in ["", ".", "..", "a/b", "a b", "ä", "a\0", &"x".repeat(151)] {
            assert!(wrong.parse::<TenantId>().is_err(), "{wrong}");
        }
    }
}
