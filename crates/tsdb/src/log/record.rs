//! What records say: definitions of series, and batches that refer to them.

use std::sync::Arc;

use pharos_chunk::bytes::{Reader, push_slice, push_varint, push_zigzag};
use pharos_chunk::{ChunkError, Form, histograms};
use pharos_model::{
    Exemplar, Histogram, HistogramSample, Labels, MetricBatch, MetricKind, MetricMetadata, Sample, SeriesRun, TenantId,
};

use super::frame::{Kind, Payload, Record};
use crate::head::generation::REFUSED;
use crate::head::registry::SeriesNumber;

/// Histograms encoded together.
const HISTOGRAM_GROUP: usize = 128;

/// A record, taken apart.
#[derive(Debug)]
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

/// Encodes a batch. `numbers` are the series of its runs, refused ones left out; `log_ids` what the log
/// calls them. `None` if it is too large for a record.
pub(crate) fn encode_batch(
    tenant: &TenantId,
    batch: &MetricBatch,
    numbers: &[SeriesNumber],
    log_ids: &[u64],
) -> Option<Payload> {
    let mut out = Vec::with_capacity(64 + batch.series.len() * 6 + batch.samples.len() * 11);
    push_slice(&mut out, tenant.as_str().as_bytes());
    let kept = || batch.series.iter().zip(numbers).zip(log_ids).filter(|((_, number), _)| **number != REFUSED);
    let kept_count = if numbers.contains(&REFUSED) { kept().count() } else { numbers.len() };
    push_varint(&mut out, kept_count as u64);
    let mut previous = 0_u64;
    for (_, log_id) in kept() {
        push_zigzag(&mut out, log_id.wrapping_sub(previous) as i64);
        previous = *log_id;
    }
    let runs = || kept().map(|((run, _), _)| run);
    push_counts(&mut out, kept_count, batch.samples.len(), runs().map(|run| run.samples.len()));
    push_counts(&mut out, kept_count, batch.histograms.len(), runs().map(|run| run.histograms.len()));
    push_counts(&mut out, kept_count, batch.exemplars.len(), runs().map(|run| run.exemplars.len()));
    let mut previous = 0_i64;
    let mut push_time = |out: &mut Vec<u8>, time: i64| {
        push_zigzag(out, time.wrapping_sub(previous));
        previous = time;
    };
    for run in runs() {
        for sample in &batch.samples[run.samples.clone()] {
            push_time(&mut out, sample.timestamp_ms);
        }
    }
    for run in runs() {
        for sample in &batch.samples[run.samples.clone()] {
            out.extend_from_slice(&sample.value.to_bits().to_le_bytes());
        }
    }
    push_starts(&mut out, &batch.start_ms, runs().flat_map(|run| run.samples.clone()));
    for run in runs() {
        for sample in &batch.histograms[run.histograms.clone()] {
            push_time(&mut out, sample.timestamp_ms);
        }
    }
    push_starts(&mut out, &batch.histogram_start_ms, runs().flat_map(|run| run.histograms.clone()));
    let all: Vec<_> =
        runs().flat_map(|run| &batch.histograms[run.histograms.clone()]).map(|h| Arc::clone(&h.histogram)).collect();
    // What could not be read back must not be acknowledged.
    let buckets = |group: &[Arc<Histogram>]| group.iter().map(|one| histograms::bucket_count(one)).sum::<usize>();
    if all.chunks(HISTOGRAM_GROUP).any(|group| group.len() > 1 && buckets(group) > histograms::CHUNK_BUCKETS_MAX) {
        return None;
    }
    push_histograms(&mut out, &all);
    for run in runs() {
        for exemplar in &batch.exemplars[run.exemplars.clone()] {
            push_time(&mut out, exemplar.timestamp_ms);
            out.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
            push_slice(&mut out, exemplar.labels.encoded());
        }
    }
    push_metadata(&mut out, &batch.metadata);
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
    use proptest::prelude::*;

    proptest! {
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
