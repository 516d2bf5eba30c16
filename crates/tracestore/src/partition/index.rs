//! The search index of one partition: tantivy documents, one per span, derived from the spans.
//!
//! Segments are sorted by start, newest first, so that a search reads the front of the postings and stops.
//! A commit's payload is the log position up to which the index is complete.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use pharos_model::TraceId;
use pharos_storage::{ReadContext, StorageError};
use tantivy::columnar::Column;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy, NoMergePolicy};
use tantivy::query::{BooleanQuery, EnableScoring, Query, TermQuery, TermSetQuery};
use tantivy::schema::{BytesOptions, Field, IndexRecordOption, NumericOptions, Schema};
use tantivy::{
    Index, IndexReader, IndexSettings, IndexSortByField, IndexWriter, Order, ReloadPolicy, Searcher, SegmentReader,
    TERMINATED, TantivyDocument, Term,
};

use super::tail::Tail;
use crate::TraceStoreError;
use crate::search::{Clause, SearchBounds, TopTraces};

const TERM: &str = "term";
const START: &str = "start_ns";
const DURATION: &str = "duration_ns";
const TRACE: &str = "trace_id";

/// Segments of up to this many documents are merged in the background, so many at a time: a segment of one
/// commit is merged once, what comes of it only by a full compaction.
const MERGED_DOCUMENTS_MAX: usize = 200_000;
const MERGED_SEGMENTS: usize = 12;
/// Full compaction merges into segments of about this many documents.
const COMPACTED_DOCUMENTS_MAX: u32 = 2_000_000;
/// Up to this many alternatives of a clause are read side by side; more are gathered into a bit set.
const UNION_TERMS_MAX: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Fields {
    term: Field,
    start: Field,
    duration: Field,
    trace: Field,
}

fn schema() -> (Schema, Fields) {
    let mut builder = Schema::builder();
    let fields = Fields {
        term: builder.add_bytes_field(TERM, BytesOptions::default().set_indexed()),
        start: builder.add_u64_field(START, NumericOptions::default().set_fast()),
        duration: builder.add_u64_field(DURATION, NumericOptions::default().set_fast()),
        trace: builder.add_bytes_field(TRACE, BytesOptions::default().set_fast()),
    };
    (builder.build(), fields)
}

/// A partition's index.
pub(crate) struct SearchIndex {
    path: PathBuf,
    index: Index,
    reader: IndexReader,
    fields: Fields,
    memory_bytes: usize,
    writer: Mutex<Option<IndexWriter>>,
}

impl SearchIndex {
    /// Opens the index in `path`, or `None` if there is none that can be read.
    pub(crate) fn open(path: &Path, memory_bytes: usize) -> Option<(Self, u64)> {
        if !path.join("meta.json").exists() {
            return None;
        }
        let opened = Index::open_in_dir(path).and_then(|index| {
            let position = index.load_metas()?.payload.and_then(|payload| payload.parse().ok()).unwrap_or(0);
            Ok((Self::with_index(path, index, memory_bytes)?, position))
        });
        match opened {
            Ok(opened) => Some(opened),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "search index cannot be read, rebuilding it from the spans");
                None
            }
        }
    }

    /// An empty index; what lay in `path` is removed.
    pub(crate) fn create(path: &Path, memory_bytes: usize) -> Result<Self, TraceStoreError> {
        if path.exists() {
            fs::remove_dir_all(path).map_err(TraceStoreError::io("remove", path))?;
        }
        fs::create_dir_all(path).map_err(TraceStoreError::io("create", path))?;
        let sort_by_field = Some(IndexSortByField { field: START.to_owned(), order: Order::Desc });
        // Nothing is stored in documents: the blocks have it all. So there is nothing to compress either.
        let settings = IndexSettings {
            sort_by_field,
            docstore_compression: tantivy::store::Compressor::None,
            docstore_compress_dedicated_thread: false,
            ..IndexSettings::default()
        };
        let created = Index::builder().schema(schema().0).settings(settings).create_in_dir(path);
        created
            .and_then(|index| Self::with_index(path, index, memory_bytes))
            .map_err(TraceStoreError::index("create", path))
    }

    fn with_index(path: &Path, index: Index, memory_bytes: usize) -> tantivy::Result<Self> {
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let stored = index.schema();
        let (expected, fields) = schema();
        if stored != expected {
            return Err(tantivy::TantivyError::SchemaError("the index has other fields".to_owned()));
        }
        let path = path.to_owned();
        Ok(Self { path, index, reader, fields, memory_bytes, writer: Mutex::new(None) })
    }

    /// What the last commit made visible, with its columns opened once for all searches.
    pub(crate) fn view(&self) -> Result<IndexView, TraceStoreError> {
        let searcher = self.reader.searcher();
        let columns = searcher.segment_readers().iter().map(Columns::open).collect::<tantivy::Result<Vec<_>>>();
        let mut columns = columns.map_err(TraceStoreError::index("open the columns", &self.path))?;
        for (segment, columns) in columns.iter_mut().enumerate() {
            columns.segment = segment as u32;
        }
        columns.sort_by_key(|columns| std::cmp::Reverse(columns.start.max_value()));
        Ok(IndexView { searcher, columns })
    }

    /// Adds all of `tail` and commits; from then on new searchers see it. `position` is the log position up
    /// to which the index is complete. With `keep_writer` the next commit is cheaper.
    pub(crate) fn commit(&self, tail: &Tail, position: u64, keep_writer: bool) -> Result<(), TraceStoreError> {
        let mut slot = self.writer.lock();
        let result = self.commit_with(&mut slot, tail, position);
        if result.is_err() || !keep_writer {
            // A failed writer holds half of a commit; dropping it forgets that half.
            if let Some(writer) = slot.take() {
                writer.wait_merging_threads().map_err(TraceStoreError::index("close the writer", &self.path))?;
            }
        }
        result.map_err(TraceStoreError::index("commit", &self.path))
    }

    fn commit_with(&self, slot: &mut Option<IndexWriter>, tail: &Tail, position: u64) -> tantivy::Result<()> {
        if slot.is_none() {
            let writer = self.open_writer()?;
            let mut policy = LogMergePolicy::default();
            policy.set_max_docs_before_merge(MERGED_DOCUMENTS_MAX);
            policy.set_min_num_segments(MERGED_SEGMENTS);
            writer.set_merge_policy(Box::new(policy));
            *slot = Some(writer);
        }
        let Some(writer) = slot.as_mut() else { return Ok(()) };
        // Sorted, so that a segment is already in its order and segments of one commit do not overlap.
        for entry in tail.newest_first() {
            let mut document = TantivyDocument::new();
            document.add_u64(self.fields.start, entry.start_ns);
            document.add_u64(self.fields.duration, entry.duration_ns);
            document.add_bytes(self.fields.trace, &entry.trace_id.0);
            for term in entry.terms() {
                document.add_bytes(self.fields.term, term);
            }
            writer.add_document(document)?;
        }
        let mut prepared = writer.prepare_commit()?;
        prepared.set_payload(&position.to_string());
        prepared.commit()?;
        self.reader.reload()
    }

    /// One thread indexes and one merges: more would only take cores from queries.
    fn open_writer(&self) -> tantivy::Result<IndexWriter> {
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .num_merge_threads(1)
            .memory_budget_per_thread(self.memory_bytes)
            .build();
        self.index.writer_with_options(options)
    }

    /// Joins segments until they are as large as they shall get.
    pub(crate) fn merge_all(&self) -> Result<(), TraceStoreError> {
        let mut slot = self.writer.lock();
        if let Some(writer) = slot.take() {
            writer.wait_merging_threads().map_err(TraceStoreError::index("close the writer", &self.path))?;
        }
        let merge = || -> tantivy::Result<()> {
            let payload = self.index.load_metas()?.payload;
            let mut writer = self.open_writer()?;
            writer.set_merge_policy(Box::new(NoMergePolicy));
            let mut group = Vec::new();
            let mut group_documents = 0;
            let mut metas = self.index.searchable_segment_metas()?;
            metas.sort_by_key(|meta| std::cmp::Reverse(meta.num_docs()));
            for meta in metas {
                if group_documents + meta.num_docs() > COMPACTED_DOCUMENTS_MAX && group.len() > 1 {
                    writer.merge(&group).wait()?;
                }
                if group_documents + meta.num_docs() > COMPACTED_DOCUMENTS_MAX {
                    group.clear();
                    group_documents = 0;
                }
                group_documents += meta.num_docs();
                group.push(meta.id());
            }
            if group.len() > 1 {
                writer.merge(&group).wait()?;
            }
            // A merge keeps the payload of the last commit; say it again so that nothing depends on that.
            let mut prepared = writer.prepare_commit()?;
            if let Some(payload) = &payload {
                prepared.set_payload(payload);
            }
            prepared.commit()?;
            self.reader.reload()?;
            writer.garbage_collect_files().wait()?;
            writer.wait_merging_threads()
        };
        merge().map_err(TraceStoreError::index("merge", &self.path))
    }

    /// Ends the writer's threads.
    pub(crate) fn close(&self) -> Result<(), TraceStoreError> {
        match self.writer.lock().take() {
            Some(writer) => {
                writer.wait_merging_threads().map_err(TraceStoreError::index("close the writer", &self.path))
            }
            None => Ok(()),
        }
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&self.path) else { return 0 };
        entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    /// Offers the newest spans that pass to `top`, as many as it takes.
    pub(crate) fn search(
        &self,
        view: &IndexView,
        clauses: &[Clause],
        bounds: &SearchBounds,
        top: &mut TopTraces,
        context: &ReadContext,
    ) -> Result<(), StorageError> {
        let failed = |source: tantivy::TantivyError| StorageError::Internal {
            action: "search of the trace index",
            source: Box::new(TraceStoreError::index("search", &self.path)(source)),
        };
        let searcher = &view.searcher;
        let query = self.query(clauses);
        let weight = query.weight(EnableScoring::disabled_from_schema(searcher.schema())).map_err(failed)?;
        for columns in &view.columns {
            let newest_ns = columns.start.max_value();
            if !top.could_take(newest_ns) {
                break;
            }
            context.check()?;
            if newest_ns < bounds.start.start_ns || columns.start.min_value() >= bounds.start.end_ns {
                continue;
            }
            let segment = searcher.segment_reader(columns.segment);
            let mut scorer = weight.scorer(segment, 1.0).map_err(failed)?;
            columns.search(scorer.as_mut(), bounds, top, context).map_err(|error| match error {
                SegmentSearchError::Interrupted(interrupted) => StorageError::Interrupted(interrupted),
                SegmentSearchError::Io(source) => failed(source.into()),
            })?;
        }
        Ok(())
    }

    fn query(&self, clauses: &[Clause]) -> Box<dyn Query> {
        let term = |bytes: &[u8]| Term::from_field_bytes(self.fields.term, bytes);
        let mut queries: Vec<Box<dyn Query>> = clauses
            .iter()
            .map(|clause| -> Box<dyn Query> {
                let single = |bytes: &[u8]| Box::new(TermQuery::new(term(bytes), IndexRecordOption::Basic));
                match clause.any_of.as_slice() {
                    [one] => single(one),
                    few if few.len() <= UNION_TERMS_MAX => {
                        let alternatives = few.iter().map(|bytes| single(bytes) as Box<dyn Query>);
                        Box::new(BooleanQuery::union(alternatives.collect()))
                    }
                    many => Box::new(TermSetQuery::new(many.iter().map(|bytes| term(bytes)))),
                }
            })
            .collect();
        if queries.len() == 1 { queries.remove(0) } else { Box::new(BooleanQuery::intersection(queries)) }
    }
}

/// The index as one commit left it; segments with the newest spans first.
pub(crate) struct IndexView {
    searcher: Searcher,
    columns: Vec<Columns>,
}

impl IndexView {
    pub(crate) fn spans(&self) -> u64 {
        self.searcher.num_docs()
    }
}

/// The fast fields of a segment.
struct Columns {
    segment: u32,
    start: Column<u64>,
    duration: Column<u64>,
    trace: tantivy::columnar::BytesColumn,
}

#[derive(Debug, thiserror::Error)]
enum SegmentSearchError {
    #[error(transparent)]
    Interrupted(#[from] pharos_base::Interrupted),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Columns {
    fn open(segment: &SegmentReader) -> tantivy::Result<Self> {
        let fast = segment.fast_fields();
        let trace = fast.bytes(TRACE)?;
        let missing = || tantivy::TantivyError::SchemaError("a segment has no trace ids".to_owned());
        Ok(Self {
            segment: 0,
            start: fast.u64(START)?,
            duration: fast.u64(DURATION)?,
            trace: trace.ok_or_else(missing)?,
        })
    }

    /// The first document that starts before `end_ns`: documents are sorted by start, newest first.
    fn first_before(&self, end_ns: u64) -> u32 {
        let (mut low, mut high) = (0, self.start.num_docs());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.start.first(middle).unwrap_or(0) >= end_ns { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn search(
        &self,
        postings: &mut dyn tantivy::query::Scorer,
        bounds: &SearchBounds,
        top: &mut TopTraces,
        context: &ReadContext,
    ) -> Result<(), SegmentSearchError> {
        const CHECK_EVERY: u32 = 4096;
        let first = self.first_before(bounds.start.end_ns);
        let mut document = postings.doc();
        if document < first {
            document = postings.seek(first);
        }
        // The first span of a trace in a sorted segment is its newest there.
        let mut seen: HashSet<u64> = HashSet::new();
        let mut trace_bytes = Vec::with_capacity(16);
        let mut until_check = CHECK_EVERY;
        while document != TERMINATED {
            let start_ns = self.start.first(document).unwrap_or(0);
            if start_ns < bounds.start.start_ns || !top.could_take(start_ns) {
                break;
            }
            let duration_ns = self.duration.first(document).unwrap_or(0);
            if bounds.contains(start_ns, duration_ns)
                && let Some(ordinal) = self.trace.ords().first(document)
                && seen.insert(ordinal)
            {
                self.trace.ord_to_bytes(ordinal, &mut trace_bytes)?;
                let trace_id = <[u8; 16]>::try_from(trace_bytes.as_slice());
                top.offer(TraceId(trace_id.map_err(std::io::Error::other)?), start_ns);
            }
            until_check -= 1;
            if until_check == 0 {
                context.check()?;
                until_check = CHECK_EVERY;
            }
            document = postings.advance();
        }
        Ok(())
    }
}
