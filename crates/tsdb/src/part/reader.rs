//! An open part: its description, files and contents.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pharos_model::TimeRange;

use super::block::BlockFile;
use super::checked::CheckedBlocks;
use super::exemplars::ExemplarCursor;
use super::index::{IndexCache, PartIndex};
use super::layout::{DATA_VERSION, DATA_VERSION_MIN};
use super::meta::PartMeta;
use super::toc::DataToc;
use super::tombstoned::Tombstoned;
use super::writer::{DATA_FILE, DATA_HEADER_LEN, EXEMPLARS_FILE, INDEX_FILE, data_header};
use crate::TsdbError;
use crate::rollup::{Resolution, RollupFile};

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// An open part. Its files stay readable while it is held, even after they are removed.
#[derive(Debug)]
pub(crate) struct Part {
    /// What caches know it by: no other open part of this process has it, wherever its files were copied from.
    pub(crate) id: u64,
    pub(crate) meta: PartMeta,
    pub(crate) dir: PathBuf,
    /// Set when merging met damage or would make too large a part: it is not tried again.
    pub(crate) unmergeable: AtomicBool,
    pub(crate) index: PartIndex,
    pub(super) toc: DataToc,
    pub(super) data: BlockFile,
    pub(super) data_version: u32,
    /// Blocks of bodies that are known to be sound.
    pub(super) checked: CheckedBlocks,
    exemplars: Option<BlockFile>,
    /// Those that could be opened.
    pub(crate) rollups: Vec<RollupFile>,
    /// Why the others could not.
    pub(crate) rollup_errors: Vec<TsdbError>,
    pub(super) tombstoned: Tombstoned,
}

impl Part {
    /// Opens the part in `dir`.
    ///
    /// # Errors
    /// [`TsdbError`] if a file is missing, cut or damaged where it is read now: description, contents.
    pub(crate) fn open(dir: &Path, index_cache: &Arc<IndexCache>) -> Result<Self, TsdbError> {
        let meta = PartMeta::read(dir)?;
        let data = open_exact(&dir.join(DATA_FILE), meta.data_bytes)?;
        let data_version = read_data_version(&data)?;
        let (index, toc) = PartIndex::open(open_exact(&dir.join(INDEX_FILE), meta.index_bytes)?, index_cache)?;
        let exemplars = if meta.exemplar_bytes > 0 {
            Some(open_exact(&dir.join(EXEMPLARS_FILE), meta.exemplar_bytes)?)
        } else {
            None
        };
        let (unmergeable, tombstoned) = (AtomicBool::new(false), Tombstoned::default());
        let checked = CheckedBlocks::new(toc.bodies.len());
        let (mut rollups, mut rollup_errors) = (Vec::new(), Vec::new());
        for rollup in &meta.rollups {
            match RollupFile::open(dir, *rollup, meta.series) {
                Ok(rollup) => rollups.push(rollup),
                // The samples say the same.
                Err(error) => rollup_errors.push(error),
            }
        }
        let dir = dir.to_owned();
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            meta,
            dir,
            unmergeable,
            index,
            toc,
            data,
            data_version,
            checked,
            exemplars,
            rollups,
            rollup_errors,
            tombstoned,
        })
    }

    /// Whether its chunks are written as those of new parts are.
    pub(crate) fn is_of_newest_version(&self) -> bool {
        self.data_version == DATA_VERSION
    }

    /// Where all its samples and exemplars lie.
    pub(crate) fn extent(&self) -> TimeRange {
        TimeRange::inclusive(self.meta.min_time_ms, self.meta.max_time_ms)
    }

    /// Whether a sample or exemplar may lie in the range.
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        self.meta.min_time_ms < range.end_ms && range.start_ms <= self.meta.max_time_ms
    }

    /// Whether it can be read at these resolutions.
    pub(crate) fn has_rollups(&self, resolutions: &[Resolution]) -> bool {
        resolutions.iter().all(|resolution| self.rollups.iter().any(|rollup| rollup.serves(*resolution)))
    }

    /// A cursor before its first exemplar.
    pub(crate) fn exemplars(&self) -> ExemplarCursor<'_> {
        ExemplarCursor::new(self.exemplars.as_ref())
    }
}

/// The version in a data file's first bytes, all of which are looked at.
fn read_data_version(data: &BlockFile) -> Result<u32, TsdbError> {
    let head = data.read_raw(0, DATA_HEADER_LEN.min(data.len as usize))?;
    if let Some(found) = (DATA_VERSION_MIN..=DATA_VERSION).find(|version| head == data_header(*version)) {
        return Ok(found);
    }
    if let Ok(head) = <[u8; DATA_HEADER_LEN]>::try_from(head) {
        let found = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        if found > DATA_VERSION && head == data_header(found) {
            return Err(TsdbError::Version { path: data.path.clone(), found, supported: DATA_VERSION });
        }
    }
    Err(corrupt(data, "data file header", 0, "not the header of a data file"))
}

fn open_exact(path: &Path, expected: u64) -> Result<BlockFile, TsdbError> {
    let file = BlockFile::open(path)?;
    if file.len != expected {
        return Err(corrupt(&file, "part file", file.len, &format!("has {} bytes instead of {expected}", file.len)));
    }
    Ok(file)
}

pub(super) fn corrupt(file: &BlockFile, what: &'static str, offset: u64, reason: &str) -> TsdbError {
    TsdbError::Corrupt { what, path: file.path.clone(), offset, reason: reason.to_owned() }
}
