//! One case each for what the random histories found hard to find.

use pharos_storage::Capabilities;
use pharos_storage::conformance::Claiming;

use super::*;

/// Asks, lets something arrive late within the last step only, asks again.
fn after_a_late_end(query: &str, asked: StepRange, late_ms: i64) {
    let (store, engine) = half_an_hour();
    ask(&engine, query, asked, false).unwrap();
    scrape(&store, late_ms, 5);
    let (kept, fresh) = (ask(&engine, query, asked, false), ask(&engine, query, asked, true));
    assert_eq!(seen(kept), seen(fresh), "{query}");
}

#[test]
fn functions_of_the_query_itself_see_all_its_steps() {
    let asked = steps(300_000, 40, 30_000);
    for function in ["start()", "end()", "range()", "step()", "time() - start()", "vector(end())"] {
        after_a_late_end(&format!("sum(cpu_total) * 0 + {function}"), asked, 1_499_999);
        after_a_late_end(&format!("sum(cpu_total) * 0 + {function}"), asked, 1_400_001);
    }
}

#[test]
fn sorting_remains_without_effect_where_one_step_is_missing() {
    let asked = steps(300_000, 40, 30_000);
    for query in
        ["sort(latency)", "sort_desc(latency)", "sort_by_label(latency, \"target\")", "sum(topk(3, gauge) / 7)"]
    {
        after_a_late_end(query, asked, 1_499_999);
    }
}

fn add(store: &MemoryMetricStore, pairs: &[(&str, &str)], timestamp_ms: i64, value: f64) {
    let mut batch = BatchBuilder::new();
    batch.push_sample(Sample { timestamp_ms, value }, 0);
    batch.finish_series_encoded(&Labels::from_pairs(pairs.iter().copied()).unwrap());
    store.append(&TenantId::default(), batch.build(), BatchId::random()).wait().unwrap().unwrap();
}

#[test]
fn an_info_series_that_arrives_late_is_seen_though_its_base_looks_less_far_back() {
    let (store, engine) = half_an_hour();
    for tick in 0..40 {
        let pairs = [(METRIC_NAME, "lonely_total"), ("instance", "9"), ("job", "lonely")];
        add(&store, &pairs, tick * INTERVAL_MS, tick as f64);
    }
    let (query, asked) = ("info(last_over_time(lonely_total[15s]))", steps(300_000, 10, 15_000));
    let before = seen(ask(&engine, query, asked, false));
    add(&store, &[(METRIC_NAME, "target_info"), ("instance", "9"), ("job", "lonely"), ("v", "1")], 260_000, 1.0);
    let (kept, fresh) = (ask(&engine, query, asked, false), ask(&engine, query, asked, true));
    assert_eq!(seen(kept), seen(fresh));
    assert_ne!(before, seen(ask(&engine, query, asked, false)));
}

#[test]
fn info_series_are_chosen_by_the_base_of_all_steps() {
    let (store, engine) = half_an_hour();
    // At the last step no base series has an instance; before, some have.
    let (query, asked) = ("info(requests_total)", steps(300_000, 19, 30_000));
    ask(&engine, query, asked, false).unwrap();
    scrape(&store, 869_999, 0);
    let (kept, fresh) = (ask(&engine, query, asked, false), ask(&engine, query, asked, true));
    assert_eq!(seen(kept), seen(fresh));
}

#[test]
fn hints_hang_on_histograms_before_the_window() {
    let (store, engine) = half_an_hour();
    let add = |time_ms: i64, count: i64| {
        let mut batch = BatchBuilder::new();
        batch.push_histogram(time_ms, histogram(count), 0);
        batch.finish_series_encoded(&labels("lonely", 0, 0));
        store.append(&TenantId::default(), batch.build(), BatchId::random()).wait().unwrap().unwrap();
    };
    let check = |asked: StepRange| {
        let (kept, fresh) = (ask(&engine, "sum(lonely)", asked, false), ask(&engine, "sum(lonely)", asked, true));
        assert_eq!(seen(kept), seen(fresh), "{asked:?}");
    };
    // One without a predecessor; then one comes, within the lookback before the first window.
    add(3_990_000, 9);
    for late_ms in [3_935_000, 3_900_000] {
        check(steps(4_000_000, 4, 10_000));
        add(late_ms, 3);
        check(steps(4_000_000, 4, 10_000));
    }
    // The predecessor is further away than a lookback, but within what all steps together read.
    check(steps(3_990_000, 20, 10_000));
    add(4_290_000, 12);
    check(steps(3_990_000, 30, 10_000));
    check(steps(3_990_000, 31, 10_000));
}

/// Sums of values that cancel each other out: any other order of adding them gives another sum.
#[test]
fn what_is_added_up_is_added_in_one_order_whichever_steps_are_missing() {
    for capabilities in [Capabilities::exact(), Capabilities::raw()] {
        let (store, _) = half_an_hour();
        let engine = Engine::new(Arc::new(Claiming::new(store, capabilities)), settings());
        for query in [
            "sum(avg by (target) (wild))",
            "sum(max by (target) (last_over_time(wild[15s])))",
            "sum(quantile by (target) (0, wild))",
            "sum(topk(9, steady{mode=\"0\"}))",
            "sum(wild * on (target, mode) abs(wild))",
            "sum(wild or on (target, mode) wild_b)",
            "sum(last_over_time({__name__=~\"paired|paired_b\"}[15s]) + 0)",
        ] {
            for count in 60..90 {
                let asked = steps(20 * INTERVAL_MS, count, INTERVAL_MS);
                let (kept, fresh) = (ask(&engine, query, asked, false), ask(&engine, query, asked, true));
                assert_eq!(seen(kept), seen(fresh), "{query} {count}");
            }
        }
        assert!(engine.cache_stats().partial_hits > 200);
    }
}
