//! Rewritten batches: whatever is remembered, what comes out is what the rewrite makes of the labels.

use pharos_model::{BatchBuilder, Sample, SpanGroup};
use proptest::prelude::*;

use super::*;
use crate::shares::Budget;

fn rewrite(set: &[(&str, &str)], removed: Option<&str>) -> Arc<LabelRewrite> {
    let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Arc::new(LabelRewrite::new(&set, removed).unwrap())
}

fn labels(index: usize) -> Labels {
    Labels::from_pairs([("__name__", "up".to_owned()), ("team", "sender".to_owned()), ("i", index.to_string())])
        .unwrap()
}

/// A batch of series with these numbers, every other one with shared labels.
fn batch(series: &[usize]) -> MetricBatch {
    let mut builder = BatchBuilder::new();
    for (place, &index) in series.iter().enumerate() {
        builder.push_sample(Sample { timestamp_ms: place as i64, value: 1.0 }, 0);
        if place % 2 == 0 {
            builder.finish_series_shared(&labels(index));
        } else {
            builder.finish_series_encoded(&labels(index));
        }
    }
    builder.build()
}

fn rewritten(memory: &RewriteMemory, rule: &Arc<LabelRewrite>, series: &[usize]) -> Vec<Labels> {
    let mut batch = batch(series);
    memory.rewrite(&mut batch, |_| Some(rule));
    batch.series.iter().map(|run| batch.labels(run).unwrap()).collect()
}

fn memory_of(bytes: u64) -> RewriteMemory {
    RewriteMemory::open(Account::open(&Arc::new(Budget::new(bytes))))
}

fn memory() -> RewriteMemory {
    memory_of(1 << 20)
}

#[test]
fn a_series_named_again_gets_the_same_pointer() {
    let (memory, rule) = (memory(), rewrite(&[("team", "a")], None));
    let first = rewritten(&memory, &rule, &[1, 2, 3]);
    assert_eq!(first[0].to_string(), r#"up{i="1", team="a"}"#);
    // Another request of the same credential, and another order.
    let again = rewritten(&memory, &rewrite(&[("team", "a")], None), &[3, 1, 2, 2]);
    let same =
        [(0, 2), (1, 0), (2, 1), (3, 1)].iter().all(|&(to, from): &(usize, usize)| again[to].is_same(&first[from]));
    assert!(same, "{again:?}");
}

#[test]
fn no_credential_gets_the_labels_of_another() {
    let memory = memory();
    for _ in 0..3 {
        for team in ["a", "b", "c"] {
            let rule = rewrite(&[("team", team)], None);
            for (index, labels) in rewritten(&memory, &rule, &[0, 1, 2, 3]).iter().enumerate() {
                assert_eq!(labels.to_string(), format!(r#"up{{i="{index}", team="{team}"}}"#));
            }
        }
        let mut untouched = batch(&[0, 1]);
        memory.rewrite(&mut untouched, |_| None);
        assert_eq!(untouched.labels(&untouched.series[0]).unwrap(), labels(0));
    }
}

#[test]
fn the_memory_is_bounded_over_all_rewrites() {
    let memory = memory_of(40 * (ENTRY_BYTES + 60));
    for team in 0..20 {
        let rule = rewrite(&[("team", &team.to_string())], None);
        let series: Vec<_> = (0..30).collect();
        assert_eq!(rewritten(&memory, &rule, &series)[29].get("team"), Some(team.to_string().as_str()));
        assert!(memory.memory_bytes() <= 40 * (ENTRY_BYTES + 60), "{}", memory.memory_bytes());
    }
    let nothing = memory_of(0);
    assert_eq!(rewritten(&nothing, &rewrite(&[("a", "b")], None), &[1])[0].get("a"), Some("b"));
    assert_eq!(nothing.memory_bytes(), 0);
}

#[test]
fn a_tenant_whose_labels_change_all_the_time_leaves_room_for_others() {
    let memories = RewriteMemories::new(pharos_base::ByteSize(100 * (ENTRY_BYTES + 60)));
    let of = |tenant: &str, minute| memories.of(&tenant.parse().unwrap(), minute);
    let rule = rewrite(&[("team", "a")], None);
    let steady: Vec<_> = (0..10).collect();
    let mut last = Vec::new();
    for minute in 1..40 {
        let churning: Vec<_> = (0..200).map(|index| 1_000 * minute as usize + index).collect();
        rewritten(&of("churning", minute), &rule, &churning);
        let found = rewritten(&of("steady", minute), &rule, &steady);
        let is_known = last.iter().zip(&found).all(|(last, found): (&Labels, &Labels)| last.is_same(found));
        assert!(is_known || minute <= 3, "minute {minute}");
        last = found;
        assert!(memories.memory_bytes() <= 100 * (ENTRY_BYTES + 60));
    }
}

#[test]
fn attributes_are_set_on_every_resource() {
    let text =
        |key: &str, value: &str| Attribute { key: key.to_owned(), value: AttributeValue::String(value.to_owned()) };
    let resource =
        Arc::new(Resource { attributes: vec![text("team", "sender"), text("a", "b")], ..Resource::default() });
    let group = |resource: &Arc<Resource>| SpanGroup {
        resource: Arc::clone(resource),
        scope: Arc::default(),
        spans: Vec::new(),
    };
    let mut batch = SpanBatch { groups: vec![group(&resource), group(&resource), group(&Arc::default())] };
    set_on_spans(&mut batch, &rewrite(&[("team", "mine"), ("a", "")], None));
    for group in &batch.groups {
        assert_eq!(group.resource.attributes, [text("team", "mine")]);
    }
    assert!(Arc::ptr_eq(&batch.groups[0].resource, &batch.groups[1].resource));
}

proptest! {
    /// Few bytes of memory, few rewrites and few series: everything collides, nothing is mixed up.
    #[test]
    fn what_comes_out_is_what_the_rewrite_makes(requests in proptest::collection::vec((0..3_usize, proptest::collection::vec(0..9_usize, 0..12)), 0..20), bytes in 0..3000_u64) {
        let memory = memory_of(bytes);
        let rules = [rewrite(&[("team", "a")], None), rewrite(&[("team", "b")], None), rewrite(&[], Some("team"))];
        for (rule, series) in requests {
            let found = rewritten(&memory, &rules[rule], &series);
            for (index, found) in series.iter().zip(found) {
                let expected = rules[rule].apply(labels(*index).encoded(), &mut LabelsBuilder::default());
                prop_assert_eq!(found, expected);
            }
            prop_assert!(memory.memory_bytes() <= bytes);
        }
    }
}
