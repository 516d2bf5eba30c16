//! Writing a part: series in label order in, a durable directory out.
//!
//! Nothing is visible before [`PartWriter::finish`]: the files lie in a directory whose name starts with
//! `tmp-`, which is removed when the writer is dropped, or by the next start.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pharos_chunk::Form;
use pharos_model::{Exemplar, Histogram, TenantId, TimeRange};

use super::block::{self, BLOCK_HEADER_LEN, BlockAt, Packing};
use super::exemplars::ExemplarWriter;
use super::index::{IndexCache, IndexWriter};
use super::layout::{self, DATA_VERSION, HeadersBuilder};
use super::meta::{META_FILE, PART_VERSION, PartMeta};
use super::reader::Part;
use super::times::TimeColumns;
use super::toc::{BLOCK_SERIES, DataToc};
use crate::TsdbError;
use crate::body::{self, Body};
use crate::disk::{Disk, DiskFile};
use crate::rollup::{Resolution, RollupWriter};
use crate::samples::{Column, Samples};

pub(crate) const DATA_FILE: &str = "data";
pub(crate) const INDEX_FILE: &str = "index";
pub(crate) const EXEMPLARS_FILE: &str = "exemplars";
pub(crate) const TEMPORARY_PREFIX: &str = "tmp-";
const DATA_MAGIC: [u8; 8] = *b"PHAROSDA";
pub(crate) const DATA_HEADER_LEN: usize = 16;

const HEADER_ZSTD: Packing = Packing::Zstd(3);
/// Cold parts are written once and kept long.
const COLD_HEADER_ZSTD: Packing = Packing::Zstd(12);
const TIMES_BLOCK_BYTES: usize = 16 << 10;
const WRITE_BUFFER_BYTES: usize = 256 << 10;

/// Samples of a chunk of floats are cut to at most this many: two hours every 15 s. A chunk is decoded whole, so longer
/// ones make short ranges dear; `pharos-chunk` says what they would save.
pub(crate) const CUT_SAMPLES: usize = 480;

/// Where and as what a part is written.
#[derive(Debug, Clone)]
pub(crate) struct PartPlan {
    pub(crate) parts_dir: PathBuf,
    pub(crate) tenant: TenantId,
    /// Unique within the tenant.
    pub(crate) number: u64,
    /// Precedence over other parts.
    pub(crate) sequence: u64,
    pub(crate) window: TimeRange,
    pub(crate) level: u32,
    pub(crate) replaces: Vec<u64>,
    /// The highest tombstone that its samples are free of, or 0.
    pub(crate) cleaned: u64,
    /// How chunks are encoded.
    pub(crate) form: Form,
    /// What the part is read through when it is done.
    pub(crate) index_cache: Arc<IndexCache>,
    /// No block of chunk bodies grows beyond.
    pub(crate) bodies_max: usize,
    /// What the samples are rolled up to beside.
    pub(crate) rollups: Vec<Resolution>,
}

/// A part being written.
pub(crate) struct PartWriter {
    disk: Arc<dyn Disk>,
    plan: PartPlan,
    temporary: PathBuf,
    data: Box<dyn DiskFile>,
    data_path: PathBuf,
    buffered: Vec<u8>,
    data_len: u64,
    index: IndexWriter,
    toc: DataToc,
    headers: HeadersBuilder,
    times: TimeColumns,
    /// The chunk encoded last.
    encoded: Vec<u8>,
    copied_samples: u64,
    rollups: Vec<RollupWriter>,
    exemplars: Option<ExemplarWriter>,
    meta: PartMeta,
    finished: bool,
}

impl Drop for PartWriter {
    /// An unfinished part is removed: a full disk must not be filled further by every attempt.
    fn drop(&mut self) {
        if !self.finished {
            remove_unfinished(self.disk.as_ref(), &self.temporary);
        }
    }
}

impl PartWriter {
    pub(crate) fn create(disk: Arc<dyn Disk>, plan: PartPlan) -> Result<Self, TsdbError> {
        let meta = PartMeta {
            version: PART_VERSION,
            tenant: plan.tenant.as_str().to_owned(),
            number: plan.number,
            sequence: plan.sequence,
            window_start_ms: plan.window.start_ms,
            window_end_ms: plan.window.end_ms,
            min_time_ms: i64::MAX,
            max_time_ms: i64::MIN,
            level: plan.level,
            series: 0,
            samples: 0,
            histograms: 0,
            chunks: 0,
            exemplars: 0,
            data_bytes: 0,
            index_bytes: 0,
            exemplar_bytes: 0,
            replaces: plan.replaces.clone(),
            cleaned: plan.cleaned,
            rollups: Vec::new(),
            checksum: 0,
        };
        let temporary = plan.parts_dir.join(format!("{TEMPORARY_PREFIX}{}", meta.dir_name()));
        if temporary.exists() {
            disk.remove_dir_all(&temporary).map_err(TsdbError::io("remove", &temporary))?;
        }
        disk.create_dir_all(&temporary).map_err(TsdbError::io("create", &temporary))?;
        let data_path = temporary.join(DATA_FILE);
        let created = disk.create(&data_path).inspect_err(|_| remove_unfinished(disk.as_ref(), &temporary));
        let data = created.map_err(TsdbError::io("create", &data_path))?;
        let mut writer = Self {
            disk,
            plan,
            temporary,
            data,
            data_path,
            buffered: Vec::new(),
            data_len: 0,
            index: IndexWriter::default(),
            toc: DataToc::default(),
            headers: HeadersBuilder::default(),
            times: TimeColumns::default(),
            encoded: Vec::new(),
            copied_samples: 0,
            rollups: Vec::new(),
            exemplars: None,
            meta,
            finished: false,
        };
        writer.write_data(&data_header(DATA_VERSION))?;
        for resolution in writer.plan.rollups.clone() {
            writer.rollups.push(RollupWriter::create(writer.disk.as_ref(), &writer.temporary, resolution)?);
        }
        Ok(writer)
    }

    /// Adds a series with its sorted samples, if there are any; label bytes ascend from call to call.
    pub(crate) fn add_series(&mut self, labels: &[u8], samples: &Samples) -> Result<(), TsdbError> {
        if samples.is_empty() {
            return Ok(());
        }
        self.begin_series();
        self.add_floats(&samples.floats, 0..samples.floats.len());
        self.add_histograms(&samples.histograms, 0..samples.histograms.len());
        self.rollups.iter_mut().try_for_each(|rollup| rollup.add_series(samples))?;
        self.end_series(labels)
    }

    /// Begins a series that is added in pieces: of each kind they ascend in time, and there is one at least.
    pub(crate) fn begin_series(&mut self) {
        self.headers.begin_series();
    }

    /// Ends the series begun last; label bytes ascend from call to call.
    pub(crate) fn end_series(&mut self, labels: &[u8]) -> Result<(), TsdbError> {
        let limit = self.plan.bodies_max;
        if self.headers.bodies.len() > limit {
            return Err(TsdbError::BlockTooLarge { path: self.temporary.clone(), limit });
        }
        self.index.add_series(labels);
        if self.headers.series_count() >= BLOCK_SERIES {
            self.end_block()?;
        }
        Ok(())
    }

    /// Adds floats of the series begun last.
    pub(crate) fn add_floats(&mut self, floats: &Column<f64>, range: Range<usize>) {
        // Equal cuts for equal lengths, so that series of one target go on sharing their instants.
        let pieces = range.len().div_ceil(CUT_SAMPLES);
        for piece in 0..pieces {
            let end = |piece: usize| range.start + range.len() * piece / pieces;
            let range = end(piece)..end(piece + 1);
            let starts = floats.starts.get(range.clone()).unwrap_or_default();
            self.encoded.clear();
            let encoded = body::encode_floats(&floats.values[range.clone()], starts, self.plan.form, &mut self.encoded);
            let column = &floats.times[range];
            let times = self.times.intern(column, self.plan.form);
            self.headers.push(Body::of(encoded, &self.encoded), times);
            self.count_chunk(encoded.kind, column);
        }
    }

    /// Adds histograms of the series begun last.
    pub(crate) fn add_histograms(&mut self, histograms: &Column<Arc<Histogram>>, range: Range<usize>) {
        let mut from = range.start;
        for to in body::histogram_cuts(&histograms.values[range.clone()]) {
            let to = range.start + to;
            let starts = histograms.starts.get(from..to).unwrap_or_default();
            self.encoded.clear();
            let column = &histograms.values[from..to];
            let encoded = body::encode_histograms(column, starts, self.plan.form, &mut self.encoded);
            let column = &histograms.times[from..to];
            let times = self.times.intern(column, self.plan.form);
            self.headers.push(Body::of(encoded, &self.encoded), times);
            self.count_chunk(encoded.kind, column);
            from = to;
        }
    }

    /// Adds a chunk of the series begun last as another part has it. `origin`: that part, and the number there of the
    /// column of instants.
    pub(crate) fn copy_chunk(&mut self, body: Body<'_>, origin: (u64, u32), times: &[i64]) {
        debug_assert!(self.rollups.is_empty(), "who rolls up needs the samples");
        let number = self.times.intern_copied(origin, times, self.plan.form);
        self.headers.push(body, number);
        self.count_chunk(body.kind, times);
        self.copied_samples += times.len() as u64;
    }

    fn count_chunk(&mut self, kind: u8, times: &[i64]) {
        let meta = &mut self.meta;
        if let (Some(first), Some(last)) = (times.first(), times.last()) {
            meta.min_time_ms = meta.min_time_ms.min(*first);
            meta.max_time_ms = meta.max_time_ms.max(*last);
        }
        *(if body::holds_histograms(kind) { &mut meta.histograms } else { &mut meta.samples }) += times.len() as u64;
        meta.chunks += 1;
    }

    /// Adds an exemplar of the series of these label bytes. They ascend from call to call, and of a series by instant,
    /// then by labels.
    pub(crate) fn add_exemplar(&mut self, labels: &[u8], exemplar: &Exemplar) -> Result<(), TsdbError> {
        let writer = match &mut self.exemplars {
            Some(writer) => writer,
            none => none.insert(ExemplarWriter::create(self.disk.as_ref(), &self.temporary)?),
        };
        self.meta.min_time_ms = self.meta.min_time_ms.min(exemplar.timestamp_ms);
        self.meta.max_time_ms = self.meta.max_time_ms.max(exemplar.timestamp_ms);
        self.meta.exemplars += 1;
        writer.push(labels, exemplar)
    }

    /// Whether something is computed of the samples: copied chunks do not tell them.
    pub(crate) fn needs_samples(&self) -> bool {
        !self.rollups.is_empty()
    }

    /// Samples and histograms so far.
    pub(crate) fn sample_count(&self) -> u64 {
        self.meta.samples + self.meta.histograms
    }

    /// Those of them that went over as they were.
    pub(crate) fn copied_samples(&self) -> u64 {
        self.copied_samples
    }

    /// Whether nothing was added so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.index.series_count() == 0 && self.exemplars.is_none()
    }

    /// Ends the part, makes it durable and opens it; nothing of it stays if any of this fails.
    pub(crate) fn finish(mut self) -> Result<Part, TsdbError> {
        if self.headers.series_count() > 0 {
            self.end_block()?;
        }
        self.end_times()?;
        self.flush_data()?;
        self.data.sync().map_err(TsdbError::io("sync", &self.data_path))?;
        self.meta.series = u64::from(self.index.series_count());
        let index = std::mem::take(&mut self.index).finish(&self.toc);
        self.write_file(INDEX_FILE, &index)?;
        self.meta.index_bytes = index.len() as u64;
        if let Some(exemplars) = self.exemplars.take() {
            self.meta.exemplar_bytes = exemplars.finish()?;
        }
        for rollup in std::mem::take(&mut self.rollups) {
            self.meta.rollups.push(rollup.finish()?);
        }
        self.meta.data_bytes = self.data_len;
        let meta = self.meta.encode();
        self.write_file(META_FILE, &meta)?;
        self.disk.sync_dir(&self.temporary).map_err(TsdbError::io("sync", &self.temporary))?;
        let parts_dir = &self.plan.parts_dir;
        let target = parts_dir.join(self.meta.dir_name());
        self.disk.rename(&self.temporary, &target).map_err(TsdbError::io("rename", &self.temporary))?;
        self.finished = true;
        let synced = self.disk.sync_dir(parts_dir).map_err(TsdbError::io("sync", parts_dir));
        synced.and_then(|()| Part::open(&target, &self.plan.index_cache)).inspect_err(|_| {
            if let Err(error) = super::remove(self.disk.as_ref(), &target) {
                tracing::warn!(path = %target.display(), %error, "cannot remove a part that is not used");
            }
        })
    }

    fn end_block(&mut self) -> Result<(), TsdbError> {
        let payload = self.headers.encode();
        let packing = if self.plan.form == Form::Cold { COLD_HEADER_ZSTD } else { HEADER_ZSTD };
        let headers = self.write_block(&payload, packing)?;
        self.toc.headers.push(headers);
        let bodies = std::mem::take(&mut self.headers.bodies);
        let at = self.write_block(&bodies, Packing::Plain)?;
        self.toc.bodies.push(at);
        self.headers.clear();
        if self.times.pending_bytes() >= TIMES_BLOCK_BYTES {
            self.end_times()?;
        }
        Ok(())
    }

    fn end_times(&mut self) -> Result<(), TsdbError> {
        let Some((first, columns)) = self.times.take_pending() else { return Ok(()) };
        let at = self.write_block(&layout::encode_times(&columns), HEADER_ZSTD)?;
        self.toc.times.push((first, at));
        Ok(())
    }

    fn write_block(&mut self, payload: &[u8], packing: Packing) -> Result<BlockAt, TsdbError> {
        let offset = self.data_len;
        if packing == Packing::Plain {
            // It may be large, and is not copied.
            self.write_data(&block::plain_header(payload))?;
            self.write_data(payload)?;
            return Ok(BlockAt { offset, len: (BLOCK_HEADER_LEN + payload.len()) as u32 });
        }
        let mut bytes = Vec::with_capacity(payload.len() + 16);
        let len = block::write(payload, packing, &mut bytes);
        self.write_data(&bytes)?;
        Ok(BlockAt { offset, len })
    }

    fn write_data(&mut self, bytes: &[u8]) -> Result<(), TsdbError> {
        self.data_len += bytes.len() as u64;
        if bytes.len() >= WRITE_BUFFER_BYTES {
            self.flush_data()?;
            return self.data.write_all(bytes).map_err(TsdbError::io("write", &self.data_path));
        }
        self.buffered.extend_from_slice(bytes);
        if self.buffered.len() >= WRITE_BUFFER_BYTES { self.flush_data() } else { Ok(()) }
    }

    fn flush_data(&mut self) -> Result<(), TsdbError> {
        self.data.write_all(&self.buffered).map_err(TsdbError::io("write", &self.data_path))?;
        self.buffered.clear();
        Ok(())
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), TsdbError> {
        write_synced(self.disk.as_ref(), &self.temporary.join(name), bytes)
    }
}

fn remove_unfinished(disk: &dyn Disk, temporary: &Path) {
    if let Err(error) = disk.remove_dir_all(temporary) {
        tracing::warn!(path = %temporary.display(), %error, "cannot remove an unfinished part");
    }
}

/// First bytes of a data file: magic, version, zeros.
pub(crate) fn data_header(version: u32) -> [u8; DATA_HEADER_LEN] {
    let mut header = [0; DATA_HEADER_LEN];
    header[..8].copy_from_slice(&DATA_MAGIC);
    header[8..12].copy_from_slice(&version.to_le_bytes());
    header
}

/// Creates a file of these bytes and syncs it, not its name.
pub(crate) fn write_synced(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), TsdbError> {
    let mut file = disk.create(path).map_err(TsdbError::io("create", path))?;
    file.write_all(bytes).map_err(TsdbError::io("write", path))?;
    file.sync().map_err(TsdbError::io("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_part_with_too_large_a_block_is_given_up_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let plan = PartPlan {
            parts_dir: dir.path().to_owned(),
            tenant: TenantId::default(),
            number: 1,
            sequence: 1,
            window: TimeRange::new(0, 1000),
            level: 1,
            replaces: Vec::new(),
            cleaned: 0,
            form: Form::Young,
            index_cache: Arc::new(IndexCache::new(0)),
            bodies_max: 1000,
            rollups: Vec::new(),
        };
        let mut samples = Samples::default();
        for time in 0..100 {
            samples.floats.push(time, (time as f64).sin(), 0);
        }
        let mut writer = PartWriter::create(Arc::new(RealDisk), plan).unwrap();
        writer.add_series(&[1, b'a', 1, b'0'], &samples).unwrap();
        samples.floats.values.reverse();
        assert!(matches!(
            writer.add_series(&[1, b'a', 1, b'1'], &samples),
            Err(TsdbError::BlockTooLarge { limit: 1000, .. })
        ));
        drop(writer);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
