//! Random histories, asked random questions.

use pharos_storage::Capabilities;
use pharos_storage::conformance::Claiming;
use proptest::prelude::*;

use super::*;

const QUERIES: &[&str] = &[
    "cpu_total",
    "sum(rate(gauge[2m]))",
    "sum by (mode) (rate(cpu_total[2m]))",
    "avg_over_time(cpu_total[5m]) / on (target, mode) cpu_total",
    "topk(3, cpu_total)",
    "limitk(2, cpu_total)",
    "quantile(0.7, cpu_total offset 3m)",
    "sum(cpu_total offset -4m)",
    "sum(cpu_total @ 600)",
    "sum(rate(cpu_total[3m] @ end()))",
    "cpu_total - on (target, mode) (cpu_total @ start())",
    "max_over_time(sum(cpu_total)[10m:1m])",
    "rate(sum_over_time(cpu_total[1m])[5m:30s] offset 1m)",
    "sum(cpu_total @ 900 offset 2m) + count(cpu_total)",
    "max_over_time((cpu_total @ 300)[5m:1m])",
    "absent(nothing)",
    "absent_over_time(cpu_total{target=\"0\"}[1m])",
    "sum(increase(cpu_total[2m] anchored))",
    "sum(rate(cpu_total[2m] smoothed))",
    "avg_over_time(cpu_total[step() * 2])",
    "sum(cpu_total) * (time() - start())",
    "end() - time() + 0 * range() + step()",
    "sum(latency)",
    "avg by (mode) (latency)",
    "latency + on (target, mode) latency",
    "sum_over_time(latency[3m])",
    "histogram_count(sum(latency))",
    "histogram_count(rate(latency[6m]))",
    "histogram_quantile(0.9, sum(rate(latency[5m])))",
    "sum_over_time(sum(latency)[5m:30s])",
    "sort(latency)",
    "sort_desc(cpu_total)",
    "sort_by_label(cpu_total, \"mode\")",
    "count_values(\"value\", cpu_total > 3)",
    "sum(info(cpu_total))",
    "info(requests_total)",
    "info(rate(requests_total[2m]), {version=~\".+\"})",
    "sum by (version) (info(requests_total offset 1m))",
    // What is added up in two stages, where the order of the first stage's groups decides the last bits.
    "sum(sum by (mode) (cpu_total))",
    "sum(avg by (target) (wild))",
    "avg(max by (target) (wild))",
    "sum(max by (target) (rate(cpu_total[1m]) + on (target, mode) wild))",
    "sum(avg by (target) (abs(wild) * wild))",
    "sum(quantile by (target) (0, wild))",
    "sum(count_values by (target) (\"value\", wild) * 0 + on (target) group_left max by (target) (wild))",
    "sum(wild * on (target, mode) abs(wild))",
    "sum(wild / on (target) group_left max by (target) (cpu_total))",
    "sum(wild or on (target) wild_b)",
    "sum(wild unless gauge)",
    "sum(topk(9, steady))",
    "sum(-topk by (mode) (4, wild))",
    "sum(last_over_time({__name__=~\"paired|paired_b\"}[15s]) + 0)",
    "sum(-last_over_time({__name__=~\"paired|paired_b\"}[15s]))",
    "sum(label_replace(last_over_time({__name__=~\"paired|paired_b\"}[15s]), \"__name__\", \"x\", \"\", \"\"))",
    "sum(histogram_quantile(0.9, latency))",
    "sum(max by (target) (sum_over_time(wild[2m:15s])))",
];

/// What happens between two questions.
#[derive(Debug, Clone)]
enum Event {
    /// Time goes on by so many scrapes.
    Scrapes(i64),
    /// Something arrives this many scrapes late.
    Late(i64, i64),
    /// The query is asked over so many steps that end now or some scrapes ago.
    Ask { back: i64, count: i64, step: i64 },
    /// The last question once more.
    Again,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (1_i64..6).prop_map(Event::Scrapes),
        1 => (0_i64..80, 1_i64..50).prop_map(|(back, seed)| Event::Late(back, seed)),
        4 => (0_i64..3, 0_i64..60, 1_i64..4).prop_map(|(back, count, step)| Event::Ask { back, count, step }),
        3 => Just(Event::Again),
    ]
}

/// Asks with and without the cache.
fn check(engine: &Engine, query: &str, asked: StepRange) -> Result<(), TestCaseError> {
    let (kept, fresh) = (ask(engine, query, asked, false), ask(engine, query, asked, true));
    prop_assert_eq!(seen(kept), seen(fresh), "{} at {:?}", query, asked);
    Ok(())
}

fn play(query: &str, events: Vec<Event>, capabilities: Capabilities) -> Result<(), TestCaseError> {
    let (store, _) = half_an_hour();
    let engine = Engine::new(Arc::new(Claiming::new(Arc::clone(&store), capabilities)), settings());
    let mut tick = 120;
    let mut last = None;
    for event in events {
        match event {
            Event::Scrapes(count) => {
                for _ in 0..count {
                    scrape(&store, tick * INTERVAL_MS, 0);
                    tick += 1;
                }
            }
            Event::Late(back, seed) => scrape(&store, (tick - back) * INTERVAL_MS + seed, seed),
            Event::Ask { back, count, step } => {
                let step_ms = step * INTERVAL_MS;
                let end = (tick - back).div_euclid(step) * step * INTERVAL_MS;
                let asked = steps((end - count * step_ms).max(0).div_euclid(step_ms) * step_ms, count, step_ms);
                last = Some(asked);
                check(&engine, query, asked)?;
            }
            Event::Again => {
                if let Some(asked) = last {
                    check(&engine, query, asked)?;
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn answers_equal_those_without_a_cache(
        query in proptest::sample::select(QUERIES),
        events in proptest::collection::vec(event(), 4..16),
        pushed in proptest::bool::ANY,
    ) {
        play(query, events, if pushed { Capabilities::exact() } else { Capabilities::raw() })?;
    }
}

/// Each query once: asked, some of it changed, asked again.
#[test]
fn every_query_answers_alike_after_a_late_scrape() {
    let both = [Capabilities::exact(), Capabilities::raw()].into_iter().cycle();
    let lates = [(1, 1), (1, 2), (30, 2)].into_iter().cycle();
    for ((query, capabilities), (late, step)) in QUERIES.iter().chain(QUERIES).zip(both).zip(lates) {
        let ask = Event::Ask { back: 1, count: 60 / step, step };
        let (late, more) = (Event::Late(late, 3), Event::Scrapes(step));
        let events = vec![ask.clone(), Event::Again, late, Event::Again, more, ask];
        play(query, events, capabilities).unwrap_or_else(|error| panic!("{query}: {error}"));
    }
}
