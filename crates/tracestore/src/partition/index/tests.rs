//! The index proposes every block that has what is searched, and few others.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use pharos_storage::conformance::traces::SpanGenerator;
use pharos_storage::{SpanFilter, TraceQuery};

use super::*;
use crate::block::Block;
use crate::search::testing::{NOW_NS, Sample, passing_by_hand, queries, sample};
use crate::search::{PostingsShape, Test, ValueEntry, build_pages, find_blocks};

const MEMORY_BYTES: usize = 15 << 20;
const TENANT: u32 = 3;

/// Value postings of segments, in memory.
#[derive(Default)]
struct Values(HashMap<u64, (PostingsShape, HashMap<u32, Vec<u8>>)>);

impl Values {
    fn put(&mut self, segment: u64, entries: &mut Vec<ValueEntry>, block_count: u32) {
        entries.sort_unstable();
        entries.dedup();
        let shape = PostingsShape::of(entries.len() as u64, block_count);
        self.0.insert(segment, (shape, build_pages(shape, entries).collect()));
    }
}

impl ValueLookup for Values {
    fn blocks(&self, segment: u64, hash: u64) -> Result<Option<Vec<u32>>, TraceStoreError> {
        let (shape, pages) = &self.0[&segment];
        Ok(Some(pages.get(&shape.page(hash)).map_or(Vec::new(), |page| find_blocks(*shape, page, hash).unwrap())))
    }
}

/// An index of segments of some blocks each, and the blocks by their place.
fn indexed(
    path: &Path,
    generator: &mut SpanGenerator,
    segments: u64,
) -> (SearchIndex, Values, Vec<(Candidate, Sample)>) {
    let index = SearchIndex::create(path, MEMORY_BYTES).unwrap();
    let (mut values, mut samples) = (Values::default(), Vec::new());
    for segment in 0..segments {
        let mut commit = index.begin().unwrap();
        let block_count = 1 + (segment % 3) as u32;
        let mut hashes = Vec::new();
        for block in 0..block_count {
            let batches = 1 + generator.below(12) as usize;
            let sample = sample(generator, batches);
            let terms = BlockTerms::of(&Block::open(&sample.bytes).unwrap(), &sample.origins).unwrap();
            hashes.extend(terms.hashes.iter().map(|hash| ValueEntry::new(*hash, block)));
            commit.add(TENANT, segment, block, &terms).unwrap();
            samples.push((Candidate { segment, block }, sample));
        }
        values.put(segment, &mut hashes, block_count);
        commit.finish(true).unwrap();
    }
    (index, values, samples)
}

fn candidates(view: &IndexView, values: &Values, query: &TraceQuery) -> Vec<Candidate> {
    let mut found = view.candidates(TENANT, &Necessary::of(&Test::of(query)), values).unwrap();
    found.sort();
    found
}

#[test]
fn no_block_that_has_it_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut generator = SpanGenerator::new(5, NOW_NS, 200);
    let (index, values, samples) = indexed(directory.path(), &mut generator, 9);
    let queries = queries(&mut generator, 800);
    let check = |index: &SearchIndex| {
        let view = index.view().unwrap();
        assert_eq!(view.block_counts().values().sum::<usize>(), samples.len());
        let (mut proposed, mut right) = (0, 0);
        for query in &queries {
            let found = candidates(&view, &values, query);
            for (place, sample) in &samples {
                let has = !passing_by_hand(sample, query).is_empty();
                assert!(!has || found.contains(place), "{place:?} {query:?}");
                right += usize::from(has);
            }
            proposed += found.len();
        }
        assert!(proposed < samples.len() * queries.len(), "nothing is left out");
        (proposed, right)
    };
    let before = check(&index);
    index.merge_all().unwrap();
    assert_eq!(check(&index), before);
    drop(index);
    let index = SearchIndex::open(directory.path(), MEMORY_BYTES, &AtomicU64::new(1 << 20)).unwrap();
    assert_eq!(check(&index), before);
}

#[test]
fn what_is_absent_costs_no_block_and_other_tenants_see_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut generator = SpanGenerator::new(6, NOW_NS, 200);
    let (index, values, _) = indexed(directory.path(), &mut generator, 5);
    let view = index.view().unwrap();
    let attribute = |key: &str, value: &str| SpanFilter::Attribute { key: key.to_owned(), value: value.to_owned() };
    let query = |service: Option<&str>, filter| TraceQuery {
        service: service.map(str::to_owned),
        filters: vec![filter],
        ..TraceQuery {
            service: None,
            operation: None,
            filters: Vec::new(),
            predicate: None,
            start: pharos_model::TimeRangeNs::ALL,
            duration_min_ns: None,
            duration_max_ns: None,
            limit: 20,
        }
    };
    assert_eq!(candidates(&view, &values, &query(None, attribute("user", "nobody"))), []);
    assert_eq!(candidates(&view, &values, &query(Some("absent"), attribute("user", "ada"))), []);
    assert!(!candidates(&view, &values, &query(None, attribute("user", "ada"))).is_empty());
    let of_other = view.candidates(TENANT + 1, &Necessary::default(), &values).unwrap();
    assert_eq!(of_other, []);
}

#[test]
fn segments_are_replaced_whole_and_half_a_change_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let mut generator = SpanGenerator::new(7, NOW_NS, 200);
    let (index, values, samples) = indexed(directory.path(), &mut generator, 4);
    let all = |index: &SearchIndex| {
        let view = index.view().unwrap();
        let mut found = view.candidates(TENANT, &Necessary::default(), &values).unwrap();
        found.sort();
        found
    };
    let before = all(&index);
    assert_eq!(before.len(), samples.len());
    let terms = BlockTerms::of(&Block::open(&samples[0].1.bytes).unwrap(), &samples[0].1.origins).unwrap();
    let mut commit = index.begin().unwrap();
    commit.remove(TENANT, 1);
    commit.add(TENANT, 9, 0, &terms).unwrap();
    drop(commit);
    assert_eq!(all(&index), before);
    let mut commit = index.begin().unwrap();
    commit.remove(TENANT, 1);
    commit.add(TENANT, 9, 0, &terms).unwrap();
    commit.finish(false).unwrap();
    let mut expected: Vec<_> = before.into_iter().filter(|candidate| candidate.segment != 1).collect();
    expected.push(Candidate { segment: 9, block: 0 });
    assert_eq!(all(&index), expected);
    assert!(SearchIndex::open(&directory.path().join("none"), MEMORY_BYTES, &AtomicU64::new(1 << 20)).is_none());
}

#[test]
fn damage_of_any_file_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let mut generator = SpanGenerator::new(8, NOW_NS, 50);
    let (index, ..) = indexed(directory.path(), &mut generator, 2);
    index.close().unwrap();
    drop(index);
    let open = |checked_max| SearchIndex::open(directory.path(), MEMORY_BYTES, &AtomicU64::new(checked_max)).is_some();
    assert!(open(1 << 20) && examine(directory.path()).is_ok());
    let mut damaged_count = 0;
    for entry in fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap().to_owned();
        let sound = fs::read(&path).unwrap();
        // Names of files and locks have no checksum; a wrong name is a file that is not there.
        if name.starts_with('.') || name == "meta.json" || sound.is_empty() {
            continue;
        }
        let mut damaged = sound.clone();
        damaged[sound.len() / 3] ^= 4;
        fs::write(&path, &damaged).unwrap();
        assert!(!open(1 << 20) && examine(directory.path()).is_err(), "{name}");
        fs::write(&path, &sound).unwrap();
        damaged_count += 1;
    }
    assert!(damaged_count >= 10, "{damaged_count}");
    assert!(open(0), "nothing is checked when the bytes are used up");
}

/// A crash amid a change leaves files whose names the next change may choose again: it must not trip over them.
#[test]
fn what_a_crash_left_of_a_change_is_in_nobodys_way() {
    let directory = tempfile::tempdir().unwrap();
    let mut generator = SpanGenerator::new(5, NOW_NS, 20);
    let index = SearchIndex::create(directory.path(), MEMORY_BYTES).unwrap();
    let mut commit = index.begin().unwrap();
    for segment in 0..4 {
        let sample = sample(&mut generator, 2);
        let terms = BlockTerms::of(&Block::open(&sample.bytes).unwrap(), &sample.origins).unwrap();
        commit.add(TENANT, segment, 0, &terms).unwrap();
    }
    commit.finish(false).unwrap();
    let before = |directory: &Path| -> HashSet<_> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    let (meta, known) = (fs::read(directory.path().join("meta.json")).unwrap(), before(directory.path()));
    let remove_one = |index: &SearchIndex| {
        let mut commit = index.begin().unwrap();
        commit.remove(TENANT, 2);
        commit.finish(false)
    };
    remove_one(&index).unwrap();
    drop(index);
    assert!(
        before(directory.path())
            .difference(&known)
            .any(|name| Path::new(name).extension().is_some_and(|end| end == "del"))
    );
    // The files of the change are there, and what makes them count is not.
    fs::write(directory.path().join("meta.json"), meta).unwrap();
    let index = SearchIndex::open(directory.path(), MEMORY_BYTES, &AtomicU64::new(u64::MAX)).unwrap();
    remove_one(&index).unwrap();
}
