//! Folders that somebody copied: a part is served under its own name only.

use pharos_model::TenantId;
use pharos_storage::{BatchId, MetricStore};
use tempfile::TempDir;

use crate::support::{append, batch, copy_dir, open, seconds};

#[test]
fn a_copy_among_the_originals_is_reported_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    append(&store, batch(1, 2));
    store.flush().unwrap();
    drop(store);
    let parts = dir.path().join("tenants/0/parts");
    let part = std::fs::read_dir(&parts).unwrap().next().unwrap().unwrap().path();
    let name = part.file_name().unwrap().to_str().unwrap().to_owned();
    let other = format!("{}00ff", &name[..name.len() - 4]);
    copy_dir(&part, &parts.join(&other));
    let store = open(dir.path());
    assert_eq!((store.stats().parts, seconds(&store)), (1, vec![vec![1]; 2]));
    assert!(store.damaged().len() == 1 && store.damaged()[0].contains(&other), "{:?}", store.damaged());
}

#[test]
fn parts_of_another_tenant_are_not_served_as_ones_own() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    append(&store, batch(1, 2));
    store.flush().unwrap();
    drop(store);
    copy_dir(&dir.path().join("tenants/0"), &dir.path().join("tenants/other"));
    let store = open(dir.path());
    assert!(store.damaged().len() == 1 && store.damaged()[0].contains("of tenant 0"), "{:?}", store.damaged());
    let other: TenantId = "other".parse().unwrap();
    store.append(&other, batch(2, 2), BatchId::random()).wait().unwrap().unwrap();
    store.flush().unwrap();
    assert_eq!(seconds(&store), vec![vec![1]; 2]);
}
