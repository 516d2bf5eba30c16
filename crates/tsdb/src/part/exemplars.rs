//! The exemplars of a part: a file of blocks, each preceded by its length (`u32`).
//!
//! Block payload: entries of label bytes, exemplar count, and for each exemplar the instant (zigzag
//! distance to the previous one), the value (8 bytes) and its own label bytes. Entries ascend by label
//! bytes; a series' exemplars by instant, then by labels. A series with many goes on in the next block, which
//! says its labels again: writer and cursor hold one block.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pharos_chunk::ChunkError;
use pharos_chunk::bytes::{Reader, push_slice, push_varint, push_zigzag};
use pharos_model::{Exemplar, Labels};

use super::block::{self, BLOCK_HEADER_LEN, BlockAt, BlockFile, Packing};
use super::writer::EXEMPLARS_FILE;
use crate::TsdbError;
use crate::disk::{Disk, DiskFile};

/// A block is ended when it has so many bytes.
const BLOCK_BYTES: usize = 64 << 10;
const ZSTD_LEVEL: i32 = 3;
const BLOCK: &str = "exemplar block";

/// Exemplars with the labels of their series.
pub(crate) type Entries = Vec<(Labels, Exemplar)>;

/// Sorts by series, instant and labels; of equal ones the last stays.
pub(crate) fn sort(entries: &mut Entries) {
    entries.sort_by(|a, b| {
        let key = |entry: &(Labels, Exemplar)| (entry.1.timestamp_ms, entry.1.labels.clone());
        a.0.encoded().cmp(b.0.encoded()).then_with(|| key(a).cmp(&key(b)))
    });
    let same = |a: &(Labels, Exemplar), b: &(Labels, Exemplar)| {
        a.0 == b.0 && a.1.timestamp_ms == b.1.timestamp_ms && a.1.labels == b.1.labels
    };
    // `dedup_by` drops its first argument, the later one: swap it in first.
    entries.dedup_by(|later, earlier| {
        let equal = same(later, earlier);
        if equal {
            std::mem::swap(later, earlier);
        }
        equal
    });
}

/// The file of a part that is being written.
pub(crate) struct ExemplarWriter {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    len: u64,
    payload: Vec<u8>,
    /// Label bytes of the series that was added to last, its exemplars in this block, and how many these are.
    labels: Vec<u8>,
    group: Vec<u8>,
    group_count: u64,
    previous_ms: i64,
}

impl ExemplarWriter {
    /// Creates the file in a part's directory.
    pub(crate) fn create(disk: &dyn Disk, dir: &Path) -> Result<Self, TsdbError> {
        let path = dir.join(EXEMPLARS_FILE);
        let file = disk.create(&path).map_err(TsdbError::io("create", &path))?;
        let (payload, labels, group) = Default::default();
        Ok(Self { file, path, len: 0, payload, labels, group, group_count: 0, previous_ms: 0 })
    }

    /// Adds an exemplar of the series of these label bytes; both ascend from call to call.
    pub(crate) fn push(&mut self, labels: &[u8], exemplar: &Exemplar) -> Result<(), TsdbError> {
        let is_full = self.payload.len() + self.group.len() >= BLOCK_BYTES;
        if is_full || self.labels != labels {
            self.end_group();
            self.labels.clear();
            self.labels.extend_from_slice(labels);
        }
        if is_full {
            self.end_block()?;
        }
        push_zigzag(&mut self.group, exemplar.timestamp_ms.wrapping_sub(self.previous_ms));
        self.previous_ms = exemplar.timestamp_ms;
        self.group.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
        push_slice(&mut self.group, exemplar.labels.encoded());
        self.group_count += 1;
        Ok(())
    }

    /// Ends the file and syncs it; answers its length.
    pub(crate) fn finish(mut self) -> Result<u64, TsdbError> {
        self.end_group();
        if !self.payload.is_empty() {
            self.end_block()?;
        }
        self.file.sync().map_err(TsdbError::io("sync", &self.path))?;
        Ok(self.len)
    }

    fn end_group(&mut self) {
        if self.group_count > 0 {
            push_slice(&mut self.payload, &self.labels);
            push_varint(&mut self.payload, self.group_count);
            self.payload.append(&mut self.group);
        }
        (self.group_count, self.previous_ms) = (0, 0);
    }

    fn end_block(&mut self) -> Result<(), TsdbError> {
        let mut bytes = vec![0; 4];
        let length = block::write(&self.payload, Packing::Zstd(ZSTD_LEVEL), &mut bytes);
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        self.payload.clear();
        self.len += bytes.len() as u64;
        self.file.write_all(&bytes).map_err(TsdbError::io("write", &self.path))
    }
}

/// Reads the exemplars of a file in their order.
pub(crate) struct ExemplarCursor<'a> {
    /// `None`: there are no exemplars.
    file: Option<&'a BlockFile>,
    /// Where the block begins that `payload` is of, and the next.
    block: Range<u64>,
    payload: Vec<u8>,
    /// How far the payload is read.
    at: usize,
    labels: Arc<[u8]>,
    /// Exemplars of the series that are still to come in this block.
    left: usize,
    timestamp_ms: i64,
}

impl<'a> ExemplarCursor<'a> {
    /// Stands before the first.
    pub(crate) fn new(file: Option<&'a BlockFile>) -> Self {
        let (payload, labels) = (Vec::new(), Arc::default());
        Self { file, block: 0..0, payload, at: 0, labels, left: 0, timestamp_ms: 0 }
    }

    /// The next exemplar; `None` at the end.
    ///
    /// # Errors
    /// [`TsdbError`] with file and offset if a block is damaged.
    pub(crate) fn next(&mut self) -> Result<Option<Exemplar>, TsdbError> {
        let Some(file) = self.file else { return Ok(None) };
        while self.left == 0 {
            if self.at < self.payload.len() {
                self.begin_series().map_err(TsdbError::chunk(BLOCK, &file.path, self.block.start))?;
            } else if self.block.end < file.len {
                self.read_block(file)?;
            } else {
                return Ok(None);
            }
        }
        self.left -= 1;
        self.decode().map(Some).map_err(TsdbError::chunk(BLOCK, &file.path, self.block.start))
    }

    /// Label bytes of the series of the exemplar that came last. The same value as long as they are those of one entry.
    pub(crate) fn labels(&self) -> &Arc<[u8]> {
        &self.labels
    }

    /// Bytes it holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.payload.capacity() as u64
    }

    fn read_block(&mut self, file: &BlockFile) -> Result<(), TsdbError> {
        let offset = self.block.end;
        if file.len - offset < 4 + BLOCK_HEADER_LEN as u64 {
            let reason = "file ends inside a block".to_owned();
            return Err(TsdbError::Corrupt { what: BLOCK, path: file.path.clone(), offset, reason });
        }
        let length = file.read_raw(offset, 4)?;
        let len = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        self.payload = file.read(BLOCK, BlockAt { offset: offset + 4, len })?;
        self.at = 0;
        self.block = offset..offset + 4 + u64::from(len);
        Ok(())
    }

    fn begin_series(&mut self) -> Result<(), ChunkError> {
        let mut reader = Reader::new(&self.payload[self.at..]);
        self.labels = reader.slice()?.into();
        self.left = reader.count("exemplar count", reader.rest().len())?;
        self.timestamp_ms = 0;
        self.at = self.payload.len() - reader.rest().len();
        Ok(())
    }

    fn decode(&mut self) -> Result<Exemplar, ChunkError> {
        let mut reader = Reader::new(&self.payload[self.at..]);
        self.timestamp_ms = self.timestamp_ms.wrapping_add(reader.zigzag()?);
        let value = f64::from_bits(reader.u64()?);
        let labels =
            Labels::from_encoded(reader.slice()?).map_err(|_| ChunkError::OutOfBounds { what: "exemplar labels" })?;
        self.at = self.payload.len() - reader.rest().len();
        Ok(Exemplar { labels, timestamp_ms: self.timestamp_ms, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn exemplar(timestamp_ms: i64) -> Exemplar {
        let labels = Labels::from_pairs([("trace_id", format!("{timestamp_ms:016x}"))]).unwrap();
        Exemplar { labels, timestamp_ms, value: timestamp_ms as f64 / 3.0 }
    }

    #[test]
    fn a_series_with_many_exemplars_goes_on_in_further_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let series: Vec<(&[u8], Vec<Exemplar>)> = vec![
            (b"a", (0..3).map(exemplar).collect()),
            (b"b", (-5000..5000).map(exemplar).collect()),
            (b"c", vec![exemplar(i64::MIN), exemplar(i64::MAX)]),
        ];
        let mut writer = ExemplarWriter::create(&RealDisk, dir.path()).unwrap();
        for (labels, exemplars) in &series {
            for exemplar in exemplars {
                writer.push(labels, exemplar).unwrap();
            }
        }
        let len = writer.finish().unwrap();
        let file = BlockFile::open(&dir.path().join(EXEMPLARS_FILE)).unwrap();
        assert_eq!(file.len, len);
        let (mut cursor, mut bytes_max) = (ExemplarCursor::new(Some(&file)), 0);
        for (labels, exemplars) in &series {
            for expected in exemplars {
                let found = cursor.next().unwrap().unwrap();
                assert_eq!((cursor.labels().as_ref(), found.timestamp_ms), (*labels, expected.timestamp_ms));
                assert_eq!((&found.labels, found.value.to_bits()), (&expected.labels, expected.value.to_bits()));
                bytes_max = bytes_max.max(cursor.bytes());
            }
        }
        assert!(cursor.next().unwrap().is_none() && cursor.next().unwrap().is_none());
        assert!((BLOCK_BYTES as u64..2 * BLOCK_BYTES as u64).contains(&bytes_max), "{bytes_max}");
    }
}
