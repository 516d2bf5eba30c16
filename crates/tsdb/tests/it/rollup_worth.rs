//! Rollups are read where that is cheaper than reading samples: a block holds the cells of 256 series.

use std::sync::Arc;

use pharos_base::SimClock;
use pharos_grid::RangeFunction;
use pharos_model::{BatchBuilder, LabelsBuilder, METRIC_NAME, Matcher, Sample, StepRange, TenantId};
use pharos_storage::conformance::metrics::CASE_TIME_MS;
use pharos_storage::{GridPlan, LeafPlan, MetricStore, ReadContext};
use pharos_tsdb::{Components, RealDisk, Resolution, Settings, Tsdb};
use tempfile::TempDir;

const HOUR_MS: i64 = 3_600_000;
const STEP_MS: i64 = 30_000;

#[test]
fn one_series_of_a_large_block_is_read_from_its_samples() {
    let dir = TempDir::new().unwrap();
    let base_ms = CASE_TIME_MS.div_euclid(24 * HOUR_MS) * 24 * HOUR_MS;
    let settings = Settings { downsampling: vec![Resolution::FiveMinutes], ..Settings::for_tests() };
    let components = Components {
        clock: SimClock::at_ms(base_ms + 12 * HOUR_MS),
        disk: Arc::new(RealDisk),
        ..Components::default()
    };
    let store = Tsdb::open(dir.path(), settings, components).unwrap();
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for series in 0..200_i64 {
        for step in 0..8 * HOUR_MS / STEP_MS {
            let mixed = (step * 7919 + series * 104_729).wrapping_mul(0x9e37_79b9) >> 9;
            builder.push_sample(Sample { timestamp_ms: base_ms + step * STEP_MS, value: (mixed % 5000) as f64 }, 0);
        }
        labels.push(METRIC_NAME, if series < 100 { "half" } else { "other" });
        labels.push("n", &series.to_string());
        builder.finish_series(&mut labels).unwrap();
    }
    store.append(&TenantId::default(), builder.build(), pharos_storage::BatchId::random()).wait().unwrap().unwrap();
    store.compact().unwrap();
    assert!(store.stats().rollup_bytes > 32 << 10, "{} bytes", store.stats().rollup_bytes);
    let mut before = 0;
    let mut cells_for = |matcher: Matcher| {
        let steps = StepRange { start_ms: base_ms + HOUR_MS, end_ms: base_ms + 7 * HOUR_MS, step_ms: HOUR_MS };
        let plan = GridPlan {
            matchers: vec![matcher],
            function: RangeFunction::MaxOverTime,
            steps,
            window_ms: HOUR_MS,
            offset_ms: 0,
            starts_raw: false,
        };
        let found = store.leaf(&TenantId::default(), &LeafPlan::Grid(plan), &ReadContext::unlimited()).unwrap();
        assert!(found.filter_map(Result::ok).count() > 0);
        let cells = store.stats().rollup_cells_read - before;
        before += cells;
        cells
    };
    assert_eq!(cells_for(Matcher::equal("n", "7")), 0, "one of 200");
    assert!(cells_for(Matcher::equal(METRIC_NAME, "half")) > 0, "half of them");
}
