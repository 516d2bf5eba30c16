//! What a step costs: range functions over one series, and grids folded into a group.
//!
//! Throughput is in steps.
#![allow(missing_docs, reason = "a bench")]

use std::convert::Infallible;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pharos_grid::{Aggregation, Floats, FoldColumn, Kernel, RangeFunction};
use pharos_model::StepRange;

const START_MS: i64 = 1_700_000_000_000;
/// One hour at 15 s and the window before it.
const SAMPLES: i64 = 261;
const STEPS: StepRange = StepRange { start_ms: START_MS + 300_000, end_ms: START_MS + 3_900_000, step_ms: 15_000 };

/// Scrape times that stray by up to 3 ms, as real ones do.
fn times(target: i64) -> Vec<i64> {
    (0..SAMPLES).map(|at| START_MS + at * 15_000 + target * 37 + (at * 7919 + target) % 7 - 3).collect()
}

fn counter(resets: bool) -> Vec<f64> {
    (0..SAMPLES).map(|at| if resets { (at % 90) as f64 * 2.5 } else { 1e6 + at as f64 * 2.5 }).collect()
}

fn evaluate(c: &mut Criterion) {
    let mut group = c.benchmark_group("grid/evaluate");
    group.throughput(Throughput::Elements(STEPS.len() as u64));
    let cases = [
        ("last", RangeFunction::Last, false, 1),
        ("rate_same_instants", RangeFunction::Rate, false, 1),
        ("rate_other_instants", RangeFunction::Rate, false, 5000),
        ("rate_resets", RangeFunction::Rate, true, 1),
        ("delta", RangeFunction::Delta, false, 1),
        ("irate", RangeFunction::Irate, false, 1),
        ("sum_over_time", RangeFunction::SumOverTime, false, 1),
        ("max_over_time", RangeFunction::MaxOverTime, false, 1),
        ("changes", RangeFunction::Changes, false, 1),
    ];
    for (name, function, resets, targets) in cases {
        let columns: Vec<Vec<i64>> = (0..targets).map(times).collect();
        let values = counter(resets);
        let mut kernel = Kernel::new(function, 300_000, STEPS, 0);
        let (mut out, mut at) = (Vec::new(), 0);
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                at = (at + 1) % columns.len();
                let floats = Floats { times_ms: &columns[at], values: &values, starts_ms: &[] };
                black_box(kernel.evaluate(floats, &mut out, || Ok::<(), Infallible>(())))
            });
        });
    }
    group.finish();
}

fn fold(c: &mut Criterion) {
    let mut group = c.benchmark_group("grid/fold");
    let grid: Vec<f64> = (0..STEPS.len()).map(|at| at as f64 * 0.37).collect();
    group.throughput(Throughput::Elements(grid.len() as u64));
    for aggregation in Aggregation::ALL {
        let mut column = FoldColumn::new(aggregation, grid.len());
        group.bench_function(BenchmarkId::from_parameter(format!("{aggregation:?}").to_lowercase()), |b| {
            b.iter(|| column.add(black_box(&grid)));
        });
    }
    group.finish();
}

criterion_group!(benches, evaluate, fold);
criterion_main!(benches);
