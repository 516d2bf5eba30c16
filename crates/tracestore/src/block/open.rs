//! A block opened: its checksum, and what stands in front of the catalogue.

use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use pharos_model::{SpanId, TraceId};
use xxhash_rust::xxh3::xxh3_64;

use super::VERSION;
use super::body::{Body, Ids};
use super::catalogue::Catalogue;
use super::frame::read_frame;
use super::ints::Ints;
use super::parents::Parent;
use super::schema::Level;
use crate::codec::{DecodeError, OriginHash, Reader, SpanSkeleton, kind_of, status_of};

const CHECKSUM_BYTES: usize = 8;
const TRACE_ID_BYTES: usize = 16;
const SPAN_ID_BYTES: usize = 8;
const ORIGIN_BYTES: usize = 16;
pub(super) const STATUS_SHIFT: u8 = 3;

/// A block over its bytes. Opening reads the list of traces; everything else is read where it is asked for, and the
/// catalogue of columns is inflated with the first question that needs it. Any number of threads may ask.
pub(crate) struct Block {
    byte_len: usize,
    pub(super) core: Core,
    pub(super) traces: Vec<BlockTrace>,
    stored_catalogue: StoredCatalogue,
    catalogue: OnceLock<Catalogue>,
}

/// Where a trace's spans are in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockTrace {
    pub(crate) trace_id: TraceId,
    /// Numbers of its spans.
    pub(crate) spans: Range<u32>,
    /// The earliest start among them.
    pub(crate) min_start_ns: u64,
}

/// Ids, times, parents and origins.
pub(super) struct Core {
    pub(super) span_count: usize,
    min_start_ns: u64,
    max_start_ns: u64,
    span_ids: Ids<SPAN_ID_BYTES>,
    pub(super) origins: Ids<ORIGIN_BYTES>,
    strangers: Ids<SPAN_ID_BYTES>,
    /// From the span before, or from the earliest of the trace.
    pub(super) start_steps: Ints,
    pub(super) durations: Ints,
    parents: Ints,
    pub(super) span_origins: Ints,
}

struct StoredCatalogue {
    bytes: Bytes,
    raw_len: usize,
    /// The bits of the catalogue's lists.
    bits: Body,
}

impl Block {
    /// Opens a block; it shares and keeps `bytes`.
    pub(crate) fn open(bytes: &Bytes) -> Result<Self, DecodeError> {
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(DecodeError::Truncated("block"))?;
        if xxh3_64(content) != u64::from_le_bytes(*checksum) {
            return Err(DecodeError::Checksum("block"));
        }
        Self::open_content(&bytes.slice(..content.len()))
    }

    /// Opens what stands in front of the checksum.
    pub(crate) fn open_content(content: &Bytes) -> Result<Self, DecodeError> {
        let mut front = Reader::new(content);
        match front.byte("block version")? {
            VERSION => {}
            other => return Err(DecodeError::Version(other)),
        }
        let mut head = Reader::new(front.bytes("block head")?);
        let mut body = Body::new(content.slice(content.len() - front.remaining()..));
        let span_count = head.varint("span count")?;
        let trace_count = head.varint("trace count")?;
        let origin_count = head.varint("origin count")?;
        let stranger_count = head.varint("stranger count")?;
        let min_start_ns = u64::from_le_bytes(head.array("earliest start")?);
        let max_start_ns = min_start_ns.wrapping_add(head.varint("latest start")?);
        let trace_ids: Ids<TRACE_ID_BYTES> = body.take_ids(trace_count, "trace ids")?;
        let span_ids = body.take_ids(span_count, "span ids")?;
        let origins = body.take_ids(origin_count, "origins")?;
        let strangers = body.take_ids(stranger_count, "parents from elsewhere")?;
        let span_count = span_ids.len();
        let trace_lens = Ints::read(&mut head, &mut body, trace_ids.len())?;
        let trace_starts = Ints::read(&mut head, &mut body, trace_ids.len())?;
        let traces = read_traces(&trace_ids, &trace_lens, &trace_starts, span_count, min_start_ns)?;
        let core = Core {
            span_count,
            min_start_ns,
            max_start_ns,
            span_ids,
            origins,
            strangers,
            start_steps: Ints::read(&mut head, &mut body, span_count)?,
            durations: Ints::read(&mut head, &mut body, span_count)?,
            parents: Ints::read(&mut head, &mut body, span_count)?,
            span_origins: Ints::read(&mut head, &mut body, span_count)?,
        };
        let raw_len = head.varint("catalogue length")?;
        let stored_len = head.varint("catalogue length")?;
        let length = |length| usize::try_from(length).map_err(|_| DecodeError::OutOfRange("catalogue length"));
        let bytes = body.take(length(stored_len)?, "catalogue")?;
        if !head.is_empty() {
            return Err(DecodeError::OutOfRange("length of the block head"));
        }
        let stored_catalogue = StoredCatalogue { bytes, raw_len: length(raw_len)?, bits: body };
        Ok(Self { byte_len: content.len(), core, traces, stored_catalogue, catalogue: OnceLock::new() })
    }

    pub(crate) fn span_count(&self) -> u32 {
        self.core.span_count as u32
    }

    /// The earliest and the latest start, Unix nanoseconds.
    pub(crate) fn starts(&self) -> (u64, u64) {
        (self.core.min_start_ns, self.core.max_start_ns)
    }

    /// The traces, in the order of their spans.
    pub(crate) fn traces(&self) -> &[BlockTrace] {
        &self.traces
    }

    /// Where the spans of a trace are: in one run, or none. Blocks that merges wrote once may have several.
    pub(crate) fn runs_of(&self, trace_id: TraceId) -> impl Iterator<Item = &BlockTrace> {
        self.traces.iter().filter(move |trace| trace.trace_id == trace_id)
    }

    /// The same block, its catalogue read.
    pub(crate) fn with_catalogue(self) -> Result<Self, DecodeError> {
        self.catalogue()?;
        Ok(self)
    }

    /// What it takes in memory once everything in it was inflated that its readers may ask for.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let catalogue = self.catalogue.get().map_or(self.stored_catalogue.raw_len, Catalogue::memory_bytes);
        (self.byte_len + self.traces.len() * size_of::<BlockTrace>() + size_of::<Self>() + catalogue) as u64
    }

    /// Ids of the spans in `spans`; the catalogue is not needed.
    pub(crate) fn span_ids(&self, spans: Range<u32>) -> Result<impl Iterator<Item = SpanId>, DecodeError> {
        let spans = self.checked(spans)?;
        Ok(self.core.span_ids[spans].iter().map(|id| SpanId(*id)))
    }

    /// Ids, times, kinds and states of the spans in `spans`, with origin and service.
    pub(crate) fn skeletons(
        &self,
        spans: Range<u32>,
    ) -> Result<impl Iterator<Item = Result<(OriginHash, &str, SpanSkeleton), DecodeError>>, DecodeError> {
        let spans = self.checked(spans)?;
        let catalogue = self.catalogue()?;
        let mut cursor = self.core_cursor(spans.start);
        Ok(spans.map(move |_| {
            let (origin, mut skeleton) = cursor.next()?;
            let bits = catalogue.tables[Level::Span as usize].class_of(cursor.span - 1).bits;
            set_bits(&mut skeleton, bits)?;
            Ok((OriginHash(self.core.origins[origin]), catalogue.service(origin), skeleton))
        }))
    }

    /// `spans` as indices, if the block has them.
    pub(super) fn checked(&self, spans: Range<u32>) -> Result<Range<usize>, DecodeError> {
        if spans.start > spans.end || spans.end > self.span_count() {
            return Err(DecodeError::OutOfRange("range of spans"));
        }
        Ok(spans.start as usize..spans.end as usize)
    }

    /// The catalogue, inflated when it is first asked for.
    pub(super) fn catalogue(&self) -> Result<&Catalogue, DecodeError> {
        if let Some(catalogue) = self.catalogue.get() {
            return Ok(catalogue);
        }
        let StoredCatalogue { bytes, raw_len, bits } = &self.stored_catalogue;
        let raw = read_frame(bytes, *raw_len)?;
        let catalogue = Catalogue::read(raw, bits.clone(), self.core.span_count, self.core.origins.len())?;
        Ok(self.catalogue.get_or_init(|| catalogue))
    }

    #[cfg(any(test, feature = "internals"))]
    pub(super) fn stored_catalogue_bytes(&self) -> &[u8] {
        &self.stored_catalogue.bytes
    }

    #[cfg(any(test, feature = "internals"))]
    pub(super) fn catalogue_bits_len(&self) -> usize {
        self.stored_catalogue.bits.remaining()
    }

    #[cfg(feature = "internals")]
    pub(super) fn core_sizes(&self) -> Vec<(String, usize)> {
        let core = &self.core;
        let parts = [
            ("trace ids", self.traces.len() * TRACE_ID_BYTES),
            ("span ids", size_of_val(&*core.span_ids)),
            ("origin hashes", size_of_val(&*core.origins)),
            ("parents from elsewhere", size_of_val(&*core.strangers)),
            ("starts", core.start_steps.byte_len()),
            ("durations", core.durations.byte_len()),
            ("parents", core.parents.byte_len()),
            ("origins", core.span_origins.byte_len()),
            ("catalogue", self.stored_catalogue.bytes.len()),
        ];
        parts.map(|(part, bytes)| (part.to_owned(), bytes)).to_vec()
    }

    pub(super) fn origin(&self, origin: usize) -> OriginHash {
        OriginHash(self.core.origins[origin])
    }

    /// Reads ids, times and origins from span number `span` on.
    pub(super) fn core_cursor(&self, span: usize) -> CoreCursor<'_> {
        let trace = self.traces.partition_point(|trace| trace.spans.end as usize <= span);
        let mut previous_ns = 0;
        if let Some(BlockTrace { spans, min_start_ns, .. }) = self.traces.get(trace) {
            let first = spans.start as usize;
            let steps = self.core.start_steps.iter_from(first).take(span - first);
            previous_ns = steps.fold(*min_start_ns, |start_ns, step| start_ns.wrapping_add(step as u64));
        }
        let next_stranger = if self.core.strangers.is_empty() {
            0
        } else {
            let is_stranger = |code: &i64| Parent::of_code(*code, 0) == Ok(Parent::Stranger);
            self.core.parents.iter().take(span).filter(is_stranger).count()
        };
        CoreCursor { block: self, span, trace, previous_ns, next_stranger }
    }
}

fn read_traces(
    trace_ids: &[[u8; TRACE_ID_BYTES]],
    lens: &Ints,
    starts: &Ints,
    span_count: usize,
    min_start_ns: u64,
) -> Result<Vec<BlockTrace>, DecodeError> {
    let mut first = 0_u32;
    let mut traces = Vec::with_capacity(trace_ids.len());
    for (index, id) in trace_ids.iter().enumerate() {
        let len = u32::try_from(lens.get(index)).map_err(|_| DecodeError::OutOfRange("spans of a trace"))?;
        let end = first.checked_add(len).filter(|end| len > 0 && *end as usize <= span_count);
        let end = end.ok_or(DecodeError::OutOfRange("spans of a trace"))?;
        traces.push(BlockTrace {
            trace_id: TraceId(*id),
            spans: first..end,
            min_start_ns: min_start_ns.wrapping_add(starts.get(index) as u64),
        });
        first = end;
    }
    if first as usize == span_count { Ok(traces) } else { Err(DecodeError::OutOfRange("spans of all traces")) }
}

/// Sets kind and status.
pub(super) fn set_bits(skeleton: &mut SpanSkeleton, bits: u8) -> Result<(), DecodeError> {
    skeleton.kind = kind_of(bits & ((1 << STATUS_SHIFT) - 1))?;
    skeleton.status = status_of(bits >> STATUS_SHIFT)?;
    Ok(())
}

/// Reads ids, times and origins of one span after the other.
pub(super) struct CoreCursor<'b> {
    block: &'b Block,
    /// The span that comes next.
    pub(super) span: usize,
    trace: usize,
    /// The start of the span before, or the earliest of the trace.
    previous_ns: u64,
    next_stranger: usize,
}

impl CoreCursor<'_> {
    /// The number of the origin, and the skeleton without kind and status.
    ///
    /// # Panics
    /// Behind the last span.
    pub(super) fn next(&mut self) -> Result<(usize, SpanSkeleton), DecodeError> {
        let Block { core, traces, .. } = self.block;
        let span = self.span;
        self.span += 1;
        if traces[self.trace].spans.end as usize <= span {
            self.trace += 1;
            self.previous_ns = traces[self.trace].min_start_ns;
        }
        let trace = &traces[self.trace];
        let first = trace.spans.start as usize;
        let parent_span_id = match Parent::of_code(core.parents.get(span), trace.spans.len())? {
            Parent::None => SpanId::default(),
            Parent::At(place) => SpanId(core.span_ids[first + place]),
            Parent::Stranger => {
                let id =
                    core.strangers.get(self.next_stranger).ok_or(DecodeError::Truncated("parents from elsewhere"))?;
                self.next_stranger += 1;
                SpanId(*id)
            }
        };
        let start_ns = self.previous_ns.wrapping_add(core.start_steps.get(span) as u64);
        self.previous_ns = start_ns;
        let origin = usize::try_from(core.span_origins.get(span)).ok().filter(|origin| *origin < core.origins.len());
        let skeleton = SpanSkeleton {
            span_id: SpanId(core.span_ids[span]),
            parent_span_id,
            kind: pharos_model::SpanKind::default(),
            status: pharos_model::StatusCode::default(),
            start_ns,
            end_ns: start_ns.wrapping_add(core.durations.get(span) as u64),
        };
        Ok((origin.ok_or(DecodeError::OutOfRange("number of the origin"))?, skeleton))
    }
}
