//! What the log keeps and partitions take: batches as rows by day and trace with the origins they name, and deletions.
//!
//! The sender's thread builds a batch ([`prepare`]), so that the one commit thread only writes and applies.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use pharos_model::{NS_PER_DAY, Span, SpanBatch, SpanGroup, SpanId, SpanKind, TenantId, TraceId};
use pharos_storage::{AppendOutcome, RejectReason, Rejection};
use xxhash_rust::xxh3::xxh3_64;

use crate::calls::CallSpan;
use crate::codec::{
    ATTRIBUTE_DEPTH_MAX, DecodeError, Origin, OriginHash, Reader, RowBuilder, RowReader, SpanSkeleton, Writer,
    attribute_depth, decode_origin, encode_origin,
};
use crate::partition::TailRow;

const VERSION: u8 = 2;
const BATCH: u8 = 0;
const DELETION: u8 = 1;
const CALLS: u8 = 2;
/// Spans of a service with a longer name are refused: it stands in every row, and in the keys of call counts.
const SERVICE_BYTES_MAX: usize = 4096;

/// A UTC day: the unit of partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Day(pub(crate) u32);

impl Day {
    pub(crate) fn of(unix_ns: u64) -> Self {
        // The largest u64 is day 213,503.
        Self((unix_ns / NS_PER_DAY) as u32)
    }

    pub(crate) fn start_ns(self) -> u64 {
        u64::from(self.0) * NS_PER_DAY
    }

    /// The reverse of `to_string`, for the days that have been; `None` for any other text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let year: u64 = text.get(..4)?.parse().ok()?;
        // Days are few: count from the first of the year.
        let first = year.checked_sub(1970)? * 365;
        (first..first + 366 + year / 4).map(|day| Self(day as u32)).find(|day| day.to_string() == text)
    }

    /// The last nanosecond of the day.
    pub(crate) fn last_ns(self) -> u64 {
        self.start_ns().saturating_add(NS_PER_DAY - 1)
    }
}

impl fmt::Display for Day {
    /// `2026-11-21`, from the civil-from-days rule of the proleptic Gregorian calendar.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = u64::from(self.0) + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// One span as the lists of services and the pairing of calls see it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SpanMention {
    pub(crate) service: Arc<str>,
    pub(crate) operation: String,
    pub(crate) kind: SpanKind,
    pub(crate) skeleton: SpanSkeleton,
}

/// Spans of one trace, encoded; shared by the record, the head and readers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) min_start_ns: u64,
    /// XXH3-64 of the value.
    pub(crate) hash: u64,
    pub(crate) value: Box<[u8]>,
}

impl Row {
    pub(crate) fn new(min_start_ns: u64, value: Vec<u8>) -> Self {
        Self { min_start_ns, hash: xxh3_64(&value), value: value.into_boxed_slice() }
    }
}

/// The spans of one trace that start on one day.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PreparedRow {
    pub(crate) day: Day,
    pub(crate) trace_id: TraceId,
    pub(crate) row: Arc<Row>,
    pub(crate) tail: TailRow,
    pub(crate) mentions: Vec<SpanMention>,
}

/// What a record of the log changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// Spans came.
    Batch(PreparedBatch),
    /// A trace goes.
    Deletion(Deletion),
    /// Calls of spans that are not stored.
    Calls(PreparedCalls),
}

/// Spans that are not stored, as far as calls are concerned, by trace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PreparedCalls {
    pub(crate) tenant: TenantId,
    pub(crate) traces: BTreeMap<TraceId, Vec<CallSpan>>,
}

/// A trace of a tenant that is deleted with all its spans so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deletion {
    pub(crate) tenant: TenantId,
    pub(crate) trace_id: TraceId,
}

/// A batch, ready to be logged and applied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PreparedBatch {
    pub(crate) tenant: TenantId,
    pub(crate) origins: Vec<(OriginHash, Vec<u8>)>,
    pub(crate) rows: Vec<PreparedRow>,
}

/// Which starts are accepted, both ends inside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AcceptedStarts {
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
}

/// An origin, its service, and its spans.
type RowGroup<'a> = (OriginHash, &'a str, Vec<&'a Span>);

/// Splits a batch into rows; what is not accepted is told in the outcome.
pub(crate) fn prepare(
    tenant: &TenantId,
    batch: &SpanBatch,
    accepted: AcceptedStarts,
) -> (PreparedBatch, AppendOutcome) {
    let mut outcome = AppendOutcome::default();
    let mut origins = BTreeMap::new();
    let mut rows: BTreeMap<(Day, TraceId), Vec<RowGroup<'_>>> = BTreeMap::new();
    for group in &batch.groups {
        if group.spans.is_empty() {
            continue;
        }
        if !is_group_accepted(group, &mut outcome) {
            continue;
        }
        let (origin, bytes) = encode_origin(&group.resource, &group.scope);
        let mut is_used = false;
        for span in &group.spans {
            if !is_accepted(span, accepted, &mut outcome) {
                continue;
            }
            is_used = true;
            outcome.items += 1;
            let groups = rows.entry((Day::of(span.start_ns), span.trace_id)).or_default();
            match groups.last_mut() {
                Some((last, _, spans)) if *last == origin => spans.push(span),
                _ => groups.push((origin, group.resource.service_name(), vec![span])),
            }
        }
        if is_used {
            origins.insert(origin, bytes);
        }
    }
    let rows = rows.into_iter().map(|((day, trace_id), groups)| build_row(day, trace_id, &groups)).collect();
    (PreparedBatch { tenant: tenant.clone(), origins: origins.into_iter().collect(), rows }, outcome)
}

/// Takes out of a batch what [`prepare`] would not accept, and says why.
pub(crate) fn screen(batch: &mut SpanBatch, accepted: AcceptedStarts) -> Vec<Rejection> {
    let mut outcome = AppendOutcome::default();
    batch.groups.retain_mut(|group| {
        let is_accepted_at_all = is_group_accepted(group, &mut outcome);
        group.spans.retain(|span| is_accepted_at_all && is_accepted(span, accepted, &mut outcome));
        !group.spans.is_empty()
    });
    outcome.rejections
}

fn is_group_accepted(group: &SpanGroup, outcome: &mut AppendOutcome) -> bool {
    let count = group.spans.len() as u64;
    let depth = attribute_depth(&group.resource.attributes).max(attribute_depth(&group.scope.attributes));
    if depth > ATTRIBUTE_DEPTH_MAX {
        outcome.reject(RejectReason::InvalidSpan, count, too_deep);
        return false;
    }
    if group.resource.service_name().len() > SERVICE_BYTES_MAX {
        outcome.reject(RejectReason::Limit, count, || format!("service.name has more than {SERVICE_BYTES_MAX} bytes"));
        return false;
    }
    true
}

/// What the pairing of calls needs of a batch. What is not accepted is left out.
pub(crate) fn prepare_calls(tenant: &TenantId, batch: &SpanBatch, accepted: AcceptedStarts) -> PreparedCalls {
    let mut traces: BTreeMap<TraceId, Vec<CallSpan>> = BTreeMap::new();
    for group in &batch.groups {
        let service = group.resource.service_name();
        if service.len() > SERVICE_BYTES_MAX {
            continue;
        }
        let service: Arc<str> = Arc::from(service);
        for span in group.spans.iter().filter(|span| (accepted.first_ns..=accepted.last_ns).contains(&span.start_ns)) {
            let call = CallSpan::new(&SpanSkeleton::of(span), Arc::clone(&service));
            traces.entry(span.trace_id).or_default().push(call);
        }
    }
    PreparedCalls { tenant: tenant.clone(), traces }
}

fn is_accepted(span: &Span, accepted: AcceptedStarts, outcome: &mut AppendOutcome) -> bool {
    if span.start_ns < accepted.first_ns {
        outcome.reject(RejectReason::TooOld, 1, || {
            format!("span {} of trace {} starts before the retention of traces", span.span_id, span.trace_id)
        });
        return false;
    }
    if span.start_ns > accepted.last_ns {
        outcome.reject(RejectReason::TooNew, 1, || {
            format!(
                "span {} of trace {} starts too far in the future: check the sender's clock",
                span.span_id, span.trace_id
            )
        });
        return false;
    }
    let events = span.events.iter().map(|event| &event.attributes);
    let links = span.links.iter().map(|link| &link.attributes);
    let mut attributes = std::iter::once(&span.attributes).chain(events).chain(links);
    if attributes.any(|attributes| attribute_depth(attributes) > ATTRIBUTE_DEPTH_MAX) {
        outcome.reject(RejectReason::InvalidSpan, 1, too_deep);
        return false;
    }
    true
}

fn too_deep() -> String {
    format!("attributes nest deeper than {ATTRIBUTE_DEPTH_MAX} arrays and maps")
}

fn build_row(day: Day, trace_id: TraceId, groups: &[RowGroup<'_>]) -> PreparedRow {
    let spans = || groups.iter().flat_map(|(_, _, spans)| spans.iter().copied());
    let min_start_ns = spans().map(|span| span.start_ns).min().unwrap_or(0);
    let mut builder = RowBuilder::default();
    let (mut tail, mut mentions) = (TailRow::default(), Vec::new());
    for (origin, service, spans) in groups {
        builder.push_group(*origin, service, spans, min_start_ns);
        let service: Arc<str> = Arc::from(*service);
        for span in spans {
            tail.push(*origin, span);
            mentions.push(SpanMention::of(&service, span));
        }
    }
    let row = Arc::new(Row::new(min_start_ns, builder.finish()));
    PreparedRow { day, trace_id, row, tail, mentions }
}

impl SpanMention {
    fn of(service: &Arc<str>, span: &Span) -> Self {
        let (operation, skeleton) = (span.name.clone(), SpanSkeleton::of(span));
        Self { service: Arc::clone(service), operation, kind: span.kind, skeleton }
    }
}

impl Change {
    /// What it takes in memory, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        match self {
            Self::Batch(prepared) => prepared.memory_bytes(),
            Self::Deletion(_) => size_of::<Deletion>() as u64,
            Self::Calls(calls) => {
                let spans: usize = calls.traces.values().map(Vec::len).sum();
                (calls.traces.len() * size_of::<TraceId>() + spans * size_of::<CallSpan>()) as u64
            }
        }
    }
}

impl PreparedBatch {
    /// What it takes in memory, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let origins: usize = self.origins.iter().map(|(_, bytes)| bytes.len() + size_of::<OriginHash>()).sum();
        let rows: usize = self.rows.iter().map(PreparedRow::memory_bytes).sum();
        (origins + rows) as u64
    }
}

impl PreparedRow {
    fn memory_bytes(&self) -> usize {
        let operations = self.mentions.iter().map(|mention| mention.operation.len());
        size_of::<Self>()
            + size_of::<Row>()
            + self.row.value.len()
            + self.tail.memory_bytes()
            + self.mentions.len() * size_of::<SpanMention>()
            + operations.sum::<usize>()
    }
}

/// A row with all that is derived from its value, for replay.
fn row_from_value(day: Day, trace_id: TraceId, min_start_ns: u64, value: Vec<u8>) -> Result<PreparedRow, DecodeError> {
    let (mut tail, mut mentions) = (TailRow::default(), Vec::new());
    let reader = RowReader::new(&value, min_start_ns)?;
    let mut service: Arc<str> = Arc::from("");
    for (row_span, whole) in reader.spans().iter().zip(reader.whole_spans(trace_id)) {
        let (origin, span) = whole?;
        if *service != *row_span.service {
            service = Arc::from(row_span.service);
        }
        tail.push(origin, &span);
        mentions.push(SpanMention::of(&service, &span));
    }
    Ok(PreparedRow { day, trace_id, row: Arc::new(Row::new(min_start_ns, value)), tail, mentions })
}

/// The content of a log record that brings spans.
pub(crate) fn encode_batch(batch: &PreparedBatch) -> Vec<u8> {
    let mut out = vec![VERSION, BATCH];
    out.put_bytes(batch.tenant.as_str().as_bytes());
    out.put_varint(batch.origins.len() as u64);
    for (_, bytes) in &batch.origins {
        out.put_bytes(bytes);
    }
    out.put_varint(batch.rows.len() as u64);
    for row in &batch.rows {
        out.put_varint(u64::from(row.day.0));
        out.extend_from_slice(&row.trace_id.0);
        out.extend_from_slice(&row.row.min_start_ns.to_le_bytes());
        out.put_bytes(&row.row.value);
    }
    out
}

/// The content of a log record that deletes a trace.
pub(crate) fn encode_deletion(deletion: &Deletion) -> Vec<u8> {
    let mut out = vec![VERSION, DELETION];
    out.put_bytes(deletion.tenant.as_str().as_bytes());
    out.extend_from_slice(&deletion.trace_id.0);
    out
}

/// The content of a log record that counts calls.
pub(crate) fn encode_calls(calls: &PreparedCalls) -> Vec<u8> {
    let mut out = vec![VERSION, CALLS];
    out.put_bytes(calls.tenant.as_str().as_bytes());
    let names: BTreeSet<&Arc<str>> = calls.traces.values().flatten().map(|span| &span.service).collect();
    let numbers: HashMap<&str, u64> = names.iter().zip(0..).map(|(name, number)| (&***name, number)).collect();
    out.put_varint(names.len() as u64);
    for name in &names {
        out.put_bytes(name.as_bytes());
    }
    out.put_varint(calls.traces.len() as u64);
    for (trace_id, spans) in &calls.traces {
        out.extend_from_slice(&trace_id.0);
        out.put_varint(spans.len() as u64);
        let mut base_ns = 0;
        for span in spans {
            out.extend_from_slice(&span.span_id.0);
            out.extend_from_slice(&span.parent_span_id.0);
            out.put_delta(span.start_ns, base_ns);
            out.put_varint(numbers[&*span.service]);
            base_ns = span.start_ns;
        }
    }
    out
}

/// The reverse of [`encode_batch`], [`encode_calls`] and [`encode_deletion`].
pub(crate) fn decode_change(content: &[u8]) -> Result<Change, DecodeError> {
    let mut reader = Reader::new(content);
    match reader.byte("record version")? {
        VERSION => {}
        other => return Err(DecodeError::Version(other)),
    }
    let kind = reader.byte("record kind")?;
    let tenant: TenantId = reader.text("tenant")?.parse().map_err(|_| DecodeError::OutOfRange("tenant"))?;
    let change = match kind {
        BATCH => Change::Batch(read_batch(&mut reader, tenant)?),
        DELETION => Change::Deletion(Deletion { tenant, trace_id: TraceId(reader.array("trace id")?) }),
        CALLS => Change::Calls(read_calls(&mut reader, tenant)?),
        _ => return Err(DecodeError::OutOfRange("record kind")),
    };
    if reader.is_empty() { Ok(change) } else { Err(DecodeError::OutOfRange("record length")) }
}

fn read_batch(reader: &mut Reader<'_>, tenant: TenantId) -> Result<PreparedBatch, DecodeError> {
    let origin_count = reader.count("origin count")?;
    let mut origins = HashMap::new();
    for _ in 0..origin_count {
        let bytes = reader.bytes("origin")?;
        let Origin { resource, scope } = decode_origin(bytes)?;
        let (hash, _) = encode_origin(&resource, &scope);
        origins.insert(hash, bytes.to_vec());
    }
    let row_count = reader.count("row count")?;
    let mut rows = Vec::new();
    for _ in 0..row_count {
        let day = Day(reader.varint_u32("day")?);
        let trace_id = TraceId(reader.array("trace id")?);
        let min_start_ns = u64::from_le_bytes(reader.array("start")?);
        let value = reader.bytes("row")?.to_vec();
        rows.push(row_from_value(day, trace_id, min_start_ns, value)?);
    }
    let mut origins: Vec<_> = origins.into_iter().collect();
    origins.sort();
    Ok(PreparedBatch { tenant, origins, rows })
}

fn read_calls(reader: &mut Reader<'_>, tenant: TenantId) -> Result<PreparedCalls, DecodeError> {
    let name_count = reader.count("service count")?;
    let mut names: Vec<Arc<str>> = Vec::new();
    for _ in 0..name_count {
        names.push(Arc::from(reader.text("service")?));
    }
    let trace_count = reader.count("trace count")?;
    let mut traces = BTreeMap::new();
    for _ in 0..trace_count {
        let trace_id = TraceId(reader.array("trace id")?);
        let span_count = reader.count("span count")?;
        let (mut spans, mut base_ns) = (Vec::new(), 0);
        for _ in 0..span_count {
            let (span_id, parent_span_id) = (SpanId(reader.array("span id")?), SpanId(reader.array("parent")?));
            let start_ns = reader.delta(base_ns, "start")?;
            let service = names.get(reader.varint_u32("service")? as usize).cloned();
            let service = service.ok_or(DecodeError::OutOfRange("service"))?;
            spans.push(CallSpan { span_id, parent_span_id, start_ns, service });
            base_ns = start_ns;
        }
        traces.insert(trace_id, spans);
    }
    Ok(PreparedCalls { tenant, traces })
}

#[cfg(test)]
mod tests {
    use pharos_storage::conformance::traces::SpanGenerator;
    use proptest::prelude::*;

    use super::*;

    const NOW_NS: u64 = 1_795_230_000_000_000_000;

    fn prepared(seed: u64) -> PreparedBatch {
        let accepted = AcceptedStarts { first_ns: 0, last_ns: u64::MAX };
        prepare(&TenantId::default(), &SpanGenerator::new(seed, NOW_NS, 9).batch(), accepted).0
    }

    fn prepared_calls(seed: u64) -> PreparedCalls {
        let accepted = AcceptedStarts { first_ns: 0, last_ns: u64::MAX };
        prepare_calls(&TenantId::default(), &SpanGenerator::new(seed, NOW_NS, 9).batch(), accepted)
    }

    #[test]
    fn days_are_written_as_dates_and_read_back() {
        for (unix_ns, text) in [(0, "1970-01-01"), (951_782_400_000_000_000, "2000-02-29"), (NOW_NS, "2026-11-21")] {
            let day = Day::of(unix_ns);
            assert_eq!(day.to_string(), text);
            assert_eq!(Day::parse(text), Some(day));
        }
        for wrong in ["", "2026-11-31", "2026-1-01", "1969-12-31", "2026-11-21x", "dropped-2026-11-21"] {
            assert_eq!(Day::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        /// A record that is replayed has the rows, numbers for the tail and mentions of the one that was sent.
        #[test]
        fn records_round_trip(seed: u64) {
            let sent = prepared(seed);
            prop_assert_eq!(decode_change(&encode_batch(&sent)).unwrap(), Change::Batch(sent));
            let deletion = Deletion { tenant: TenantId::default(), trace_id: TraceId(u128::from(seed).to_be_bytes()) };
            prop_assert_eq!(decode_change(&encode_deletion(&deletion)).unwrap(), Change::Deletion(deletion));
            let calls = prepared_calls(seed);
            prop_assert_eq!(decode_change(&encode_calls(&calls)).unwrap(), Change::Calls(calls));
        }

        /// Damaged records are errors or other records, never a panic.
        #[test]
        fn damaged_records_never_panic(seed: u64, at: prop::sample::Index, byte: u8, cut: bool) {
            let is_batch = seed % 2 == 0;
            let mut bytes = if is_batch { encode_batch(&prepared(seed)) } else { encode_calls(&prepared_calls(seed)) };
            let index = at.index(bytes.len());
            bytes[index] = byte;
            if cut {
                bytes.truncate(index);
            }
            let _ = decode_change(&bytes);
        }
    }
}
