//! `target_info`: one series per resource that carries what its other series do not.
//!
//! It has a sample at every half lookback between the resource's first and last point, so that an
//! instant query finds it wherever it finds one of them.

use std::ops::RangeInclusive;

use hashbrown::HashMap;
use pharos_model::{Labels, MetricKind, Sample};

use crate::IngestError;
use crate::sink::SeriesSink;

pub(super) const NAME: &str = "target_info";
const HELP: &str = "Target metadata";
/// PromQL's default lookback.
pub(super) const LOOKBACK_MS: i64 = 300_000;
/// Samples that one request may cause; beyond it a resource gets its last one only.
const SAMPLES_MAX: i64 = 50_000;

/// The `target_info` series of one request.
#[derive(Debug, Default)]
pub(super) struct TargetInfo {
    /// By label set, as several resources may differ in what is no label.
    places: HashMap<Labels, usize>,
    /// In the order of arrival.
    spans: Vec<(Labels, RangeInclusive<i64>)>,
}

impl TargetInfo {
    /// Notes that a resource of this series has points between these instants. Answers the memory that takes.
    pub(super) fn add(&mut self, labels: &Labels, first_ms: i64, last_ms: i64) -> usize {
        if let Some(place) = self.places.get(labels) {
            let span = &mut self.spans[*place].1;
            *span = first_ms.min(*span.start())..=last_ms.max(*span.end());
            return 0;
        }
        self.places.insert(labels.clone(), self.spans.len());
        self.spans.push((labels.clone(), first_ms..=last_ms));
        4 * size_of::<(Labels, RangeInclusive<i64>)>() + labels.encoded().len()
    }

    /// Writes the series, for queries that look back so far.
    pub(super) fn finish(self, sink: &mut SeriesSink<'_>, lookback_ms: i64) -> Result<(), IngestError> {
        if self.spans.is_empty() {
            return Ok(());
        }
        sink.counts = false;
        sink.push_metadata(NAME, MetricKind::Gauge, HELP, "")?;
        let step_ms = (lookback_ms / 2).max(1);
        let mut samples_left = SAMPLES_MAX;
        for (labels, span) in self.spans {
            let (first_ms, last_ms) = span.into_inner();
            labels.iter().for_each(|(name, value)| sink.labels.push(name, value));
            if sink.check_labels(0, 0).is_err() {
                // Its points are stored; only what would join to them is beyond a limit.
                sink.labels.clear();
                continue;
            }
            let steps = last_ms.saturating_sub(first_ms) / step_ms;
            if steps < samples_left {
                samples_left -= steps;
                for at_ms in (0..=steps).map(|step| first_ms + step * step_ms).filter(|at_ms| *at_ms != last_ms) {
                    sink.push_sample(Sample { timestamp_ms: at_ms, value: 1.0 }, 0);
                }
            }
            sink.push_sample(Sample { timestamp_ms: last_ms, value: 1.0 }, 0);
            let before = sink.series_count();
            sink.finish_checked()?;
            // Nobody sent it: it is none of the points that are refused.
            sink.group_since(before, 0);
        }
        Ok(())
    }
}
