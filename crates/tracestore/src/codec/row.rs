//! One row: the spans of one trace in one batch that start on one day, as the log has them and the head keeps them.
//!
//! In front stand the skeletons of all spans (ids, times, kind, status); summaries and the pairing of
//! calls read nothing else. The details follow; a sealed block takes them as they are.

use pharos_model::{Span, SpanId, SpanKind, StatusCode, TraceId};

use super::origin::OriginHash;
use super::span::{put_details, read_details, read_name};
use super::wire::{DecodeError, Reader, Writer};

const VERSION: u8 = 2;

const KIND_MASK: u8 = 0b111;
const STATUS_SHIFT: u8 = 3;
const STATUS_MASK: u8 = 0b11;
const HAS_PARENT: u8 = 1 << 5;
const ALL_BITS: u8 = (1 << 6) - 1;

/// Builds the value of a row, group by group.
#[derive(Debug, Default)]
pub(crate) struct RowBuilder {
    group_count: u64,
    groups: Vec<u8>,
    skeletons: Vec<u8>,
    details: Vec<u8>,
    scratch: Vec<u8>,
}

impl RowBuilder {
    /// Adds the spans of one origin; `min_start_ns` is the earliest start of the whole row.
    pub(crate) fn push_group(&mut self, origin: OriginHash, service: &str, spans: &[&Span], min_start_ns: u64) {
        self.group_count += 1;
        self.groups.extend_from_slice(&origin.0);
        self.groups.put_bytes(service.as_bytes());
        self.groups.put_varint(spans.len() as u64);
        for span in spans {
            let has_parent = !span.parent_span_id.is_zero();
            let bits = kind_code(span.kind) | status_code(span.status.code) << STATUS_SHIFT;
            self.skeletons.push(bits | if has_parent { HAS_PARENT } else { 0 });
            self.skeletons.extend_from_slice(&span.span_id.0);
            if has_parent {
                self.skeletons.extend_from_slice(&span.parent_span_id.0);
            }
            self.skeletons.put_delta(span.start_ns, min_start_ns);
            self.skeletons.put_delta(span.end_ns, span.start_ns);
            self.scratch.clear();
            put_details(&mut self.scratch, span);
            self.details.put_bytes(&self.scratch);
        }
    }

    /// The value.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.groups.len() + self.skeletons.len() + self.details.len());
        out.push(VERSION);
        out.put_varint(self.group_count);
        out.extend_from_slice(&self.groups);
        out.extend_from_slice(&self.skeletons);
        out.extend_from_slice(&self.details);
        out
    }
}

/// What every reader of a row needs of a span, without its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanSkeleton {
    pub(crate) span_id: SpanId,
    pub(crate) parent_span_id: SpanId,
    pub(crate) kind: SpanKind,
    pub(crate) status: StatusCode,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
}

impl SpanSkeleton {
    pub(crate) fn of(span: &Span) -> Self {
        Self {
            span_id: span.span_id,
            parent_span_id: span.parent_span_id,
            kind: span.kind,
            status: span.status.code,
            start_ns: span.start_ns,
            end_ns: span.end_ns,
        }
    }

    /// A span that has no details yet.
    pub(crate) fn to_span(self, trace_id: TraceId) -> Span {
        let mut span = Span {
            trace_id,
            span_id: self.span_id,
            parent_span_id: self.parent_span_id,
            kind: self.kind,
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            ..Span::default()
        };
        span.status.code = self.status;
        span
    }
}

/// One span of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowSpan<'a> {
    pub(crate) origin: OriginHash,
    pub(crate) service: &'a str,
    pub(crate) skeleton: SpanSkeleton,
}

/// Reads a row.
#[derive(Debug)]
pub(crate) struct RowReader<'a> {
    spans: Vec<RowSpan<'a>>,
    details: Reader<'a>,
}

impl<'a> RowReader<'a> {
    /// Reads the groups and skeletons.
    pub(crate) fn new(value: &'a [u8], min_start_ns: u64) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        match reader.byte("row version")? {
            VERSION => {}
            other => return Err(DecodeError::Version(other)),
        }
        let group_count = reader.count("group count")?;
        let mut groups = Vec::new();
        for _ in 0..group_count {
            let origin = OriginHash(reader.array("origin")?);
            groups.push((origin, reader.text("service")?, reader.varint("span count")?));
        }
        let mut spans = Vec::new();
        for (origin, service, span_count) in groups {
            for _ in 0..span_count {
                spans.push(RowSpan { origin, service, skeleton: read_skeleton(&mut reader, min_start_ns)? });
            }
        }
        Ok(Self { spans, details: reader })
    }

    /// The spans in the order they were sent.
    pub(crate) fn spans(&self) -> &[RowSpan<'a>] {
        &self.spans
    }

    /// The name of span number `index`.
    pub(crate) fn name(&self, index: usize) -> Result<&'a str, DecodeError> {
        let mut details = self.details;
        for _ in 0..index {
            details.bytes("span details")?;
        }
        read_name(details.bytes("span details")?)
    }

    /// Each span with its details as bytes, in the order they were sent.
    pub(crate) fn spans_with_details(
        &self,
    ) -> impl Iterator<Item = Result<(&RowSpan<'a>, &'a [u8]), DecodeError>> + use<'_, 'a> {
        let mut details = self.details;
        self.spans.iter().map(move |span| Ok((span, details.bytes("span details")?)))
    }

    /// Each span whole, in the order they were sent; the trace id is not in the row.
    pub(crate) fn whole_spans(
        &self,
        trace_id: TraceId,
    ) -> impl Iterator<Item = Result<(OriginHash, Span), DecodeError>> + use<'_, 'a> {
        self.spans_with_details().map(move |raw| {
            let (row_span, details) = raw?;
            let mut span = row_span.skeleton.to_span(trace_id);
            read_details(details, &mut span)?;
            Ok((row_span.origin, span))
        })
    }
}

/// A row whose spans are wanted in any order, and perhaps many of them.
pub(crate) struct OpenRow<'a> {
    spans: Vec<RowSpan<'a>>,
    details: Vec<&'a [u8]>,
}

impl<'a> OpenRow<'a> {
    /// Walks over the whole row once.
    pub(crate) fn new(value: &'a [u8], min_start_ns: u64) -> Result<Self, DecodeError> {
        let RowReader { spans, mut details } = RowReader::new(value, min_start_ns)?;
        let details = spans.iter().map(|_| details.bytes("span details")).collect::<Result<_, _>>()?;
        Ok(Self { spans, details })
    }

    /// Span number `index`.
    pub(crate) fn whole_span(&self, trace_id: TraceId, index: usize) -> Result<Span, DecodeError> {
        let found = self.spans.get(index).zip(self.details.get(index));
        let (row_span, details) = found.ok_or(DecodeError::OutOfRange("span number"))?;
        let mut span = row_span.skeleton.to_span(trace_id);
        read_details(details, &mut span)?;
        Ok(span)
    }
}

fn read_skeleton(reader: &mut Reader<'_>, min_start_ns: u64) -> Result<SpanSkeleton, DecodeError> {
    let bits = reader.byte("span bits")?;
    if bits & !ALL_BITS != 0 {
        return Err(DecodeError::OutOfRange("span bits"));
    }
    let span_id = SpanId(reader.array("span id")?);
    let parent_span_id = if bits & HAS_PARENT != 0 { SpanId(reader.array("parent id")?) } else { SpanId::default() };
    let start_ns = reader.delta(min_start_ns, "span start")?;
    let end_ns = reader.delta(start_ns, "span end")?;
    let kind = kind_of(bits & KIND_MASK)?;
    let status = status_of(bits >> STATUS_SHIFT & STATUS_MASK)?;
    Ok(SpanSkeleton { span_id, parent_span_id, kind, status, start_ns, end_ns })
}

pub(crate) fn kind_code(kind: SpanKind) -> u8 {
    match kind {
        SpanKind::Unspecified => 0,
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

pub(crate) fn kind_of(code: u8) -> Result<SpanKind, DecodeError> {
    Ok(match code {
        0 => SpanKind::Unspecified,
        1 => SpanKind::Internal,
        2 => SpanKind::Server,
        3 => SpanKind::Client,
        4 => SpanKind::Producer,
        5 => SpanKind::Consumer,
        _ => return Err(DecodeError::OutOfRange("span kind")),
    })
}

pub(crate) fn status_code(code: StatusCode) -> u8 {
    match code {
        StatusCode::Unset => 0,
        StatusCode::Ok => 1,
        StatusCode::Error => 2,
    }
}

pub(crate) fn status_of(code: u8) -> Result<StatusCode, DecodeError> {
    Ok(match code {
        0 => StatusCode::Unset,
        1 => StatusCode::Ok,
        2 => StatusCode::Error,
        _ => return Err(DecodeError::OutOfRange("span status")),
    })
}
