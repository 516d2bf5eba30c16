//! Repair of damaged days, while no server runs: what can be read of them is stored again as if it came now.
//!
//! A day with damage is set aside as it is and read block by block; its spans go through the store's log like any others, so that
//! lists, index, locators and counts of calls are made anew. What was interrupted is done again: equal spans are shown once. A
//! day of which nothing was lost is removed when its spans are safe, any other is kept for inspection until its retention ends.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use pharos_base::{HumanDuration, full_message};
use pharos_model::{SpanBatch, TenantId, TraceId};
use pharos_storage::{BatchId, StorageError, TraceStore};

use super::retention::{DamagedDay, Gone};
use super::{SpanStore, open};
use crate::disk::sync_directory;
use crate::partition::{DatabaseMemory, Partition, Salvage};
use crate::{Components, Examination, Settings, TraceStoreError};

/// In a day that is set aside: a line with tenant and trace id for each trace that was deleted since.
const DELETIONS_FILE: &str = "DELETIONS";
/// A repair must not be what ends a day: that is the server's to do, which knows its retention.
const FOR_EVER: HumanDuration = HumanDuration::from_ms(200 * 365 * 86_400_000);

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repair {
    /// Days that were read.
    pub days: u64,
    /// Spans that were stored again.
    pub spans: u64,
    /// Spans that the store takes no more.
    pub rejected: u64,
    /// A line for each thing that cannot be read any more.
    pub lost: Vec<String>,
    /// What is kept of days of which something is lost.
    pub kept: Vec<PathBuf>,
}

impl SpanStore {
    /// Repairs the days of the store in `directory` that are set aside or have damage. No server runs on it.
    ///
    /// # Errors
    /// Those of [`SpanStore::open`], and [`TraceStoreError::Repair`] where the store takes no spans. The days that were not
    /// finished are set aside, and another repair takes them up.
    pub fn repair(directory: &Path, settings: &Settings, components: Components) -> Result<Repair, TraceStoreError> {
        let settings = Settings {
            retention: FOR_EVER,
            retention_rules: Vec::new(),
            retention_size: None,
            tenants_max: NonZeroUsize::MAX,
            ..settings.clone()
        };
        let memory = DatabaseMemory::new(settings.rows_memory, settings.filter_memory, settings.open_blocks_memory);
        let locked = open::lock_existing(directory)?;
        set_damaged_aside(directory, &memory)?;
        drop(locked);
        let store = Self::open(directory, settings, components)?;
        let mut repair = Repair::default();
        for aside in open::damaged_days(directory)?.into_iter().filter(|aside| !aside.is_repaired) {
            store.take_up(&aside, &memory, &mut repair)?;
        }
        store.close()?;
        Ok(repair)
    }

    fn take_up(&self, aside: &DamagedDay, memory: &DatabaseMemory, repair: &mut Repair) -> Result<(), TraceStoreError> {
        let day = aside.day;
        let deletions = read_deletions(&aside.path)?;
        let mut salvage = match Salvage::open(&aside.path, day, memory) {
            Ok(salvage) => salvage,
            Err(error) => {
                repair.lost.push(format!("{day}: nothing of it can be read: {}", full_message(&error)));
                repair.kept.push(aside.path.clone());
                return Ok(());
            }
        };
        let (mut spans, mut rejected) = (0, 0);
        salvage.for_each(&deletions, |tenant, batch| {
            let (taken, refused) = self
                .store_again(tenant, batch)
                .map_err(|error| TraceStoreError::Repair { day: day.to_string(), message: error.full_message() })?;
            spans += taken;
            rejected += refused;
            Ok(())
        })?;
        let failed =
            |error: StorageError| TraceStoreError::Repair { day: day.to_string(), message: error.full_message() };
        self.flush().map_err(failed)?;
        let lost = std::mem::take(&mut salvage.lost);
        drop(salvage);
        repair.days += 1;
        repair.spans += spans;
        repair.rejected += rejected;
        if lost.is_empty() && rejected == 0 {
            fs::remove_dir_all(&aside.path).map_err(TraceStoreError::io("remove", &aside.path))?;
        } else {
            repair.kept.push(open::keep_repaired(&aside.path, day)?);
        }
        repair.lost.extend(lost.into_iter().map(|lost| format!("{day}: {lost}")));
        Ok(())
    }

    /// How many spans are stored, and how many are not taken.
    fn store_again(&self, tenant: &TenantId, batch: SpanBatch) -> Result<(u64, u64), StorageError> {
        let count = batch.span_count() as u64;
        let append = |batch| {
            let outcome = self.append(tenant, batch, BatchId::random()).wait();
            outcome.unwrap_or_else(|| Err(StorageError::unavailable("the store is closed")))
        };
        let outcome = match append(batch.clone()) {
            // Memory is full of what came before.
            Err(StorageError::Unavailable { .. }) => {
                self.flush()?;
                append(batch)?
            }
            outcome => outcome?,
        };
        let rejected = outcome.rejections.iter().map(|rejection| rejection.count).sum::<u64>().min(count);
        Ok((count - rejected, rejected))
    }
}

/// Sets the days aside of which something is damaged.
fn set_damaged_aside(directory: &Path, memory: &DatabaseMemory) -> Result<(), TraceStoreError> {
    for (day, path) in open::list_days(directory)? {
        let mut examination = Examination::default();
        let damage = match Partition::examine(&path, day, memory, &mut examination) {
            Err(error) if error.is_damage() => Some(error),
            Err(error) => return Err(error),
            Ok(()) => examination.damage.into_iter().next().map(|detail| TraceStoreError::Corrupt {
                what: "day",
                partition: day.to_string(),
                detail,
            }),
        };
        if let Some(damage) = damage {
            open::set_aside(&path, day, &damage)?;
        }
    }
    Ok(())
}

/// Remembers for days that are set aside that a trace was deleted.
pub(super) fn note_deletion(gone: &Gone, tenant: &TenantId, trace_id: TraceId) -> Result<(), TraceStoreError> {
    for aside in gone.damaged.lock().iter().filter(|aside| !aside.is_repaired) {
        let path = aside.path.join(DELETIONS_FILE);
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(format!("{tenant} {trace_id}\n").as_bytes())?;
            file.sync_all()?;
            sync_directory(&aside.path)
        };
        write().map_err(TraceStoreError::io("write", &path))?;
    }
    Ok(())
}

fn read_deletions(directory: &Path) -> Result<HashSet<(TenantId, TraceId)>, TraceStoreError> {
    let path = directory.join(DELETIONS_FILE);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(TraceStoreError::io("read", &path)(error)),
    };
    let deletion = |line: &str| {
        let (tenant, trace_id) = line.split_once(' ')?;
        Some((tenant.parse().ok()?, trace_id.parse().ok()?))
    };
    Ok(text.lines().filter_map(deletion).collect())
}
