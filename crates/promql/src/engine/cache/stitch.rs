//! Two answers of one query become one: earlier steps of the one, later steps of the other.

use std::cmp::Ordering;

use pharos_model::StepRange;

use super::by_labels;
use crate::engine::MatrixSeries;

/// `earlier` cut to `kept`, then `newer`, whose steps all come after; both sorted by labels, as is what comes out.
pub(super) fn join(earlier: &[MatrixSeries], kept: StepRange, newer: Vec<MatrixSeries>) -> Vec<MatrixSeries> {
    let mut joined = Vec::with_capacity(earlier.len().max(newer.len()));
    let mut rest = newer.into_iter().peekable();
    for series in earlier {
        while let Some(other) = rest.next_if(|other| by_labels(other) < by_labels(series)) {
            joined.push(other);
        }
        let same = rest.next_if(|other| by_labels(other).cmp(by_labels(series)) == Ordering::Equal);
        let added = same.as_ref().map_or((0, 0), |same| (same.floats.len(), same.histograms.len()));
        let mut whole = MatrixSeries {
            labels: series.labels.clone(),
            floats: cut(&series.floats, kept, added.0),
            histograms: cut(&series.histograms, kept, added.1),
        };
        if let Some(same) = same {
            whole.floats.extend(same.floats);
            whole.histograms.extend(same.histograms);
        }
        if !whole.floats.is_empty() || !whole.histograms.is_empty() {
            joined.push(whole);
        }
    }
    joined.extend(rest);
    joined
}

/// The points within `kept`, with room for `more`.
fn cut<T: Clone>(points: &[(i64, T)], kept: StepRange, more: usize) -> Vec<(i64, T)> {
    let start = points.partition_point(|(time_ms, _)| *time_ms < kept.start_ms);
    let end = points.partition_point(|(time_ms, _)| *time_ms <= kept.end_ms).max(start);
    let mut list = Vec::with_capacity(end - start + more);
    list.extend_from_slice(&points[start..end]);
    list
}
