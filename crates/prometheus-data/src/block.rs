//! A block: the samples of two hours or more, immutable.

use std::path::{Path, PathBuf};

use pharos_model::{Labels, TimeRange};

use crate::error::{DataError, OnDamage};
use crate::index::{Index, SeriesEntry};
use crate::meta;
use crate::points::Points;
use crate::segments::Segments;
use crate::tombstones::{Tombstones, is_deleted};

/// What is known of a block before it is opened.
#[derive(Debug, Clone)]
pub struct BlockPlace {
    /// Its folder.
    pub path: PathBuf,
    /// Its instants; `None` where `meta.json` is damaged.
    pub range: Option<TimeRange>,
    /// Samples that `meta.json` counts, deleted ones included.
    pub sample_count: u64,
    pub(crate) is_out_of_order: bool,
}

impl BlockPlace {
    /// Of a folder with `meta.json`; the second value names the blocks it replaces.
    pub(crate) fn read(path: &Path, damage: OnDamage<'_>) -> Result<(Self, Vec<String>), DataError> {
        let meta = meta::read(&path.join("meta.json"), damage)?;
        let range = meta.as_ref().map(|meta| TimeRange::new(meta.min_time, meta.max_time));
        let meta = meta.unwrap_or_default();
        let is_out_of_order = meta.compaction.hints.iter().any(|hint| hint == "from-out-of-order");
        let parents = meta.compaction.parents.into_iter().map(|parent| parent.ulid);
        let parents = parents.filter(|parent| *parent != meta.ulid).collect();
        let sample_count = meta.stats.num_samples;
        Ok((Self { path: path.to_owned(), range, sample_count, is_out_of_order }, parents))
    }
}

/// An open block, read series by series in the order of their labels.
///
/// Memory: the symbols (every text of its labels, once), one series' places, the points asked for, and windows of 256 KiB.
#[derive(Debug)]
pub struct Block {
    index: Index,
    segments: Segments,
    tombstones: Tombstones,
    entry: SeriesEntry,
}

impl Block {
    /// Opens the block in a folder; `None` where nothing can be read from it, which was told to `damage`.
    ///
    /// # Errors
    /// [`DataError::Io`]: the operating system refuses.
    pub fn open(path: &Path, damage: OnDamage<'_>) -> Result<Option<Self>, DataError> {
        let Some(index) = Index::open(&path.join("index"), damage)? else { return Ok(None) };
        let segments = Segments::open(&path.join("chunks"))?;
        let tombstones = Tombstones::read(&path.join("tombstones"), damage)?;
        Ok(Some(Self { index, segments, tombstones, entry: SeriesEntry::default() }))
    }

    /// Goes to the next series and answers its labels; `None` after the last.
    ///
    /// # Errors
    /// [`DataError::Io`]: the operating system refuses.
    pub fn next_series(&mut self, damage: OnDamage<'_>) -> Result<Option<Labels>, DataError> {
        self.index.next(&mut self.entry, damage)
    }

    /// How many chunks the series has; [`points`](Self::points) reads one at a time.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.entry.chunks.len()
    }

    /// Appends the points of one of the series' chunks that lie in `range` and were not deleted.
    ///
    /// # Errors
    /// [`DataError::Io`]: the operating system refuses.
    pub fn points(
        &mut self,
        chunk: usize,
        range: TimeRange,
        points: &mut Points,
        damage: OnDamage<'_>,
    ) -> Result<(), DataError> {
        let Some(place) = self.entry.chunks.get(chunk) else { return Ok(()) };
        if place.max_ms < range.start_ms || place.min_ms >= range.end_ms {
            return Ok(());
        }
        let mut read = Points::default();
        self.segments.read(place.reference, &mut read, damage)?;
        let deleted = self.tombstones.of(self.entry.id);
        read.retain(|at_ms| range.contains(at_ms) && !is_deleted(deleted, at_ms));
        points.floats.append(&mut read.floats);
        points.histograms.append(&mut read.histograms);
        Ok(())
    }
}
