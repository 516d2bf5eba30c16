//! Leaves read in pieces: the same series in the same order, under the same limits.

use pharos_model::{Labels, TenantId};

use super::grids::plans;
use crate::{LeafPlan, LeafSeries, LeafStream, MetricStore, RawPlan, ReadContext, ReadCounts, StorageError};

/// Labels, bits of the values, and how many histograms.
type Seen = (Labels, Vec<u64>, usize);

fn read(stream: LeafStream) -> Vec<Seen> {
    let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect();
    let series = stream.map(|series| match series.expect("sound data") {
        LeafSeries::Raw(raw) => (raw.labels, bits(raw.values), raw.histograms.len()),
        LeafSeries::Grid(grid) => (grid.labels, bits(grid.values), usize::MAX),
    });
    series.collect()
}

fn whole(store: &dyn MetricStore, plan: &LeafPlan) -> (Vec<Seen>, ReadCounts) {
    let context = ReadContext::unlimited();
    let series = read(store.leaf(&TenantId::default(), plan, &context).expect("it is claimed"));
    (series, context.meter.counts())
}

/// The pieces are read from the last to the first.
fn in_pieces(store: &dyn MetricStore, plan: &LeafPlan, series: usize) -> (Vec<Seen>, ReadCounts) {
    let context = ReadContext::unlimited();
    let leaf = store.open_leaf(&TenantId::default(), plan, &context).expect("it is claimed");
    let selected = leaf.series_count();
    let pieces: Vec<LeafStream> = leaf.pieces(series).map(|piece| piece.expect("sound data")).collect();
    let mut read: Vec<Vec<Seen>> = pieces.into_iter().rev().map(read).collect();
    read.reverse();
    let found: Vec<Seen> = read.into_iter().flatten().collect();
    assert!(selected == 0 || selected >= found.len(), "{selected} selected, {} found", found.len());
    (found, context.meter.counts())
}

/// Plans of all kinds that may be cut.
fn leaves(store: &dyn MetricStore) -> Vec<LeafPlan> {
    let mut leaves = Vec::new();
    for (at, plan) in plans().into_iter().enumerate() {
        if at % 7 == 0 {
            leaves.push(LeafPlan::Raw(RawPlan { matchers: plan.matchers.clone(), range: plan.read_range() }));
        }
        if store.capabilities().function(plan.function).is_some() {
            leaves.push(LeafPlan::Grid(plan));
        }
    }
    leaves
}

/// What pieces answer one after the other is what the leaf answers whole, whoever reads first.
pub(super) fn check_pieces(store: &dyn MetricStore) {
    for plan in leaves(store) {
        let expected = whole(store, &plan);
        for series in [1, 5, 1000] {
            assert!(in_pieces(store, &plan, series) == expected, "{plan:?} in pieces of {series}");
        }
        let opened = store.open_leaf(&TenantId::default(), &plan, &ReadContext::unlimited()).expect("it is claimed");
        assert!(read(opened.stream()) == expected.0, "{plan:?}");
    }
}

/// Limits hold for all pieces together.
pub(super) fn check_bounds_of_pieces(store: &dyn MetricStore) {
    let first_error = |context: &ReadContext| -> Option<StorageError> {
        let plan = leaves(store).remove(0);
        let leaf = match store.open_leaf(&TenantId::default(), &plan, context) {
            Ok(leaf) => leaf,
            Err(error) => return Some(error),
        };
        let mut pieces = leaf.pieces(2);
        pieces.find_map(|piece| piece.map_or_else(Some, |mut piece| piece.find_map(Result::err)))
    };
    assert!(first_error(&ReadContext::unlimited()).is_none());
    let few = ReadContext { series_max: 11, ..ReadContext::unlimited() };
    assert!(matches!(first_error(&few), Some(StorageError::LimitExceeded { limit: 11, .. })));
    let cancelled = ReadContext::unlimited();
    cancelled.cancel.cancel();
    assert!(matches!(first_error(&cancelled), Some(StorageError::Interrupted(_))));
}
