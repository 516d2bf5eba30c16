//! Listings, against a list of what was stored: in the head, in parts, in both.

use std::collections::{BTreeMap, BTreeSet};

use pharos_base::MemoryBudget;
use pharos_model::{Labels, MatchOp, Matcher, TenantId, TimeRange, matches_labels};
use pharos_storage::conformance::metrics::{CASE_TIME_MS, float_batch};
use pharos_storage::{LabelQuery, MetricStore, ReadContext, StorageError};
use pharos_tsdb::Tsdb;
use tempfile::TempDir;

use crate::support::{append, open};

/// Many series of one metric, few of another, which have a label of their own.
fn sets() -> Vec<Vec<(&'static str, String)>> {
    let many = (0..400)
        .map(|n| vec![("__name__", "many".to_owned()), ("instance", format!("host-{}", n % 50)), ("n", n.to_string())]);
    let few = (0..5)
        .map(|n| vec![("__name__", "few".to_owned()), ("instance", format!("rare-{n}")), ("only", "here".to_owned())]);
    many.chain(few).collect()
}

fn put(store: &Tsdb, sets: &[Vec<(&'static str, String)>], time_ms: i64) {
    for set in sets {
        let pairs: Vec<(&str, &str)> = set.iter().map(|(name, value)| (*name, value.as_str())).collect();
        append(store, float_batch(&[(&pairs, &[(time_ms, 1.0)])]));
    }
}

fn query(matchers: &[Matcher], range: TimeRange, limit: usize) -> LabelQuery {
    let matcher_sets = if matchers.is_empty() { Vec::new() } else { vec![matchers.to_vec()] };
    LabelQuery { matcher_sets, range, limit }
}

/// Compares all listings of the matched series with what `expected` holds.
fn check(store: &Tsdb, expected: &[Labels], matchers: &[Matcher], range: TimeRange) {
    let (tenant, context) = (TenantId::default(), ReadContext::unlimited());
    let passed: BTreeSet<&Labels> = expected.iter().filter(|set| matches_labels(matchers, set)).collect();
    let all = query(matchers, range, usize::MAX);
    let names: BTreeSet<&str> = passed.iter().flat_map(|set| set.iter().map(|(name, _)| name)).collect();
    assert_eq!(store.label_names(&tenant, &all, &context).unwrap(), Vec::from_iter(names), "{matchers:?}");
    for name in ["__name__", "instance", "n", "only", "none"] {
        let values: BTreeSet<&str> = passed.iter().filter_map(|set| set.get(name)).collect();
        let values: Vec<&str> = values.into_iter().collect();
        assert_eq!(store.label_values(&tenant, name, &all, &context).unwrap(), values, "{name} {matchers:?}");
        let three = store.label_values(&tenant, name, &query(matchers, range, 3), &context).unwrap();
        assert_eq!(three, values[..values.len().min(3)]);
    }
    let found = store.series(&tenant, &all.matcher_sets, range, &context).unwrap().map(Result::unwrap);
    let found: Vec<Labels> = found.collect();
    assert_eq!((found.len(), found.iter().collect::<BTreeSet<_>>()), (passed.len(), passed), "each once");
}

/// Compares the counts of the series present with those of `expected`.
fn check_counts(store: &Tsdb, expected: &[Labels]) {
    let status = store.cardinality(&TenantId::default(), 10_000).unwrap();
    let mut pairs: BTreeMap<String, u64> = BTreeMap::new();
    for (name, value) in expected.iter().flat_map(Labels::iter) {
        *pairs.entry(format!("{name}={value}")).or_default() += 1;
    }
    assert_eq!((status.series, status.label_pairs), (expected.len() as u64, pairs.len() as u64));
    let found: BTreeMap<String, u64> =
        status.series_by_pair.into_iter().map(|entry| (entry.name, entry.value)).collect();
    assert_eq!(found, pairs);
}

fn labels(sets: &[Vec<(&'static str, String)>]) -> Vec<Labels> {
    sets.iter().map(|set| Labels::from_pairs(set.iter().cloned()).unwrap()).collect()
}

#[test]
fn listings_name_what_is_in_the_range_wherever_it_is() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let sets = sets();
    let at = |time_ms: i64| TimeRange::inclusive(time_ms, time_ms);
    let (old_ms, new_ms) = (CASE_TIME_MS - 4 * 3_600_000, CASE_TIME_MS);
    let matchers = [
        vec![],
        vec![Matcher::equal("__name__", "few")],
        vec![Matcher::equal("__name__", "many")],
        vec![Matcher::equal("__name__", "many"), Matcher::equal("instance", "host-7")],
        vec![Matcher::new(MatchOp::Regex, "n", "1.*|399").unwrap()],
        vec![Matcher::new(MatchOp::NotEqual, "only", "here").unwrap()],
        vec![Matcher::equal("__name__", "neither")],
    ];
    let check_all =
        |expected: &[Labels], range: TimeRange| matchers.iter().for_each(|m| check(&store, expected, m, range));
    put(&store, &sets, old_ms);
    check_all(&labels(&sets), at(old_ms));
    check_all(&[], at(new_ms));
    check_counts(&store, &labels(&sets));
    // The head goes on knowing all of them, but has samples of some.
    store.flush().unwrap();
    check_all(&[], at(new_ms));
    check_counts(&store, &labels(&sets));
    let some = &sets[350..402];
    put(&store, some, new_ms);
    check_counts(&store, &labels(some));
    check_all(&labels(some), at(new_ms));
    check_all(&labels(&sets), at(old_ms));
    check_all(&labels(&sets), TimeRange::inclusive(old_ms, new_ms));
    // A series that is new is there at once.
    let new = vec![vec![("__name__", "new".to_owned()), ("n", "zzz".to_owned())]];
    put(&store, &new, new_ms);
    check_all(&labels(&[some, &new].concat()), at(new_ms));
    // Series of which a part has samples and the head, too, are counted once.
    store.flush().unwrap();
    put(&store, &sets[340..360], new_ms);
    check_counts(&store, &labels(&[&sets[340..402], &new].concat()));
    check_all(&labels(&[&sets[340..402], &new].concat()), at(new_ms));
}

#[test]
fn listings_heed_the_budget_of_memory() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    put(&store, &sets(), CASE_TIME_MS);
    let context = ReadContext { memory: MemoryBudget::new(2000), ..ReadContext::unlimited() };
    for flushed in [false, true] {
        let all = query(&[], TimeRange::ALL, usize::MAX);
        let found = store.label_values(&TenantId::default(), "n", &all, &context);
        assert!(matches!(found, Err(StorageError::Memory(_))), "flushed: {flushed}");
        store.flush().unwrap();
    }
}
