//! Opening stores and filling them.

use std::path::Path;
use std::sync::Arc;

use pharos_base::SimClock;
use pharos_model::{METRIC_NAME, MatchOp, Matcher, MetricBatch, TenantId, TimeRange};
use pharos_storage::conformance::metrics::{CASE_TIME_MS, float_batch, read_all};
use pharos_storage::{AppendOutcome, BatchId, MetricStore, StorageError};
use pharos_tsdb::{Components, Disk, RealDisk, Settings, Tsdb, TsdbError};

/// A clock a little after everything that tests write.
pub(crate) fn clock() -> Arc<SimClock> {
    SimClock::at_ms(CASE_TIME_MS + 600_000)
}

pub(crate) fn open(dir: &Path) -> Tsdb {
    open_with(dir, Settings::for_tests(), Arc::new(RealDisk)).expect("the store opens")
}

pub(crate) fn open_with(dir: &Path, settings: Settings, disk: Arc<dyn Disk>) -> Result<Tsdb, TsdbError> {
    Tsdb::open(dir, settings, Components { clock: clock(), disk, ..Components::default() })
}

/// One sample of `series` series at a second; every value is different.
pub(crate) fn batch(second: i64, series: usize) -> MetricBatch {
    let names: Vec<String> = (0..series).map(|number| number.to_string()).collect();
    let sample = |number: usize| [(CASE_TIME_MS + second * 1000, (second * 1000) as f64 + number as f64 / 7.0)];
    let samples: Vec<_> = (0..series).map(sample).collect();
    let pairs: Vec<[(&str, &str); 2]> = names.iter().map(|name| [(METRIC_NAME, "m"), ("n", name.as_str())]).collect();
    let all: Vec<_> =
        pairs.iter().zip(&samples).map(|(pairs, samples)| (pairs.as_slice(), samples.as_slice())).collect();
    float_batch(&all)
}

pub(crate) fn try_append(store: &Tsdb, batch: MetricBatch) -> Result<AppendOutcome, StorageError> {
    store.append(&TenantId::default(), batch, BatchId::random()).wait().expect("answered")
}

pub(crate) fn append(store: &Tsdb, batch: MetricBatch) {
    try_append(store, batch).expect("stored");
}

pub(crate) fn all_series() -> Vec<Matcher> {
    vec![Matcher::new(MatchOp::Regex, METRIC_NAME, ".+").expect("sound")]
}

/// For each series in order of labels: the seconds of its samples.
pub(crate) fn seconds(store: &Tsdb) -> Vec<Vec<i64>> {
    let all = read_all(store, &TenantId::default(), all_series(), TimeRange::ALL);
    all.values().map(|series| series.timestamps_ms.iter().map(|time| (time - CASE_TIME_MS) / 1000).collect()).collect()
}

/// Copies a directory, as a crash would leave it.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("created");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("typed").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Every file below a directory, sorted.
pub(crate) fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("listed") {
        let path = entry.expect("listed").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
