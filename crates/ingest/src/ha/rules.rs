//! What pairs are recognised by, for all tenants and for single ones; it may change while requests are under way.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use pharos_base::HumanDuration;
use pharos_model::TenantId;
use serde::{Deserialize, Serialize};

/// How duplicates of replicas are recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HaSettings {
    /// The label by which the replicas of a pair differ, which is not stored. Default: none, nothing is left out.
    pub replica_label: Option<String>,
    /// The label that names what the replicas have in common. Default `cluster`.
    pub cluster_label: String,
    /// How long the elected replica may be silent until another takes its place. Default `30s`.
    pub failover: HumanDuration,
    /// Clusters that one tenant may have at a time. Default 1000.
    pub clusters_max: usize,
}

/// What one tenant has otherwise; what it leaves out, [`HaSettings`] say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HaOverrides {
    /// As [`HaSettings::replica_label`]; an empty one leaves nothing of this tenant out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_label: Option<String>,
    /// As [`HaSettings::cluster_label`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_label: Option<String>,
    /// As [`HaSettings::failover`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<HumanDuration>,
    /// As [`HaSettings::clusters_max`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clusters_max: Option<usize>,
}

/// The settings of all tenants, which a reload changes for the requests after it.
#[derive(Debug, Default)]
pub struct HaRules(RwLock<Laid>);

#[derive(Debug, Clone, Default)]
struct Laid {
    all: Arc<HaSettings>,
    /// Of tenants that have their own: those laid over the ones of all.
    tenants: HashMap<TenantId, Arc<HaSettings>>,
}

impl Default for HaSettings {
    fn default() -> Self {
        Self {
            replica_label: None,
            cluster_label: "cluster".to_owned(),
            failover: HumanDuration::from_ms(30_000),
            clusters_max: 1_000,
        }
    }
}

impl HaSettings {
    /// By which label duplicates are looked for, if they are.
    pub(crate) fn replica(&self) -> Option<&str> {
        self.replica_label.as_deref().filter(|label| !label.is_empty())
    }

    /// What makes no sense, in words: each begins with the name of a field.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        [("failover", self.failover.as_ms() == 0), ("clusters_max", self.clusters_max == 0)]
            .into_iter()
            .filter(|(_, is_zero)| *is_zero)
            .map(|(name, _)| format!("{name}: must be more than 0"))
            .collect()
    }
}

impl HaOverrides {
    /// Whether nothing is otherwise.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, and those of all where these say nothing.
    #[must_use]
    pub fn over(&self, all: &HaSettings) -> HaSettings {
        HaSettings {
            replica_label: self.replica_label.clone().or_else(|| all.replica_label.clone()),
            cluster_label: self.cluster_label.clone().unwrap_or_else(|| all.cluster_label.clone()),
            failover: self.failover.unwrap_or(all.failover),
            clusters_max: self.clusters_max.unwrap_or(all.clusters_max),
        }
    }
}

impl HaRules {
    /// Rules of all tenants, and of those that have their own.
    pub fn new<'t>(all: &HaSettings, tenants: impl IntoIterator<Item = (&'t TenantId, &'t HaOverrides)>) -> Self {
        let rules = Self::default();
        rules.reload(all, tenants);
        rules
    }

    /// Takes other rules; who is elected stays elected.
    pub fn reload<'t>(&self, all: &HaSettings, tenants: impl IntoIterator<Item = (&'t TenantId, &'t HaOverrides)>) {
        let own = tenants.into_iter().filter(|(_, own)| !own.is_empty());
        let tenants = own.map(|(tenant, own)| (tenant.clone(), Arc::new(own.over(all)))).collect();
        *self.0.write() = Laid { all: Arc::new(all.clone()), tenants };
    }

    /// Those of a tenant.
    pub(crate) fn of(&self, tenant: &TenantId) -> Arc<HaSettings> {
        let laid = self.0.read();
        Arc::clone(laid.tenants.get(tenant).unwrap_or(&laid.all))
    }
}
