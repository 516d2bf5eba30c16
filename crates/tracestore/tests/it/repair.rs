//! Days that are damaged, or set aside, are taken up again as far as they can be read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pharos_base::Clock;
use pharos_model::{TenantId, TimeRangeNs};
use pharos_storage::conformance::traces::{SpanGenerator, check_equal, random_query};
use pharos_storage::memory::MemoryTraceStore;
use pharos_storage::{BatchId, ReadContext, TraceLookup, TraceQuery, TraceStore};
use pharos_tracestore::{Components, Repair, SpanStore};

use crate::support::{Fixture, NOW_NS, settings};

/// Spans of several days and two tenants.
fn filled_without_deletions() -> (Fixture, [MemoryTraceStore; 2], SpanGenerator) {
    let mut generator = SpanGenerator::new(11, NOW_NS, 60);
    let (fixture, oracles) = (Fixture::new(settings()), [MemoryTraceStore::new(), MemoryTraceStore::new()]);
    for round in 0..60 {
        let batch = generator.batch();
        let (tenant, oracle) = (tenants()[round % 2].clone(), &oracles[round % 2]);
        let _ = oracle.append(&tenant, batch.clone(), BatchId::random()).wait();
        fixture.store().append(&tenant, batch, BatchId::random()).wait().unwrap().unwrap();
        if round % 20 == 19 {
            fixture.store().flush().unwrap();
        }
    }
    (fixture, oracles, generator)
}

/// And a trace deleted again.
fn filled() -> (Fixture, [MemoryTraceStore; 2], SpanGenerator) {
    let (fixture, oracles, generator) = filled_without_deletions();
    let deleted = generator.trace_ids()[3];
    for (tenant, oracle) in tenants().iter().zip(&oracles) {
        oracle.delete_trace(tenant, deleted).unwrap();
        fixture.store().delete_trace(tenant, deleted).unwrap();
    }
    fixture.store().flush().unwrap();
    (fixture, oracles, generator)
}

fn tenants() -> [TenantId; 2] {
    [TenantId::default(), "other".parse().unwrap()]
}

fn check(fixture: &Fixture, oracles: &[MemoryTraceStore; 2], generator: &mut SpanGenerator) {
    let queries: Vec<_> = (0..30).map(|_| random_query(generator)).collect();
    for (tenant, oracle) in tenants().iter().zip(oracles) {
        check_equal(fixture.store(), oracle, tenant, &generator.trace_ids(), &queries);
    }
}

fn repair(fixture: &Fixture) -> Repair {
    let clock: Arc<dyn Clock> = Arc::<pharos_base::SimClock>::clone(&fixture.clock);
    SpanStore::repair(fixture.directory.path(), &fixture.settings, Components { clock }).unwrap()
}

fn days(directory: &Path) -> Vec<PathBuf> {
    let mut days: Vec<_> = fs::read_dir(directory.join("days")).unwrap().map(|entry| entry.unwrap().path()).collect();
    days.sort();
    days
}

fn names(directory: &Path) -> Vec<String> {
    days(directory).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn days_whose_list_of_tables_is_gone_are_told_and_repaired_whole() {
    let (mut fixture, oracles, mut generator) = filled();
    drop(fixture.store.take());
    let directory = fixture.directory.path().to_owned();
    let before = names(&directory);
    for day in days(&directory) {
        fs::remove_file(day.join("spans/CURRENT")).unwrap();
    }
    // A start sets them aside; searches and doctor say so, and a deletion is remembered.
    fixture.open();
    assert_eq!(fixture.store().stats().damaged_days, before.len() as u64);
    let query = TraceQuery { start: TimeRangeNs::ALL, ..random_query(&mut generator) };
    let found = fixture.store().find(&TenantId::default(), &query, &ReadContext::unlimited()).unwrap();
    assert!(found.warnings.iter().any(|warning| warning.contains(&before[0])), "{:?}", found.warnings);
    // So do traces of these days, of which there is more by now.
    let batch = SpanGenerator::new(12, NOW_NS, 60).batch();
    let lookup = [TraceLookup { trace_id: batch.groups[0].spans[0].trace_id, range: None }];
    let _ = oracles[0].append(&TenantId::default(), batch.clone(), BatchId::random()).wait();
    fixture.append(batch).unwrap();
    let mut read = fixture.store().traces(&TenantId::default(), &lookup, &ReadContext::unlimited()).unwrap();
    let warnings = read.next().unwrap().unwrap().warnings;
    // It holds the days it reads.
    drop(read);
    assert!(warnings.iter().any(|warning| warning.contains("is damaged and set aside")), "{warnings:?}");
    let deleted = generator.trace_ids()[7];
    fixture.store().delete_trace(&TenantId::default(), deleted).unwrap();
    oracles[0].delete_trace(&TenantId::default(), deleted).unwrap();
    drop(fixture.store.take());
    let examined = SpanStore::examine(&directory, &settings(), false).unwrap();
    assert_eq!(examined.damage.iter().filter(|line| line.contains("set aside")).count(), before.len());
    let repaired = repair(&fixture);
    assert_eq!((repaired.days, repaired.rejected), (before.len() as u64, 0), "{repaired:?}");
    assert_eq!((repaired.lost.as_slice(), repaired.kept.as_slice()), (&[][..], &[][..]));
    assert_eq!(names(&directory), before, "what was read whole is not kept twice");
    assert_eq!(SpanStore::examine(&directory, &settings(), false).unwrap().damage, [""; 0]);
    fixture.open();
    check(&fixture, &oracles, &mut generator);
    assert_eq!(fixture.store().stats().damaged_days, 0);
    drop(fixture.store.take());
    assert_eq!(repair(&fixture), Repair::default(), "there is nothing left to do");
}

/// Tables name their column family at the end.
fn is_of_blocks(path: &Path) -> bool {
    const PROPERTY: &[u8] = b"nameblocks";
    fs::read(path).unwrap().windows(PROPERTY.len()).any(|window| window == PROPERTY)
}

/// Flips a bit in each data block of a table that has entries beside blocks: lists of tenants and segments among them.
fn damage_lists(day: &Path) -> bool {
    let mut is_done = false;
    for entry in fs::read_dir(day.join("spans")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "sst") && !is_of_blocks(&path) {
            let mut flipped = bytes;
            for at in (64..flipped.len() * 2 / 3).step_by(512) {
                flipped[at] ^= 1;
            }
            fs::write(&path, flipped).unwrap();
            is_done = true;
        }
    }
    is_done
}

/// With tenants' and segments' lists and everything beside them damaged, the second list of tenants and the blocks are left. Spans
/// whose resources are damaged as well are lost, and told.
#[test]
fn a_damaged_list_of_tenants_and_segments_hides_no_day() {
    let (mut fixture, oracles, mut generator) = filled();
    drop(fixture.store.take());
    let directory = fixture.directory.path().to_owned();
    let day = days(&directory).pop().unwrap();
    assert!(day.join("TENANTS").exists() && damage_lists(&day));
    fixture.open();
    assert_eq!(fixture.store().stats().damaged_days, 1);
    drop(fixture.store.take());
    let repaired = repair(&fixture);
    assert_eq!((repaired.days, repaired.kept.len()), (1, 1), "{repaired:?}");
    assert!(repaired.lost.iter().any(|line| line.contains("list of segments")), "{repaired:?}");
    assert!(!repaired.lost.iter().any(|line| line.contains("names of tenants")), "{repaired:?}");
    assert!(names(&directory).iter().any(|name| name.starts_with("repaired-")));
    assert_eq!(SpanStore::examine(&directory, &settings(), false).unwrap().damage, [""; 0]);
    fixture.open();
    assert_eq!(fixture.store().stats().damaged_days, 0);
    // Whatever is there is right, and of the right tenant.
    for (tenant, oracle) in tenants().iter().zip(&oracles) {
        for trace_id in generator.trace_ids() {
            let lookup = [TraceLookup { trace_id, range: None }];
            let ids = |store: &dyn TraceStore| {
                let traces = store.traces(tenant, &lookup, &ReadContext::unlimited()).unwrap();
                let groups = traces.flat_map(|trace| trace.unwrap().groups);
                let spans = groups.flat_map(|group| group.spans.into_iter().map(|span| (span.span_id, span.name)));
                spans.collect::<std::collections::BTreeSet<_>>()
            };
            assert!(ids(fixture.store()).is_subset(&ids(oracle)), "{tenant} {trace_id}");
        }
    }
    let _ = random_query(&mut generator);
}

/// One damaged block costs what lies in it; the day is whole again but for that.
#[test]
fn a_damaged_block_is_left_behind_by_a_repair() {
    let (mut fixture, ..) = filled();
    drop(fixture.store.take());
    let directory = fixture.directory.path().to_owned();
    let sound = SpanStore::examine(&directory, &settings(), false).unwrap();
    let tables = days(&directory).into_iter().flat_map(|day| fs::read_dir(day.join("spans")).unwrap());
    let largest =
        tables.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|of| of == "sst"));
    let path = largest.filter(|path| is_of_blocks(path)).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let damaged = SpanStore::examine(&directory, &settings(), false).unwrap();
    assert!(damaged.spans < sound.spans && !damaged.damage.is_empty());
    let repaired = repair(&fixture);
    // RocksDB may have blocks of both tenants under one checksum.
    assert_eq!((repaired.days, repaired.kept.len()), (1, 1), "{repaired:?}");
    assert!((1..=2).contains(&repaired.lost.len()), "{repaired:?}");
    let healed = SpanStore::examine(&directory, &settings(), false).unwrap();
    assert_eq!((healed.damage.as_slice(), healed.days), (&[][..], sound.days));
    assert!(repaired.spans > 0 && healed.spans <= damaged.spans, "{repaired:?}, of {damaged:?}: {healed:?}");
}

/// The store takes from the second list who is not in the first.
#[test]
fn the_second_list_of_tenants_is_made_and_looked_at() {
    let (mut fixture, oracles, mut generator) = filled_without_deletions();
    drop(fixture.store.take());
    let directory = fixture.directory.path().to_owned();
    for day in days(&directory) {
        fs::remove_file(day.join("TENANTS")).unwrap();
    }
    fixture.open();
    check(&fixture, &oracles, &mut generator);
    drop(fixture.store.take());
    let day = days(&directory).pop().unwrap();
    let mut text = fs::read_to_string(day.join("TENANTS")).unwrap();
    assert!(text.contains(" other\n") && text.contains(" 0\n"), "{text}");
    text = text.replace(" other\n", " othes\n");
    fs::write(day.join("TENANTS"), text).unwrap();
    let told = SpanStore::examine(&directory, &settings(), false).unwrap().damage;
    assert!(told.len() == 1 && told[0].contains("list of tenants"), "{told:?}");
    fixture.open();
    check(&fixture, &oracles, &mut generator);
    drop(fixture.store.take());
    assert_eq!(SpanStore::examine(&directory, &settings(), false).unwrap().damage, [""; 0]);
}
