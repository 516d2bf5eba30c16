//! The tail: spans that are searched in memory because no segment has them yet.
//!
//! For each span it has times, kind, status and the numbers of its values ([`crate::search::put_numbers`]); what these
//! propose is verified on the row. Spans lie in chunks in the order they came; chunks are shared with searches, which take
//! them under a lock and read them without.

mod listed;

use std::sync::Arc;

use hashbrown::HashMap;
use pharos_model::{Span, SpanKind, StatusCode, TraceId};
use pharos_storage::{StorageError, render_attribute_value, span_passes};

use crate::TraceStoreError;
use crate::codec::{OpenRow, Origin, OriginHash};
use crate::record::{Day, Row};
use crate::search::{
    Clause, Hint, OriginSource, Progress, Search, TermSubject, TopTraces, is_of, put_numbers, value_number,
};

const CHUNK_SPANS: usize = 2048;
/// Bits of a full chunk's filter: about eight times the distinct values of usual spans.
const FILTER_BITS_MAX: usize = 1 << 16;
/// Bits of a new chunk's: a tenant may have few spans.
const FILTER_BITS_MIN: usize = 1 << 9;
/// Bits for each number, as long as the filter grows.
const FILTER_BITS_PER_NUMBER: usize = 8;

/// What a search in memory knows of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TailSpan {
    start_ns: u64,
    duration_ns: u64,
    kind: SpanKind,
    status: StatusCode,
    /// Where its numbers end.
    numbers_end: u32,
}

/// The spans of a row, made ready for the tail by whoever sent it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TailRow {
    spans: Vec<(OriginHash, TailSpan)>,
    numbers: Vec<u32>,
}

impl TailRow {
    pub(crate) fn push(&mut self, origin: OriginHash, span: &Span) {
        put_numbers(&mut self.numbers, span);
        self.spans.push((
            origin,
            TailSpan {
                start_ns: span.start_ns,
                duration_ns: span.duration_ns(),
                kind: span.kind,
                status: span.status.code,
                numbers_end: self.numbers.len() as u32,
            },
        ));
    }

    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<(OriginHash, TailSpan)>() + self.numbers.capacity() * size_of::<u32>()
    }
}

/// How much waits for a checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TailSize {
    pub(crate) spans: u64,
    pub(crate) bytes: u64,
}

impl std::ops::Add for TailSize {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { spans: self.spans + other.spans, bytes: self.bytes + other.bytes }
    }
}

impl std::iter::Sum for TailSize {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::default(), |total, size| total + size)
    }
}

/// Spans by tenant number, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Tail {
    tenants: HashMap<u32, Vec<Arc<Chunk>>>,
    size: TailSize,
}

impl Tail {
    pub(super) fn push(&mut self, tenant: u32, trace_id: TraceId, row: &Arc<Row>, spans: &TailRow) {
        let chunks = self.tenants.entry(tenant).or_default();
        let mut bytes_before = 0;
        if chunks.last().is_none_or(|chunk| chunk.spans.len() + spans.len() > CHUNK_SPANS) {
            // Nothing more comes into the last one.
            if let Some(full) = chunks.last_mut().and_then(Arc::get_mut) {
                let bytes = full.memory_bytes();
                full.numbers.shrink_to_fit();
                full.spans.shrink_to_fit();
                self.size.bytes = (self.size.bytes + full.memory_bytes()).saturating_sub(bytes);
            }
            chunks.push(Arc::default());
        }
        if let Some(chunk) = chunks.last_mut() {
            bytes_before = if chunk.spans.is_empty() { 0 } else { chunk.memory_bytes() };
            // Copied only while a search reads it.
            Arc::make_mut(chunk).push(trace_id, row, spans);
        }
        let bytes = chunks.last().map_or(0, |chunk| chunk.memory_bytes());
        self.size.spans += spans.len() as u64;
        self.size.bytes = (self.size.bytes + bytes).saturating_sub(bytes_before);
    }

    /// Forgets a trace.
    pub(super) fn remove(&mut self, tenant: u32, trace_id: TraceId) {
        for chunk in self.tenants.get_mut(&tenant).into_iter().flatten() {
            if chunk.rows.iter().any(|(of, row)| *of == trace_id && row.is_some()) {
                let rows = Arc::make_mut(chunk).rows.iter_mut();
                rows.filter(|(of, _)| *of == trace_id).for_each(|(_, row)| *row = None);
            }
        }
    }

    /// Forgets a tenant.
    pub(super) fn remove_tenant(&mut self, tenant: u32) {
        for chunk in self.tenants.remove(&tenant).into_iter().flatten() {
            self.size.spans -= chunk.spans.len() as u64;
            self.size.bytes = self.size.bytes.saturating_sub(chunk.memory_bytes());
        }
    }

    /// Spans and the memory they take beside their rows.
    pub(super) fn size(&self) -> TailSize {
        self.size
    }

    pub(super) fn chunks(&self, tenant: u32) -> &[Arc<Chunk>] {
        self.tenants.get(&tenant).map_or(&[], Vec::as_slice)
    }
}

#[derive(Debug, Clone, Copy)]
struct ChunkSpan {
    row: u32,
    /// Its place in the row.
    place: u32,
    /// The number of its origin in the chunk.
    origin: u32,
    of_tail: TailSpan,
}

/// Some spans of one tenant.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    /// A row that was deleted is none.
    rows: Vec<(TraceId, Option<Arc<Row>>)>,
    spans: Vec<ChunkSpan>,
    numbers: Vec<u32>,
    origins: Vec<OriginHash>,
    origin_numbers: HashMap<OriginHash, u32>,
    /// Which numbers are not there; a power of two of bits.
    filter: Vec<u64>,
    start_max_ns: u64,
}

impl Default for Chunk {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            spans: Vec::new(),
            numbers: Vec::new(),
            origins: Vec::new(),
            origin_numbers: HashMap::new(),
            filter: vec![0; FILTER_BITS_MIN / u64::BITS as usize],
            start_max_ns: 0,
        }
    }
}

/// A clause in a chunk.
struct ChunkClause {
    /// Origins of which it is true.
    origins: Vec<bool>,
    numbers: Vec<u32>,
    subjects: Vec<u32>,
    kinds: Vec<SpanKind>,
    statuses: Vec<StatusCode>,
    min_ns: Option<u64>,
    is_always: bool,
}

impl Chunk {
    fn push(&mut self, trace_id: TraceId, row: &Arc<Row>, added: &TailRow) {
        let (row_number, numbers_start) = (self.rows.len() as u32, self.numbers.len() as u32);
        self.rows.push((trace_id, Some(Arc::clone(row))));
        for (place, (hash, span)) in added.spans.iter().enumerate() {
            let origins = &mut self.origins;
            let origin = *self.origin_numbers.entry(*hash).or_insert_with(|| {
                origins.push(*hash);
                origins.len() as u32 - 1
            });
            let of_tail = TailSpan { numbers_end: numbers_start + span.numbers_end, ..*span };
            self.spans.push(ChunkSpan { row: row_number, place: place as u32, origin, of_tail });
            self.start_max_ns = self.start_max_ns.max(span.start_ns);
        }
        self.numbers.extend_from_slice(&added.numbers);
        let filter_bits = (self.numbers.len() * FILTER_BITS_PER_NUMBER).next_power_of_two().min(FILTER_BITS_MAX);
        let mut put_from = numbers_start as usize;
        if filter_bits > self.filter.len() * u64::BITS as usize {
            self.filter.clear();
            self.filter.resize(filter_bits / u64::BITS as usize, 0);
            put_from = 0;
        }
        for number in &self.numbers[put_from..] {
            let (word, bit) = filter_place(&self.filter, *number);
            self.filter[word] |= bit;
        }
    }

    /// The memory it takes beside its rows, about.
    fn memory_bytes(&self) -> u64 {
        let origin_bytes = 2 * size_of::<OriginHash>() + size_of::<u32>();
        let bytes = size_of::<Self>()
            + self.rows.capacity() * size_of::<(TraceId, Option<Arc<Row>>)>()
            + self.spans.capacity() * size_of::<ChunkSpan>()
            + self.numbers.capacity() * size_of::<u32>()
            + self.origins.capacity() * origin_bytes
            + self.filter.capacity() * size_of::<u64>();
        bytes as u64
    }

    pub(super) fn start_max_ns(&self) -> u64 {
        self.start_max_ns
    }

    /// Offers every span that passes to `top`, but those of traces that are `hidden`. What the store cannot read is an error
    /// within; the outer one ends the search.
    pub(super) fn search(
        &self,
        day: Day,
        search: &Search<'_>,
        source: &dyn OriginSource,
        hidden: &dyn Fn(TraceId) -> bool,
        top: &mut TopTraces,
        progress: &mut Progress<'_>,
    ) -> Result<Result<(), TraceStoreError>, StorageError> {
        if !top.could_take(self.start_max_ns) {
            return Ok(Ok(()));
        }
        let query = search.query;
        let origins = self.origins.iter().map(|hash| source.origin(*hash)).collect::<Result<Vec<_>, _>>();
        let origins = match origins {
            Ok(origins) => origins,
            Err(error) => return Ok(Err(error)),
        };
        let clauses: Vec<_> = search.necessary.clauses.iter().map(|clause| self.clause(clause, &origins)).collect();
        if clauses.iter().any(ChunkClause::is_never) {
            return Ok(Ok(()));
        }
        // The row that was verified on last: the spans of one stand together.
        let mut opened: Option<(u32, OpenRow<'_>)> = None;
        // What came last is mostly what started last.
        for (number, span) in self.spans.iter().enumerate().rev() {
            let TailSpan { start_ns, duration_ns, .. } = span.of_tail;
            let may_pass = query.start.contains(start_ns)
                && query.duration_min_ns.is_none_or(|min_ns| duration_ns >= min_ns)
                && query.duration_max_ns.is_none_or(|max_ns| duration_ns <= max_ns)
                && top.could_take(start_ns)
                && clauses.iter().all(|clause| clause.may_hold(span, self.numbers_of(number)));
            let (trace_id, Some(row)) = &self.rows[span.row as usize] else { continue };
            if !may_pass || top.knows(*trace_id, start_ns) || hidden(*trace_id) {
                continue;
            }
            let open_row = match opened.take_if(|(number, _)| *number == span.row) {
                Some((_, open_row)) => Ok(open_row),
                None if !progress.goes_on()? => return Ok(Ok(())),
                None => OpenRow::new(&row.value, row.min_start_ns),
            };
            let whole = open_row.and_then(|open_row| {
                let whole = open_row.whole_span(*trace_id, span.place as usize);
                opened = Some((span.row, open_row));
                whole
            });
            let whole = match whole {
                Ok(whole) => whole,
                Err(error) => return Ok(Err(TraceStoreError::corrupt("row", day)(error))),
            };
            let origin = &origins[span.origin as usize];
            if span_passes(query, &origin.resource, &origin.scope, &whole) {
                top.offer(*trace_id, start_ns);
            }
        }
        Ok(Ok(()))
    }

    fn numbers_of(&self, span: usize) -> &[u32] {
        let start = if span == 0 { 0 } else { self.spans[span - 1].of_tail.numbers_end };
        &self.numbers[start as usize..self.spans[span].of_tail.numbers_end as usize]
    }

    fn may_have(&self, number: u32) -> bool {
        let (word, bit) = filter_place(&self.filter, number);
        self.filter[word] & bit != 0
    }

    fn clause(&self, clause: &Clause<'_>, origins: &[Arc<Origin>]) -> ChunkClause {
        let mut made = ChunkClause {
            origins: vec![false; origins.len()],
            numbers: Vec::new(),
            subjects: Vec::new(),
            kinds: Vec::new(),
            statuses: Vec::new(),
            min_ns: None,
            is_always: false,
        };
        for hint in clause {
            let mut of_origins = |of: TermSubject<'_>, passes: &dyn Fn(&str) -> bool| {
                for (verdict, origin) in made.origins.iter_mut().zip(origins) {
                    *verdict |= origin_has(origin, of, passes);
                }
            };
            match hint {
                Hint::Value { of, text } => {
                    of_origins(*of, &|other| other == text);
                    made.numbers.extend(Some(value_number(*of, text)).filter(|number| self.may_have(*number)));
                }
                Hint::Has(of) | Hint::Matches { of, .. } => {
                    of_origins(*of, &|text| !matches!(hint, Hint::Matches { pattern, .. } if !pattern.is_in(text)));
                    made.subjects.push(value_number(*of, ""));
                    made.is_always |= matches!(of, TermSubject::Name);
                }
                Hint::Kind(kind) => made.kinds.push(*kind),
                Hint::Status(status) => made.statuses.push(*status),
                Hint::Lasts(min_ns) => made.min_ns = Some(made.min_ns.map_or(*min_ns, |other| other.min(*min_ns))),
            }
        }
        made
    }
}

impl ChunkClause {
    fn is_never(&self) -> bool {
        let Self { origins, numbers, subjects, kinds, statuses, min_ns, is_always } = self;
        !is_always
            && numbers.is_empty()
            && subjects.is_empty()
            && kinds.is_empty()
            && statuses.is_empty()
            && min_ns.is_none()
            && !origins.contains(&true)
    }

    fn may_hold(&self, span: &ChunkSpan, numbers: &[u32]) -> bool {
        let TailSpan { duration_ns, kind, status, .. } = span.of_tail;
        self.is_always
            || self.origins[span.origin as usize]
            || self.min_ns.is_some_and(|min_ns| duration_ns >= min_ns)
            || self.kinds.contains(&kind)
            || self.statuses.contains(&status)
            || self.numbers.iter().any(|number| numbers.contains(number))
            || self.subjects.iter().any(|subject| numbers.iter().any(|number| is_of(*number, *subject)))
    }
}

/// Whether the origin has a value of the subject that passes.
fn origin_has(origin: &Origin, of: TermSubject<'_>, passes: &dyn Fn(&str) -> bool) -> bool {
    match of {
        TermSubject::Attribute(key) => {
            let attributes = origin.resource.attributes.iter().chain(&origin.scope.attributes);
            let mut of_key = attributes.filter(|attribute| attribute.key == key);
            of_key.any(|attribute| passes(&render_attribute_value(&attribute.value)))
        }
        TermSubject::Service => passes(origin.resource.service_name()),
        TermSubject::ScopeName => passes(&origin.scope.name),
        TermSubject::ScopeVersion => passes(&origin.scope.version),
        TermSubject::Name | TermSubject::EventName => false,
    }
}

/// The word of the filter and the bit in it that stand for a number.
fn filter_place(filter: &[u64], number: u32) -> (usize, u64) {
    // Subjects are few and stand above; the values' bits alone are too few.
    let hash = number.wrapping_mul(0x9e37_79b1);
    let place = hash >> (u32::BITS - u64::BITS.ilog2() - filter.len().ilog2());
    ((place / u64::BITS) as usize, 1 << (place % u64::BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(of: u32) -> u32 {
        xxhash_rust::xxh3::xxh3_64(&of.to_le_bytes()) as u32
    }

    fn row(numbers: std::ops::Range<u32>) -> (Arc<Row>, TailRow) {
        let mut row = TailRow::default();
        row.push(OriginHash([1; 16]), &Span::default());
        row.numbers = numbers.map(number).collect();
        row.spans[0].1.numbers_end = row.numbers.len() as u32;
        (Arc::new(Row::new(0, Vec::new())), row)
    }

    #[test]
    fn a_filter_grows_with_its_chunk_and_forgets_nothing() {
        let mut chunk = Chunk::default();
        let mut bytes = Vec::new();
        for step in 0..600 {
            let (row, tail) = row(step * 30..step * 30 + 30);
            chunk.push(TraceId([2; 16]), &row, &tail);
            bytes.push(chunk.filter.len() * size_of::<u64>());
            if step % 50 == 0 {
                assert!((0..step * 30 + 30).all(|of| chunk.may_have(number(of))));
            }
        }
        assert_eq!((bytes[0], bytes.last(), bytes.is_sorted()), (64, Some(&(FILTER_BITS_MAX / 8)), true));
        let wrong = (1_000_000..1_010_000).filter(|of| chunk.may_have(number(*of))).count();
        assert!(wrong < 3000, "{wrong} of 10000");
    }

    #[test]
    fn what_is_counted_is_counted_off() {
        let mut tail = Tail::default();
        let (one, spans) = row(0..20);
        tail.push(1, TraceId([1; 16]), &one, &spans);
        let small = tail.size();
        assert_eq!(small.spans, 1);
        assert!((64..2048).contains(&small.bytes), "{small:?}");
        for _ in 0..5000 {
            tail.push(2, TraceId([1; 16]), &one, &spans);
        }
        let size = tail.size();
        assert!((5000 * 150..5000 * 400).contains(&size.bytes), "{size:?}");
        tail.remove_tenant(2);
        assert_eq!(tail.size(), small);
        tail.remove_tenant(1);
        assert_eq!(tail.size(), TailSize::default());
    }
}
