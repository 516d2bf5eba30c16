//! Answers of several threads are those of one: every bit of them, what is said about them, what they cost to read.

use std::sync::Arc;

use pharos_base::Helpers;
use pharos_model::{StepRange, TenantId};
use pharos_promql::{Annotations, Engine, EngineSettings, ParserOptions, QueryOptions, QueryResult, Value};
use pharos_storage::conformance::Claiming;
use pharos_storage::{Capabilities, MetricStore};

use crate::reference::data::{Random, store, streams};
use crate::reference::evaluate::LOOKBACK_MS;

const WORLDS: u64 = 8;
const QUERIES: u64 = 90;
/// Those of the query itself are not among them.
const HELPERS: [usize; 3] = [1, 2, 7];

/// Queries of kinds that the random ones are seldom of.
const ALSO: [&str; 14] = [
    "{__name__=~\".+\"}",
    "rate({__name__=~\".+\"}[1m])",
    "-{__name__=~\"g|h\"}",
    "label_replace({__name__=~\".+\"}, \"x\", \"$1\", \"a\", \"(.).*\")",
    "label_join({__name__=~\".+\"}, \"x\", \"-\", \"a\", \"b\")",
    "sum without (a) (clamp({__name__=~\".+\"}, 1, 20) / 3)",
    "avg(timestamp({__name__=~\".+\"}))",
    "stddev(quantile_over_time(0.3, {__name__=~\".+\"}[90s]))",
    "sum(max_over_time(deriv({__name__=~\".+\"}[1m])[2m:13s]))",
    "sum(histogram_sum(rate({__name__=~\".+\"}[1m])))",
    "sum(histogram_count({__name__=~\".+\"} @ 120))",
    "count({__name__=~\".+\"} > 3) + count({__name__=~\".+\"} > 3)",
    "year({__name__=~\".+\"}) % 7",
    "last_over_time({__name__=~\".+\"}[1m]) > bool 5",
];

const STEPS: StepRange = StepRange { start_ms: 30_000, end_ms: 270_000, step_ms: 40_000 };

/// Labels, floats as bits, histograms.
type Bits = Vec<(String, Vec<(i64, u64)>, String)>;

fn bits(value: Value) -> Bits {
    let Value::Matrix(series) = value else { panic!("a range query answers a matrix") };
    let series = series.into_iter().map(|one| {
        let floats = one.floats.iter().map(|(at_ms, value)| (*at_ms, value.to_bits())).collect();
        (one.labels.to_string(), floats, format!("{:?}", one.histograms))
    });
    series.collect()
}

type Told = Result<(Bits, Annotations, [u64; 3]), String>;

fn told(result: Result<QueryResult, pharos_promql::QueryError>) -> Told {
    let QueryResult { value, annotations, stats, .. } = result.map_err(|error| error.to_string())?;
    Ok((bits(value), annotations, [stats.series_read, stats.samples_read, stats.samples_queryable]))
}

fn check(store: &Arc<dyn MetricStore>, delayed_name_removal: bool, queries: &[String]) {
    let engine = |helpers: usize| {
        let settings = EngineSettings {
            lookback_ms: LOOKBACK_MS,
            parser: ParserOptions::all(),
            branch_work_min: 1,
            cache_bytes_max: 0,
            delayed_name_removal,
            ..EngineSettings::default()
        };
        Engine::new(Arc::clone(store), settings).with_helpers(Helpers::new(helpers))
    };
    let ask =
        |engine: &Engine, query: &str| told(engine.range(&TenantId::default(), query, STEPS, &QueryOptions::default()));
    let alone = engine(0);
    let helped = HELPERS.map(|helpers| (helpers, engine(helpers)));
    for query in queries {
        let expected = ask(&alone, query);
        for (helpers, engine) in &helped {
            let found = ask(engine, query);
            assert!(found == expected, "{query} with {helpers} helpers:\n{found:?}\nalone:\n{expected:?}");
            assert_eq!(engine.memory_used_bytes(), 0, "{query}");
        }
    }
}

#[test]
fn answers_do_not_depend_on_how_many_threads_made_them() {
    for world in 0..WORLDS {
        let random = (0..QUERIES).map(|number| Random(world << 32 | number).query(3).to_string());
        let queries: Vec<String> = random.chain(ALSO.map(str::to_owned)).collect();
        let store: Arc<dyn MetricStore> = store(&streams(&mut Random(world)));
        check(&store, false, &queries);
        if world % 4 == 0 {
            check(&store, true, &queries);
            check(&(Arc::new(Claiming::new(store, Capabilities::raw())) as _), false, &queries);
        }
    }
}
