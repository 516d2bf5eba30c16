//! The search index of one partition: a tantivy document per block, whose terms are the block's words.
//!
//! Derived from the blocks; it proposes blocks, and their spans decide. What the words say: `docs/search.md`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tantivy::columnar::Column;
use tantivy::error::DataCorruption;
use tantivy::index::SegmentComponent;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy, NoMergePolicy};
use tantivy::postings::Postings;
use tantivy::schema::{BytesOptions, Field, IndexRecordOption, NumericOptions, Schema};
use tantivy::termdict::TermDictionary;
use tantivy::{
    DocSet, Index, IndexReader, IndexSettings, IndexWriter, InvertedIndexReader, ReloadPolicy, Searcher, SegmentMeta,
    SegmentReader, TERMINATED, TantivyDocument, TantivyError, Term,
};

use crate::TraceStoreError;
use crate::search::{Bits, BlockTerms, Clause, Hint, Necessary, TermSubject, Word, terms};

const TERM: &str = "term";
const TENANT: &str = "tenant";
const SEGMENT: &str = "segment";
const BLOCK: &str = "block";

/// Index segments are merged in the background, so many of about a size at a time.
const MERGED_SEGMENTS: usize = 8;
/// Index segments of fewer documents count as of one size.
const SMALL_SEGMENT_DOCUMENTS: u32 = 64;
/// A word that says of which segment a block is.
const OF_SEGMENT: u8 = b'x';

/// Finds values that are no words.
pub(crate) trait ValueLookup {
    /// The blocks of a segment that may have the value, ascending; `None` if that cannot be told.
    fn blocks(&self, segment: u64, hash: u64) -> Result<Option<Vec<u32>>, TraceStoreError>;
}

#[derive(Debug, Clone, Copy)]
struct Fields {
    term: Field,
    tenant: Field,
    segment: Field,
    block: Field,
}

fn schema() -> (Schema, Fields) {
    let mut builder = Schema::builder();
    let fields = Fields {
        term: builder.add_bytes_field(TERM, BytesOptions::default().set_indexed()),
        tenant: builder.add_u64_field(TENANT, NumericOptions::default().set_fast()),
        segment: builder.add_u64_field(SEGMENT, NumericOptions::default().set_fast()),
        block: builder.add_u64_field(BLOCK, NumericOptions::default().set_fast()),
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

/// Removes files of a change that a crash kept from its end. The next change may give one of them the same name, and tantivy
/// writes over nothing.
fn remove_leftovers(path: &Path, index: &Index) -> tantivy::Result<()> {
    const ID_DIGITS: usize = 32;
    let metas = index.load_metas()?;
    let segments: HashMap<String, &SegmentMeta> =
        metas.segments.iter().map(|segment| (segment.id().uuid_string(), segment)).collect();
    for entry in fs::read_dir(path)? {
        let name = PathBuf::from(entry?.file_name());
        let Some((id, component)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
        if id.len() != ID_DIGITS || !id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            continue;
        }
        // Which documents are deleted is in a file of each change.
        let is_living = segments.get(id).is_some_and(|segment| {
            !component.ends_with("del") || name == segment.relative_path(SegmentComponent::Delete)
        });
        if !is_living {
            fs::remove_file(path.join(&name))?;
        }
    }
    Ok(())
}

impl SearchIndex {
    /// Opens the index in `path`; `None` if there is none that can be read. Its checksums are looked at if its bytes are not more
    /// than `checked_max`, from which they are taken.
    pub(crate) fn open(path: &Path, memory_bytes: usize, checked_max: &AtomicU64) -> Option<Self> {
        if !path.join("meta.json").exists() {
            return None;
        }
        let take = |left: u64| left.checked_sub(bytes_of(path));
        let is_checked = checked_max.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        let opened = Index::open_in_dir(path).and_then(|index| {
            remove_leftovers(path, &index)?;
            if is_checked {
                check(&index)?;
            }
            Self::with_index(path, index, memory_bytes)
        });
        opened
            .inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "search index cannot be read, rebuilding it from the spans");
            })
            .ok()
    }

    /// An empty index; what lay in `path` is removed.
    pub(crate) fn create(path: &Path, memory_bytes: usize) -> Result<Self, TraceStoreError> {
        if path.exists() {
            fs::remove_dir_all(path).map_err(TraceStoreError::io("remove", path))?;
        }
        fs::create_dir_all(path).map_err(TraceStoreError::io("create", path))?;
        // Nothing is stored in documents, so there is nothing to compress either.
        let settings = IndexSettings {
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
            return Err(TantivyError::SchemaError("the index has other fields".to_owned()));
        }
        Ok(Self { path: path.to_owned(), index, reader, fields, memory_bytes, writer: Mutex::new(None) })
    }

    /// What the last commit made visible.
    pub(crate) fn view(&self) -> Result<IndexView, TraceStoreError> {
        let searcher = self.reader.searcher();
        let open = |segment: &SegmentReader| IndexSegment::open(segment, self.fields);
        let segments = searcher.segment_readers().iter().map(open).collect::<tantivy::Result<_>>();
        let segments = segments.map_err(TraceStoreError::index("open the columns", &self.path))?;
        Ok(IndexView { path: self.path.clone(), searcher, segments })
    }

    /// Begins a change; nothing of it is seen before [`Commit::finish`].
    pub(crate) fn begin(&self) -> Result<Commit<'_>, TraceStoreError> {
        let mut writer = self.writer.lock();
        let had_writer = writer.is_some();
        if writer.is_none() {
            let opened = self.open_writer().map_err(TraceStoreError::index("open a writer of", &self.path))?;
            let mut policy = LogMergePolicy::default();
            policy.set_min_num_segments(MERGED_SEGMENTS);
            policy.set_min_layer_size(SMALL_SEGMENT_DOCUMENTS);
            opened.set_merge_policy(Box::new(policy));
            *writer = Some(opened);
        }
        Ok(Commit { index: self, writer, had_writer, is_finished: false })
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

    /// Joins all segments of the index.
    pub(crate) fn merge_all(&self) -> Result<(), TraceStoreError> {
        self.close()?;
        let _slot = self.writer.lock();
        let merge = || -> tantivy::Result<()> {
            let mut writer = self.open_writer()?;
            writer.set_merge_policy(Box::new(NoMergePolicy));
            let segments = self.index.searchable_segment_ids()?;
            if segments.len() > 1 {
                writer.merge(&segments).wait()?;
            }
            writer.commit()?;
            self.reader.reload()?;
            writer.garbage_collect_files().wait()?;
            writer.wait_merging_threads()
        };
        merge().map_err(TraceStoreError::index("merge", &self.path))
    }

    /// Ends the writer's threads.
    pub(crate) fn close(&self) -> Result<(), TraceStoreError> {
        let Some(writer) = self.writer.lock().take() else { return Ok(()) };
        writer.wait_merging_threads().map_err(TraceStoreError::index("close the writer of", &self.path))
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        bytes_of(&self.path)
    }
}

/// Reads all of the index in `path`, which is not open, and compares its checksums; says what is damaged.
pub(super) fn examine(path: &Path) -> Result<(), TraceStoreError> {
    Index::open_in_dir(path).and_then(|index| check(&index)).map_err(TraceStoreError::index("check", path))
}

/// tantivy itself looks at the checksums of its files only when asked.
fn check(index: &Index) -> tantivy::Result<()> {
    let damaged = index.validate_checksum()?;
    let Some(first) = damaged.iter().min() else { return Ok(()) };
    let error = DataCorruption::new(first.clone(), format!("wrong checksum of {} files", damaged.len()));
    Err(TantivyError::DataCorruption(error))
}

fn bytes_of(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// A change of the index.
pub(crate) struct Commit<'a> {
    index: &'a SearchIndex,
    writer: MutexGuard<'a, Option<IndexWriter>>,
    /// Whether an earlier change had left its writer.
    had_writer: bool,
    is_finished: bool,
}

impl Commit<'_> {
    /// Adds a block.
    pub(crate) fn add(
        &mut self,
        tenant: u32,
        segment: u64,
        block: u32,
        terms: &BlockTerms,
    ) -> Result<(), TraceStoreError> {
        let Fields { term, tenant: tenant_field, segment: segment_field, block: block_field } = self.index.fields;
        let mut document = TantivyDocument::new();
        document.add_u64(tenant_field, tenant.into());
        document.add_u64(segment_field, segment);
        document.add_u64(block_field, block.into());
        document.add_bytes(term, &segment_word(tenant, segment));
        let mut full = tenant.to_be_bytes().to_vec();
        for word in terms.words() {
            full.truncate(4);
            full.extend_from_slice(word);
            document.add_bytes(term, &full);
        }
        let added = self.writer().add_document(document);
        added.map(drop).map_err(TraceStoreError::index("add to", &self.index.path))
    }

    /// Removes the blocks of a segment that the index had before this change.
    pub(crate) fn remove(&mut self, tenant: u32, segment: u64) {
        let term = Term::from_field_bytes(self.index.fields.term, &segment_word(tenant, segment));
        self.writer().delete_term(term);
    }

    /// Whether an earlier change had left its writer.
    pub(crate) fn had_writer(&self) -> bool {
        self.had_writer
    }

    /// Makes the change durable and visible. With `keep_writer` the next change is cheaper.
    pub(crate) fn finish(mut self, keep_writer: bool) -> Result<(), TraceStoreError> {
        let index = self.index;
        let path = &index.path;
        self.writer().commit().map_err(TraceStoreError::index("commit", path))?;
        self.is_finished = true;
        if !keep_writer && let Some(writer) = self.writer.take() {
            writer.wait_merging_threads().map_err(TraceStoreError::index("close the writer of", path))?;
        }
        index.reader.reload().map_err(TraceStoreError::index("reload", path))
    }

    fn writer(&mut self) -> &mut IndexWriter {
        self.writer.as_mut().expect("there is one until the end")
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        // The writer holds half of a change; without it that half is forgotten.
        if !self.is_finished {
            self.writer.take();
        }
    }
}

fn segment_word(tenant: u32, segment: u64) -> Vec<u8> {
    [&tenant.to_be_bytes()[..], &[OF_SEGMENT], &segment.to_be_bytes()].concat()
}

/// The index as one commit left it.
pub(crate) struct IndexView {
    path: PathBuf,
    searcher: Searcher,
    segments: Vec<IndexSegment>,
}

/// A block that may have what is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    pub(crate) segment: u64,
    pub(crate) block: u32,
}

impl IndexView {
    /// How many blocks of each segment are in it, by tenant number and segment.
    pub(crate) fn block_counts(&self) -> HashMap<(u32, u64), usize> {
        let mut counts = HashMap::new();
        for (segment, reader) in self.segments.iter().zip(self.searcher.segment_readers()) {
            for document in reader.doc_ids_alive() {
                let of = |column: &Column<u64>| column.first(document).unwrap_or(0);
                *counts.entry((of(&segment.tenants) as u32, of(&segment.segments))).or_default() += 1;
            }
        }
        counts
    }

    /// The blocks of a tenant that have all that is necessary, in no order.
    pub(crate) fn candidates(
        &self,
        tenant: u32,
        necessary: &Necessary<'_>,
        values: &dyn ValueLookup,
    ) -> Result<Vec<Candidate>, TraceStoreError> {
        let mut found = Vec::new();
        for (segment, reader) in self.segments.iter().zip(self.searcher.segment_readers()) {
            let lookup = Lookup { segment, reader, tenant, values, known: HashMap::new(), path: &self.path };
            found.extend(lookup.candidates(necessary)?);
        }
        Ok(found)
    }
}

struct IndexSegment {
    inverted: std::sync::Arc<InvertedIndexReader>,
    tenants: Column<u64>,
    segments: Column<u64>,
    blocks: Column<u64>,
}

impl IndexSegment {
    fn open(segment: &SegmentReader, fields: Fields) -> tantivy::Result<Self> {
        let fast = segment.fast_fields();
        let inverted = segment.inverted_index(fields.term)?;
        Ok(Self { inverted, tenants: fast.u64(TENANT)?, segments: fast.u64(SEGMENT)?, blocks: fast.u64(BLOCK)? })
    }
}

/// Hands over what follows `prefix` in every term of the dictionary that begins with it, from `first` on.
fn visit_range(
    terms: &TermDictionary,
    prefix: &[u8],
    first: Option<u8>,
    visit: &mut dyn FnMut(&[u8], &tantivy::postings::TermInfo) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let from: Vec<u8> = prefix.iter().copied().chain(first).collect();
    let mut stream = terms.range().ge(&from).into_stream()?;
    while stream.advance() {
        let Some(rest) = stream.key().strip_prefix(prefix) else { break };
        visit(rest, stream.value())?;
    }
    Ok(())
}

/// A search in one segment of the index.
struct Lookup<'a> {
    segment: &'a IndexSegment,
    reader: &'a SegmentReader,
    tenant: u32,
    values: &'a dyn ValueLookup,
    /// What value postings said.
    known: HashMap<(u64, u64), Option<Vec<u32>>>,
    path: &'a Path,
}

impl Lookup<'_> {
    fn candidates(mut self, necessary: &Necessary<'_>) -> Result<Vec<Candidate>, TraceStoreError> {
        let mut left = self.word(&terms::everything())?;
        let untold = self.word(&terms::untold())?;
        for clause in &necessary.clauses {
            if left.is_empty() {
                return Ok(Vec::new());
            }
            let mut found = self.clause(clause, necessary, &left)?;
            found.add(&untold);
            left.keep(&found);
        }
        let column = |column: &Column<u64>, document: usize| column.first(document as u32).unwrap_or(0);
        let live = left.iter().filter(|document| !self.reader.is_deleted(*document as u32));
        let candidate = |document| Candidate {
            segment: column(&self.segment.segments, document),
            block: column(&self.segment.blocks, document) as u32,
        };
        Ok(live.map(candidate).collect())
    }

    fn clause(&mut self, clause: &Clause<'_>, necessary: &Necessary<'_>, left: &Bits) -> Result<Bits, TraceStoreError> {
        let mut found = self.none();
        for hint in clause {
            let mut documents = self.hint(hint, left)?;
            if let Some(service) = &necessary.service {
                let paired = self.pair(service, hint, necessary)?;
                documents.keep(&paired);
            }
            found.add(&documents);
        }
        Ok(found)
    }

    /// Documents of which the hint is true; of those in `left` only, where that is cheaper.
    fn hint(&mut self, hint: &Hint<'_>, left: &Bits) -> Result<Bits, TraceStoreError> {
        match hint {
            Hint::Value { of, text } => {
                let word = terms::value(*of, text);
                let mut found = self.word(&word)?;
                let mut unsure = self.word(&terms::many(*of))?;
                unsure.keep(left);
                unsure.remove(&found);
                let hash = terms::word_hash(&word);
                for document in unsure.iter() {
                    if self.may_have(document, hash)? {
                        found.insert(document);
                    }
                }
                Ok(found)
            }
            Hint::Has(of) => self.words(&terms::has_prefix(*of), None, |_| true),
            Hint::Matches { of, pattern } => {
                let prefix = terms::value_prefix(*of);
                let mut found =
                    self.words(&prefix, None, |text| std::str::from_utf8(text).is_ok_and(|text| pattern.is_in(text)))?;
                found.add(&self.word(&terms::many(*of))?);
                Ok(found)
            }
            Hint::Kind(kind) => self.word(&terms::kind(*kind)),
            Hint::Status(status) => self.word(&terms::status(*status)),
            Hint::Lasts(min_ns) => {
                self.words(&terms::duration_prefix(), Some(terms::duration_bucket(*min_ns)), |_| true)
            }
        }
    }

    /// Documents in which the hint is true of a span of the service, as far as pairs tell.
    fn pair(&self, service: &str, hint: &Hint<'_>, necessary: &Necessary<'_>) -> Result<Bits, TraceStoreError> {
        let paired = |word: &[u8]| self.word(&terms::pair(service, word));
        let or_unpaired = |mut found: Bits, of: TermSubject<'_>| {
            found.add(&self.word(&terms::unpaired(of))?);
            Ok(found)
        };
        match hint {
            Hint::Value { of: TermSubject::Service, .. } | Hint::Has(_) => Ok(Bits::all(self.document_count())),
            Hint::Value { of, text } => or_unpaired(paired(&terms::value(*of, text))?, *of),
            Hint::Matches { of, pattern } => {
                let prefix = terms::pair(service, &terms::value_prefix(*of));
                let matches = |text: &[u8]| std::str::from_utf8(text).is_ok_and(|text| pattern.is_in(text));
                or_unpaired(self.words(&prefix, None, matches)?, *of)
            }
            Hint::Kind(kind) => paired(&terms::kind(*kind)),
            Hint::Status(status) => paired(&terms::status(*status)),
            Hint::Lasts(min_ns) => {
                let bucket = Some(terms::duration_bucket(*min_ns));
                match &necessary.operation {
                    None => self.words(&terms::pair(service, &terms::duration_prefix()), bucket, |_| true),
                    Some(operation) => {
                        let prefix = terms::operation_duration_prefix(service, operation);
                        or_unpaired(self.words(&prefix, bucket, |_| true)?, TermSubject::Name)
                    }
                }
            }
        }
    }

    fn document_count(&self) -> usize {
        self.reader.max_doc() as usize
    }

    fn none(&self) -> Bits {
        Bits::none(self.document_count())
    }

    fn full(&self, word: &[u8]) -> Word {
        [&self.tenant.to_be_bytes()[..], word].concat()
    }

    fn word(&self, word: &[u8]) -> Result<Bits, TraceStoreError> {
        let mut found = self.none();
        let mut read = || -> std::io::Result<()> {
            match self.segment.inverted.terms().get(self.full(word))? {
                Some(info) => self.add_postings(&info, &mut found),
                None => Ok(()),
            }
        };
        read().map_err(TraceStoreError::index("search", self.path))?;
        Ok(found)
    }

    /// Documents with a word that begins so, from the byte `first` on, whose rest is `wanted`.
    fn words(&self, prefix: &[u8], first: Option<u8>, wanted: impl Fn(&[u8]) -> bool) -> Result<Bits, TraceStoreError> {
        let mut found = self.none();
        let read = visit_range(self.segment.inverted.terms(), &self.full(prefix), first, &mut |rest, info| {
            if wanted(rest) { self.add_postings(info, &mut found) } else { Ok(()) }
        });
        read.map_err(TraceStoreError::index("search", self.path))?;
        Ok(found)
    }

    fn add_postings(&self, info: &tantivy::postings::TermInfo, found: &mut Bits) -> std::io::Result<()> {
        let mut postings = self.segment.inverted.read_postings_from_terminfo(info, IndexRecordOption::Basic)?;
        debug_assert!(postings.term_freq() > 0, "a posting is there because the word is");
        let mut document = postings.doc();
        while document != TERMINATED {
            found.insert(document as usize);
            document = postings.advance();
        }
        Ok(())
    }

    fn may_have(&mut self, document: usize, hash: u64) -> Result<bool, TraceStoreError> {
        let segment = self.segment.segments.first(document as u32).unwrap_or(0);
        let block = self.segment.blocks.first(document as u32).unwrap_or(0) as u32;
        let blocks = match self.known.entry((segment, hash)) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => new.insert(self.values.blocks(segment, hash)?),
        };
        Ok(blocks.as_ref().is_none_or(|blocks| blocks.binary_search(&block).is_ok()))
    }
}

mod listed;
#[cfg(test)]
mod tests;
