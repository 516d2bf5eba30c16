//! Senders share the label sets of series they named before: whatever became of the series in the meantime, samples
//! go where labels made anew would bring them.

use std::path::Path;
use std::sync::Arc;

use pharos_model::{BatchBuilder, Labels, METRIC_NAME, MetricBatch, Sample, TenantId, TimeRange};
use pharos_storage::conformance::metrics::{CASE_TIME_MS, read_all};
use pharos_storage::{BatchId, MetricStore};
use pharos_tsdb::{RealDisk, Settings, Tsdb};
use tempfile::TempDir;

use crate::support::{all_series, batch, open, open_with, seconds};

fn label_sets(count: usize) -> Vec<Labels> {
    let labels = |number: usize| Labels::from_pairs([(METRIC_NAME, "m"), ("n", &number.to_string())]).unwrap();
    (0..count).map(labels).collect()
}

/// A sample of each at a second.
fn shared<'a>(second: i64, labels: impl IntoIterator<Item = &'a Labels>) -> MetricBatch {
    let mut builder = BatchBuilder::new();
    for labels in labels {
        builder.push_sample(Sample { timestamp_ms: CASE_TIME_MS + second * 1000, value: 1.0 }, 0);
        builder.finish_series_shared(labels);
    }
    builder.build()
}

fn append_for(store: &Tsdb, tenant: &str, batch: MetricBatch) {
    let tenant: TenantId = tenant.parse().unwrap();
    let outcome = store.append(&tenant, batch, BatchId::random()).wait().expect("answered").expect("stored");
    assert_eq!(outcome.rejected(), 0);
}

/// The seconds of every series of a tenant by labels.
fn stored(store: &Tsdb, tenant: &str) -> Vec<(String, Vec<i64>)> {
    let found = read_all(store, &tenant.parse().unwrap(), all_series(), TimeRange::ALL);
    let seconds = |times: &[i64]| times.iter().map(|time| (time - CASE_TIME_MS) / 1000).collect();
    found.iter().map(|(labels, series)| (labels.to_string(), seconds(&series.timestamps_ms))).collect()
}

fn expected(labels: &[Labels], seconds: impl Fn(usize) -> Vec<i64>) -> Vec<(String, Vec<i64>)> {
    let mut all: Vec<_> = labels.iter().enumerate().map(|(at, one)| (one.clone(), seconds(at))).collect();
    all.sort();
    all.into_iter().map(|(labels, seconds)| (labels.to_string(), seconds)).collect()
}

#[test]
fn every_tenant_has_series_of_its_own() {
    let dir = TempDir::new().unwrap();
    let (store, labels) = (open(dir.path()), label_sets(20));
    append_for(&store, "a", shared(0, &labels));
    append_for(&store, "b", shared(1, labels.iter().rev()));
    append_for(&store, "a", shared(2, labels.iter().rev()));
    append_for(&store, "b", shared(3, &labels[..5]));
    assert_eq!(stored(&store, "a"), expected(&labels, |_| vec![0, 2]));
    assert_eq!(stored(&store, "b"), expected(&labels, |at| if at < 5 { vec![1, 3] } else { vec![1] }));
}

#[test]
fn labels_outlive_the_store_that_knew_them() {
    let dir = TempDir::new().unwrap();
    let labels = label_sets(20);
    let mut order: Vec<&Labels> = labels.iter().collect();
    for second in 0..4 {
        // Replayed once, read from parts once; in another order each time.
        let store = open(dir.path());
        order.rotate_left(7);
        append_for(&store, "0", shared(second, order.iter().copied()));
        if second == 1 {
            store.flush().unwrap();
        }
    }
    assert_eq!(stored(&open(dir.path()), "0"), expected(&labels, |_| (0..4).collect()));
}

#[test]
fn labels_of_series_that_the_head_forgot_are_known_again() {
    let dir = TempDir::new().unwrap();
    let (store, labels) = (open(dir.path()), label_sets(6000));
    append_for(&store, "0", shared(0, &labels));
    store.flush().unwrap();
    // The others got nothing: the head forgets them, and numbers the rest anew.
    append_for(&store, "0", shared(1, &labels[3000..3100]));
    store.flush().unwrap();
    append_for(&store, "0", shared(2, &labels));
    let seconds = |at: usize| if (3000..3100).contains(&at) { vec![0, 1, 2] } else { vec![0, 2] };
    assert_eq!(stored(&store, "0"), expected(&labels, seconds));
}

#[test]
fn shared_labels_and_labels_in_the_batch_are_one_series() {
    let dir = TempDir::new().unwrap();
    let (store, labels) = (open_limited(dir.path(), 10), label_sets(10));
    append_for(&store, "0", batch(0, 10));
    append_for(&store, "0", shared(1, &labels));
    append_for(&store, "0", batch(2, 10));
    append_for(&store, "0", shared(3, &label_sets(10)));
    assert_eq!(seconds(&store), vec![vec![0, 1, 2, 3]; 10]);
}

/// Further series would be refused.
fn open_limited(dir: &Path, series: u64) -> Tsdb {
    let settings = Settings { series_max_per_tenant: std::num::NonZero::new(series), ..Settings::for_tests() };
    open_with(dir, settings, Arc::new(RealDisk)).unwrap()
}
