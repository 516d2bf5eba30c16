//! Where a large batch is cut into records: none is longer than a record may be, and what is in it can be read back.
//!
//! Sizes are reckoned, not measured: by the most that an item can take. A run may go on in the next record.

use std::ops::Range;

use pharos_chunk::histograms::{self, CHUNK_BUCKETS_MAX};
use pharos_model::{Exemplar, Histogram, MetricBatch, MetricMetadata, SeriesRun};

use super::record::HISTOGRAM_GROUP;

/// The longest varint.
const VARINT_BYTES: usize = 10;
/// A run: its id and three counts.
const RUN_BYTES: usize = 4 * VARINT_BYTES;
/// A sample: its instant, value and start.
const SAMPLE_BYTES: usize = 2 * VARINT_BYTES + 8;
/// What is in a histogram beside buckets, bounds and spans.
const HISTOGRAM_BYTES: usize = 128;
/// A bucket, a bound or a span.
const BUCKET_BYTES: usize = 2 * VARINT_BYTES;

/// What of a run goes into one record.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) log_id: u64,
    pub(super) samples: Range<usize>,
    pub(super) histograms: Range<usize>,
    pub(super) exemplars: Range<usize>,
}

/// What goes into one record.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) parts: Vec<Part>,
    pub(super) metadata: Range<usize>,
}

impl Part {
    /// All of a run.
    pub(super) fn whole(log_id: u64, run: &SeriesRun) -> Self {
        let SeriesRun { samples, histograms, exemplars, .. } = run.clone();
        Self { log_id, samples, histograms, exemplars }
    }

    /// What comes behind, still empty.
    fn rest(&self) -> Self {
        let behind = |range: &Range<usize>| range.end..range.end;
        Self {
            log_id: self.log_id,
            samples: behind(&self.samples),
            histograms: behind(&self.histograms),
            exemplars: behind(&self.exemplars),
        }
    }

    fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.histograms.is_empty() && self.exemplars.is_empty()
    }
}

/// Whether a batch is one record.
pub(super) fn fits(batch: &MetricBatch, bytes_max: usize) -> bool {
    let buckets: usize = batch.histograms.iter().map(|sample| histograms::bucket_count(&sample.histogram)).sum();
    let bytes = batch.series.len() * RUN_BYTES
        + batch.samples.len() * SAMPLE_BYTES
        + batch.histograms.len() * (2 * VARINT_BYTES + HISTOGRAM_BYTES)
        + buckets * BUCKET_BYTES
        + batch.exemplars.iter().map(exemplar_bytes).sum::<usize>()
        + batch.metadata.iter().map(metadata_bytes).sum::<usize>();
    bytes <= bytes_max && buckets <= CHUNK_BUCKETS_MAX
}

/// Cuts these runs of a batch, and its metadata, into records of at most `bytes_max`; one that has a single item may be longer.
pub(super) fn records(batch: &MetricBatch, runs: impl Iterator<Item = Part>, bytes_max: usize) -> Vec<Record> {
    let mut cutter = Cutter { bytes_max, ..Cutter::default() };
    for run in runs {
        cutter.begin(Part {
            samples: run.samples.start..run.samples.start,
            histograms: run.histograms.start..run.histograms.start,
            exemplars: run.exemplars.start..run.exemplars.start,
            ..run
        });
        for at in run.samples {
            cutter.add(SAMPLE_BYTES).samples.end = at + 1;
        }
        for at in run.histograms {
            cutter.add_histogram(&batch.histograms[at].histogram).histograms.end = at + 1;
        }
        for at in run.exemplars {
            cutter.add(exemplar_bytes(&batch.exemplars[at])).exemplars.end = at + 1;
        }
    }
    for (at, metadata) in batch.metadata.iter().enumerate() {
        cutter.make_room(metadata_bytes(metadata));
        cutter.open.metadata.end = at + 1;
    }
    cutter.close();
    cutter.done
}

fn histogram_bytes(histogram: &Histogram) -> usize {
    2 * VARINT_BYTES + HISTOGRAM_BYTES + BUCKET_BYTES * histograms::bucket_count(histogram)
}

fn exemplar_bytes(exemplar: &Exemplar) -> usize {
    2 * VARINT_BYTES + 8 + exemplar.labels.encoded().len()
}

fn metadata_bytes(metadata: &MetricMetadata) -> usize {
    1 + 3 * VARINT_BYTES + metadata.metric.len() + metadata.help.len() + metadata.unit.len()
}

/// Fills one record after the other.
#[derive(Default)]
struct Cutter {
    bytes_max: usize,
    done: Vec<Record>,
    open: Record,
    /// What is in the open record takes so many bytes at most.
    bytes: usize,
    items: usize,
    histograms: usize,
    /// Buckets of its histograms that are encoded together with the next one.
    group_buckets: usize,
}

impl Cutter {
    /// Begins a run with an empty part of it.
    fn begin(&mut self, part: Part) {
        self.open.parts.push(part);
        self.bytes += RUN_BYTES;
    }

    /// The part that an item of so many bytes goes to.
    fn add(&mut self, bytes: usize) -> &mut Part {
        self.make_room(bytes);
        self.open.parts.last_mut().expect("a run was begun")
    }

    /// The part that a histogram goes to: what is encoded together may not have more buckets than are believed.
    fn add_histogram(&mut self, histogram: &Histogram) -> &mut Part {
        let buckets = histograms::bucket_count(histogram);
        let is_first = |histograms: usize| histograms.is_multiple_of(HISTOGRAM_GROUP);
        if !is_first(self.histograms) && self.group_buckets + buckets > CHUNK_BUCKETS_MAX {
            self.close();
        }
        self.make_room(histogram_bytes(histogram));
        if is_first(self.histograms) {
            self.group_buckets = 0;
        }
        self.group_buckets += buckets;
        self.histograms += 1;
        self.open.parts.last_mut().expect("a run was begun")
    }

    /// Has an item of so many bytes go into a record with others, or alone.
    fn make_room(&mut self, bytes: usize) {
        if self.items > 0 && self.bytes + bytes > self.bytes_max {
            self.close();
        }
        self.items += 1;
        self.bytes += bytes;
    }

    /// Ends the record; the next goes on where it ends.
    fn close(&mut self) {
        let rest: Vec<_> = self.open.parts.last().map(Part::rest).into_iter().collect();
        let metadata = self.open.metadata.end..self.open.metadata.end;
        self.bytes = RUN_BYTES * rest.len();
        let mut record = std::mem::replace(&mut self.open, Record { parts: rest, metadata });
        record.parts.retain(|part| !part.is_empty());
        if self.items > 0 {
            self.done.push(record);
        }
        (self.items, self.histograms, self.group_buckets) = (0, 0, 0);
    }
}
