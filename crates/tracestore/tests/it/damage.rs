//! One damaged byte: it costs what it lies in, and stops neither ingest nor merges, retention or a start.

use std::fs;
use std::path::{Path, PathBuf};

use pharos_base::ByteSize;
use pharos_model::{Span, SpanBatch, SpanGroup, SpanId, TenantId, TraceId};
use pharos_storage::{BatchId, ReadContext, TraceLookup, TraceStore};
use pharos_tracestore::Settings;

use crate::support::{Fixture, NOW_NS, copy_tree, fast_directory, settings};

const NS_PER_DAY: u64 = 86_400_000_000_000;

/// A trace of five spans for each of the days, oldest first, the newest today.
fn batch(number: u64, days: u64) -> SpanBatch {
    let span = |id: u64| {
        let start_ns = NOW_NS - id % days * NS_PER_DAY + number * 1000 + id;
        Span {
            trace_id: TraceId(u128::from(number * days + id % days + 1).to_be_bytes()),
            span_id: SpanId((id + 1).to_be_bytes()),
            name: format!("operation {} of {number}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            start_ns,
            end_ns: start_ns + 7,
            ..Span::default()
        }
    };
    let spans = (0..5 * days).map(span).collect();
    SpanBatch {
        groups: vec![SpanGroup { resource: std::sync::Arc::default(), scope: std::sync::Arc::default(), spans }],
    }
}

fn rounds(fixture: &Fixture, numbers: std::ops::Range<u64>, days: u64) {
    for number in numbers {
        fixture.append(batch(number, days)).unwrap();
        fixture.store().flush().unwrap();
    }
}

fn files(directory: &Path, is_wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, is_wanted));
        } else if is_wanted(&path) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "sst")
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn newest_day(directory: &Path) -> PathBuf {
    let days = fs::read_dir(directory.join("days")).unwrap().map(|entry| entry.unwrap().path());
    days.max().unwrap()
}

fn is_stored(fixture: &Fixture, trace: u64) -> bool {
    let lookup = TraceLookup { trace_id: TraceId(u128::from(trace).to_be_bytes()), range: None };
    let mut found = fixture.store().traces(&TenantId::default(), &[lookup], &ReadContext::unlimited()).unwrap();
    found.next().is_some_and(|trace| trace.unwrap().groups[0].spans.len() == 5)
}

/// Wherever a bit of today's tables flips: the store opens, takes spans, seals and merges them, and reads them again.
#[test]
fn a_flipped_bit_in_a_table_stops_neither_the_start_nor_ingest() {
    let fixture = Fixture::new(settings());
    rounds(&fixture, 0..7, 1);
    let image = fast_directory();
    copy_tree(fixture.directory.path(), image.path());
    drop(fixture);
    let tables = files(&newest_day(image.path()), &is_table);
    assert!(tables.len() > 2, "{tables:?}");
    // RocksDB takes its time over each error: all at once.
    std::thread::scope(|scope| {
        for table in &tables {
            scope.spawn(|| [0, 1].map(|part| ingest_beside_a_flipped_bit(image.path(), table, part)));
        }
    });
}

fn ingest_beside_a_flipped_bit(image: &Path, table: &Path, part: usize) {
    let mut fixture = Fixture::new(settings());
    drop(fixture.store.take());
    fs::remove_dir_all(fixture.directory.path()).unwrap();
    copy_tree(image, fixture.directory.path());
    let at = fs::metadata(table).unwrap().len() as usize * part / 2;
    flip(&fixture.directory.path().join(table.strip_prefix(image).unwrap()), at);
    let check = |fixture: &Fixture, until| {
        for number in 10..until {
            assert!(is_stored(fixture, number + 1), "{number} after {} at {at}", table.display());
        }
    };
    fixture.open();
    rounds(&fixture, 10..16, 1);
    check(&fixture, 16);
    fixture.reopen();
    rounds(&fixture, 16..17, 1);
    check(&fixture, 17);
}

/// A day whose list of tables is gone cannot be opened. It is set aside as it is, and the rest goes on.
#[test]
fn a_day_that_cannot_be_opened_is_set_aside_untouched() {
    let mut fixture = Fixture::new(settings());
    rounds(&fixture, 0..3, 2);
    // In the log alone: it is not lost with its day.
    fixture.append(batch(3, 2)).unwrap();
    drop(fixture.store.take());
    let day = newest_day(fixture.directory.path());
    fs::remove_file(day.join("spans/CURRENT")).unwrap();
    let tables = |day: &Path| files(day, &is_table).iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    let before = tables(&day);
    assert!(!before.is_empty());
    for _ in 0..2 {
        fixture.open();
        assert_eq!(fixture.store().stats().damaged_days, 1);
        // Traces of two days each: one today, one yesterday.
        let found = [1, 2, 3, 4, 5, 6, 7, 8].map(|trace| is_stored(&fixture, trace));
        assert_eq!(found, [false, true, false, true, false, true, true, true]);
        fixture.append(batch(3, 2)).unwrap();
        drop(fixture.store.take());
    }
    let aside = fixture.directory.path().join(format!("days/damaged-{}-1", day.file_name().unwrap().to_str().unwrap()));
    assert_eq!(tables(&aside), before);
    // A day that lost all but its index is damaged, too.
    let oldest = fs::read_dir(fixture.directory.path().join("days")).unwrap().map(|entry| entry.unwrap().path()).min();
    fs::remove_dir_all(oldest.unwrap().join("spans")).unwrap();
    // With the first of its kind it leaves when its day is out of retention.
    fixture.open();
    assert_eq!(fixture.store().stats().damaged_days, 2);
    rounds(&fixture, 5..6, 1);
    fixture.clock.advance_ms(9 * 86_400_000);
    fixture.store().flush().unwrap();
    fixture.clock.advance_ms(3_600_000);
    fixture.store().flush().unwrap();
    assert_eq!((fixture.store().stats().damaged_days, fixture.store().stats().partitions), (0, 0));
}

/// The name of the column family, behind that of the property.
const BLOCKS: &[u8] = b"nameblocks";

fn damage_a_block(directory: &Path) {
    // Tables name their column family at the end; blocks are at the beginning.
    let has_blocks =
        |path: &Path| is_table(path) && fs::read(path).unwrap().windows(BLOCKS.len()).any(|window| window == BLOCKS);
    flip(&files(&newest_day(directory), &has_blocks)[0], 100);
}

/// Merges leave a damaged segment alone; those of other tenants and days go on, and so does retention.
#[test]
fn a_damaged_block_stops_no_other_merge_and_no_retention() {
    let mut fixture = Fixture::new(settings());
    rounds(&fixture, 0..3, 1);
    drop(fixture.store.take());
    damage_a_block(fixture.directory.path());
    fixture.open();
    let other: TenantId = "other".parse().unwrap();
    for number in 3..19 {
        fixture.append(batch(number, 2)).unwrap();
        fixture.store().append(&other, batch(number, 1), BatchId::random()).wait().unwrap().unwrap();
        fixture.store().flush().unwrap();
    }
    fixture.store().flush().unwrap();
    let stats = fixture.store().stats();
    assert!(stats.segments < 3 * 9 && stats.damaged_segments == 1, "{stats:?}");
    let refused = fixture.store().compact().map_err(|error| error.to_string());
    assert!(fixture.store().stats().segments < 8, "{:?}", fixture.store().stats());
    assert!(refused.is_ok(), "what is left alone is told once: {refused:?}");
    drop(fixture.store.take());
    fixture.settings = Settings { retention_size: Some(ByteSize(1)), ..settings() };
    fixture.open();
    fixture.store().flush().unwrap();
    assert_eq!(fixture.store().stats().partitions, 1);
}

/// An index is rebuilt of the blocks that can be read; searches come to the others and say so.
#[test]
fn an_index_is_rebuilt_beside_a_damaged_block() {
    let mut fixture = Fixture::new(settings());
    rounds(&fixture, 0..3, 2);
    drop(fixture.store.take());
    damage_a_block(fixture.directory.path());
    for index in fs::read_dir(fixture.directory.path().join("days")).unwrap() {
        fs::remove_dir_all(index.unwrap().path().join("index-2")).unwrap();
    }
    for _ in 0..2 {
        fixture.open();
        rounds(&fixture, 3..4, 2);
        assert!(is_stored(&fixture, 7) && is_stored(&fixture, 8));
        fixture.crash();
        drop(fixture.store.take());
    }
}

#[test]
fn damaged_counts_of_a_checkpoint_do_not_stop_a_start() {
    let mut fixture = Fixture::new(settings());
    rounds(&fixture, 0..1, 2);
    drop(fixture.store.take());
    fs::write(fixture.directory.path().join("CALLS"), b"PHTRCAL1 and then noise").unwrap();
    fixture.open();
    rounds(&fixture, 1..2, 2);
    assert!([1, 2, 3, 4].iter().all(|trace| is_stored(&fixture, *trace)));
}

/// A trace of which some lies in a block that cannot be read: searches that hit it are answered with the rest, and so are reads and
/// summaries. What cannot be read at all is an error.
#[test]
fn a_trace_that_lies_partly_in_a_damaged_block_is_answered_with_the_rest() {
    let spans = |trace: u64, first: u64, count: u64| {
        let span = |id: u64| Span {
            trace_id: TraceId(u128::from(trace).to_be_bytes()),
            span_id: SpanId(id.to_be_bytes()),
            name: format!("call {id}"),
            start_ns: NOW_NS - 1000 + id,
            end_ns: NOW_NS + id,
            ..Span::default()
        };
        let spans = (first..first + count).map(span).collect();
        let (resource, scope) = (std::sync::Arc::default(), std::sync::Arc::default());
        SpanBatch { groups: vec![SpanGroup { resource, scope, spans }] }
    };
    let mut fixture = Fixture::new(settings());
    for batch in [spans(1, 1, 3), spans(2, 100, 3)] {
        fixture.append(batch).unwrap();
    }
    fixture.store().flush().unwrap();
    fixture.append(spans(1, 10, 2)).unwrap();
    fixture.store().flush().unwrap();
    fixture.append(spans(1, 20, 1)).unwrap();
    drop(fixture.store.take());
    damage_a_block(fixture.directory.path());
    fixture.open();
    let (store, tenant, context) = (fixture.store(), TenantId::default(), ReadContext::unlimited());
    let query = pharos_storage::TraceQuery {
        service: None,
        operation: None,
        filters: Vec::new(),
        predicate: None,
        start: pharos_model::TimeRangeNs::ALL,
        duration_min_ns: None,
        duration_max_ns: None,
        limit: 20,
    };
    let found = store.find(&tenant, &query, &context).unwrap();
    let hits: Vec<_> = found.hits.iter().map(|hit| hit.trace_id).collect();
    assert_eq!(hits, [TraceId(1_u128.to_be_bytes())]);
    assert!(found.warnings[0].starts_with("traces may be missing"), "{:?}", found.warnings);
    let lookup = |trace: u128| [TraceLookup { trace_id: TraceId(trace.to_be_bytes()), range: None }];
    let traces: Vec<_> = store.traces(&tenant, &lookup(1), &context).unwrap().map(Result::unwrap).collect();
    let mut ids: Vec<_> =
        traces[0].groups.iter().flat_map(|group| &group.spans).map(|span| span.span_id.0[7]).collect();
    ids.sort_unstable();
    assert_eq!(ids, [10, 11, 20]);
    let is_told = |warnings: &[String]| warnings.len() == 1 && warnings[0].starts_with("spans are missing");
    assert!(is_told(&traces[0].warnings), "{:?}", traces[0].warnings);
    let one = std::num::NonZeroUsize::MIN;
    let parts: Vec<_> = store.trace_parts(&tenant, &lookup(1), one, &context).unwrap().map(Result::unwrap).collect();
    assert_eq!(parts.iter().map(pharos_storage::TracePart::span_count).sum::<usize>(), 3);
    let (last, before) = parts.split_last().unwrap();
    assert!(last.is_last && is_told(&last.warnings) && before.iter().all(|part| part.warnings.is_empty()));
    let summaries = store.summaries(&tenant, &lookup(1), &context).unwrap();
    assert!(summaries[0].span_count == 3 && is_told(&summaries[0].warnings), "{summaries:?}");
    // Nothing of the second can be read; a third is nowhere.
    assert!(store.traces(&tenant, &lookup(2), &context).unwrap().next().unwrap().is_err());
    assert!(store.summaries(&tenant, &lookup(2), &context).is_err());
    assert!(store.traces(&tenant, &lookup(3), &context).unwrap().next().is_none());
    assert_eq!(store.stats().damaged_places, 1);
}
