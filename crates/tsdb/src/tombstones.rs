//! Tombstones: what was deleted and is still on disk.
//!
//! A delete is a point in the order of appends: the commit thread ends the log segment and freezes the
//! tenant's active generation there. Everything appended before lies in sources of lower sequence and in
//! segments up to `last_segment`; everything appended later does not. So a tombstone that knows both numbers
//! hides the right samples wherever they are, also those that a start replays.
//!
//! Invariants
//! - D1 A delete is answered when its tombstone is durable; readers see it at that moment.
//! - D2 A tombstone hides samples of sources with a lower sequence only: what is appended later is visible, even
//!   at the same instants.
//! - D3 A tombstone stays until nothing older is left: no part, no generation, no log segment, no damaged part.
//! - D4 Tombstones of a tenant are published in the order of their sequences, so a part that knows the highest
//!   one applied to it (`cleaned`) needs none below.
//! - D5 A merge waits for the delete under way: its result may be newer than a delete that has its place already.
//!
//! Bytes on disk: `docs/tombstones.md`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashSet;
use pharos_chunk::ChunkError;
use pharos_chunk::bytes::{Reader, push_slice, push_varint, push_zigzag};
use pharos_model::{MatchOp, Matcher, TenantId, TimeRange};
use pharos_storage::StorageError;

use crate::part::writer::TEMPORARY_PREFIX;
use crate::shared::{Shared, TOMBSTONES_FILE};
use crate::small_file::SmallFile;
use crate::tenant::Tenant;
use crate::{TsdbError, part};

/// Tombstones of one tenant; every read looks at those that overlap its range.
pub(crate) const TOMBSTONES_MAX: usize = 1000;
/// Generations that deletes have frozen, beyond which a flush is asked for.
const FROZEN_MAX: usize = 4;

const FILE: SmallFile = SmallFile { magic: *b"PHAROSTS", version: 1, name: TOMBSTONES_FILE, what: "tombstones file" };
const OPS: [MatchOp; 4] = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];

/// One delete.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tombstone {
    /// Sources below it are older than the delete.
    pub(crate) sequence: u64,
    /// Log segments up to this one are older than the delete.
    pub(crate) last_segment: u64,
    /// Samples in it are hidden.
    pub(crate) range: TimeRange,
    /// Of series that pass all matchers of any set.
    pub(crate) matcher_sets: Vec<Vec<Matcher>>,
}

impl Tombstone {
    /// Whether it may hide something of a source: of this sequence, cleaned of tombstones up to `cleaned`.
    pub(crate) fn concerns(&self, sequence: u64, cleaned: u64) -> bool {
        sequence < self.sequence && cleaned < self.sequence
    }
}

impl Shared {
    /// Deletes what the tenant has of these series in the range.
    ///
    /// # Errors
    /// - [`StorageError::Invalid`] without any matcher set.
    /// - [`StorageError::LimitExceeded`] with [`TOMBSTONES_MAX`] tombstones.
    /// - [`StorageError::Unavailable`] if it cannot be made durable now.
    pub(crate) fn delete(&self, id: &TenantId, sets: &[Vec<Matcher>], range: TimeRange) -> Result<(), StorageError> {
        if sets.is_empty() {
            return Err(StorageError::Invalid { message: "a deletion names the series it deletes".to_owned() });
        }
        let Some(tenant) = self.tenants.get(id).filter(|_| !range.is_empty()) else { return Ok(()) };
        // One at a time: D4.
        let mut unsynced = tenant.deleting.lock();
        if *unsynced {
            // Whoever asks again for what readers do not see any more is told that it is done: it must be.
            let dir = self.tenant_dir(id);
            self.disk.sync_dir(&dir).map_err(TsdbError::io("sync", &dir))?;
            *unsynced = false;
        }
        if !self.has_something(&tenant, sets, range).map_err(|error| self.damaged.met_in_query(error))? {
            return Ok(());
        }
        let before = Arc::clone(&tenant.state.read().tombstones);
        if before.len() >= TOMBSTONES_MAX {
            let hint = "call /api/v1/admin/tsdb/clean_tombstones, or delete more series at a time";
            return Err(StorageError::LimitExceeded { what: "deletions", limit: TOMBSTONES_MAX as u64, hint });
        }
        let point = self.queue.freeze(Arc::clone(&tenant))?;
        let matcher_sets = sets.to_vec();
        let tombstone = Tombstone { sequence: point.sequence, last_segment: point.last_segment, range, matcher_sets };
        let all: Arc<[Tombstone]> = before.iter().cloned().chain([tombstone]).collect();
        if let Err(error) = FILE.write(self, &tenant, &encode(&all)) {
            // Renamed and perhaps durable, perhaps not: what a restart may find counts from now on.
            if read(&self.tenant_dir(id)).is_ok_and(|found| found == all) {
                *unsynced = true;
                tenant.state.write().tombstones = all;
                tenant.changes.changed_everywhere();
            }
            return Err(error.into());
        }
        let mut state = tenant.state.write();
        state.tombstones = all;
        let many_frozen = state.frozen.len() > FROZEN_MAX;
        drop(state);
        tenant.changes.changed_everywhere();
        if many_frozen {
            self.wake.flush();
        }
        Ok(())
    }

    /// Drops the tombstones that have nothing left to hide (D3). The caller holds `compacting`.
    pub(crate) fn drop_spent_tombstones(&self, tenant: &Tenant) -> Result<(), TsdbError> {
        let uncertain = self.segments_may_return.load(Ordering::Relaxed) || !self.damaged.is_empty();
        if uncertain || tenant.state.read().tombstones.is_empty() || self.parts_may_return(tenant)? {
            return Ok(());
        }
        let _in_order = tenant.deleting.lock();
        let oldest_segment = crate::log::segment::list(&self.log_dir())?.first().copied().unwrap_or(u64::MAX);
        let (parts, oldest_frozen, all) = {
            let state = tenant.state.read();
            let oldest_frozen = state.frozen.iter().map(|generation| generation.sequence()).min();
            (state.parts.clone(), oldest_frozen, Arc::clone(&state.tombstones))
        };
        let is_needed = |tombstone: &Tombstone| {
            oldest_segment <= tombstone.last_segment
                || oldest_frozen.is_some_and(|oldest| oldest < tombstone.sequence)
                || parts.iter().any(|part| part.holds_deleted(tombstone).unwrap_or(true))
        };
        let kept: Arc<[Tombstone]> = all.iter().filter(|tombstone| is_needed(tombstone)).cloned().collect();
        let first = kept.first().map_or(u64::MAX, |tombstone| tombstone.sequence);
        for part in &parts {
            part.forget_tombstones_below(first);
        }
        if kept.len() == all.len() {
            return Ok(());
        }
        // What they hid is gone for good: whether the file still has them changes no answer.
        tenant.state.write().tombstones = Arc::clone(&kept);
        FILE.write(self, tenant, &encode(&kept))
    }

    /// Whether a restart may find parts of a tenant that nobody is given now: a flush or a merge failed, and so did
    /// the removal of what it had written. What was renamed for removal is removed first.
    fn parts_may_return(&self, tenant: &Tenant) -> Result<bool, TsdbError> {
        let dir = self.parts_dir(&tenant.id);
        let (condemned, others) = part::list(&dir)?.into_iter().partition::<Vec<_>, _>(|name| part::is_condemned(name));
        if !condemned.is_empty() {
            self.disk.sync_dir(&dir).map_err(TsdbError::io("sync", &dir))?;
        }
        for path in condemned.iter().map(|name| dir.join(name)) {
            self.disk.remove_dir_all(&path).map_err(TsdbError::io("remove", &path))?;
        }
        let known: HashSet<u64> = tenant.state.read().parts.iter().map(|part| part.meta.number).collect();
        let is_known = |name: &String| part::number_of(name).is_some_and(|number| known.contains(&number));
        Ok(!others.iter().filter(|name| !name.starts_with(TEMPORARY_PREFIX)).all(is_known))
    }
}

/// The tombstones in a tenant's directory, by sequence ascending.
///
/// # Errors
/// [`TsdbError`] if the file is damaged: serving without it would bring back what was deleted.
pub(crate) fn read(dir: &Path) -> Result<Arc<[Tombstone]>, TsdbError> {
    let Some(payload) = FILE.read(dir)? else { return Ok(Arc::default()) };
    let path = dir.join(FILE.name);
    decode(&payload).map(Into::into).map_err(|reason| FILE.corrupt(&path, &reason))
}

pub(crate) fn encode(all: &[Tombstone]) -> Vec<u8> {
    let mut out = Vec::new();
    push_varint(&mut out, all.len() as u64);
    for tombstone in all {
        push_varint(&mut out, tombstone.sequence);
        push_varint(&mut out, tombstone.last_segment);
        push_zigzag(&mut out, tombstone.range.start_ms);
        push_zigzag(&mut out, tombstone.range.end_ms);
        push_varint(&mut out, tombstone.matcher_sets.len() as u64);
        for matchers in &tombstone.matcher_sets {
            push_varint(&mut out, matchers.len() as u64);
            for matcher in matchers {
                out.push(OPS.iter().position(|op| *op == matcher.op()).unwrap_or(0) as u8);
                push_slice(&mut out, matcher.name().as_bytes());
                push_slice(&mut out, matcher.value().as_bytes());
            }
        }
    }
    out
}

pub(crate) fn decode(payload: &[u8]) -> Result<Vec<Tombstone>, String> {
    let mut reader = Reader::new(payload);
    let words = |error: ChunkError| error.to_string();
    let count = reader.count("tombstone count", TOMBSTONES_MAX).map_err(words)?;
    let mut all: Vec<Tombstone> = Vec::with_capacity(count);
    for _ in 0..count {
        let (sequence, last_segment) = (reader.varint().map_err(words)?, reader.varint().map_err(words)?);
        if all.last().is_some_and(|previous| previous.sequence >= sequence) {
            return Err("sequences do not ascend".to_owned());
        }
        let range = TimeRange::new(reader.zigzag().map_err(words)?, reader.zigzag().map_err(words)?);
        // A set takes at least one byte, a matcher three.
        let set_count = reader.count("matcher set count", reader.rest().len()).map_err(words)?;
        let matcher_sets = (0..set_count).map(|_| decode_set(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        if matcher_sets.is_empty() {
            return Err("a tombstone without matchers".to_owned());
        }
        all.push(Tombstone { sequence, last_segment, range, matcher_sets });
    }
    if reader.is_empty() { Ok(all) } else { Err("bytes after the last tombstone".to_owned()) }
}

fn decode_set(reader: &mut Reader<'_>) -> Result<Vec<Matcher>, String> {
    let words = |error: ChunkError| error.to_string();
    let count = reader.count("matcher count", reader.rest().len() / 3).map_err(words)?;
    (0..count)
        .map(|_| {
            let op = OPS.get(usize::from(reader.byte().map_err(words)?)).ok_or("unknown operator of a matcher")?;
            let mut text = || -> Result<String, String> {
                String::from_utf8(reader.slice().map_err(words)?.to_vec()).map_err(|error| error.to_string())
            };
            Matcher::new(*op, text()?, text()?).map_err(|error| error.to_string())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tombstone(sequence: u64) -> Tombstone {
        let matcher = |op, value: &str| Matcher::new(op, "job", value).unwrap();
        let sets =
            vec![OPS.into_iter().map(|op| matcher(op, "a.+|b")).collect(), vec![Matcher::equal("__name__", "é")]];
        Tombstone { sequence, last_segment: 3, range: TimeRange::new(i64::MIN, -5), matcher_sets: sets }
    }

    #[test]
    fn tombstones_come_back_as_they_were() {
        let all = vec![tombstone(7), tombstone(9), Tombstone { range: TimeRange::ALL, ..tombstone(1 << 40) }];
        assert_eq!(decode(&encode(&all)).unwrap(), all);
        assert_eq!(decode(&encode(&[])).unwrap(), []);
        assert!(decode(&encode(&[tombstone(9), tombstone(9)])).is_err());
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_not_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..100), at in 0_usize..60, with: u8) {
            let _ = decode(&bytes);
            bytes = encode(&[tombstone(7)]);
            let at = at % bytes.len();
            bytes[at] = with;
            let _ = decode(&bytes);
        }
    }
}
