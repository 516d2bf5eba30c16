//! What the monitor is asked, as PromQL.

use std::collections::BTreeSet;

use pharos_model::StepRange;
use pharos_promql::quote;

use super::settings::MonitorSettings;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Measure {
    /// A quantile of the durations.
    Latencies(f64),
    /// Calls a second.
    Calls,
    /// The part of the calls that ended in error.
    Errors,
}

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub(super) measure: Measure,
    /// At least one.
    pub(super) services: BTreeSet<String>,
    pub(super) by_operation: bool,
    /// As labels have them, such as `SPAN_KIND_SERVER`; at least one.
    pub(super) kinds: Vec<String>,
    pub(super) steps: StepRange,
    /// The window of each rate, milliseconds.
    pub(super) rate_ms: i64,
}

impl Question {
    /// The name of the answer.
    pub(super) fn name(&self) -> String {
        let subject = if self.by_operation { "service_operation" } else { "service" };
        let measure = match self.measure {
            Measure::Latencies(_) => "latencies",
            Measure::Calls => "call_rate",
            Measure::Errors => "error_rate",
        };
        format!("{subject}_{measure}")
    }

    /// The answer in words.
    pub(super) fn help(&self) -> String {
        let measure = match self.measure {
            Measure::Latencies(quantile) => format!("{quantile:.2}th quantile latency"),
            Measure::Calls => "calls/sec".to_owned(),
            Measure::Errors => "error rate, computed as a fraction of errors/sec over calls/sec".to_owned(),
        };
        let operation = if self.by_operation { " & operation" } else { "" };
        format!("{measure}, grouped by service{operation}")
    }

    /// The query. Of durations it reads native histograms.
    pub(super) fn query(&self, settings: &MonitorSettings) -> String {
        let by = self.grouping();
        let calls = |more: &str| self.rate(&settings.calls_name(), &self.services, more);
        match self.measure {
            Measure::Latencies(quantile) => {
                let rate = self.rate(&settings.duration_name(), &self.services, "");
                format!("histogram_quantile({quantile}, sum by ({by}) ({rate}))")
            }
            Measure::Calls => format!("sum by ({by}) ({})", calls("")),
            Measure::Errors => {
                let failed = calls(r#",status_code="STATUS_CODE_ERROR""#);
                let all = calls("");
                // Whoever was called without an error has a rate of errors, too: zero.
                format!("sum by ({by}) ({failed}) / sum by ({by}) ({all}) or sum by ({by}) ({all}) * 0")
            }
        }
    }

    /// The query for durations that are classic histograms, of some of the services.
    pub(super) fn classic_query(&self, settings: &MonitorSettings, services: &BTreeSet<String>) -> Option<String> {
        let Measure::Latencies(quantile) = self.measure else { return None };
        let rate = self.rate(&format!("{}_bucket", settings.duration_name()), services, "");
        Some(format!("histogram_quantile({quantile}, sum by ({},le) ({rate}))", self.grouping()))
    }

    fn grouping(&self) -> &'static str {
        if self.by_operation { "service_name,span_name" } else { "service_name" }
    }

    fn rate(&self, metric: &str, services: &BTreeSet<String>, more: &str) -> String {
        let services = matcher("service_name", services.iter().map(String::as_str));
        let kinds = matcher("span_kind", self.kinds.iter().map(String::as_str));
        format!("rate({metric}{{{services},{kinds}{more}}}[{}ms])", self.rate_ms)
    }
}

/// `name` is one of `values`, whatever letters they have.
fn matcher<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> String {
    let values: Vec<_> = values.collect();
    if let [one] = values[..] {
        return format!("{name}={}", quote(one));
    }
    let escaped: Vec<_> = values.into_iter().map(escaped).collect();
    format!("{name}=~{}", quote(&escaped.join("|")))
}

/// Text as a pattern of itself.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
