//! The tail: spans that are searched from memory because no index commit holds them yet.
//!
//! Terms are interned, so that a span costs four bytes a term and a test costs a comparison of numbers.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use pharos_model::TraceId;

use crate::record::SearchDocument;
use crate::search::{Clause, SearchBounds, TopTraces};

#[derive(Debug, Default)]
struct Interner {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    table: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
}

fn term_at<'a>(bytes: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
    let index = number as usize;
    let start = if index == 0 { 0 } else { ends[index - 1] };
    &bytes[start..ends[index]]
}

impl Interner {
    fn get(&self, term: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(term);
        self.table.find(hash, |number| term_at(&self.bytes, &self.ends, *number) == term).copied()
    }

    fn intern(&mut self, term: &[u8]) -> u32 {
        let Self { bytes, ends, table, hasher } = self;
        let hash = hasher.hash_one(term);
        if let Some(number) = table.find(hash, |number| term_at(bytes, ends, *number) == term) {
            return *number;
        }
        let number = ends.len() as u32;
        bytes.extend_from_slice(term);
        ends.push(bytes.len());
        table.insert_unique(hash, number, |number| hasher.hash_one(term_at(bytes, ends, *number)));
        number
    }
}

#[derive(Debug)]
struct TailDocument {
    start_ns: u64,
    duration_ns: u64,
    trace_id: TraceId,
    terms_end: usize,
}

/// One document on its way into the index.
#[derive(Debug)]
pub(crate) struct TailEntry<'a> {
    pub(crate) start_ns: u64,
    pub(crate) duration_ns: u64,
    pub(crate) trace_id: TraceId,
    tail: &'a Tail,
    terms: &'a [u32],
}

impl<'a> TailEntry<'a> {
    pub(crate) fn terms(&self) -> impl Iterator<Item = &'a [u8]> {
        let interner = &self.tail.interner;
        self.terms.iter().map(|number| term_at(&interner.bytes, &interner.ends, *number))
    }
}

/// How much waits for the index.
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

/// Spans in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    interner: Interner,
    documents: Vec<TailDocument>,
    terms: Vec<u32>,
}

impl Tail {
    pub(crate) fn len(&self) -> usize {
        self.documents.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    pub(crate) fn push(&mut self, trace_id: TraceId, document: &SearchDocument) {
        let before = self.terms.len();
        for term in document.terms.iter() {
            let number = self.interner.intern(term);
            // Few terms a span: looking at all is cheaper than a set. The same key and value may stand in
            // the span and in several of its events.
            if !self.terms[before..].contains(&number) {
                self.terms.push(number);
            }
        }
        let &SearchDocument { start_ns, duration_ns, .. } = document;
        self.documents.push(TailDocument { start_ns, duration_ns, trace_id, terms_end: self.terms.len() });
    }

    /// Spans and the memory they take.
    pub(crate) fn size(&self) -> TailSize {
        let Interner { bytes, ends, table, .. } = &self.interner;
        let bytes = bytes.capacity()
            + ends.capacity() * size_of::<usize>()
            + table.capacity() * (size_of::<u32>() + 1)
            + self.documents.capacity() * size_of::<TailDocument>()
            + self.terms.capacity() * size_of::<u32>();
        TailSize { spans: self.documents.len() as u64, bytes: bytes as u64 }
    }

    fn iter(&self) -> impl Iterator<Item = TailEntry<'_>> {
        (0..self.documents.len()).map(|index| self.entry(index))
    }

    /// As the index keeps them: newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = TailEntry<'_>> {
        let mut order: Vec<u32> = (0..self.documents.len() as u32).collect();
        order.sort_by_key(|index| std::cmp::Reverse(self.documents[*index as usize].start_ns));
        order.into_iter().map(|index| self.entry(index as usize))
    }

    fn entry(&self, index: usize) -> TailEntry<'_> {
        let &TailDocument { start_ns, duration_ns, trace_id, terms_end } = &self.documents[index];
        let terms_start = if index == 0 { 0 } else { self.documents[index - 1].terms_end };
        TailEntry { start_ns, duration_ns, trace_id, tail: self, terms: &self.terms[terms_start..terms_end] }
    }

    /// Offers every span that passes to `top`.
    pub(crate) fn search(&self, clauses: &[Clause], bounds: &SearchBounds, top: &mut TopTraces) {
        let mut numbered = Vec::with_capacity(clauses.len());
        for clause in clauses {
            let alternatives: Vec<u32> = clause.any_of.iter().filter_map(|term| self.interner.get(term)).collect();
            if alternatives.is_empty() {
                return;
            }
            numbered.push(alternatives);
        }
        for entry in self.iter() {
            let passes = bounds.contains(entry.start_ns, entry.duration_ns)
                && top.could_take(entry.start_ns)
                && numbered.iter().all(|any_of| any_of.iter().any(|number| entry.terms.contains(number)));
            if passes {
                top.offer(entry.trace_id, entry.start_ns);
            }
        }
    }
}
