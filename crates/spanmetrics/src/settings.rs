//! What a user tunes of the metrics made of spans.

use pharos_base::HumanDuration;
use serde::{Deserialize, Serialize};

use crate::names::{RESERVED_LABELS, label_name};

/// Dimensions beside service, operation, kind and status.
const DIMENSIONS_MAX: usize = 16;

/// Settings of calls, durations and sizes by operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpanMetricsSettings {
    /// Whether they are made at all. Default yes.
    pub enabled: bool,
    /// How often the counts of this and of the service graph go to the metrics store. Default 15s, minimum 1s.
    pub flush_interval: HumanDuration,
    /// Attributes of the span, else of its resource, that become labels. Default none, at most 16.
    pub dimensions: Vec<String>,
    /// Operations of one tenant that are told apart, each with its kinds and outcomes; spans of further ones count for
    /// their service. Default 10000.
    pub series_max: usize,
    /// Whether each resource that sends spans is told by `traces_target_info`, a series with its attributes as labels, and series
    /// of spans have the labels `job` (`service.namespace/service.name`) and `instance` (`service.instance.id`) that join them with it;
    /// each instance then has series of its own. Default no.
    pub target_info: bool,
    /// Resources of one tenant that are told; further ones are not. Default 1000.
    pub target_info_max: usize,
    /// A series that gets no span for this long ends. Default 15m, minimum 1m.
    pub idle_max: HumanDuration,
    /// Links to traces kept of one tenant at each flush, at most two of a series. Default 1000; 0 keeps none. Tail sampling may
    /// drop the trace later.
    pub exemplars_max: usize,
    /// Whether a span counts for all that its sampling at the source left out, as its trace state (`ot=th:…`) says.
    /// Default no.
    pub adjusted_counts: bool,
    /// Spans that ended longer ago do not count, here and in the service graph. Default null: all count when they come.
    pub span_age_max: Option<HumanDuration>,
}

impl Default for SpanMetricsSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            flush_interval: HumanDuration::from_ms(15_000),
            dimensions: Vec::new(),
            series_max: 10_000,
            target_info: false,
            target_info_max: 1_000,
            idle_max: HumanDuration::from_ms(900_000),
            exemplars_max: 1_000,
            adjusted_counts: false,
            span_age_max: None,
        }
    }
}

impl SpanMetricsSettings {
    /// Checks what the types leave open.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), SettingsError> {
        let at_least = |setting, value: HumanDuration, least_ms| {
            let least = HumanDuration::from_ms(least_ms);
            if value < least { Err(SettingsError::TooShort { setting, value, least }) } else { Ok(()) }
        };
        at_least("span_metrics.flush_interval", self.flush_interval, 1_000)?;
        at_least("span_metrics.idle_max", self.idle_max, 60_000)?;
        if self.series_max == 0 {
            return Err(SettingsError::Zero { setting: "span_metrics.series_max" });
        }
        if self.target_info && self.target_info_max == 0 {
            return Err(SettingsError::Zero { setting: "span_metrics.target_info_max" });
        }
        if self.dimensions.len() > DIMENSIONS_MAX {
            return Err(SettingsError::Dimensions { count: self.dimensions.len(), limit: DIMENSIONS_MAX });
        }
        let mut labels = Vec::new();
        for dimension in &self.dimensions {
            let label = label_name(dimension);
            if dimension.is_empty() || RESERVED_LABELS.contains(&label.as_str()) || labels.contains(&label) {
                return Err(SettingsError::Dimension { dimension: dimension.clone(), label });
            }
            labels.push(label);
        }
        Ok(())
    }
}

/// Settings of the graph of services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceGraphSettings {
    /// Whether it is made at all. Default yes.
    pub enabled: bool,
    /// How long one half of a call waits for the other. Default 10s.
    pub pairing_window: HumanDuration,
    /// Halves of calls of one tenant that wait at a time; further ones are counted as dropped. Default 10000.
    pub waiting_max: usize,
    /// Edges of one tenant that are told apart; calls along further ones count together. Default 2000.
    pub edges_max: usize,
    /// Attributes of a client span that name whom it called if no span of theirs comes, the first that is there.
    pub peer_attributes: Vec<String>,
    /// Attributes of a client span that say it called a database and name it, the first that is there.
    pub database_attributes: Vec<String>,
}

impl Default for ServiceGraphSettings {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            enabled: true,
            pairing_window: HumanDuration::from_ms(10_000),
            waiting_max: 10_000,
            edges_max: 2_000,
            peer_attributes: list(&["peer.service"]),
            database_attributes: list(&["db.namespace", "db.name", "db.system.name", "db.system"]),
        }
    }
}

impl ServiceGraphSettings {
    /// Checks what the types leave open.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), SettingsError> {
        for (setting, value) in [
            ("service_graph.waiting_max", self.waiting_max),
            ("service_graph.edges_max", self.edges_max),
            ("service_graph.pairing_window", self.pairing_window.as_ms() as usize),
        ] {
            if value == 0 {
                return Err(SettingsError::Zero { setting });
            }
        }
        Ok(())
    }
}

/// Settings that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum SettingsError {
    #[error("{setting}: {value} is below the minimum {least}")]
    TooShort { setting: &'static str, value: HumanDuration, least: HumanDuration },
    #[error("{setting}: must be more than 0")]
    Zero { setting: &'static str },
    #[error("span_metrics.dimensions: {count} are more than {limit}")]
    Dimensions { count: usize, limit: usize },
    #[error("span_metrics.dimensions: {dimension:?} would be the label {label:?}, which is taken or none")]
    Dimension { dimension: String, label: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let check = |change: fn(&mut SpanMetricsSettings)| {
            let mut settings = SpanMetricsSettings::default();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(SpanMetricsSettings::default().check().is_ok() && ServiceGraphSettings::default().check().is_ok());
        assert!(check(|s| s.flush_interval = HumanDuration::from_ms(10)).contains("flush_interval"));
        assert!(check(|s| s.idle_max = HumanDuration::from_ms(10)).contains("idle_max"));
        assert!(check(|s| s.series_max = 0).contains("series_max"));
        assert!(check(|s| s.dimensions = vec!["service.name".into()]).contains("service_name"));
        assert!(check(|s| s.dimensions = vec!["le".into()]).contains("le"));
        assert!(check(|s| s.dimensions = vec!["a.b".into(), "a_b".into()]).contains("a_b"));
        assert!(check(|s| s.dimensions = vec!["x".into(); 17]).contains("17"));
        let graph = ServiceGraphSettings { edges_max: 0, ..ServiceGraphSettings::default() };
        assert!(graph.check().unwrap_err().to_string().contains("edges_max"));
    }
}
