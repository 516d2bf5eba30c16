//! The head: what is in no block yet, out of its write-ahead logs.
//!
//! Read twice: first which series there are, what was deleted and what metrics are; then the samples. Memory: the
//! labels of the head's series, and one batch.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use pharos_model::{Labels, MetricMetadata};

use crate::error::{DataError, OnDamage};
use crate::folder::DataFolder;
use crate::log::{LogReader, tell};
use crate::points::Points;
use crate::record::{self, Entry};
use crate::tombstones::{Tombstones, is_deleted};

/// Points of several series.
pub type HeadPoints = Vec<(Labels, Points)>;

/// The logs of a head, read once from the oldest sample on.
#[derive(Debug)]
pub struct Head {
    series: HashMap<u64, Labels>,
    deleted: Tombstones,
    metadata: Vec<MetricMetadata>,
    wal: LogReader,
    wbl: LogReader,
    begins_ms: i64,
    orphan_count: u64,
    record: Vec<u8>,
}

impl Head {
    /// Opens the logs of a data folder and reads which series they have.
    ///
    /// # Errors
    /// [`DataError::Io`]: the operating system refuses.
    pub fn open(folder: &DataFolder, damage: OnDamage<'_>) -> Result<Self, DataError> {
        let wal = folder.path().join("wal");
        let mut head = Self {
            series: HashMap::new(),
            deleted: Tombstones::default(),
            metadata: Vec::new(),
            wal: LogReader::of_wal(&wal)?,
            wbl: LogReader::of_wbl(&folder.path().join("wbl"))?,
            begins_ms: folder.head_begins_ms(),
            orphan_count: 0,
            record: Vec::new(),
        };
        head.read_series(&wal, damage)?;
        Ok(head)
    }

    fn read_series(&mut self, wal: &Path, damage: OnDamage<'_>) -> Result<(), DataError> {
        let mut reader = LogReader::of_wal(wal)?;
        let mut families = BTreeMap::new();
        while let Some(place) = reader.next(&mut self.record, damage)? {
            if !record::is_about_series(&self.record) {
                continue;
            }
            let each = |series, entry| match entry {
                Entry::Series(labels) => {
                    self.series.insert(series, labels);
                }
                Entry::Deleted { first_ms, last_ms } => self.deleted.push(series, first_ms, last_ms),
                Entry::Metadata { kind, help, unit } => {
                    if let Some(labels) = self.series.get(&series) {
                        families.insert(labels.metric_name().to_owned(), (kind, help, unit));
                    }
                }
                _ => {}
            };
            if let Err(malformed) = record::decode(&self.record, each) {
                tell(&place, malformed, damage);
            }
        }
        let family = |(metric, (kind, help, unit))| MetricMetadata { metric, kind, help, unit };
        self.metadata = families.into_iter().map(family).collect();
        Ok(())
    }

    /// What the log says of metrics, by the names of their series.
    #[must_use]
    pub fn metadata(&self) -> &[MetricMetadata] {
        &self.metadata
    }

    /// Samples whose series the log does not name any more, so far; Prometheus drops them, too.
    #[must_use]
    pub fn orphan_count(&self) -> u64 {
        self.orphan_count
    }

    /// The next points, at least `samples_min` of them unless the logs end; `None` after the last.
    ///
    /// # Errors
    /// [`DataError::Io`]: the operating system refuses.
    pub fn next_points(&mut self, samples_min: usize, damage: OnDamage<'_>) -> Result<Option<HeadPoints>, DataError> {
        let mut found: BTreeMap<u64, Points> = BTreeMap::new();
        let mut count = 0;
        while count < samples_min {
            // The damage of this log was told when its series were read.
            let (place, is_late) = match self.wal.next(&mut self.record, &mut |_| ())? {
                Some(place) => (place, false),
                None => match self.wbl.next(&mut self.record, damage)? {
                    Some(place) => (place, true),
                    None => break,
                },
            };
            if record::is_about_series(&self.record) {
                continue;
            }
            let begins_ms = if is_late { i64::MIN } else { self.begins_ms };
            let each = |series, entry| {
                let (deleted, at_ms) = match &entry {
                    Entry::Float(point) => (self.deleted.of(series), point.timestamp_ms),
                    Entry::Histogram(point) => (self.deleted.of(series), point.timestamp_ms),
                    // Blocks hold no exemplars, and nothing deletes them.
                    Entry::Exemplar(_) => (&[][..], i64::MAX),
                    _ => return,
                };
                if at_ms < begins_ms || is_deleted(deleted, at_ms) {
                    return;
                }
                if !self.series.contains_key(&series) {
                    self.orphan_count += 1;
                    return;
                }
                count += 1;
                let points = found.entry(series).or_default();
                match entry {
                    Entry::Float(point) => points.floats.push(point),
                    Entry::Histogram(point) => points.histograms.push(point),
                    Entry::Exemplar(exemplar) => points.exemplars.push(exemplar),
                    _ => {}
                }
            };
            if let Err(malformed) = record::decode(&self.record, each) {
                tell(&place, malformed, damage);
            }
        }
        if count == 0 {
            return Ok(None);
        }
        let named = |(series, points)| Some((self.series.get(&series)?.clone(), points));
        Ok(Some(found.into_iter().filter_map(named).collect()))
    }
}
