//! Rules of retention: hidden at once, gone with the next merge, whole parts where possible, and back if they change.

use std::path::Path;
use std::sync::Arc;

use pharos_base::{HumanDuration, SimClock};
use pharos_model::{METRIC_NAME, TenantId, TimeRange};
use pharos_storage::conformance::metrics::{CASE_TIME_MS, append, float_batch, read_all};
use pharos_storage::{LabelQuery, MetricStore, ReadContext};
use pharos_tsdb::{Components, RealDisk, RetentionRule, Settings, Tsdb, TsdbError};
use tempfile::TempDir;

use crate::support::all_series;

const DAY_MS: i64 = 86_400_000;

fn days(count: i64) -> HumanDuration {
    HumanDuration::from_ms((count * DAY_MS) as u64)
}

fn rule(tenant: Option<&str>, matcher: Option<&str>, keep_days: i64) -> RetentionRule {
    let matchers = matcher.into_iter().map(str::to_owned).collect();
    RetentionRule { tenant: tenant.map(|name| name.parse().unwrap()), matchers, keep: days(keep_days) }
}

fn open(dir: &Path, clock: &Arc<SimClock>, retention_rules: Vec<RetentionRule>) -> Tsdb {
    let settings = Settings { retention: days(20), retention_rules, ..Settings::for_tests() };
    Tsdb::open(dir, settings, Components { clock: clock.clone(), disk: Arc::new(RealDisk), ..Components::default() })
        .unwrap()
}

/// A sample a day for 40 days of each of three series.
fn fill(store: &Tsdb, tenant: &str) {
    let samples: Vec<_> = (0..40).map(|day| (CASE_TIME_MS - day * DAY_MS, 1.0)).rev().collect();
    let series: Vec<_> = ["debug", "other", "slo"].map(|name| [(METRIC_NAME, name)]).to_vec();
    let all: Vec<_> = series.iter().map(|pairs| (pairs.as_slice(), samples.as_slice())).collect();
    append(store, &tenant.parse().unwrap(), float_batch(&all));
}

/// Days kept of each series, and what is listed.
fn kept(store: &Tsdb, tenant: &str) -> Vec<(String, usize)> {
    let tenant: TenantId = tenant.parse().unwrap();
    let found = read_all(store, &tenant, all_series(), TimeRange::ALL);
    let query = LabelQuery { matcher_sets: vec![], range: TimeRange::ALL, limit: usize::MAX };
    let listed = store.label_values(&tenant, METRIC_NAME, &query, &ReadContext::unlimited()).unwrap();
    let counts: Vec<_> =
        found.iter().map(|(labels, all)| (labels.metric_name().to_owned(), all.values.len())).collect();
    assert!(counts.iter().all(|(name, _)| listed.contains(name)));
    counts
}

fn expect(counts: &[(&str, usize)]) -> Vec<(String, usize)> {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

const DEBUG: Option<&str> = Some("__name__=~\"deb.*\"");
const SLO: Option<&str> = Some("__name__=\"slo\"");

#[test]
fn rules_hide_at_once_and_merging_takes_away() {
    let dir = TempDir::new().unwrap();
    let clock = SimClock::at_ms(CASE_TIME_MS);
    let rules =
        vec![rule(None, DEBUG, 5), rule(None, SLO, 30), rule(Some("long"), None, 35), rule(Some("long"), SLO, 36)];
    let store = open(dir.path(), &clock, rules.clone());
    fill(&store, "0");
    fill(&store, "long");
    let of_default = expect(&[("debug", 6), ("other", 21), ("slo", 31)]);
    // Of two rules for the same series the shorter counts.
    let of_long = expect(&[("debug", 6), ("other", 36), ("slo", 31)]);
    for settled in [false, true] {
        assert_eq!((kept(&store, "0"), kept(&store, "long")), (of_default.clone(), of_long.clone()), "{settled}");
        store.flush().unwrap();
    }
    store.compact().unwrap();
    assert_eq!((kept(&store, "0"), kept(&store, "long")), (of_default, of_long));
    let (seen, on_disk) = (6 + 21 + 31 + 6 + 36 + 31, store.stats().part_samples);
    assert!((seen..seen + 6).contains(&on_disk), "{on_disk}: gone but for what shares a window with younger samples");
    // Time goes on: what has become too old is hidden without any merge.
    clock.advance_ms(3 * DAY_MS);
    assert_eq!(kept(&store, "0"), expect(&[("debug", 3), ("other", 18), ("slo", 28)]));
    clock.advance_ms(4 * DAY_MS);
    assert_eq!(kept(&store, "0"), expect(&[("other", 14), ("slo", 24)]));
    let query = LabelQuery { matcher_sets: vec![], range: TimeRange::ALL, limit: usize::MAX };
    store.compact().unwrap();
    let listed = store.label_values(&TenantId::default(), METRIC_NAME, &query, &ReadContext::unlimited()).unwrap();
    assert_eq!(listed, ["other", "slo"]);
    // All that is left of the oldest days is one series; without it they are deleted whole.
    clock.advance_ms(60 * DAY_MS);
    store.compact().unwrap();
    assert_eq!((store.stats().parts, kept(&store, "long")), (0, vec![]));
}

#[test]
fn a_setting_changes_with_a_restart_in_both_directions() {
    let dir = TempDir::new().unwrap();
    let clock = SimClock::at_ms(CASE_TIME_MS);
    let store = open(dir.path(), &clock, vec![rule(None, SLO, 30)]);
    fill(&store, "0");
    store.close().unwrap();
    let shorter = vec![rule(None, SLO, 3)];
    let store = open(dir.path(), &clock, shorter.clone());
    assert_eq!(kept(&store, "0"), expect(&[("debug", 21), ("other", 21), ("slo", 4)]));
    drop(store);
    // Nothing was merged in between: it is still there.
    let store = open(dir.path(), &clock, vec![rule(Some("0"), None, 25), rule(None, SLO, 30)]);
    assert_eq!(kept(&store, "0"), expect(&[("debug", 26), ("other", 26), ("slo", 31)]));
    drop(store);
    let store = open(dir.path(), &clock, shorter);
    store.compact().unwrap();
    drop(store);
    let store = open(dir.path(), &clock, vec![]);
    assert_eq!(kept(&store, "0"), expect(&[("debug", 21), ("other", 21), ("slo", 4)]), "gone is gone");
}

#[test]
fn rules_that_cannot_be_are_refused_when_the_store_opens() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { retention_rules: vec![rule(None, Some("job"), 1)], ..Settings::for_tests() };
    let opened = Tsdb::open(dir.path(), settings, Components::default());
    let error = opened.unwrap_err();
    assert!(matches!(&error, TsdbError::Settings { setting: "retention_rules", .. }), "{error}");
    assert!(error.to_string().contains("rule 1: matcher `job`"), "{error}");
}
