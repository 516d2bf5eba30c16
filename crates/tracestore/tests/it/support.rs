//! A store in a temporary directory that can be closed, crashed and opened again.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pharos_base::SimClock;
use pharos_model::{SpanBatch, TenantId};
use pharos_storage::{AppendOutcome, BatchId, StorageError, TraceStore};
use pharos_tracestore::{Components, Settings, SpanStore};
use tempfile::TempDir;

/// 2026-11-21 03:00 UTC: two days back cross two midnights.
pub(crate) const NOW_MS: i64 = 1_795_230_000_000;
pub(crate) const NOW_NS: u64 = NOW_MS as u64 * 1_000_000;

/// Fields are dropped in order: the store before its directory.
pub(crate) struct Fixture {
    pub(crate) store: Option<SpanStore>,
    pub(crate) directory: TempDir,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) settings: Settings,
}

impl Fixture {
    pub(crate) fn new(settings: Settings) -> Self {
        let directory = fast_directory();
        let clock = SimClock::at_ms(NOW_MS);
        let mut fixture = Self { store: None, directory, clock, settings };
        fixture.open();
        fixture
    }

    pub(crate) fn open(&mut self) {
        self.store = Some(self.try_open(self.directory.path()).unwrap());
    }

    pub(crate) fn try_open(&self, directory: &Path) -> Result<SpanStore, pharos_tracestore::TraceStoreError> {
        let clock: Arc<dyn pharos_base::Clock> = Arc::<SimClock>::clone(&self.clock);
        SpanStore::open(directory, self.settings.clone(), Components { clock })
    }

    pub(crate) fn store(&self) -> &SpanStore {
        self.store.as_ref().unwrap()
    }

    /// Closes and opens again.
    pub(crate) fn reopen(&mut self) {
        self.store.take().unwrap().close().unwrap();
        self.open();
    }

    /// Drops without closing and opens again: the log is replayed.
    pub(crate) fn crash(&mut self) {
        drop(self.store.take());
        self.open();
    }

    /// Cuts the power: what RocksDB, tantivy and the kernel were told to write stays, all memory is lost.
    pub(crate) fn cut_power(&mut self) {
        let image = fast_directory();
        copy_tree(self.directory.path(), image.path());
        drop(self.store.take());
        self.directory = image;
        self.open();
    }

    pub(crate) fn append(&self, batch: SpanBatch) -> Result<AppendOutcome, StorageError> {
        self.store().append(&TenantId::default(), batch, BatchId::random()).wait().unwrap()
    }
}

/// Small limits, so that tests reach them, and no background commits of their own accord.
pub(crate) fn settings() -> Settings {
    Settings {
        rows_memory: pharos_base::ByteSize::mib(8),
        index_memory: pharos_base::ByteSize::mib(16),
        commit_interval: "1h".parse().unwrap(),
        log_segment: pharos_base::ByteSize(64 << 10),
        free_space_min: pharos_base::ByteSize(0),
        ..Settings::default()
    }
}

/// Tests sync thousands of times: in memory where there is enough of it, else where temporary files go.
pub(crate) fn fast_directory() -> TempDir {
    const SPACE_MIN: u64 = 2 << 30;
    let memory = Path::new("/dev/shm");
    let has_space = rustix::fs::statvfs(memory).is_ok_and(|stat| stat.f_bavail * stat.f_frsize > SPACE_MIN);
    if has_space { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
