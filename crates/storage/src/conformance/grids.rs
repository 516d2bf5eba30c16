//! Grids and aggregates against the kernels over what the same store answers raw.

use std::collections::BTreeMap;

use pharos_grid::{Aggregation, Floats, FoldColumn, Grouping, Kernel, RangeFunction, present};
use pharos_model::{
    BatchBuilder, Histogram, Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, Sample, StepRange, TenantId,
    stale_nan,
};

use super::metrics::{CASE_TIME_MS, append};
use crate::{GridPlan, LeafPlan, LeafSeries, MetricStore, Precision, RawPlan, RawSeries, ReadContext, StorageError};

const SERIES: i64 = 12;
const SAMPLES: i64 = 70;

/// Counters with resets, gauges of fractions, gaps, stale markers, odd values; one metric with start timestamps, one
/// of native histograms, one that turns from floats to histograms.
pub(super) fn write(store: &dyn MetricStore) {
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    let mut finish = |builder: &mut BatchBuilder, metric: &str, series: i64| {
        labels.push(METRIC_NAME, metric);
        labels.push("job", ["a", "bb", "ccc"][(series % 3) as usize]);
        labels.push("i", &series.to_string());
        builder.finish_series(&mut labels).expect("sound labels");
    };
    let at = |series: i64, sample: i64| CASE_TIME_MS - (SAMPLES - sample) * 15_000 + series % 4 * 100 + sample % 3;
    for series in 0..SERIES {
        for sample in (0..SAMPLES).filter(|sample| (sample + series) % 23 != 7) {
            let counted = (sample + series * 3) % 40;
            let value = match series {
                3 if sample % 19 == 5 => stale_nan(),
                4 => counted as f64 + 0.1,
                5 if sample % 7 == 0 => f64::NAN,
                6 if sample == 50 => f64::INFINITY,
                _ => counted as f64 * 3.0,
            };
            builder.push_sample(Sample { timestamp_ms: at(series, sample), value }, 0);
        }
        finish(&mut builder, "requests_total", series);
        for sample in 0..SAMPLES {
            let value = ((sample * 7919 + series * 104_729) % 1000) as f64 / 7.0;
            builder.push_sample(Sample { timestamp_ms: at(series, sample), value }, at(series, sample / 30 * 30) - 1);
        }
        finish(&mut builder, "started_total", series);
        for sample in 0..SAMPLES {
            if series % 2 == 0 && sample < 40 {
                builder.push_sample(Sample { timestamp_ms: at(series, sample), value: sample as f64 }, 0);
            } else {
                let histogram = if sample % 29 == 28 { Histogram::stale() } else { Histogram::empty(1) };
                builder.push_histogram(at(series, sample), histogram, 0);
            }
        }
        finish(&mut builder, "turned", series);
    }
    append(store, &TenantId::default(), builder.build());
}

pub(super) fn plans() -> Vec<GridPlan> {
    let steps = [
        StepRange::instant(CASE_TIME_MS - 200_000),
        StepRange { start_ms: CASE_TIME_MS - 900_000, end_ms: CASE_TIME_MS + 400_000, step_ms: 15_000 },
        StepRange { start_ms: CASE_TIME_MS - 1_600_000, end_ms: CASE_TIME_MS, step_ms: 333_333 },
    ];
    let mut plans = Vec::new();
    for function in RangeFunction::ALL {
        for steps in steps {
            for (metric, window_ms, offset_ms, starts_raw) in [
                ("requests_total", 60_000, 0, false),
                ("requests_total", 301_234, 77_777, true),
                ("started_total", 120_000, -30_000, false),
                ("started_total", 120_000, 0, true),
                ("turned", 90_000, 0, false),
                ("turned", 45_000, 400_000, true),
                ("nosuch", 90_000, 0, false),
            ] {
                let matchers = vec![Matcher::equal(METRIC_NAME, metric)];
                plans.push(GridPlan { matchers, function, window_ms, steps, offset_ms, starts_raw });
            }
        }
    }
    plans
}

/// Raw series in the order in which the store streams them.
fn raw(store: &dyn MetricStore, plan: &GridPlan) -> Vec<RawSeries> {
    let plan = LeafPlan::Raw(RawPlan { matchers: plan.matchers.clone(), range: plan.read_range() });
    let stream = store.leaf(&TenantId::default(), &plan, &ReadContext::unlimited()).expect("raw plans are served");
    let series = stream.map(|series| match series.expect("sound data") {
        LeafSeries::Raw(series) => series,
        LeafSeries::Grid(_) => panic!("a raw plan answers raw series"),
    });
    series.collect()
}

fn evaluated(plan: &GridPlan, series: &RawSeries) -> Vec<Option<f64>> {
    let mut kernel = Kernel::new(plan.function, plan.window_ms, plan.steps, plan.offset_ms);
    let floats = Floats { starts_ms: &[], ..series.floats() };
    let mut out = Vec::new();
    let check = || Ok::<(), std::convert::Infallible>(());
    let Ok(_) = kernel.evaluate(floats, &mut out, check);
    out.into_iter().map(present).collect()
}

fn needs_raw(plan: &GridPlan, series: &RawSeries) -> bool {
    !series.histograms.is_empty()
        || (plan.starts_raw && plan.function.reads_starts() && series.start_ms.iter().any(|start| *start != 0))
}

/// Bits, all NaNs alike.
fn bits(values: &[Option<f64>]) -> Vec<Option<u64>> {
    let bits = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
    values.iter().map(|value| value.map(bits)).collect()
}

fn same(precision: Precision, found: &[Option<f64>], expected: &[Option<f64>]) -> bool {
    let near = |(found, expected): (&Option<f64>, &Option<f64>)| match (found, expected) {
        (Some(found), Some(expected)) => {
            found == expected
                || (found.is_nan() && expected.is_nan())
                || (found - expected).abs() <= 1e-12 * expected.abs()
        }
        (found, expected) => found == expected,
    };
    match precision {
        Precision::Exact => bits(found) == bits(expected),
        Precision::Rounded => found.len() == expected.len() && found.iter().zip(expected).all(near),
    }
}

/// Each series answers its grid, or raw where it must.
pub(super) fn check_grids(store: &dyn MetricStore) {
    for plan in plans() {
        let Some(precision) = store.capabilities().function(plan.function) else { continue };
        let mut expected: BTreeMap<Labels, RawSeries> =
            raw(store, &plan).into_iter().map(|series| (series.labels.clone(), series)).collect();
        let context = ReadContext::unlimited();
        let stream = store.leaf(&TenantId::default(), &LeafPlan::Grid(plan.clone()), &context).expect("it is claimed");
        let (mut grids, mut samples) = (0, 0);
        for series in stream {
            let (labels, grid) = match series.expect("sound data") {
                LeafSeries::Raw(series) => {
                    let expected = expected.get(&series.labels).expect("a series that passes");
                    assert_eq!(series.timestamps_ms, expected.timestamps_ms);
                    assert_eq!(
                        (series.histograms.len(), &series.start_ms),
                        (expected.histograms.len(), &expected.start_ms)
                    );
                    (series.labels, None)
                }
                LeafSeries::Grid(series) => (series.labels, Some(series.values)),
            };
            let raw = expected.remove(&labels).expect("each series that passes once");
            let Some(grid) = grid else { continue };
            assert!(!needs_raw(&plan, &raw), "{labels} must be answered raw");
            let found: Vec<_> = grid.into_iter().map(present).collect();
            let wanted = evaluated(&plan, &raw);
            assert!(same(precision, &found, &wanted), "{plan:?} of {labels}: {found:?} is not {wanted:?}");
            grids += 1;
            // Of an instant selector's window a store may know the newest sample without reading the others.
            samples += if plan.function == RangeFunction::Last { 1 } else { raw.sample_count() as u64 };
        }
        for (labels, series) in expected {
            let nothing = !needs_raw(&plan, &series) && evaluated(&plan, &series).iter().all(Option::is_none);
            assert!(nothing, "{labels} is missing");
        }
        let counts = context.meter.counts();
        assert!(
            counts.series >= grids && counts.samples >= samples,
            "{counts:?} of {grids} grids of {samples} samples"
        );
    }
}

fn groupings() -> [Grouping; 4] {
    [(false, vec![]), (false, vec!["job"]), (true, vec![METRIC_NAME, "i"]), (true, vec![])].map(
        |(without, labels): (bool, Vec<&str>)| Grouping {
            without,
            labels: labels.into_iter().map(str::to_owned).collect(),
        },
    )
}

fn key(grouping: &Grouping, labels: &Labels) -> Labels {
    let kept = labels.iter().filter(|(name, _)| grouping.labels.iter().any(|label| label == name) != grouping.without);
    Labels::from_pairs(kept).expect("a part of a label set")
}

/// The values of one step folded in their order.
fn folded(aggregation: Aggregation, values: &[f64]) -> Option<f64> {
    let mut column = FoldColumn::new(aggregation, 1);
    for value in values {
        column.add(std::slice::from_ref(value));
    }
    column.finish().into_iter().next().and_then(present)
}

/// A histogram counts like a float where only the presence of the newest sample matters.
fn marked(plan: &GridPlan, series: &RawSeries) -> Vec<Option<f64>> {
    let newest = |end_ms: i64| {
        let after_ms = end_ms - plan.window_ms;
        let inside = |time_ms: i64| after_ms < time_ms && time_ms <= end_ms;
        let floats = series.timestamps_ms.iter().zip(&series.values);
        let floats = floats.map(|(time_ms, value)| (*time_ms, pharos_model::is_stale_nan(*value)));
        let histograms = series.histograms.iter().map(|sample| (sample.timestamp_ms, sample.histogram.is_stale()));
        let newest = floats.chain(histograms).filter(|(time_ms, _)| inside(*time_ms)).max();
        newest.filter(|(_, stale)| !stale).map(|_| 1.0)
    };
    plan.steps.iter().map(|step| newest(step - plan.offset_ms)).collect()
}

/// Each group is its series joined in the order of a raw plan, or the whole plan is refused before the first group.
pub(super) fn check_aggregates(store: &dyn MetricStore) {
    let claimed = store.capabilities();
    for (plan, aggregation, grouping) in all_aggregates() {
        let (Some(of_grid), Some(of_fold)) = (claimed.function(plan.function), claimed.aggregation(aggregation)) else {
            continue;
        };
        let precision = if (of_grid, of_fold) == (Precision::Exact, Precision::Exact) {
            Precision::Exact
        } else {
            Precision::Rounded
        };
        let series = raw(store, &plan);
        let marks =
            plan.function == RangeFunction::Last && matches!(aggregation, Aggregation::Count | Aggregation::Group);
        let grid = |series: &RawSeries| if marks { marked(&plan, series) } else { evaluated(&plan, series) };
        let leaf = LeafPlan::Aggregate { grid: plan.clone(), aggregation, grouping: grouping.clone() };
        let stream = store.leaf(&TenantId::default(), &leaf, &ReadContext::unlimited());
        if !marks && series.iter().any(|series| needs_raw(&plan, series)) {
            let first = stream.and_then(|mut stream| stream.next().expect("not silently empty"));
            assert!(matches!(first, Err(StorageError::Unsupported { .. })), "{leaf:?}");
            continue;
        }
        let mut groups: BTreeMap<Labels, Vec<Vec<f64>>> = BTreeMap::new();
        for series in &series {
            let columns =
                groups.entry(key(&grouping, &series.labels)).or_insert_with(|| vec![Vec::new(); plan.steps.len()]);
            for (column, value) in columns.iter_mut().zip(grid(series)) {
                column.extend(value);
            }
        }
        for group in stream.expect("it is claimed") {
            let LeafSeries::Grid(group) = group.expect("sound data") else { panic!("groups have grids") };
            let columns = groups.remove(&group.labels).expect("each group once");
            let wanted: Vec<_> = columns.iter().map(|values| folded(aggregation, values)).collect();
            let found: Vec<_> = group.values.into_iter().map(present).collect();
            assert!(same(precision, &found, &wanted), "{leaf:?} of {}: {found:?} is not {wanted:?}", group.labels);
        }
        assert!(groups.values().flatten().all(Vec::is_empty), "{leaf:?}: {groups:?} are missing");
    }
}

/// Each function with each aggregation, and both with each grouping, though not every triple of them; those that
/// count histograms in full.
fn all_aggregates() -> impl Iterator<Item = (GridPlan, Aggregation, Grouping)> {
    let some = plans().into_iter().enumerate().map(|(at, plan)| {
        let aggregation = Aggregation::ALL[at % Aggregation::ALL.len()];
        (plan, aggregation, groupings()[(at + at / 7) % 4].clone())
    });
    let last = plans().into_iter().filter(|plan| plan.function == RangeFunction::Last);
    let counts = last.clone().flat_map(|plan| {
        [Aggregation::Count, Aggregation::Group].map(|aggregation| (plan.clone(), aggregation, groupings()[1].clone()))
    });
    // Every series there is: a store may count without looking at values.
    let every = Matcher::new(MatchOp::NotEqual, METRIC_NAME, "").expect("a sound matcher");
    let all = last.filter(|plan| plan.matchers[0].value() == "turned").flat_map(move |plan| {
        let plan = GridPlan { matchers: vec![every.clone()], ..plan };
        groupings().map(|grouping| (plan.clone(), Aggregation::Count, grouping))
    });
    some.chain(counts).chain(all)
}

/// Limits hold inside the store as they do outside.
pub(super) fn check_bounds(store: &dyn MetricStore) {
    let plan = plans().remove(0);
    if store.capabilities().function(plan.function).is_none() {
        return;
    }
    let first_error = |plan: &LeafPlan, context: &ReadContext| match store.leaf(&TenantId::default(), plan, context) {
        Ok(stream) => stream.into_iter().find_map(Result::err),
        Err(error) => Some(error),
    };
    let aggregation =
        Aggregation::ALL.into_iter().find(|aggregation| store.capabilities().aggregation(*aggregation).is_some());
    let aggregate = aggregation.map(|aggregation| {
        let grouping = Grouping { without: true, labels: vec![] };
        LeafPlan::Aggregate { grid: plan.clone(), aggregation, grouping }
    });
    for plan in [Some(LeafPlan::Grid(plan)), aggregate].into_iter().flatten() {
        assert!(first_error(&plan, &ReadContext::unlimited()).is_none());
        let few = ReadContext { series_max: 11, ..ReadContext::unlimited() };
        assert!(matches!(first_error(&plan, &few), Some(StorageError::LimitExceeded { limit: 11, .. })));
        let cancelled = ReadContext::unlimited();
        cancelled.cancel.cancel();
        assert!(matches!(first_error(&plan, &cancelled), Some(StorageError::Interrupted(_))));
    }
}
