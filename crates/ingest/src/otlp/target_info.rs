//! `target_info`: one series per resource that carries what its other series do not.
//!
//! It has a sample at every half lookback between the resource's first and last point, so that an
//! instant query finds it wherever it finds one of them.

use std::ops::RangeInclusive;

use hashbrown::HashMap;
use pharos_model::{Labels, METRIC_NAME, MetricKind, Sample};

use super::labels::ResourceLabels;
use crate::IngestError;
use crate::sink::SeriesSink;

const NAME: &str = "target_info";
const HELP: &str = "Target metadata";
/// Half of PromQL's default lookback.
const STEP_MS: i64 = 150_000;
/// Samples that one request may cause; beyond it a resource gets its last one only.
const SAMPLES_MAX: i64 = 50_000;

/// The `target_info` series of one request.
#[derive(Debug, Default)]
pub(super) struct TargetInfo {
    /// By label set, as several resources may differ in what is no label.
    spans: HashMap<Labels, RangeInclusive<i64>>,
}

impl TargetInfo {
    /// Notes that a resource has points between these instants.
    pub(super) fn add(&mut self, resource: &ResourceLabels, first_ms: i64, last_ms: i64, sink: &mut SeriesSink<'_>) {
        if resource.info.is_empty() || !resource.is_identified() {
            return;
        }
        let labels = &mut sink.labels;
        labels.clear();
        resource.info.iter().for_each(|(name, value)| labels.set(name, value));
        resource.push_identity(labels);
        labels.set(METRIC_NAME, NAME);
        let built = labels.build();
        labels.clear();
        if let Ok(labels) = built {
            let span = self.spans.entry(labels).or_insert(first_ms..=last_ms);
            *span = first_ms.min(*span.start())..=last_ms.max(*span.end());
        }
    }

    /// Writes the series.
    pub(super) fn finish(self, sink: &mut SeriesSink<'_>) -> Result<(), IngestError> {
        if self.spans.is_empty() {
            return Ok(());
        }
        sink.push_metadata(NAME, MetricKind::Gauge, HELP, "");
        let mut samples_left = SAMPLES_MAX;
        for (labels, span) in self.spans {
            let (first_ms, last_ms) = span.into_inner();
            labels.iter().for_each(|(name, value)| sink.labels.push(name, value));
            if sink.check_labels(0, 0).is_err() {
                // Its points are stored; only what would join to them is beyond a limit.
                sink.labels.clear();
                continue;
            }
            let steps = last_ms.saturating_sub(first_ms) / STEP_MS;
            if steps < samples_left {
                samples_left -= steps;
                for at_ms in (0..=steps).map(|step| first_ms + step * STEP_MS).filter(|at_ms| *at_ms != last_ms) {
                    sink.push_sample(Sample { timestamp_ms: at_ms, value: 1.0 }, 0);
                }
            }
            sink.push_sample(Sample { timestamp_ms: last_ms, value: 1.0 }, 0);
            sink.finish_checked()?;
        }
        Ok(())
    }
}
