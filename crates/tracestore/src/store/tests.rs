//! A disk that fills up and a disk that fails to sync; limits of reads; what an interrupted checkpoint leaves.

mod reads;

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pharos_base::{ByteSize, MemoryBudget, SimClock};
use pharos_model::{Span, SpanBatch, SpanGroup, SpanId, TenantId, TimeRangeNs, TraceId};
use pharos_storage::conformance::traces::{SpanGenerator, check_equal};
use pharos_storage::memory::MemoryTraceStore;
use pharos_storage::{AppendOutcome, BatchId, ReadContext, StorageError, TraceLookup, TraceQuery, TraceStore};

use super::SpanStore;
use crate::disk::{Disk, SystemDisk};
use crate::error::storage_error;
use crate::partition::MergeDepth;
use crate::{Components, Settings, SyncPolicy};

const NOW_MS: i64 = 1_795_230_000_000;
const NOW_NS: u64 = NOW_MS as u64 * 1_000_000;

/// Does what it is told until a fault is switched on.
#[derive(Debug)]
struct FaultDisk {
    /// Writes succeed for this many bytes more, then half a write reaches the file.
    space: AtomicU64,
    free: AtomicU64,
    fails_sync: AtomicBool,
    /// Syncs wait while it is held.
    stalled: parking_lot::Mutex<()>,
    syncs: AtomicU64,
}

impl FaultDisk {
    fn sound() -> Arc<Self> {
        let (space, free) = (AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX));
        let (fails_sync, stalled, syncs) = (AtomicBool::new(false), parking_lot::Mutex::default(), AtomicU64::new(0));
        Arc::new(Self { space, free, fails_sync, stalled, syncs })
    }
}

impl Disk for FaultDisk {
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let space = self.space.load(Ordering::SeqCst);
        if bytes.len() as u64 > space {
            SystemDisk.write_at(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        SystemDisk.write_at(file, bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        drop(self.stalled.lock());
        self.syncs.fetch_add(1, Ordering::SeqCst);
        if self.fails_sync.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        SystemDisk.sync(file)
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.free.load(Ordering::SeqCst))
    }
}

fn settings() -> Settings {
    let (rows_memory, index_memory) = (ByteSize::mib(8), ByteSize::mib(16));
    Settings { rows_memory, index_memory, commit_interval: "1h".parse().unwrap(), ..Settings::default() }
}

fn open(directory: &Path, settings: Settings, disk: &Arc<FaultDisk>) -> SpanStore {
    let disk: Arc<dyn Disk> = Arc::<FaultDisk>::clone(disk);
    SpanStore::open_on(directory, settings, Components { clock: SimClock::at_ms(NOW_MS) }, disk).unwrap()
}

fn append(store: &SpanStore, number: u8) -> Result<AppendOutcome, StorageError> {
    store.append(&TenantId::default(), batch_of(number), BatchId::random()).wait().unwrap()
}

fn batch_of(number: u8) -> SpanBatch {
    let span = Span { trace_id: TraceId([number; 16]), span_id: SpanId([1; 8]), start_ns: NOW_NS, ..Span::default() };
    SpanBatch { groups: vec![SpanGroup { resource: Arc::default(), scope: Arc::default(), spans: vec![span] }] }
}

fn found(store: &SpanStore) -> Vec<u8> {
    found_of(store, &TenantId::default())
}

fn found_of(store: &SpanStore, tenant: &TenantId) -> Vec<u8> {
    let query = TraceQuery {
        service: None,
        operation: None,
        filters: Vec::new(),
        predicate: None,
        start: TimeRangeNs::ALL,
        duration_min_ns: None,
        duration_max_ns: None,
        limit: 100,
    };
    let found = store.find(tenant, &query, &ReadContext::unlimited()).unwrap();
    found.hits.iter().map(|hit| hit.trace_id.0[0]).collect()
}

fn assert_unavailable(result: &Result<AppendOutcome, StorageError>) {
    assert!(matches!(result, Err(StorageError::Unavailable { retry_after: Some(_), .. })), "{result:?}");
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_heals_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FaultDisk::sound();
    let store = open(directory.path(), settings(), &disk);
    append(&store, 1).unwrap();
    disk.space.store(10, Ordering::SeqCst);
    assert_unavailable(&append(&store, 2));
    assert_unavailable(&append(&store, 3));
    assert!(store.stats().read_only);
    assert_eq!(found(&store), [1]);
    disk.space.store(u64::MAX, Ordering::SeqCst);
    append(&store, 4).unwrap();
    assert!(!store.stats().read_only);
    drop(store);
    // The half-written frames were cut off: the log is whole.
    assert_eq!(found(&open(directory.path(), settings(), &disk)), [1, 4]);
}

/// Writers wait for a tail that is half full, so that none of them asks for the checkpoint.
#[test]
fn a_start_with_a_large_tail_makes_a_checkpoint_of_its_own_accord() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FaultDisk::sound();
    let store = open(directory.path(), settings(), &disk);
    (1..=8).for_each(|number| assert_eq!(append(&store, number).unwrap().items, 1));
    drop(store);
    let store = open(directory.path(), Settings { commit_spans: 4, tail_spans_max: 8, ..settings() }, &disk);
    let (lock, shrank) = &store.shared.tail_shrank;
    let mut guard = lock.lock();
    while store.is_busy() {
        assert!(!shrank.wait_for(&mut guard, Duration::from_mins(1)).timed_out(), "the tail stays full");
    }
    drop(guard);
    assert_eq!(found(&store).len(), 8);
}

/// The sender is told which limit it met, its value, the way out, and when to come back; what was taken is stored.
#[test]
fn a_stalled_disk_refuses_more_than_its_queue_holds() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FaultDisk::sound();
    let store = open(directory.path(), Settings { queue_max: ByteSize::mib(1), ..settings() }, &disk);
    let stalled = disk.stalled.lock();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut batch = batch_of(1);
        batch.groups[0].spans[0].name = format!("{} {}", waiting.len(), "n".repeat(50_000));
        let mut pending = store.append(&TenantId::default(), batch, BatchId::random());
        match std::pin::pin!(&mut pending).poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(answer) => break answer.unwrap(),
            std::task::Poll::Pending => waiting.push(pending),
        }
        assert!(waiting.len() < 1_000, "the queue grows without bound");
    };
    assert_unavailable(&refused);
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("tracestore.queue_max = 1MiB") && told.contains("raise it"), "{told}");
    drop(stalled);
    for pending in waiting {
        pending.wait().unwrap().unwrap();
    }
}

#[test]
fn writes_stop_before_the_last_bytes_of_the_disk_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FaultDisk::sound();
    let store = open(directory.path(), Settings { free_space_min: ByteSize::mib(64), ..settings() }, &disk);
    disk.free.store((64 << 20) - 1, Ordering::SeqCst);
    assert_unavailable(&append(&store, 1));
    disk.free.store(64 << 20, Ordering::SeqCst);
    append(&store, 2).unwrap();
    assert_eq!(found(&store), [2]);
}

#[test]
fn a_failed_sync_poisons_writes_until_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FaultDisk::sound();
    let store = open(directory.path(), settings(), &disk);
    append(&store, 1).unwrap();
    disk.fails_sync.store(true, Ordering::SeqCst);
    assert_unavailable(&append(&store, 2));
    disk.fails_sync.store(false, Ordering::SeqCst);
    assert_unavailable(&append(&store, 3));
    assert!(store.stats().read_only);
    assert_eq!(found(&store), [1], "what was not acknowledged is not shown");
    drop(store);
    let store = open(directory.path(), settings(), &disk);
    append(&store, 4).unwrap();
    let found = found(&store);
    assert!(found.contains(&1) && found.contains(&4) && !found.contains(&3), "{found:?}");
}

#[test]
fn an_acknowledgement_follows_a_sync_or_waits_for_the_interval_at_most() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FaultDisk::sound();
    let store = open(directory.path(), settings(), &disk);
    let before = disk.syncs.load(Ordering::SeqCst);
    append(&store, 1).unwrap();
    assert_eq!(disk.syncs.load(Ordering::SeqCst), before + 1);
    drop(store);
    let lazy = Settings { sync: SyncPolicy::Interval("1h".parse().unwrap()), ..settings() };
    let store = open(directory.path(), lazy, &disk);
    let before = disk.syncs.load(Ordering::SeqCst);
    append(&store, 2).unwrap();
    assert_eq!(disk.syncs.load(Ordering::SeqCst), before);
    store.close().unwrap();
    assert!(disk.syncs.load(Ordering::SeqCst) > before);
}

#[test]
fn a_full_tail_waits_for_the_index() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FaultDisk::sound();
    let store = open(directory.path(), Settings { commit_spans: 2, tail_spans_max: 4, ..settings() }, &disk);
    for number in 0..40 {
        append(&store, number).unwrap();
    }
    assert_eq!(found(&store).len(), 40);
    assert!(store.stats().tail_spans <= 4 && store.stats().indexed_spans >= 36);
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A checkpoint brings one day after the other to disk. Wherever power fails between them, spans are there once and calls
/// are counted as they were, also those between the days.
#[test]
fn power_that_fails_between_the_days_of_a_checkpoint_loses_and_doubles_nothing() {
    for seed in 0..2 {
        let mut generator = SpanGenerator::new(seed, NOW_NS, 12);
        let directory = tempfile::tempdir().unwrap();
        let oracle = MemoryTraceStore::new();
        let tenant = TenantId::default();
        let store = open(directory.path(), settings(), &FaultDisk::sound());
        let fill = |store: &SpanStore, generator: &mut SpanGenerator| {
            for _ in 0..12 {
                let batch = generator.batch();
                let _ = oracle.append(&tenant, batch.clone(), BatchId::random()).wait();
                store.append(&tenant, batch, BatchId::random()).wait().unwrap().unwrap();
            }
        };
        fill(&store, &mut generator);
        store.flush().unwrap();
        fill(&store, &mut generator);
        let (position, begun) = store.shared.begin_checkpoint().unwrap();
        assert!(begun.len() > 1, "two days and more have spans");
        store.shared.announce_calls(position, &begun).unwrap();
        fill(&store, &mut generator);
        for finished in 0..=begun.len() {
            let cut = tempfile::tempdir().unwrap();
            copy_tree(directory.path(), cut.path());
            let opened = open(cut.path(), settings(), &FaultDisk::sound());
            check_equal(&opened, &oracle, &tenant, &generator.trace_ids(), &[]);
            opened.flush().unwrap();
            drop(opened);
            let opened = open(cut.path(), settings(), &FaultDisk::sound());
            check_equal(&opened, &oracle, &tenant, &generator.trace_ids(), &[]);
            if let Some(next) = begun.get(finished) {
                next.finish_checkpoint(false).unwrap();
            }
        }
        // The checkpoint that was left goes before the next.
        store.flush().unwrap();
        check_equal(&store, &oracle, &tenant, &generator.trace_ids(), &[]);
    }
}

/// What a deletion leaves in memory goes with the merge that takes the trace from the disk.
#[test]
fn a_full_merge_ends_the_marks_of_deletions() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), settings(), &FaultDisk::sound());
    let tenant = TenantId::default();
    for number in 0..4 {
        append(&store, number).unwrap();
        store.flush().unwrap();
    }
    let marks =
        |store: &SpanStore| store.shared.partitions_newest_first().iter().map(|day| day.deleted_count(&tenant)).sum();
    for number in [1, 3] {
        store.delete_trace(&tenant, TraceId([number; 16])).unwrap();
    }
    store.flush().unwrap();
    let before: usize = marks(&store);
    store.compact().unwrap();
    assert_eq!((before, marks(&store), found(&store)), (2, 0, vec![0, 2]));
    drop(store);
    let store = open(directory.path(), settings(), &FaultDisk::sound());
    append(&store, 1).unwrap();
    assert_eq!((marks(&store), found(&store)), (0, vec![0, 1, 2]));
}

/// What was on its way while a tenant's spans of a day went does not come back, and its number is nobody else's.
#[test]
fn a_tenant_that_left_a_day_gets_no_new_number() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), settings(), &FaultDisk::sound());
    let named = |name: &str| name.parse::<TenantId>().unwrap();
    let send = |store: &SpanStore, tenant: &str, number: u8| {
        let batch = batch_of(number);
        store.append(&named(tenant), batch, BatchId::random()).wait().unwrap().unwrap()
    };
    send(&store, "leaves", 1);
    send(&store, "stays", 2);
    store.flush().unwrap();
    let day = store.shared.partitions_newest_first().remove(0);
    assert!(day.drop_tenant(&named("leaves")).unwrap());
    let accepted = store.shared.accepted_starts(&named("stays"));
    let (late, _) = crate::record::prepare(&named("leaves"), &batch_of(3), accepted);
    let sequence = store.shared.applied.lock().next_sequence;
    let staged = day.stage(&late, &late.rows.iter().collect::<Vec<_>>(), sequence).unwrap();
    assert!(staged.fresh.is_empty());
    day.publish(staged);
    let check = |store: &SpanStore| {
        let traces = |tenant: &str| found_of(store, &named(tenant));
        assert_eq!((traces("leaves"), traces("stays"), traces("comes")), (vec![], vec![2], vec![4]));
    };
    send(&store, "comes", 4);
    check(&store);
    store.flush().unwrap();
    drop((day, store));
    let store = open(directory.path(), settings(), &FaultDisk::sound());
    check(&store);
    send(&store, "latest", 5);
    assert_eq!(found_of(&store, &named("latest")), [5]);
    check(&store);
}

/// A merge lets checkpoints pass: what comes meanwhile is sealed beside it, and what is deleted meanwhile stays deleted.
#[test]
fn checkpoints_pass_while_segments_are_merged() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), settings(), &FaultDisk::sound());
    for number in 0..4 {
        append(&store, number).unwrap();
        store.flush().unwrap();
    }
    let day = store.shared.partitions_newest_first().remove(0);
    let next = std::cell::Cell::new(10);
    let pause = || {
        append(&store, next.replace(next.get() + 1)).unwrap();
        if next.get() == 12 {
            store.delete_trace(&TenantId::default(), TraceId([2; 16])).unwrap();
        }
        store.shared.checkpoint().unwrap();
    };
    assert!(day.merge_one(MergeDepth::Full, &pause).unwrap());
    let expected: Vec<u8> = [0, 1, 3].into_iter().chain(10..next.get()).collect();
    let sorted = |store: &SpanStore| {
        let mut all = found(store);
        all.sort_unstable();
        all
    };
    assert!(next.get() >= 19, "once a block and pass: planning, copying, indexing");
    assert_eq!((sorted(&store), day.segment_count()), (expected.clone(), u64::from(next.get() - 10) + 1));
    drop((day, store));
    assert_eq!(sorted(&open(directory.path(), settings(), &FaultDisk::sound())), expected);
}

/// Large blocks are copied, and their words come into the index in several changes, between which checkpoints make theirs.
#[test]
fn a_merged_segment_is_searched_whole_whatever_came_between_its_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), settings(), &FaultDisk::sound());
    for number in 0..5 {
        let mut batch = batch_of(number);
        let spans = &mut batch.groups[0].spans;
        *spans = (1..=1_100_u64).map(|id| Span { span_id: SpanId(id.to_be_bytes()), ..spans[0].clone() }).collect();
        store.append(&TenantId::default(), batch, BatchId::random()).wait().unwrap().unwrap();
        store.flush().unwrap();
    }
    let day = store.shared.partitions_newest_first().remove(0);
    let next = std::cell::Cell::new(10);
    let pause = || {
        append(&store, next.replace(next.get() + 1)).unwrap();
        store.shared.checkpoint().unwrap();
    };
    assert!(day.merge_one(MergeDepth::Full, &pause).unwrap());
    assert_eq!(next.get(), 10 + 3 * 5, "once a block and pass");
    let expected: Vec<u8> = (0..5).chain(10..next.get()).collect();
    let sorted = |store: &SpanStore| {
        let mut all = found(store);
        all.sort_unstable();
        all
    };
    assert_eq!((sorted(&store), day.segment_count()), (expected.clone(), 3 * 5 + 1));
    drop((day, store));
    assert_eq!(sorted(&open(directory.path(), settings(), &FaultDisk::sound())), expected);
}

/// A trace that takes more than a read may have passes through it piece by piece, and is summarized.
#[test]
fn a_huge_trace_is_read_in_the_memory_of_its_parts() {
    const SPANS: u64 = 6_000;
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), settings(), &FaultDisk::sound());
    let (tenant, trace_id) = (TenantId::default(), TraceId([7; 16]));
    for first in (0..SPANS).step_by(500) {
        let spans = (first..first + 500).map(|number| Span {
            trace_id,
            span_id: SpanId((number + 1).to_be_bytes()),
            start_ns: NOW_NS + number,
            // Text that does not compress.
            name: (0..250).fold(String::new(), |mut name, word| {
                let _ = write!(name, "{:016x}", xxhash_rust::xxh3::xxh3_64_with_seed(b"", (number << 8) | word));
                name
            }),
            ..Span::default()
        });
        let group = SpanGroup { resource: Arc::default(), scope: Arc::default(), spans: spans.collect() };
        store.append(&tenant, SpanBatch { groups: vec![group] }, BatchId::random()).wait().unwrap().unwrap();
        store.flush().unwrap();
    }
    let within = |bytes| ReadContext { memory: MemoryBudget::new(bytes), ..ReadContext::unlimited() };
    let lookups = [TraceLookup { trace_id, range: None }];
    let read = |bytes| -> Result<usize, StorageError> {
        let parts = store.trace_parts(&tenant, &lookups, NonZeroUsize::new(50).unwrap(), &within(bytes))?;
        parts.map(|part| part.map(|part| part.span_count())).sum()
    };
    assert_eq!(read(16 << 20).unwrap() as u64, SPANS, "it has 24 MB");
    assert!(matches!(read(100 << 10), Err(StorageError::Memory(_))));
    let summary = store.summaries(&tenant, &lookups, &within(8 << 20)).unwrap();
    assert_eq!(summary[0].span_count, SPANS);
    let refused = store.summaries(&tenant, &lookups, &within(100 << 10));
    assert!(matches!(refused, Err(StorageError::Memory(_))), "{refused:?}");
}

#[test]
fn of_snapshots_of_one_name_at_once_one_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), settings(), &FaultDisk::sound());
    append(&store, 1).unwrap();
    // What the maintenance thread does when two asked before either was made.
    store.shared.create_snapshot("same").unwrap();
    let refused = store.shared.create_snapshot("same").unwrap_err();
    assert!(matches!(storage_error("snapshot")(refused), StorageError::Invalid { .. }));
    let snapshots = std::fs::read_dir(directory.path().join("snapshots")).unwrap();
    assert_eq!(snapshots.count(), 1, "nothing unfinished is left");
}

/// Counts of a checkpoint that power interrupted may be damaged: that costs counts, never the start.
#[test]
fn damaged_call_counts_of_an_interrupted_checkpoint_are_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), settings(), &FaultDisk::sound());
    append(&store, 1).unwrap();
    drop(store);
    std::fs::write(directory.path().join("CALLS"), b"PHTRCAL1 and something else").unwrap();
    let store = open(directory.path(), settings(), &FaultDisk::sound());
    assert_eq!(found(&store), [1]);
    store.flush().unwrap();
    assert!(!directory.path().join("CALLS").exists());
}

#[test]
fn no_more_tenants_than_the_limit_and_known_ones_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { tenants_max: std::num::NonZeroUsize::new(2).unwrap(), ..settings() };
    let store = SpanStore::open(directory.path(), settings, Components { clock: SimClock::at_ms(NOW_MS) }).unwrap();
    let tenant = |name: &str| name.parse::<TenantId>().unwrap();
    let append = |name: &str| store.append(&tenant(name), batch_of(1), BatchId::random()).wait().unwrap();
    assert!(append("a").is_ok() && append("b").is_ok());
    let refused = append("c").unwrap_err();
    assert!(matches!(&refused, StorageError::LimitExceeded { what: "tenants", limit: 2, .. }), "{refused}");
    assert!(store.admits(&tenant("c")).unwrap_err().to_string().contains("tracestore.tenants_max"));
    assert!(store.admits(&tenant("b")).is_ok() && append("a").is_ok());
}
