//! Runs that stand or fall together, in a store that has little room.

use pharos_model::{
    BatchBuilder, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, MetricBatch, RunGroup, Sample, TenantId, TimeRange,
};

use super::metrics::{CASE_TIME_MS, append, read_all};
use crate::{MetricStore, RejectReason};

/// What the store of this case may have.
pub const SERIES_MAX: usize = 4;

/// A batch of series by name, a sample each; `groups` by their first and last place.
fn batch(names: &[&str], second: i64, groups: &[(usize, usize)]) -> MetricBatch {
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for name in names {
        builder.push_sample(Sample { timestamp_ms: CASE_TIME_MS + 1_000 * second, value: 1.0 }, 0);
        labels.push(METRIC_NAME, name);
        builder.finish_series(&mut labels).expect("sound labels");
    }
    let mut batch = builder.build();
    batch.groups = groups.iter().map(|(from, to)| RunGroup { runs: *from..to + 1, added: 0..0, items: 1 }).collect();
    batch
}

/// Runs the case on an empty store that takes [`SERIES_MAX`] series of a tenant.
///
/// # Panics
/// If the store breaks the promise.
pub fn groups_are_stored_whole(store: &dyn MetricStore) {
    let tenant = TenantId::default();
    let told = |batch: MetricBatch| {
        let outcome = append(store, &tenant, batch);
        let reasons: Vec<_> = outcome.rejections.iter().map(|rejection| rejection.reason).collect();
        assert!(reasons.iter().all(|reason| *reason == RejectReason::SeriesLimit), "{reasons:?}");
        (outcome.items, outcome.rejected(), outcome.refused_runs)
    };
    let nothing = Vec::new;
    assert_eq!(told(batch(&["a", "h_sum", "h_count"], 1, &[(1, 2)])), (3, 0, nothing()));
    // One place is left: no series of the group takes it, and who stands alone gets it.
    let mixed = batch(&["i_sum", "i_count", "i_bucket", "b", "a", "c"], 2, &[(0, 2)]);
    assert_eq!(told(mixed), (2, 2, vec![0, 1, 2, 5]), "a group counts for its items");
    // Known series of a group are refused with the new one.
    assert_eq!(told(batch(&["h_sum", "h_count", "h_bucket"], 3, &[(0, 2)])), (0, 1, vec![0, 1, 2]));
    assert_eq!(told(batch(&["h_sum", "h_count", "d"], 4, &[(0, 1), (2, 2)])), (2, 1, vec![2]));
    // What was added in front stands or falls with its run, and is nobody's item.
    let mut added = batch(&["h_sum", "e", "h_sum", "e"], 5, &[]);
    added.groups = vec![RunGroup { runs: 2..3, added: 0..1, items: 1 }, RunGroup { runs: 3..4, added: 1..2, items: 1 }];
    assert_eq!(told(added), (2, 1, vec![1, 3]));
    // What is made of other things is nobody's item either, but it is told.
    let mut made = batch(&["target_info"], 6, &[(0, 0)]);
    made.groups[0].items = 0;
    let outcome = append(store, &tenant, made);
    assert_eq!((outcome.items, outcome.rejections.len(), outcome.rejected()), (0, 1, 0));

    let all = vec![Matcher::new(MatchOp::Regex, METRIC_NAME, ".+").expect("a sound pattern")];
    let stored = read_all(store, &tenant, all, TimeRange::ALL);
    let seconds: Vec<(String, Vec<i64>)> = stored
        .iter()
        .map(|(labels, series)| {
            let seconds = series.timestamps_ms.iter().map(|at_ms| (at_ms - CASE_TIME_MS) / 1_000).collect();
            (labels.metric_name().to_owned(), seconds)
        })
        .collect();
    let expected = [("a", vec![1, 2]), ("b", vec![2]), ("h_count", vec![1, 4]), ("h_sum", vec![1, 4, 5])];
    assert_eq!(seconds, expected.map(|(name, seconds)| (name.to_owned(), seconds)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryMetricStore;

    #[test]
    fn the_memory_store_conforms() {
        groups_are_stored_whole(&MemoryMetricStore::with_series_max(SERIES_MAX));
    }
}
