//! Which metrics the monitor reads; the names of the settings are Jaeger's.

use serde::{Deserialize, Serialize};

/// The unit of stored durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LatencyUnit {
    /// Milliseconds.
    #[default]
    #[serde(rename = "ms")]
    Milliseconds,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
}

/// Settings of the monitor. The defaults are what `span_metrics` makes; others are for metrics of an OpenTelemetry
/// collector that come from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MonitorSettings {
    /// Whether it answers at all: 501 if not. Default yes.
    pub enabled: bool,
    /// What the names of the metrics begin with; may be empty. Default `traces_span_metrics`.
    pub namespace: String,
    /// Whether the metric of calls ends in `_total`. Default yes.
    pub normalize_calls: bool,
    /// Whether the metric of durations ends in its unit. Default yes.
    pub normalize_duration: bool,
    /// The unit of durations. Default `ms`.
    pub latency_unit: LatencyUnit,
}

impl Default for MonitorSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            namespace: "traces_span_metrics".to_owned(),
            normalize_calls: true,
            normalize_duration: true,
            latency_unit: LatencyUnit::Milliseconds,
        }
    }
}

impl MonitorSettings {
    /// What makes no sense, in words.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self) -> Result<(), String> {
        let is_name_letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if !self.namespace.chars().all(is_name_letter) || self.namespace.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(format!("monitor.namespace: {:?} cannot begin the name of a metric", self.namespace));
        }
        Ok(())
    }

    fn named(&self, name: &str) -> String {
        if self.namespace.is_empty() { name.to_owned() } else { format!("{}_{name}", self.namespace) }
    }

    pub(super) fn calls_name(&self) -> String {
        self.named(if self.normalize_calls { "calls_total" } else { "calls" })
    }

    pub(super) fn duration_name(&self) -> String {
        self.named(match (self.normalize_duration, self.latency_unit) {
            (false, _) => "duration",
            (true, LatencyUnit::Milliseconds) => "duration_milliseconds",
            (true, LatencyUnit::Seconds) => "duration_seconds",
        })
    }
}
