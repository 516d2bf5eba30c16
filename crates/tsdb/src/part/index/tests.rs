//! The index against a naive model: label sets in a list, matchers applied one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pharos_base::CancelToken;
use pharos_model::{Labels, MatchOp, matches_labels};
use proptest::prelude::*;

use super::*;
use crate::index::{SeriesIndex, select_any};
use crate::part::toc::{BLOCK_SERIES, push_blocks};
use pharos_chunk::bytes::{push_slice, push_varint};
use pharos_model::Matcher;

/// Sorted as a part's series are.
fn sorted(sets: Vec<BTreeMap<String, String>>) -> Vec<Labels> {
    let mut labels: Vec<Labels> = sets.into_iter().map(|set| Labels::from_pairs(set).unwrap()).collect();
    labels.sort_by(|a, b| a.encoded().cmp(b.encoded()));
    labels.dedup();
    labels
}

fn encode(labels: &[Labels]) -> Vec<u8> {
    let mut writer = IndexWriter::default();
    for set in labels {
        writer.add_series(set.encoded());
    }
    writer.finish(&data_toc(labels.len()))
}

/// As version 1 was written, without postings.
fn encode_v1(labels: &[Labels]) -> Vec<u8> {
    let (mut file, mut blocks) = (Vec::new(), Vec::new());
    for sets in labels.chunks(BLOCK_SERIES) {
        let (mut payload, mut previous): (Vec<u8>, &[u8]) = (Vec::new(), &[]);
        push_varint(&mut payload, sets.len() as u64);
        for set in sets.iter().map(Labels::encoded) {
            let shared = previous.iter().zip(set).take_while(|(a, b)| a == b).count();
            push_varint(&mut payload, shared as u64);
            push_slice(&mut payload, &set[shared..]);
            previous = set;
        }
        let offset = file.len() as u64;
        blocks.push(BlockAt { offset, len: block::write(&payload, block::Packing::Zstd(6), &mut file) });
    }
    let mut toc = Vec::new();
    push_varint(&mut toc, labels.len() as u64);
    push_blocks(&mut toc, &blocks);
    data_toc(labels.len()).encode(&mut toc);
    push_varint(&mut toc, 0);
    let offset = file.len() as u64;
    let len = block::write(&toc, block::Packing::Plain, &mut file);
    file.extend_from_slice(&offset.to_le_bytes());
    file.extend_from_slice(&len.to_le_bytes());
    file.extend_from_slice(&1_u32.to_le_bytes());
    file.extend_from_slice(&INDEX_MAGIC);
    file
}

fn data_toc(series: usize) -> DataToc {
    let blocks = vec![BlockAt { offset: 16, len: 9 }; series.div_ceil(BLOCK_SERIES)];
    DataToc { headers: blocks.clone(), bodies: blocks, times: vec![(0, BlockAt { offset: 99, len: 7 })] }
}

fn open_bytes(bytes: &[u8], cache_bytes: usize) -> Result<(PartIndex, DataToc), TsdbError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    std::fs::write(&path, bytes).unwrap();
    // The file stays readable after it is removed.
    PartIndex::open(BlockFile::open(Path::new(&path))?, &Arc::new(IndexCache::new(cache_bytes)))
}

fn label_set() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map("__name__|Upper|a|b|host", "[ab]{1,4}|ä|x[0-9]{1,3}", 0..5)
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let name = "__name__|Upper|a|b|host|none";
    let literal = (name, prop_oneof![Just(MatchOp::Equal), Just(MatchOp::NotEqual)], "|[ab]{1,3}|x[0-9]{1,2}");
    let patterns = [
        "",
        ".*",
        ".+",
        "a.*",
        ".*b",
        "a|b|x1",
        "(?i)A+",
        "x[0-9]+",
        "|a",
        "[^a]*",
        "x1.?|ab.*",
        "(a|b)+",
        "ä",
        "nothing",
    ];
    let pattern = proptest::sample::select(patterns.to_vec()).prop_map(str::to_owned);
    let regex = (name, prop_oneof![Just(MatchOp::Regex), Just(MatchOp::NotRegex)], pattern);
    prop_oneof![
        literal.prop_map(|(name, op, value)| Matcher::new(op, name, value).unwrap()),
        regex.prop_map(|(name, op, value)| Matcher::new(op, name, value).unwrap()),
    ]
}

fn check(index: &PartIndex, labels: &[Labels], sets: &[Vec<Matcher>]) {
    let passes = |set: &Labels| sets.is_empty() || sets.iter().any(|matchers| matches_labels(matchers, set));
    let expected: Vec<u32> = (0..).zip(labels).filter(|(_, set)| passes(set)).map(|(number, _)| number).collect();
    let found = select_any(index, sets, &CancelToken::new()).unwrap();
    assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{sets:?}");

    let mut cursor = LabelCursor::default();
    for number in &found {
        cursor.seek(index, number).unwrap();
        assert_eq!(cursor.get(number), Some(labels[number as usize].encoded()));
    }

    let selected = || labels.iter().filter(|set| passes(set)).flat_map(Labels::iter);
    let mut names = Vec::new();
    let add = |names: &mut Vec<String>, name: &str| {
        names.push(name.to_owned());
        true
    };
    index.label_names(Some(&found), |name| add(&mut names, name)).unwrap();
    assert_eq!(
        names,
        selected().map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    for name in ["__name__", "a", "host", "none"] {
        let mut values = Vec::new();
        let limit = if sets.is_empty() { None } else { Some(&found) };
        index.label_values(name, limit, |value| add(&mut values, value)).unwrap();
        values.sort();
        let expected: BTreeSet<_> = selected().filter(|pair| pair.0 == name).map(|pair| pair.1.to_owned()).collect();
        assert_eq!(values, expected.into_iter().collect::<Vec<_>>(), "{name} {sets:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn both_versions_answer_like_a_list_of_label_sets(
        sets in proptest::collection::vec(label_set(), 0..400),
        queries in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(matcher(), 0..3), 0..3), 1..8),
        cache_bytes in prop_oneof![Just(0_usize), Just(4000), Just(1 << 20)],
    ) {
        let labels = sorted(sets);
        for bytes in [encode(&labels), encode_v1(&labels)] {
            let (index, data) = open_bytes(&bytes, cache_bytes).unwrap();
            prop_assert_eq!(data, data_toc(labels.len()));
            for query in &queries {
                check(&index, &labels, query);
            }
        }
    }

    #[test]
    fn hostile_payloads_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), count in 0_u32..300) {
        let _ = Toc::decode(&bytes);
        let _ = v1::Toc::decode(&bytes);
        let _ = v1::add_sets(&bytes, count as usize, &mut IndexWriter::default());
        let _ = values::Values::decode(&bytes, count);
        if let Ok(shapes) = segment::Shapes::decode(&bytes, count, 5) {
            let _ = segment::Columns::decode(&bytes, 0..5, &shapes, |_| 3);
        }
    }
}

/// Many values of one label over several blocks, many series over several segments.
#[test]
fn large_parts_have_several_segments_and_blocks_of_values() {
    let set = |number: u32| {
        let mut pairs = vec![("__name__", format!("metric{}", number / 25_000)), ("id", format!("{:08}", number * 7))];
        if number.is_multiple_of(3) {
            pairs.push(("third", (number % 2).to_string()));
        }
        Labels::from_pairs(pairs).unwrap()
    };
    let labels: Vec<Labels> = (0..70_000).map(set).collect();
    let (index, _) = open_bytes(&encode(&labels), 1 << 20).unwrap();
    let toc = &index.reader().unwrap().toc;
    assert_eq!(toc.segments.len(), 2);
    assert!(toc.values.len() > 5);
    let regex = |name: &str, pattern: &str| Matcher::new(MatchOp::Regex, name, pattern).unwrap();
    for matchers in [
        vec![Matcher::equal("id", "00000000")],
        vec![Matcher::equal("id", "00419993"), Matcher::equal("__name__", "metric2")],
        vec![Matcher::equal("id", "00000001")],
        vec![regex("id", "0000.*[05]"), regex("third", "0?")],
        vec![regex("__name__", "metric[02]"), Matcher::equal("third", "1")],
        vec![Matcher::new(MatchOp::NotRegex, "id", "00[0-3].*").unwrap()],
    ] {
        let expected = (0..).zip(&labels).filter(|(_, set)| matches_labels(&matchers, set)).map(|(number, _)| number);
        assert_eq!(
            index.select(&matchers, &CancelToken::new()).unwrap().iter().collect::<Vec<u32>>(),
            expected.collect::<Vec<_>>()
        );
    }
    let mut cursor = LabelCursor::default();
    for number in [0, 69_999, 65_535, 65_536, 3, 68_000] {
        cursor.seek(&index, number).unwrap();
        assert_eq!(cursor.get(number), Some(labels[number as usize].encoded()));
    }
}

/// Whatever byte is flipped: an error that names file and place, or an answer that is right.
#[test]
fn flipped_bits_are_reported_with_their_place() {
    let sets =
        (0..280).map(|n| BTreeMap::from([("a".to_owned(), format!("v{n}")), ("b".to_owned(), (n % 7).to_string())]));
    let labels = sorted(sets.collect());
    for bytes in [encode(&labels), encode_v1(&labels)] {
        let mut reported = 0;
        for at in (0..bytes.len()).step_by(7) {
            for bit in [0, 6] {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let answer = open_bytes(&damaged, 0).and_then(|(index, _)| {
                    let found = index.select(&[Matcher::equal("b", "3")], &CancelToken::new())?;
                    let mut cursor = LabelCursor::default();
                    cursor.seek(&index, 279)?;
                    Ok((found, cursor.get(279).map(<[u8]>::to_vec)))
                });
                match answer {
                    Err(error) => {
                        let message = error.to_string();
                        assert!(
                            message.contains("index") && (message.contains("at byte") || message.contains("version")),
                            "{message}"
                        );
                        reported += 1;
                    }
                    Ok((found, last)) => {
                        assert_eq!(found.len(), 40, "byte {at} bit {bit}");
                        assert_eq!(last.as_deref(), Some(labels[279].encoded()));
                    }
                }
            }
        }
        assert!(7 * reported > bytes.len(), "{reported} of {}", bytes.len());
    }
}

#[test]
fn cut_files_are_reported() {
    let bytes = encode(&sorted(vec![BTreeMap::from([("a".to_owned(), "1".to_owned())])]));
    for len in 0..bytes.len() {
        let error = open_bytes(&bytes[..len], 0).unwrap_err().to_string();
        assert!(error.contains("index") && error.contains("at byte"), "{error}");
    }
}

fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/format/index-v2")
}

/// What the fixture holds: several shapes, one of them empty; values of several lengths and alphabets.
fn fixture_labels() -> Vec<Labels> {
    let set = |n: u32| {
        let mut pairs = BTreeMap::from([("__name__".to_owned(), format!("metric_{}", n % 11))]);
        pairs.insert("instance".to_owned(), format!("host-{}:9100", n / 11));
        if !n.is_multiple_of(3) {
            pairs.insert("Grüße".to_owned(), "\u{1f980}".repeat(n as usize % 4 + 1));
        }
        pairs
    };
    sorted((0..500).map(set).chain([BTreeMap::new()]).collect())
}

/// Files of version 2 open for ever; version 1 stands in the fixtures of whole stores.
#[test]
fn version_2_opens() {
    let (index, data) = open_bytes(&std::fs::read(fixture()).unwrap(), 1 << 20).unwrap();
    let labels = fixture_labels();
    assert_eq!(data, data_toc(labels.len()));
    check(&index, &labels, &[]);
    check(&index, &labels, &[vec![Matcher::equal("instance", "host-7:9100")], vec![Matcher::equal("Grüße", "")]]);
}

/// Writes the fixture. Run by hand, once, when a version is about to be released.
#[test]
#[ignore = "overwrites testdata; for a new format version only"]
fn write_fixture() {
    std::fs::write(fixture(), encode(&fixture_labels())).unwrap();
}

#[test]
fn a_pattern_over_many_values_is_given_up_when_nobody_waits_for_it() {
    let sets = (0..5_000).map(|n| BTreeMap::from([("a".to_owned(), format!("v{n}"))]));
    let labels = sorted(sets.collect());
    let (index, _) = open_bytes(&encode(&labels), 0).unwrap();
    let cancel = CancelToken::new();
    for op in [MatchOp::Regex, MatchOp::NotRegex] {
        let matchers = [Matcher::new(op, "a", "v.*7.?").unwrap()];
        assert!(!index.select(&matchers, &cancel).unwrap().is_empty());
    }
    cancel.cancel();
    for op in [MatchOp::Regex, MatchOp::NotRegex] {
        let matchers = [Matcher::new(op, "a", "v.*7.?").unwrap()];
        assert!(matches!(index.select(&matchers, &cancel), Err(TsdbError::Interrupted(_))));
    }
}
