//! Old formats open for ever: every directory in `testdata/format` was written by a released version.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pharos_model::{
    BatchBuilder, Exemplar, Histogram, Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, MetricBatch, MetricKind,
    MetricMetadata, Sample, TenantId, TimeRange,
};
use pharos_storage::conformance::metrics::{CASE_TIME_MS, read_all};
use pharos_storage::{BatchId, MetricStore, ReadContext};
use pharos_tsdb::{RealDisk, Resolution, Settings};
use tempfile::TempDir;

use crate::support::{copy_dir, files, open, open_with};

pub(crate) fn fixture(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/format").join(version)
}

/// Floats of every codec, a histogram, starts, an exemplar, metadata.
fn batch(part: i64) -> MetricBatch {
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    let from_ms = CASE_TIME_MS - 3_600_000 + part * 1_800_000;
    for (name, value) in VALUES {
        for i in 0..60 {
            builder.push_sample(Sample { timestamp_ms: from_ms + i * 15_000, value: value(i) }, 0);
        }
        labels.push(METRIC_NAME, name);
        labels.push("job", "fixture");
        builder.finish_series(&mut labels).unwrap();
    }
    builder.push_sample(Sample { timestamp_ms: from_ms, value: 1.0 }, from_ms - 5);
    let own = Labels::from_pairs([("trace_id", format!("trace{part}"))]).unwrap();
    builder.push_exemplar(Exemplar { labels: own, timestamp_ms: from_ms, value: 0.5 });
    labels.push(METRIC_NAME, "with_start");
    builder.finish_series(&mut labels).unwrap();
    builder.push_histogram(from_ms, Histogram { count: 3.0, sum: part as f64, ..Histogram::empty(1) }, 0);
    labels.push(METRIC_NAME, "histogram");
    builder.finish_series(&mut labels).unwrap();
    let metric = format!("family{part}");
    builder.push_metadata(MetricMetadata { metric, kind: MetricKind::Gauge, help: "h".into(), unit: "s".into() });
    builder.build()
}

type Shape = (&'static str, fn(i64) -> f64);

const VALUES: [Shape; 6] = [
    ("constant", |_| 0.25),
    ("counter", |i| (i * 1000) as f64),
    ("decimal", |i| (i * 37 % 101) as f64 / 100.0),
    ("near_decimal", |i| (0..i).fold(0.0, |sum, _| sum + 0.1)),
    ("noise", |i| f64::from_bits((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))),
    ("ended", |i| if i == 59 { pharos_model::stale_nan() } else { 7.0 }),
];

/// Checks a store of so many batches: all lie in parts, but the last in the log.
fn check(dir: &Path, batches: i64) {
    let (store, tenant) = (open(dir), TenantId::default());
    assert!(store.damaged().is_empty(), "{:?}", store.damaged());
    assert!(store.stats().parts > 0 && store.stats().head_samples > 0);
    let job = vec![Matcher::equal("job", "fixture")];
    let found = read_all(&store, &tenant, job, TimeRange::ALL);
    for (name, value) in VALUES {
        let series = found.iter().find(|(labels, _)| labels.metric_name() == name).unwrap().1;
        let bits: Vec<u64> = series.values.iter().map(|value| value.to_bits()).collect();
        let expected: Vec<u64> = (0..batches).flat_map(|_| 0..60).map(|i| value(i).to_bits()).collect();
        assert_eq!(bits, expected, "{name}");
    }
    let started = read_all(&store, &tenant, vec![Matcher::equal(METRIC_NAME, "with_start")], TimeRange::ALL);
    let series = started.values().next().unwrap();
    assert_eq!(series.start_ms, series.timestamps_ms.iter().map(|time| time - 5).collect::<Vec<_>>());
    let histograms = read_all(&store, &tenant, vec![Matcher::equal(METRIC_NAME, "histogram")], TimeRange::ALL);
    let sums: Vec<f64> = histograms.values().next().unwrap().histograms.iter().map(|h| h.histogram.sum).collect();
    assert_eq!(sums, (0..batches).map(|part| part as f64).collect::<Vec<_>>());
    let exemplars = store.exemplars(&tenant, &[], TimeRange::ALL, &ReadContext::unlimited()).unwrap();
    assert_eq!(exemplars[0].exemplars.len() as i64, batches);
    let families: Vec<String> = store.metadata(&tenant, None, 9).unwrap().into_iter().map(|one| one.metric).collect();
    assert_eq!(families, (0..batches).map(|part| format!("family{part}")).collect::<Vec<_>>());
    store.compact().unwrap();
}

fn check_fixture(version: &str, batches: i64) {
    let dir = TempDir::new().unwrap();
    copy_dir(&fixture(version), dir.path());
    check(dir.path(), batches);
    let again = open(dir.path());
    assert_eq!(again.stats().head_samples, 0);
}

#[test]
fn version_1_opens() {
    check_fixture("v1", 2);
}

/// Here the first batch is in the cold form, the second in the young one.
#[test]
fn version_2_opens() {
    check_fixture("v2", 3);
}

/// Writes the fixture of the current version. Run by hand, once, when a version is about to be released.
#[test]
#[ignore = "overwrites testdata; for a new format version only"]
fn write_fixture() {
    let dir = TempDir::new().unwrap();
    let (store, tenant) = (open(dir.path()), TenantId::default());
    for part in 0..3 {
        store.append(&tenant, batch(part), BatchId::random()).wait().unwrap().unwrap();
        match part {
            0 => store.compact().unwrap(),
            1 => store.flush().unwrap(),
            _ => {}
        }
    }
    drop(store);
    std::fs::remove_file(dir.path().join("LOCK")).unwrap();
    copy_dir(dir.path(), &fixture("v2"));
}

/// A store in use, of the versions of the day: deletes, rollups, a snapshot, a second tenant, several batches in the log.
/// Of tenant 0 the counter of the first two batches was deleted.
#[test]
fn a_store_in_use_opens() {
    let dir = TempDir::new().unwrap();
    copy_dir(&fixture("in-use-1"), dir.path());
    check_in_use(dir.path(), 4, 2);
    check_in_use(&dir.path().join("snapshots/s"), 2, 0);
    let store = open(dir.path());
    assert_eq!((store.snapshots().unwrap(), store.stats().tombstones), (vec!["s".to_owned()], 1));
    let other = read_all(&store, &"team-a".parse().unwrap(), vec![Matcher::equal("job", "fixture")], TimeRange::ALL);
    assert_eq!(other.len(), VALUES.len());
    let rollups = files(&dir.path().join("tenants/0")).iter().filter(|path| path.ends_with("rollup-1h")).count();
    assert_eq!(rollups, 1);
    store.compact().unwrap();
    assert_eq!(store.stats().tombstones, 0);
    drop(store);
    check_in_use(dir.path(), 4, 2);
}

/// `batches` of every series, but of the counter only the last `counters`.
fn check_in_use(dir: &Path, batches: usize, counters: usize) {
    let store = open(dir);
    assert!(store.damaged().is_empty(), "{:?}", store.damaged());
    let found = read_all(&store, &TenantId::default(), vec![Matcher::equal("job", "fixture")], TimeRange::ALL);
    for (name, value) in VALUES {
        let series = found.iter().find(|(labels, _)| labels.metric_name() == name);
        let bits: Vec<u64> = series.map_or_else(Vec::new, |(_, all)| all.values.iter().map(|v| v.to_bits()).collect());
        let of_series = if name == "counter" { counters } else { batches };
        let expected: Vec<u64> = (0..of_series).flat_map(|_| 0..60).map(|i| value(i).to_bits()).collect();
        assert_eq!(bits, expected, "{name}");
    }
}

/// Writes the fixture of a store in use. Run by hand, for a new format version only.
#[test]
#[ignore = "overwrites testdata; for a new format version only"]
fn write_fixture_in_use() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { downsampling: vec![Resolution::FiveMinutes, Resolution::Hour], ..Settings::for_tests() };
    let (store, tenant) = (open_with(dir.path(), settings, Arc::new(RealDisk)).unwrap(), TenantId::default());
    let append =
        |tenant: &TenantId, part| store.append(tenant, batch(part), BatchId::random()).wait().unwrap().unwrap();
    append(&tenant, 0);
    store.compact().unwrap();
    append(&tenant, 1);
    let matcher = |op, name: &str, value: &str| Matcher::new(op, name, value).unwrap();
    let counter = vec![
        matcher(MatchOp::Equal, "job", "fixture"),
        matcher(MatchOp::Regex, METRIC_NAME, "coun.+"),
        matcher(MatchOp::NotEqual, "job", ""),
        matcher(MatchOp::NotRegex, "n", ".+"),
    ];
    store.delete(&tenant, &[counter, vec![matcher(MatchOp::Equal, "job", "none")]], TimeRange::ALL).unwrap();
    store.create_snapshot("s", true).unwrap();
    append(&tenant, 2);
    append(&"team-a".parse().unwrap(), 0);
    append(&tenant, 3);
    drop(store);
    std::fs::remove_file(dir.path().join("LOCK")).unwrap();
    copy_dir(dir.path(), &fixture("in-use-1"));
}
