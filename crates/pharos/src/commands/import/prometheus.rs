//! `pharos import prometheus DIR`: blocks, oldest first, then the head's logs.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Arg, ArgMatches, Command, value_parser};
use jiff::Timestamp;
use pharos_model::{BatchBuilder, Labels, MetricBatch, Sample, TimeRange};
use pharos_prometheus_data::{Block, Damage, DataFolder, Head, Points};

use super::delivery::Delivery;

/// Samples of one request.
const BATCH_SAMPLES_MAX: usize = 20_000;
/// Bytes of one request's labels and histograms.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Samples of the log that are sorted by series at a time.
const LOG_SAMPLES: usize = 50_000;

/// The command line of `pharos import prometheus`.
pub(super) fn command() -> Command {
    Command::new("prometheus")
        .about("Import the data folder of a Prometheus (2.0 to 3.x)")
        .long_about(
            "Import the data folder of a Prometheus (2.0 to 3.x): its blocks, and from its log the newest hours that are in no \
             block yet, with native histograms, start timestamps, exemplars and metadata.\n\n\
             Stop Prometheus first, or give a snapshot of it (POST /api/v1/admin/tsdb/snapshot): while it runs it removes files \
             that are being read. Nothing in the folder is changed. Deleted series stay deleted.\n\n\
             Every checksum is verified. What is damaged is told with file and byte, and the rest is imported.",
        )
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("A data folder (--storage.tsdb.path), a snapshot, or a single block"),
        )
}

/// Imports what the folder holds.
pub(super) async fn import(matches: &ArgMatches, delivery: &mut Delivery) -> anyhow::Result<()> {
    let path = matches.get_one::<PathBuf>("dir").expect("clap demands it");
    let mut damage = Vec::new();
    let folder = DataFolder::open(path, &mut |found| damage.push(found))?;
    tell(delivery, &mut damage);
    let range = delivery.selection.range;
    let blocks: Vec<_> = folder.blocks.iter().filter(|block| block.range.is_none_or(|of| overlap(of, range))).collect();
    delivery.progress().set_total(blocks.iter().map(|block| block.sample_count).sum());
    let mut outbox = Outbox::default();
    for block in blocks {
        let from = block.range.and_then(|range| Timestamp::from_millisecond(range.start_ms).ok());
        import_block(&block.path, delivery, &mut outbox, &mut damage).await.map_err(|error| match from {
            Some(from) => error.context(format!("everything before {from} is imported; go on with --start {from}")),
            None => error,
        })?;
    }
    if folder.has_head() {
        import_head(&folder, delivery, &mut outbox, &mut damage).await?;
    }
    outbox.flush(delivery).await
}

async fn import_block(
    path: &std::path::Path,
    delivery: &mut Delivery,
    outbox: &mut Outbox,
    damage: &mut Vec<Damage>,
) -> anyhow::Result<()> {
    let Some(mut block) = Block::open(path, &mut |found| damage.push(found))? else {
        tell(delivery, damage);
        return Ok(());
    };
    let range = delivery.selection.range;
    let mut points = Points::default();
    while let Some(labels) = block.next_series(&mut |found| damage.push(found))? {
        if delivery.selection.admits(&labels) {
            let labels = delivery.selection.relabel(&labels)?;
            for chunk in 0..block.chunk_count() {
                block.points(chunk, range, &mut points, &mut |found| damage.push(found))?;
                outbox.push(&labels, &mut points, delivery).await?;
            }
        }
        tell(delivery, damage);
    }
    tell(delivery, damage);
    outbox.flush(delivery).await?;
    delivery.drain().await
}

async fn import_head(
    folder: &DataFolder,
    delivery: &mut Delivery,
    outbox: &mut Outbox,
    damage: &mut Vec<Damage>,
) -> anyhow::Result<()> {
    let mut head = Head::open(folder, &mut |found| damage.push(found))?;
    if !head.metadata().is_empty() {
        delivery.send(&MetricBatch { metadata: head.metadata().to_vec(), ..MetricBatch::default() }).await?;
    }
    let range = delivery.selection.range;
    while let Some(batch) = head.next_points(LOG_SAMPLES, &mut |found| damage.push(found))? {
        tell(delivery, damage);
        for (labels, mut points) in batch {
            if delivery.selection.admits(&labels) {
                points.retain(|at_ms| range.contains(at_ms));
                let labels = delivery.selection.relabel(&labels)?;
                outbox.push(&labels, &mut points, delivery).await?;
            }
        }
    }
    tell(delivery, damage);
    if head.orphan_count() > 0 {
        delivery.complain(&format!(
            "{} samples of the log belong to series that it does not name any more; Prometheus would not show them either",
            head.orphan_count()
        ));
    }
    Ok(())
}

/// Batches under way.
#[derive(Default)]
struct Outbox {
    builder: BatchBuilder,
    bytes: usize,
}

impl Outbox {
    /// Adds a series' points, which are taken out, and sends what is full.
    async fn push(&mut self, labels: &Labels, points: &mut Points, delivery: &mut Delivery) -> anyhow::Result<()> {
        if points.is_empty() {
            return Ok(());
        }
        self.bytes += labels.encoded().len();
        for point in points.floats.drain(..) {
            self.builder.push_sample(Sample { timestamp_ms: point.timestamp_ms, value: point.value }, point.start_ms);
        }
        for point in points.histograms.drain(..) {
            self.bytes += 128 + 8 * (point.histogram.positive.counts.len() + point.histogram.negative.counts.len());
            self.builder.push_histogram(point.timestamp_ms, point.histogram, point.start_ms);
        }
        points.exemplars.drain(..).for_each(|exemplar| self.builder.push_exemplar(exemplar));
        self.builder.finish_series_encoded(labels);
        if self.builder.sample_count() >= BATCH_SAMPLES_MAX || self.bytes >= BATCH_BYTES_MAX {
            self.flush(delivery).await?;
        }
        Ok(())
    }

    async fn flush(&mut self, delivery: &mut Delivery) -> anyhow::Result<()> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.builder).build();
        if batch.is_empty() { Ok(()) } else { delivery.send(&batch).await }
    }
}

fn tell(delivery: &mut Delivery, damage: &mut Vec<Damage>) {
    for found in damage.drain(..) {
        delivery.complain(
            &anyhow!(found).context("damaged").chain().map(ToString::to_string).collect::<Vec<_>>().join(": "),
        );
    }
}

fn overlap(one: TimeRange, other: TimeRange) -> bool {
    one.start_ms < other.end_ms && other.start_ms < one.end_ms
}
