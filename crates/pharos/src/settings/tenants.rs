//! What single tenants have of their own.

use pharos_gateway::{LimitOverrides, TenantLimits};
use pharos_ingest::{HaOverrides, HaSettings};
use pharos_model::TenantId;
use serde::{Deserialize, Serialize};

/// One tenant; what it leaves out, the settings of all say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantSettings {
    /// Whose.
    pub(crate) tenant: TenantId,
    /// What differs from `limits`.
    #[serde(default)]
    pub(crate) limits: LimitOverrides,
    /// What differs from `ingest.ha`.
    #[serde(default, skip_serializing_if = "HaOverrides::is_empty")]
    pub(crate) ha: HaOverrides,
}

/// Their limits.
pub(crate) fn limits(tenants: &[TenantSettings]) -> Vec<TenantLimits> {
    let limits = |one: &TenantSettings| TenantLimits { tenant: one.tenant.clone(), limits: one.limits.clone() };
    tenants.iter().map(limits).collect()
}

/// How duplicates of their replicas are recognised.
pub(crate) fn ha(tenants: &[TenantSettings]) -> impl Iterator<Item = (&TenantId, &HaOverrides)> {
    tenants.iter().map(|one| (&one.tenant, &one.ha))
}

/// What makes no sense, in words.
pub(crate) fn ha_faults(all: &HaSettings, tenants: &[TenantSettings]) -> Vec<String> {
    let of_all = all.faults().into_iter().map(|fault| format!("ingest.ha.{fault}"));
    // What is wrong for all is told once.
    let of_one = |one: &TenantSettings| {
        let found = one.ha.over(&HaSettings::default()).faults();
        found.into_iter().map(|fault| format!("tenants: {}: ha.{fault}", one.tenant)).collect::<Vec<_>>()
    };
    of_all.chain(tenants.iter().flat_map(of_one)).collect()
}
