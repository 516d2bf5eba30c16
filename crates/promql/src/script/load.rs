//! `load` blocks: series with their samples and start timestamps, and how they get into a store.

use hashbrown::HashMap;
use pharos_model::{BatchBuilder, Labels, Sample, TenantId};
use pharos_storage::{BatchId, MetricStore};

use super::nhcb::custom_bucket_series;
use super::scan::{Scan, time_ms};
use super::series::{Point, SeriesText, metric};

/// A block `load <step>`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Load {
    pub(super) step_ms: i64,
    pub(super) series: Vec<SeriesText>,
    /// Start timestamps by series, as offsets from each sample's own time.
    starts: HashMap<Labels, Vec<Option<i64>>>,
    /// Whether classic histograms are loaded as native ones, too.
    with_nhcb: bool,
}

impl Load {
    /// Reads the words behind `load` and the lines of the block.
    pub(super) fn parse(step: &str, with_nhcb: bool, lines: &[&str]) -> Result<Self, String> {
        let mut load = Self { step_ms: time_ms(step)?, series: Vec::new(), starts: HashMap::new(), with_nhcb };
        for line in lines {
            let (labels, rest) = metric(line).map_err(|error| format!("{line}: {error}"))?;
            match rest.strip_prefix("@st") {
                Some(offsets) => {
                    let offsets = start_offsets(offsets).map_err(|error| format!("{line}: {error}"))?;
                    load.starts.insert(labels, offsets);
                }
                None => load.series.push(SeriesText::parse(line).map_err(|error| format!("{line}: {error}"))?),
            }
        }
        Ok(load)
    }

    /// Appends all samples; sample `i` stands at `i · step`.
    pub(super) fn append_to(&self, store: &dyn MetricStore, tenant: &TenantId) -> Result<(), String> {
        let mut batch = BatchBuilder::new();
        let converted = if self.with_nhcb { custom_bucket_series(&self.series)? } else { Vec::new() };
        for series in self.series.iter().chain(&converted) {
            let starts = self.starts.get(&series.labels).map_or(&[][..], Vec::as_slice);
            for (index, point) in series.points.iter().enumerate() {
                let timestamp_ms = self.step_ms.saturating_mul(index as i64);
                let start_ms = starts.get(index).copied().flatten().map_or(0, |offset_ms| timestamp_ms + offset_ms);
                match point {
                    Point::Gap => {}
                    Point::Float(value) => batch.push_sample(Sample { timestamp_ms, value: *value }, start_ms),
                    Point::Histogram(text) => batch.push_histogram(timestamp_ms, text.histogram.clone(), start_ms),
                }
            }
            batch.finish_series_encoded(&series.labels);
        }
        let outcome = store.append(tenant, batch.build(), BatchId::random()).wait();
        let outcome = outcome.ok_or("the store was closed")?.map_err(|error| error.full_message())?;
        match outcome.rejections.first() {
            Some(rejection) => Err(format!("the store refused {} samples: {}", rejection.count, rejection.message)),
            None => Ok(()),
        }
    }
}

/// `-10s`, `_`, `-30s-1mx2`, `-1mx5`: like values, but of durations.
fn start_offsets(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut scan = Scan::new(text);
    let mut offsets = Vec::new();
    while !scan.rest.is_empty() {
        if scan.accept("_") {
            let count = scan.times()?.unwrap_or(1);
            offsets.extend(std::iter::repeat_n(None, count));
        } else {
            let mut offset_ms = scan.duration_ms()?;
            let increment_ms = if scan.rest.starts_with(['+', '-']) { scan.duration_ms()? } else { 0 };
            let times = scan.times()?.unwrap_or(0);
            offsets.push(Some(offset_ms));
            for _ in 0..times {
                offset_ms += increment_ms;
                offsets.push(Some(offset_ms));
            }
        }
        scan.end_item()?;
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_offsets_expand_like_values() {
        let expanded = start_offsets(" _ _x2 -30s-1mx2 0 1msx1").unwrap();
        let known = [-30_000, -90_000, -150_000, 0, 1, 1].map(Some);
        assert_eq!(expanded[..3], [None; 3]);
        assert_eq!(expanded[3..], known);
    }
}
