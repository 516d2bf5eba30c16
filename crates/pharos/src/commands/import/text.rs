//! `pharos import openmetrics FILE`: text with timestamps, of any length, plain or compressed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser};
use pharos_base::{Clock, SystemClock};
use pharos_ingest::text::{BadLine, TextFormat, TextImport, TextOptions};
use pharos_ingest::{DecodedMetrics, Encoding, Limits, TimeWindow};
use pharos_model::{BatchBuilder, Labels, MetricBatch};

use super::delivery::Delivery;

/// What is read from the file at a time.
const PIECE_BYTES: usize = 256 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The command line of `pharos import openmetrics`.
pub(super) fn command() -> Command {
    Command::new("openmetrics")
        .about("Import a file in the OpenMetrics or Prometheus text format")
        .long_about(
            "Import a file in the OpenMetrics or Prometheus text format, such as `promtool tsdb dump-openmetrics` writes or \
             `promtool tsdb create-blocks-from openmetrics` reads. Plain, gzip or zstd, of any size.\n\n\
             A sample without a timestamp gets the time of the import. A line that cannot be read is told with its number, and \
             the others are imported.",
        )
        .arg(Arg::new("file").value_name("FILE").required(true).help("The file; - reads standard input"))
        .arg(
            Arg::new("format")
                .long("format")
                .value_parser(PossibleValuesParser::new(["openmetrics", "prometheus", "json"]))
                .default_value("openmetrics")
                .help("openmetrics: timestamps in seconds, ends with # EOF; prometheus: milliseconds; json: lines of pharos export"),
        )
}

/// Imports the file.
pub(super) async fn import(matches: &ArgMatches, delivery: &mut Delivery) -> anyhow::Result<()> {
    let name = matches.get_one::<String>("file").expect("clap demands it");
    let format = match matches.get_one::<String>("format").map(String::as_str) {
        Some("prometheus") => TextFormat::Exposition,
        Some("json") => TextFormat::JsonLines,
        _ => TextFormat::OpenMetrics,
    };
    let mut file: BufReader<Box<dyn Read>> = BufReader::with_capacity(
        PIECE_BYTES,
        if name == "-" {
            Box::new(std::io::stdin())
        } else {
            Box::new(File::open(name).with_context(|| format!("cannot open {name}"))?)
        },
    );
    let encoding = match file.fill_buf().with_context(|| format!("cannot read {name}"))? {
        front if front.starts_with(&GZIP_MAGIC) => Encoding::Gzip,
        front if front.starts_with(&ZSTD_MAGIC) => Encoding::Zstd,
        _ => Encoding::Identity,
    };
    let mut reader = TextReader::new(format, encoding, name)?;
    loop {
        let piece = Bytes::copy_from_slice(file.fill_buf().with_context(|| format!("cannot read {name}"))?);
        if piece.is_empty() {
            return reader.finish(delivery).await;
        }
        file.consume(piece.len());
        reader.feed(piece, delivery).await?;
    }
}

/// Text on its way to the server.
pub(super) struct TextReader {
    reader: TextImport,
    limits: Limits,
    name: String,
}

impl TextReader {
    /// Reads what is called `name` in messages.
    pub(super) fn new(format: TextFormat, encoding: Encoding, name: &str) -> anyhow::Result<Self> {
        let options = TextOptions { timestamp_ms: SystemClock.unix_ms(), extra_labels: Vec::new() };
        let reader = TextImport::new(format, encoding, options)?;
        Ok(Self { reader, limits: Limits::of_client(), name: name.to_owned() })
    }

    /// Sends what a piece completes.
    pub(super) async fn feed(&mut self, mut piece: Bytes, delivery: &mut Delivery) -> anyhow::Result<()> {
        while !piece.is_empty() {
            let batches = self.reader.feed(&mut piece, &self.limits, TimeWindow::ALL);
            self.deliver(batches.map_err(|error| anyhow!(error).context(self.name.clone()))?, delivery).await?;
        }
        Ok(())
    }

    /// Sends what is left, and says what could not be read.
    pub(super) async fn finish(mut self, delivery: &mut Delivery) -> anyhow::Result<()> {
        let batches = self.reader.finish(&self.limits, TimeWindow::ALL);
        self.deliver(batches.map_err(|error| anyhow!(error).context(self.name.clone()))?, delivery).await?;
        let bad = self.reader.bad_lines();
        if let Some(BadLine { number, reason }) = &bad.first {
            let more =
                if bad.count > 1 { format!(" ({} lines cannot be read in all)", bad.count) } else { String::new() };
            delivery.complain(&format!("{}, line {number}: {reason}{more}", self.name));
        }
        Ok(())
    }

    async fn deliver(&self, batches: Vec<DecodedMetrics>, delivery: &mut Delivery) -> anyhow::Result<()> {
        for DecodedMetrics { batch, rejections, exemplars_dropped, .. } in batches {
            for rejection in rejections {
                delivery.complain(&format!("{}: {} left out: {}", self.name, rejection.count, rejection.message));
            }
            if exemplars_dropped > 0 {
                delivery.complain(&format!(
                    "{}: {exemplars_dropped} exemplars left out: their labels break a rule",
                    self.name
                ));
            }
            let batch = selected(&batch, delivery)?;
            if !batch.is_empty() {
                delivery.send(&batch).await?;
            }
        }
        Ok(())
    }
}

/// The part of a batch that is asked for, with the labels that are added.
fn selected(batch: &MetricBatch, delivery: &Delivery) -> anyhow::Result<MetricBatch> {
    let selection = &delivery.selection;
    let mut builder = BatchBuilder::new();
    for run in &batch.series {
        let labels = Labels::from_encoded(batch.encoded_labels(run))?;
        if !selection.admits(&labels) {
            continue;
        }
        for sample in &batch.samples[run.samples.clone()] {
            if selection.range.contains(sample.timestamp_ms) {
                builder.push_sample(*sample, 0);
            }
        }
        for exemplar in &batch.exemplars[run.exemplars.clone()] {
            if selection.range.contains(exemplar.timestamp_ms) {
                builder.push_exemplar(exemplar.clone());
            }
        }
        builder.finish_series_encoded(&selection.relabel(&labels)?);
    }
    batch.metadata.iter().for_each(|metadata| builder.push_metadata(metadata.clone()));
    Ok(builder.build())
}
