//! The settings `limits` (of every tenant) and `tenants` (of single ones).

use std::time::Duration;

use pharos_base::HumanDuration;
use pharos_model::TenantId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use crate::LimitOverrides;

/// Limits of every tenant that has none of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// The limits.
    pub all: LimitOverrides,
    /// How long a rate that is not used is saved up. Default 10 s, at least 1 s.
    pub burst: HumanDuration,
}

/// Limits of one tenant; what it does not set, `limits` sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantLimits {
    /// Whose.
    pub tenant: TenantId,
    /// What differs.
    pub limits: LimitOverrides,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { all: LimitOverrides::default(), burst: HumanDuration::from_ms(10_000) }
    }
}

impl LimitSettings {
    /// What makes no sense, in words.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self, tenants: &[TenantLimits]) -> Result<(), String> {
        if self.burst.as_ms() < 1_000 {
            return Err("limits.burst: must be at least 1s".to_owned());
        }
        for (at, one) in tenants.iter().enumerate() {
            if tenants[..at].iter().any(|before| before.tenant == one.tenant) {
                return Err(format!("tenants: {} is named twice", one.tenant));
            }
        }
        Ok(())
    }

    pub(crate) fn burst(&self) -> Duration {
        self.burst.0
    }
}

/// All keys are written, unset ones as `null`: the settings' help, flags and variables are made of what is written.
impl Serialize for LimitSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error;
        let as_map = |limits: &LimitOverrides| match serde_json::to_value(limits) {
            Ok(Value::Object(map)) => Ok(map),
            Ok(_) => Ok(Map::new()),
            Err(error) => Err(S::Error::custom(error)),
        };
        let mut map: Map<_, _> = LimitOverrides::NAMES.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
        map.extend(as_map(&self.all)?);
        map.insert(BURST.to_owned(), serde_json::to_value(self.burst).map_err(S::Error::custom)?);
        map.serialize(serializer)
    }
}

const BURST: &str = "burst";

impl<'de> Deserialize<'de> for LimitSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut map = Map::deserialize(deserializer)?;
        let burst = match map.remove(BURST) {
            None => Self::default().burst,
            Some(value) => serde_json::from_value(value).map_err(de::Error::custom)?,
        };
        let all = serde_json::from_value(Value::Object(map)).map_err(de::Error::custom)?;
        Ok(Self { all, burst })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_written_and_read_again() {
        let written = serde_json::to_value(LimitSettings::default()).unwrap();
        assert_eq!(written["samples_per_second"], Value::Null);
        assert_eq!(written.as_object().unwrap().len(), LimitOverrides::NAMES.len() + 1);
        assert_eq!(serde_json::from_value::<LimitSettings>(written).unwrap(), LimitSettings::default());
        let set: LimitSettings = serde_json::from_str(r#"{"samples_per_second": 7, "burst": "2s"}"#).unwrap();
        assert_eq!((set.all.samples_per_second, set.burst.as_ms()), (Some(7), 2_000));
        assert!(serde_json::from_str::<LimitSettings>(r#"{"samples_a_second": 7}"#).is_err());
    }

    #[test]
    fn a_tenant_stands_once() {
        let one: TenantLimits =
            serde_json::from_str(r#"{"tenant": "dev", "limits": {"samples_per_second": 5}}"#).unwrap();
        assert!(LimitSettings::default().check(std::slice::from_ref(&one)).is_ok());
        assert!(LimitSettings::default().check(&[one.clone(), one]).unwrap_err().contains("dev"));
    }
}
