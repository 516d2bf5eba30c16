//! Every call to the disk fails in turn, under everything the store does beside appending: what was acknowledged is there
//! afterwards, what was deleted stays deleted, and the store goes on.
//!
//! Each case runs once for every call that its operation makes, with the disk gone from then on and the power cut, and once
//! more with a single I/O error after which the same is asked again; and once without file descriptors.

use std::collections::BTreeMap;
use std::sync::Arc;

use pharos_base::HumanDuration;
use pharos_model::{Matcher, TenantId, TimeRange};
use pharos_storage::conformance::metrics::read_all;
use pharos_storage::{MetricStore, StorageError};
use pharos_tsdb::{Resolution, RetentionRule, Settings, Tsdb};
use tempfile::TempDir;

use crate::fault_disk::{Fault, FaultDisk};
use crate::support::{all_series, append, batch, open_with};

/// An operation and what it is done to.
struct Case {
    settings: Settings,
    /// Done and acknowledged before any fault.
    prepare: fn(&Tsdb),
    operation: fn(&Tsdb) -> Result<(), StorageError>,
    /// Series that nobody sees after the operation.
    deleted: &'static [&'static str],
    /// Calls to the disk that the operation makes at least: a case that tests nothing is noticed.
    calls_min: u64,
}

impl Default for Case {
    fn default() -> Self {
        let settings = Settings::for_tests();
        Self { settings, prepare: |_| {}, operation: |_| Ok(()), deleted: &[], calls_min: 5 }
    }
}

/// Instants and bits of every series, by its labels.
type Content = BTreeMap<String, Vec<(i64, u64)>>;

fn content(store: &Tsdb) -> Content {
    let all = read_all(store, &TenantId::default(), all_series(), TimeRange::ALL);
    all.into_iter()
        .map(|(labels, series)| {
            let bits = series.values.iter().map(|value| value.to_bits());
            (labels.get("n").unwrap().to_owned(), series.timestamps_ms.iter().copied().zip(bits).collect())
        })
        .collect()
}

/// Answers how many calls the operation makes.
fn check(case: &Case) {
    for fault in [Fault::Gone, Fault::Once] {
        let calls = (0..500).find(|calls| {
            !check_fault(case, &format!("{fault:?} after {calls} calls"), |disk| {
                disk.plan(*calls, fault);
            })
        });
        let calls = calls.expect("the operation ends");
        assert!(calls >= case.calls_min, "only {calls} calls");
    }
    check_fault(case, "no descriptors", |disk| disk.set_out_of_descriptors(true));
}

/// Whether the fault happened.
fn check_fault(case: &Case, what: &str, arm: impl Fn(&FaultDisk)) -> bool {
    let (dir, disk) = (TempDir::new().unwrap(), FaultDisk::default());
    let root = dir.path().join("data");
    let open = |disk: &FaultDisk| open_with(&root, case.settings.clone(), Arc::new(disk.clone())).unwrap();
    let store = open(&disk);
    (case.prepare)(&store);
    let before = content(&store);
    let mut after = before.clone();
    after.retain(|series, _| !case.deleted.contains(&series.as_str()));

    arm(&disk);
    let mut done = (case.operation)(&store).is_ok();
    let met = !disk.unplan();
    disk.set_out_of_descriptors(false);
    assert!(met || done, "{what}: failed without a fault");
    let is_possible = |found: &Content, done: bool| *found == after || !done && *found == before;
    assert!(is_possible(&content(&store), done), "{what}: readers see {:?}", content(&store));
    if !done && !disk.has_failed() && !store.stats().read_only {
        done = (case.operation)(&store).inspect_err(|error| panic!("{what}: again: {error}")).is_ok();
        assert_eq!(content(&store), after, "{what}: asked again");
    }
    drop(store);
    disk.cut_power();

    let disk = FaultDisk::default();
    let store = open(&disk);
    assert!(store.damaged().is_empty(), "{what}: {:?}", store.damaged());
    let found = content(&store);
    assert!(is_possible(&found, done), "{what}: done {done}, found {found:?}");
    (case.operation)(&store).unwrap();
    append(&store, batch(3000, 3));
    let expected = content(&store);
    let count = |content: &Content| content.values().map(Vec::len).sum::<usize>();
    assert_eq!(count(&expected), count(&after) + 3, "{what}: appended to what is left");
    store.compact().unwrap();
    drop(store);
    assert_eq!(content(&open(&disk)), expected, "{what}: merged and opened again");
    met
}

/// Three series in parts of two windows, the later of which overlap the earlier, and in the head.
fn fill(store: &Tsdb) {
    for seconds in [[-7000, 0], [-7000, 5]] {
        for second in seconds {
            append(store, batch(second, 3));
        }
        store.flush().unwrap();
    }
    append(store, batch(20, 3));
}

fn delete(store: &Tsdb, n: &str) -> Result<(), StorageError> {
    store.delete(&TenantId::default(), &[vec![Matcher::equal("n", n)]], TimeRange::ALL)
}

#[test]
fn under_a_delete() {
    check(&Case { prepare: fill, operation: |store| delete(store, "1"), deleted: &["1"], ..Case::default() });
}

#[test]
fn under_cleaning() {
    let prepare = |store: &Tsdb| {
        fill(store);
        delete(store, "0").unwrap();
        delete(store, "2").unwrap();
        append(store, batch(30, 3));
    };
    check(&Case { prepare, operation: |store| store.clean_tombstones(), calls_min: 20, ..Case::default() });
}

#[test]
fn under_a_flush() {
    let prepare = |store: &Tsdb| {
        for second in [-7000, 0, 10, 5] {
            append(store, batch(second, 3));
        }
    };
    check(&Case { prepare, operation: |store| store.flush(), calls_min: 20, ..Case::default() });
}

#[test]
fn under_a_merge_that_rolls_up() {
    let settings = Settings { downsampling: vec![Resolution::FiveMinutes, Resolution::Hour], ..Settings::for_tests() };
    check(&Case { settings, prepare: fill, operation: |store| store.compact(), calls_min: 26, ..Case::default() });
}

#[test]
fn under_a_merge_that_leaves_out_what_was_deleted() {
    let prepare = |store: &Tsdb| {
        fill(store);
        delete(store, "1").unwrap();
    };
    check(&Case { prepare, operation: |store| store.compact(), calls_min: 20, ..Case::default() });
}

#[test]
fn under_a_rewrite_for_retention() {
    let rule =
        RetentionRule { tenant: None, matchers: vec!["n=\"1\"".to_owned()], keep: HumanDuration::from_ms(3_600_000) };
    let settings = Settings { retention_rules: vec![rule], ..Settings::for_tests() };
    check(&Case { settings, prepare: fill, operation: |store| Ok(store.maintain()?), ..Case::default() });
}

#[test]
fn under_a_snapshot() {
    let operation = |store: &Tsdb| {
        let made = store.create_snapshot("s", true);
        // Listed means whole, whoever was told.
        if store.snapshots().unwrap().is_empty() { made } else { Ok(()) }
    };
    check(&Case { prepare: fill, operation, calls_min: 30, ..Case::default() });
}
