//! What records say: definitions of series, and batches that refer to them.

use std::sync::Arc;

use pharos_chunk::bytes::{Reader, push_slice, push_varint, push_zigzag};
use pharos_chunk::{ChunkError, Form, histograms};
use pharos_model::{
    Exemplar, Histogram, HistogramSample, Labels, MetricBatch, MetricKind, MetricMetadata, Sample, SeriesRun, TenantId,
};

use super::cut::{self, Part};
use super::frame::{Kind, Payload, Record};
use crate::head::generation::REFUSED;
use crate::head::registry::SeriesNumber;

/// Histograms encoded together.
pub(super) const HISTOGRAM_GROUP: usize = 128;
/// Size of the records that a large batch is cut into, by what its items take at most: far below what a record may have.
const CUT_BYTES: usize = 32 << 20;

/// A record, taken apart.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(crate) enum Decoded {
    /// Series and what later batches of the segment call them.
    Definitions(TenantId, Vec<(u64, Labels)>),
    /// A batch, its runs without labels, and the ids of their series.
    Batch(TenantId, Vec<u64>, MetricBatch),
}

impl Decoded {
    /// What a sound record says, or why it says nothing.
    pub(crate) fn of(record: &Record) -> Result<Self, String> {
        match record.kind {
            Kind::Definitions => {
                let (mut series, mut refused) = (Vec::new(), None);
                let tenant = Definitions::read(&record.plain, |log_id, encoded| match Labels::from_encoded(encoded) {
                    Ok(labels) => series.push((log_id, labels)),
                    Err(error) => refused = Some(error),
                })
                .map_err(|error| error.to_string())?;
                refused.map_or(Ok(Self::Definitions(tenant, series)), |error| Err(error.to_string()))
            }
            Kind::Batch => {
                let (tenant, log_ids, batch) = decode_batch(&record.plain).map_err(|error| error.to_string())?;
                Ok(Self::Batch(tenant, log_ids, batch))
            }
        }
    }
}

/// Series of one tenant with the ids that batches call them by.
#[derive(Debug)]
pub(crate) struct Definitions {
    plain: Vec<u8>,
    previous_id: u64,
    count: usize,
}

impl Definitions {
    pub(crate) fn new(tenant: &TenantId) -> Self {
        let mut plain = Vec::new();
        push_slice(&mut plain, tenant.as_str().as_bytes());
        Self { plain, previous_id: 0, count: 0 }
    }

    pub(crate) fn push(&mut self, log_id: u64, labels: &Labels) {
        push_zigzag(&mut self.plain, log_id.wrapping_sub(self.previous_id) as i64);
        push_slice(&mut self.plain, labels.encoded());
        self.previous_id = log_id;
        self.count += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.plain.len()
    }

    /// Appends the record, if there is a definition in it.
    pub(crate) fn write(self, written: &mut Vec<u8>, unsynced: u64) {
        if self.count > 0
            && let Some(payload) = Payload::new(Kind::Definitions, self.plain)
        {
            payload.write(written, unsynced);
        }
    }

    /// Tenant and pairs of id and label bytes.
    pub(crate) fn read(plain: &[u8], mut each: impl FnMut(u64, &[u8])) -> Result<TenantId, ChunkError> {
        let mut reader = Reader::new(plain);
        let tenant = read_tenant(&mut reader)?;
        let mut log_id = 0_u64;
        while !reader.is_empty() {
            log_id = log_id.wrapping_add(reader.zigzag()? as u64);
            each(log_id, reader.slice()?);
        }
        Ok(tenant)
    }
}

/// Encodes a batch as a record, or as several of about [`CUT_BYTES`] where it is large: each is a batch of its own, and all of them go
/// into one group. `numbers` are the series of its runs, refused ones left out; `log_ids` what the log calls them. `None` if one item
/// alone is too large for a record.
pub(crate) fn encode_batch(
    tenant: &TenantId,
    batch: &MetricBatch,
    numbers: &[SeriesNumber],
    log_ids: &[u64],
) -> Option<Vec<Payload>> {
    encode_cut(tenant, batch, (numbers, log_ids), CUT_BYTES)
}

fn encode_cut(
    tenant: &TenantId,
    batch: &MetricBatch,
    (numbers, log_ids): (&[SeriesNumber], &[u64]),
    bytes_max: usize,
) -> Option<Vec<Payload>> {
    let runs = batch.series.iter().zip(numbers).zip(log_ids);
    let kept = runs.filter(|((_, number), _)| **number != REFUSED).map(|((run, _), log_id)| Part::whole(*log_id, run));
    if cut::fits(batch, bytes_max) {
        let count = if numbers.contains(&REFUSED) { kept.clone().count() } else { numbers.len() };
        return Some(vec![encode(tenant, batch, (kept, count), &batch.metadata)?]);
    }
    let records = cut::records(batch, kept, bytes_max);
    let parts = |record: &cut::Record| (record.parts.clone(), record.metadata.clone());
    records
        .iter()
        .map(parts)
        .map(|(parts, metadata)| {
            let count = parts.len();
            encode(tenant, batch, (parts.into_iter(), count), &batch.metadata[metadata])
        })
        .collect()
}

/// Encodes parts of a batch, `kept_count` of them, as one record; `None` if that is longer than a record may be.
fn encode(
    tenant: &TenantId,
    batch: &MetricBatch,
    (kept, kept_count): (impl Iterator<Item = Part> + Clone, usize),
    metadata: &[MetricMetadata],
) -> Option<Payload> {
    let mut out = Vec::with_capacity(64 + batch.series.len() * 6 + batch.samples.len() * 11);
    push_slice(&mut out, tenant.as_str().as_bytes());
    push_varint(&mut out, kept_count as u64);
    let mut previous = 0_u64;
    for part in kept.clone() {
        push_zigzag(&mut out, part.log_id.wrapping_sub(previous) as i64);
        previous = part.log_id;
    }
    let parts = || kept.clone();
    push_counts(&mut out, kept_count, batch.samples.len(), parts().map(|part| part.samples.len()));
    push_counts(&mut out, kept_count, batch.histograms.len(), parts().map(|part| part.histograms.len()));
    push_counts(&mut out, kept_count, batch.exemplars.len(), parts().map(|part| part.exemplars.len()));
    let mut previous = 0_i64;
    let mut push_time = |out: &mut Vec<u8>, time: i64| {
        push_zigzag(out, time.wrapping_sub(previous));
        previous = time;
    };
    for part in parts() {
        for sample in &batch.samples[part.samples] {
            push_time(&mut out, sample.timestamp_ms);
        }
    }
    for part in parts() {
        for sample in &batch.samples[part.samples] {
            out.extend_from_slice(&sample.value.to_bits().to_le_bytes());
        }
    }
    push_starts(&mut out, &batch.start_ms, parts().flat_map(|part| part.samples));
    for part in parts() {
        for sample in &batch.histograms[part.histograms] {
            push_time(&mut out, sample.timestamp_ms);
        }
    }
    push_starts(&mut out, &batch.histogram_start_ms, parts().flat_map(|part| part.histograms));
    let all: Vec<_> =
        parts().flat_map(|part| &batch.histograms[part.histograms]).map(|h| Arc::clone(&h.histogram)).collect();
    push_histograms(&mut out, &all);
    for part in parts() {
        for exemplar in &batch.exemplars[part.exemplars] {
            push_time(&mut out, exemplar.timestamp_ms);
            out.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
            push_slice(&mut out, exemplar.labels.encoded());
        }
    }
    push_metadata(&mut out, metadata);
    Payload::new(Kind::Batch, out)
}

/// Decodes a batch: tenant, the log's ids of its runs, and the batch (its runs without labels).
pub(crate) fn decode_batch(plain: &[u8]) -> Result<(TenantId, Vec<u64>, MetricBatch), ChunkError> {
    let mut reader = Reader::new(plain);
    let tenant = read_tenant(&mut reader)?;
    // A run takes at least its id and three counts.
    let run_count = reader.count("run count", reader.rest().len() / 4)?;
    let mut log_ids = Vec::with_capacity(run_count);
    let mut log_id = 0_u64;
    for _ in 0..run_count {
        log_id = log_id.wrapping_add(reader.zigzag()? as u64);
        log_ids.push(log_id);
    }
    let mut batch = MetricBatch { series: vec![SeriesRun::empty(); run_count], ..MetricBatch::default() };
    let (mut totals, mut column) = ([0; 3], 0);
    for set in [
        |run: &mut SeriesRun, r| run.samples = r,
        |run: &mut SeriesRun, r| run.histograms = r,
        |run: &mut SeriesRun, r| run.exemplars = r,
    ] {
        for run in &mut batch.series {
            let start: usize = totals[column];
            let end = start + reader.count("item count", plain.len())?;
            set(run, start..end);
            totals[column] = end;
        }
        // Every item takes at least one byte.
        if totals[column] > plain.len() {
            return Err(ChunkError::OutOfBounds { what: "item count" });
        }
        column += 1;
    }
    batch.samples.reserve_exact(totals[0]);
    let mut time = 0_i64;
    let mut take_time = |reader: &mut Reader<'_>| -> Result<i64, ChunkError> {
        time = time.wrapping_add(reader.zigzag()?);
        Ok(time)
    };
    for _ in 0..totals[0] {
        batch.samples.push(Sample { timestamp_ms: take_time(&mut reader)?, value: 0.0 });
    }
    for sample in &mut batch.samples {
        sample.value = f64::from_bits(reader.u64()?);
    }
    batch.start_ms = take_starts(&mut reader, totals[0])?;
    let times = (0..totals[1]).map(|_| take_time(&mut reader)).collect::<Result<Vec<_>, _>>()?;
    batch.histogram_start_ms = take_starts(&mut reader, totals[1])?;
    let mut found = Vec::with_capacity(times.len());
    while found.len() < times.len() {
        let group = (times.len() - found.len()).min(HISTOGRAM_GROUP);
        histograms::decode(reader.slice()?, group, &mut found)?;
    }
    let pairs = times.into_iter().zip(found);
    batch.histograms = pairs.map(|(timestamp_ms, histogram)| HistogramSample { timestamp_ms, histogram }).collect();
    for _ in 0..totals[2] {
        let timestamp_ms = take_time(&mut reader)?;
        let value = f64::from_bits(reader.u64()?);
        let labels =
            Labels::from_encoded(reader.slice()?).map_err(|_| ChunkError::OutOfBounds { what: "exemplar labels" })?;
        batch.exemplars.push(Exemplar { labels, timestamp_ms, value });
    }
    batch.metadata = take_metadata(&mut reader)?;
    Ok((tenant, log_ids, batch))
}

/// Appends a column of counts of `items` in all.
fn push_counts(out: &mut Vec<u8>, runs: usize, items: usize, counts: impl Iterator<Item = usize>) {
    if items == 0 {
        // A byte each, as any count below 128.
        out.resize(out.len() + runs, 0);
        return;
    }
    counts.for_each(|count| push_varint(out, count as u64));
}

fn push_starts(out: &mut Vec<u8>, starts: &[i64], indexes: impl Iterator<Item = usize>) {
    out.push(u8::from(!starts.is_empty()));
    if starts.is_empty() {
        return;
    }
    let mut previous = 0_i64;
    for index in indexes {
        push_zigzag(out, starts[index].wrapping_sub(previous));
        previous = starts[index];
    }
}

fn take_starts(reader: &mut Reader<'_>, count: usize) -> Result<Vec<i64>, ChunkError> {
    if reader.byte()? == 0 {
        return Ok(Vec::new());
    }
    let mut previous = 0_i64;
    (0..count)
        .map(|_| {
            previous = previous.wrapping_add(reader.zigzag()?);
            Ok(previous)
        })
        .collect()
}

fn push_histograms(out: &mut Vec<u8>, all: &[Arc<Histogram>]) {
    for group in all.chunks(HISTOGRAM_GROUP) {
        let mut bytes = Vec::new();
        histograms::encode(group, Form::Young, &mut bytes);
        push_slice(out, &bytes);
    }
}

/// Appends metadata; the same bytes in log records and in the tenant's metadata file.
pub(crate) fn push_metadata(out: &mut Vec<u8>, all: &[MetricMetadata]) {
    push_varint(out, all.len() as u64);
    for metadata in all {
        out.push(kind_byte(metadata.kind));
        for text in [&metadata.metric, &metadata.help, &metadata.unit] {
            push_slice(out, text.as_bytes());
        }
    }
}

/// Reads what [`push_metadata`] wrote.
pub(crate) fn take_metadata(reader: &mut Reader<'_>) -> Result<Vec<MetricMetadata>, ChunkError> {
    let count = reader.count("metadata count", reader.rest().len())?;
    (0..count)
        .map(|_| {
            let kind = kind_of(reader.byte()?)?;
            let mut text = || -> Result<String, ChunkError> {
                let bytes = reader.slice()?;
                String::from_utf8(bytes.to_vec()).map_err(|_| ChunkError::OutOfBounds { what: "metadata text" })
            };
            Ok(MetricMetadata { kind, metric: text()?, help: text()?, unit: text()? })
        })
        .collect()
}

fn read_tenant(reader: &mut Reader<'_>) -> Result<TenantId, ChunkError> {
    let text = std::str::from_utf8(reader.slice()?).ok();
    text.and_then(|text| text.parse().ok()).ok_or(ChunkError::OutOfBounds { what: "tenant name" })
}

const KINDS: [MetricKind; 8] = [
    MetricKind::Unknown,
    MetricKind::Counter,
    MetricKind::Gauge,
    MetricKind::Histogram,
    MetricKind::GaugeHistogram,
    MetricKind::Summary,
    MetricKind::Info,
    MetricKind::StateSet,
];

fn kind_byte(kind: MetricKind) -> u8 {
    KINDS.iter().position(|known| *known == kind).unwrap_or(0) as u8
}

fn kind_of(byte: u8) -> Result<MetricKind, ChunkError> {
    KINDS.get(usize::from(byte)).copied().ok_or(ChunkError::Unknown { what: "metric kind", found: byte })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pharos_model::{BatchBuilder, BucketSide, BucketSpan};
    use proptest::prelude::*;

    use crate::log::frame;

    /// The items of a batch by series, in order; and its metadata.
    type Items = (Vec<(u64, Vec<String>)>, Vec<MetricMetadata>);

    fn items(log_ids: &[u64], batch: &MetricBatch, found: &mut Items) {
        let start = |column: &[i64], at: usize| column.get(at).copied().unwrap_or(0);
        for (log_id, run) in log_ids.iter().zip(&batch.series) {
            let samples =
                run.samples.clone().map(|at| format!("{:?} {}", batch.samples[at], start(&batch.start_ms, at)));
            let histograms = run.histograms.clone();
            let histograms =
                histograms.map(|at| format!("{:?} {}", batch.histograms[at], start(&batch.histogram_start_ms, at)));
            let exemplars = batch.exemplars[run.exemplars.clone()].iter().map(|exemplar| format!("{exemplar:?}"));
            let of_run = samples.chain(histograms).chain(exemplars);
            match found.0.last_mut().filter(|(last, _)| last == log_id) {
                Some((_, last)) => last.extend(of_run),
                None => found.0.push((*log_id, of_run.collect())),
            }
        }
        found.1.extend_from_slice(&batch.metadata);
    }

    fn wide(buckets: u32) -> Histogram {
        let counts = (0..buckets).map(f64::from).collect();
        Histogram {
            positive: BucketSide { spans: vec![BucketSpan { offset: 0, length: buckets }], counts },
            ..Histogram::empty(0)
        }
    }

    fn arb_batch() -> impl Strategy<Value = (MetricBatch, Vec<SeriesNumber>)> {
        let series = (0..6_usize, 0..4_usize, 0..3_usize, 0..50_u32, any::<bool>(), 0..8_u32);
        let metadata = prop::collection::vec("[a-z]{1,40}", 0..4);
        (prop::collection::vec(series, 1..12), metadata).prop_map(|(all, metadata)| {
            let (mut builder, mut numbers) = (BatchBuilder::new(), Vec::new());
            for (at, (samples, histograms, exemplars, buckets, has_start, number)) in all.into_iter().enumerate() {
                let instant = |index: usize| (at * 1000 + index) as i64;
                let start_ms = if has_start { 5 } else { 0 };
                for index in 0..samples {
                    builder.push_sample(Sample { timestamp_ms: instant(index), value: index as f64 }, start_ms);
                }
                for index in 0..histograms {
                    builder.push_histogram(instant(index), wide(buckets), start_ms);
                }
                for index in 0..exemplars {
                    let labels = Labels::from_pairs([("x", "y")]).unwrap();
                    builder.push_exemplar(Exemplar { labels, timestamp_ms: instant(index), value: 0.5 });
                }
                if samples + histograms + exemplars > 0 {
                    builder.finish_series_shared(&Labels::from_pairs([("__name__", "m")]).unwrap());
                    numbers.push(if number == 0 { REFUSED } else { at as SeriesNumber });
                }
            }
            for metric in metadata {
                builder.push_metadata(MetricMetadata {
                    metric,
                    kind: MetricKind::Gauge,
                    help: String::new(),
                    unit: String::new(),
                });
            }
            (builder.build(), numbers)
        })
    }

    proptest! {
        /// Wherever a batch is cut, its records together say what it said, in order; and a smaller limit makes smaller records.
        #[test]
        fn a_batch_in_several_records_is_the_same((batch, numbers) in arb_batch(), bytes_max in 1..3000_usize) {
            let log_ids: Vec<u64> = (0..numbers.len() as u64).map(|at| at * 7 + 1).collect();
            let kept = log_ids.iter().zip(&batch.series).zip(&numbers).filter(|(_, number)| **number != REFUSED);
            let (kept_ids, series): (Vec<_>, Vec<_>) = kept.map(|((log_id, run), _)| (*log_id, run.clone())).unzip();
            let sent = MetricBatch { series, ..batch.clone() };
            let (mut expected, mut found) = (Items::default(), Items::default());
            items(&kept_ids, &sent, &mut expected);
            let tenant = TenantId::default();
            let records = encode_cut(&tenant, &batch, (&numbers, &log_ids), bytes_max).unwrap();
            for payload in &records {
                let mut bytes = Vec::new();
                payload.write(&mut bytes, 0);
                let plain = frame::read(&bytes).unwrap().plain;
                let (of, log_ids, one) = decode_batch(&plain).unwrap();
                prop_assert_eq!(of, tenant.clone());
                let item_count = one.sample_count() + one.exemplars.len() + one.metadata.len();
                prop_assert!(records.len() == 1 || item_count == 1 || plain.len() <= bytes_max + 64, "{}", plain.len());
                prop_assert!(item_count > 0 || records.len() == 1);
                items(&log_ids, &one, &mut found);
            }
            prop_assert_eq!(found, expected);
        }

        /// Bytes whose checksum happens to be right are still no reason to panic.
        #[test]
        fn hostile_records_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut with_tenant = vec![1, b'0'];
            with_tenant.extend(bytes);
            let _ = decode_batch(&with_tenant);
            let _ = Definitions::read(&with_tenant, |_, _| {});
        }
    }
}
