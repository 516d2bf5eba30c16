//! What a read may take is asked before it is taken.

use pharos_model::{METRIC_NAME, Matcher, StepRange, TenantId, TimeRange};
use pharos_storage::conformance::metrics::CASE_TIME_MS;
use pharos_storage::{GridPlan, LeafPlan, MetricStore, RangeFunction, RawPlan, ReadContext, StorageError};
use tempfile::TempDir;

use crate::support::{append, batch, open};

const AT_MS: i64 = CASE_TIME_MS;

fn raw(from_second: i64, to_second: i64) -> LeafPlan {
    let range = TimeRange::new(AT_MS + from_second * 1000, AT_MS + to_second * 1000);
    LeafPlan::Raw(RawPlan { matchers: vec![Matcher::equal(METRIC_NAME, "m")], range })
}

fn grid(to_second: i64) -> LeafPlan {
    LeafPlan::Grid(GridPlan {
        matchers: vec![Matcher::equal(METRIC_NAME, "m")],
        function: RangeFunction::SumOverTime,
        window_ms: 1_000_000,
        steps: StepRange { start_ms: AT_MS, end_ms: AT_MS + to_second * 1000, step_ms: 1000 },
        offset_ms: 0,
        starts_raw: false,
    })
}

/// A selection of too many series is refused when it is made; series without samples in the range do not count, wherever
/// they are.
#[test]
fn series_are_counted_before_samples_are_read() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    // Seconds 0 to 9: ten series; second 60: thirty, the ten among them.
    (0..10).for_each(|second| append(&store, batch(second, 10)));
    let check = |place: &str| {
        let ask = |plan: &LeafPlan, series_max: u64| {
            let context = ReadContext { series_max, ..ReadContext::unlimited() };
            let found = store.leaf(&TenantId::default(), plan, &context).map(|stream| {
                stream.collect::<Result<Vec<_>, StorageError>>().expect("what is not refused at once is answered").len()
            });
            assert_eq!(context.memory.used_bytes(), 0);
            found
        };
        for (plan, series) in [(raw(0, 100), 30), (raw(0, 30), 10), (raw(60, 61), 30), (grid(100), 30), (grid(30), 10)]
        {
            assert_eq!(ask(&plan, series).unwrap(), series as usize, "{place}: {plan:?}");
            let refused = ask(&plan, series - 1).unwrap_err();
            assert!(
                matches!(refused, StorageError::LimitExceeded { what: "series per selection", .. }),
                "{place}: {plan:?}"
            );
        }
    };
    append(&store, batch(60, 30));
    check("in the head");
    store.flush().unwrap();
    check("in a part");
    (0..10).for_each(|second| append(&store, batch(second + 10, 10)));
    check("in a part and the head");
    store.flush().unwrap();
    store.compact().unwrap();
    check("in a merged part");
}
