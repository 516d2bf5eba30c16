//! Flipped bits in parts: reported with file and offset, never served, and the rest goes on.

use std::sync::Arc;

use pharos_base::HumanDuration;
use pharos_model::{BatchBuilder, Exemplar, Labels, LabelsBuilder, METRIC_NAME, Matcher, Sample, TenantId, TimeRange};
use pharos_storage::conformance::metrics::CASE_TIME_MS;
use pharos_storage::{BatchId, LeafPlan, MetricStore, RawPlan, ReadContext};
use pharos_tsdb::{RealDisk, RetentionRule, Settings};
use tempfile::TempDir;

use crate::support::{all_series, append, batch, copy_dir, files, open, open_with, seconds};

/// Seconds of the one series in three parts of different windows.
const SECONDS: [i64; 3] = [-3 * 7200, -7200, 0];

fn three_parts() -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for second in SECONDS {
        for offset in 0..40 {
            append(&store, batch(second + offset * 7 % 60, 2));
        }
    }
    store.flush().unwrap();
    dir
}

#[test]
fn no_flipped_bit_is_served() {
    let dir = three_parts();
    let expected = seconds(&open(dir.path()));
    let part = files(&dir.path().join("tenants")).into_iter().find(|path| path.ends_with("data")).unwrap();
    let part = part.parent().unwrap().strip_prefix(dir.path()).unwrap().to_owned();
    let mut reported = 0;
    for name in ["data", "index", "meta.json"] {
        let length = std::fs::metadata(dir.path().join(&part).join(name)).unwrap().len() as usize;
        for at in (0..length).step_by(23) {
            let image = TempDir::new().unwrap();
            copy_dir(dir.path(), image.path());
            let path = image.path().join(&part).join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[at] ^= 0x04;
            std::fs::write(&path, bytes).unwrap();
            let store = open(image.path());
            let damaged = store.damaged();
            let plan = LeafPlan::Raw(RawPlan { matchers: all_series(), range: TimeRange::ALL });
            let errors: Vec<String> = match store.leaf(&TenantId::default(), &plan, &ReadContext::unlimited()) {
                Ok(stream) => stream.filter_map(Result::err).map(|error| error.full_message()).collect(),
                Err(error) => vec![error.full_message()],
            };
            for message in errors.iter().chain(&damaged) {
                assert!(message.contains("byte") || message.contains("version"), "{message}");
                // A description that lies about a file's length is found out at that file.
                assert!(message.contains(name) || name == "meta.json", "{message}");
            }
            if damaged.is_empty() && errors.is_empty() {
                // A byte that means nothing for reading, such as padding or a level in the description.
                assert_eq!(seconds(&store), expected, "{name} byte {at}");
            } else {
                reported += 1;
            }
            // The newest window lies in another part: it is served in any case.
            let recent = RawPlan { matchers: all_series(), range: TimeRange::new(CASE_TIME_MS, i64::MAX) };
            let plan = LeafPlan::Raw(recent);
            let served = store.leaf(&TenantId::default(), &plan, &ReadContext::unlimited()).unwrap();
            assert_eq!(served.filter_map(Result::ok).count(), 2, "{name} byte {at}");
        }
    }
    assert!(reported > 20, "only {reported} flips were noticed");
}

#[test]
fn a_cut_file_is_reported_and_left_alone() {
    let dir = three_parts();
    let path = files(&dir.path().join("tenants")).into_iter().find(|path| path.ends_with("data")).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let store = open(dir.path());
    assert_eq!(store.damaged().len(), 1);
    assert!(store.damaged()[0].contains("data"));
    store.compact().unwrap();
    assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len() - 1, "evidence is kept");
    let found = store.series(
        &TenantId::default(),
        &[vec![Matcher::equal("n", "1")]],
        TimeRange::ALL,
        &ReadContext::unlimited(),
    );
    assert_eq!(found.unwrap().count(), 1);
}

/// Flips a bit in the middle of a file of the only part, at `at` of its length.
fn flip(dir: &std::path::Path, name: &str, at: impl Fn(usize) -> usize) -> std::path::PathBuf {
    let path = files(&dir.join("tenants")).into_iter().find(|path| path.ends_with(name)).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let place = at(bytes.len());
    bytes[place] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Samples of the series that pass, or the message.
fn read(store: &pharos_tsdb::Tsdb, matcher: Matcher) -> Result<usize, String> {
    let plan = LeafPlan::Raw(RawPlan { matchers: vec![matcher], range: TimeRange::ALL });
    let stream = store.leaf(&TenantId::default(), &plan, &ReadContext::unlimited()).map_err(|e| e.full_message())?;
    stream.map(|series| series.map(|_| 1).map_err(|e| e.full_message())).sum()
}

#[test]
fn a_damaged_block_refuses_its_series_alone_and_is_told() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    // Labels ascend as text: of 600 series the first 256 are 0, 1, 10 ... 328, the last 88 begin with 520.
    for second in 0..10 {
        append(&store, batch(second, 600));
    }
    store.flush().unwrap();
    drop(store);
    // The first block of the data file holds the chunk headers of the first series.
    let path = flip(dir.path(), "data", |_| 40);
    let store = open(dir.path());
    assert!(store.damaged().is_empty(), "nobody read it yet");
    let refused = read(&store, Matcher::equal("n", "1")).unwrap_err();
    assert!(refused.contains("data") && refused.contains("byte 16"), "{refused}");
    assert_eq!(read(&store, Matcher::equal("n", "1")).unwrap_err(), refused);
    assert_eq!(read(&store, Matcher::equal("n", "599")), Ok(1));
    assert!(read(&store, all_series().remove(0)).is_err(), "no answer without what is in it");
    let names = store.label_values(
        &TenantId::default(),
        "n",
        &pharos_storage::LabelQuery { matcher_sets: vec![], range: TimeRange::ALL, limit: 1000 },
        &ReadContext::unlimited(),
    );
    assert_eq!(names.unwrap().len(), 600, "the index is sound");
    assert_eq!(
        store.damaged(),
        [refused.rsplit_once(": corrupt").map_or(refused.clone(), |(_, of)| format!("corrupt{of}"))]
    );
    assert_eq!(store.stats().damage_met, 3);
    assert!(path.exists());
}

#[test]
fn sound_parts_are_merged_around_a_damaged_one() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for second in [-300, -200, -100, -1] {
        append(&store, batch(second, 2));
        store.flush().unwrap();
    }
    assert_eq!(store.stats().parts, 4);
    drop(store);
    flip(dir.path(), "data", |length| length - 3);
    let store = open(dir.path());
    assert!(store.compact().is_err(), "the damage is reported");
    store.compact().unwrap();
    assert_eq!((store.stats().parts, store.damaged().len()), (2, 1));
    let recent = RawPlan { matchers: all_series(), range: TimeRange::new(CASE_TIME_MS - 250_000, i64::MAX) };
    let served = store.leaf(&TenantId::default(), &LeafPlan::Raw(recent), &ReadContext::unlimited()).unwrap();
    assert_eq!(served.filter_map(Result::ok).count(), 2);
    assert!(read(&store, all_series().remove(0)).is_err(), "what lies in the damaged part is not forgotten");
}

const DAY_S: i64 = 86_400;

/// A store with two parts in each of two windows that are far apart.
fn two_windows() -> TempDir {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for second in [-60 * DAY_S, -60 * DAY_S + 1, 0, 1] {
        append(&store, batch(second, 2));
        store.flush().unwrap();
    }
    assert_eq!(store.stats().parts, 4);
    dir
}

#[test]
fn a_damaged_index_is_told_by_the_background_and_does_not_keep_other_parts_from_being_rewritten() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for second in [-60 * DAY_S, -30 * DAY_S, 0] {
        append(&store, batch(second, 2));
        store.flush().unwrap();
    }
    drop(store);
    // The first block of the first part's index: values of labels.
    flip(dir.path(), "index", |_| 12);
    let keep = HumanDuration::from_ms(3_600_000);
    let rule = RetentionRule { tenant: None, matchers: vec!["n=\"1\"".to_owned()], keep };
    let settings = Settings { retention_rules: vec![rule], ..Settings::for_tests() };
    let store = open_with(dir.path(), settings, Arc::new(RealDisk)).unwrap();
    assert_eq!((store.damaged().len(), store.stats().part_samples), (0, 6), "nobody read it yet");
    let _ = store.maintain();
    assert_eq!((store.damaged().len(), store.stats().part_samples), (1, 5));
    assert!(store.damaged()[0].contains("index"), "{:?}", store.damaged());
    store.maintain().unwrap();
}

#[test]
fn a_full_compaction_goes_on_behind_a_failure() {
    let dir = two_windows();
    let store = open(dir.path());
    let others: Vec<TenantId> = ["a", "b", "c", "d"].iter().map(|name| name.parse().unwrap()).collect();
    for tenant in &others {
        for second in 0..2 {
            store.append(tenant, batch(second, 2), BatchId::random()).wait().unwrap().unwrap();
            store.flush().unwrap();
        }
    }
    drop(store);
    // Of the earlier window: it is merged first.
    let path = files(&dir.path().join("tenants/0")).into_iter().find(|path| path.ends_with("data")).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let store = open(dir.path());
    assert!(store.compact().is_err(), "the damage is reported");
    assert_eq!(store.stats().parts, 2 + 1 + others.len() as u64);
}

#[test]
fn a_snapshot_has_what_could_not_be_opened_too() {
    let dir = two_windows();
    let path = files(&dir.path().join("tenants")).into_iter().find(|path| path.ends_with("data")).unwrap();
    let sound = std::fs::read(&path).unwrap();
    std::fs::write(&path, &sound[1..]).unwrap();
    let store = open(dir.path());
    assert_eq!((store.damaged().len(), store.stats().parts), (1, 3));
    store.create_snapshot("s", true).unwrap();
    let snapshot = dir.path().join("snapshots/s");
    assert_eq!(open(&snapshot).damaged().len(), 1, "it is told there as it is here");
    std::fs::write(snapshot.join(path.strip_prefix(dir.path()).unwrap()), sound).unwrap();
    assert_eq!(seconds(&open(&snapshot)), vec![vec![-60 * DAY_S, -60 * DAY_S + 1, 0, 1]; 2]);
}

#[test]
fn damaged_exemplars_are_refused_and_told() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    builder.push_sample(Sample { timestamp_ms: CASE_TIME_MS, value: 1.0 }, 0);
    builder.push_exemplar(Exemplar { labels: Labels::empty(), timestamp_ms: CASE_TIME_MS, value: 0.5 });
    labels.push(METRIC_NAME, "m");
    builder.finish_series(&mut labels).unwrap();
    append(&store, builder.build());
    store.flush().unwrap();
    drop(store);
    flip(dir.path(), "exemplars", |length| length - 1);
    let store = open(dir.path());
    let read = || store.exemplars(&TenantId::default(), &[], TimeRange::ALL, &ReadContext::unlimited());
    let refused = read().unwrap_err().full_message();
    assert!(refused.contains("exemplars") && refused.contains("byte"), "{refused}");
    assert_eq!(store.damaged().len(), 1, "{:?}", store.damaged());
    assert_eq!(seconds(&store), [[0]], "the samples are sound");
}
