//! The contract's suite, before and after every way that data can settle.

use pharos_storage::MetricStore;
use pharos_storage::conformance::metrics::metric_store_suite;
use pharos_tsdb::Tsdb;
use tempfile::TempDir;

use crate::support::open;

/// A store with its directory. The store goes first when both are dropped.
struct Case {
    store: Tsdb,
    dir: TempDir,
}

fn suite(settle: impl Fn(Case) -> Case) {
    // The suite moves the store itself; its directory follows by path.
    let dirs = std::cell::RefCell::new(Vec::new());
    metric_store_suite(
        || {
            let dir = TempDir::new().unwrap();
            let store = open(dir.path());
            dirs.borrow_mut().push(dir);
            store
        },
        |store| {
            let dir = dirs.borrow_mut().pop().unwrap();
            let Case { store, dir } = settle(Case { store, dir });
            dirs.borrow_mut().push(dir);
            store
        },
    );
}

fn reopen(case: Case) -> Case {
    let Case { store, dir } = case;
    drop(store);
    Case { store: open(dir.path()), dir }
}

#[test]
fn in_memory() {
    suite(|case| case);
}

#[test]
fn after_replay() {
    suite(reopen);
}

#[test]
fn after_flush() {
    suite(|case| {
        case.store.flush().unwrap();
        case
    });
}

#[test]
fn after_close_and_reopen() {
    suite(|Case { store, dir }| {
        store.close().unwrap();
        Case { store: open(dir.path()), dir }
    });
}

#[test]
fn after_compaction_and_reopen() {
    suite(|case| {
        case.store.flush().unwrap();
        case.store.compact().unwrap();
        reopen(case)
    });
}
