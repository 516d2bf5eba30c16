//! What a store has after batches with starts, in every order that senders and failures bring about.

use std::collections::BTreeMap;

use pharos_model::{BatchBuilder, CUSTOM_BUCKETS_SCHEMA, Labels, MetricBatch, stale_nan};
use proptest::prelude::*;

use super::*;

const BEGUN_MS: i64 = 1_000_000;

/// A memory, and a store that keeps the sample that came last.
struct World {
    starts: StartMemory,
    stored: BTreeMap<(String, i64), f64>,
    now_ms: i64,
}

fn world(series_max: usize) -> World {
    World { starts: StartMemory::new(series_max, BEGUN_MS), stored: BTreeMap::new(), now_ms: BEGUN_MS }
}

/// A sample: start, instant, value.
type Told = (i64, i64, f64);

/// Of series with these samples.
fn decoded(series: &[(&str, &[Told])]) -> DecodedMetrics {
    let mut builder = BatchBuilder::new();
    for (name, samples) in series {
        for (start_ms, timestamp_ms, value) in *samples {
            builder.push_sample(Sample { timestamp_ms: *timestamp_ms, value: *value }, *start_ms);
        }
        builder.finish_series_encoded(&Labels::from_pairs([("__name__", name)]).unwrap());
    }
    let batch = builder.build();
    DecodedMetrics { counted: vec![true; batch.series.len()], batch, ..DecodedMetrics::default() }
}

impl World {
    /// A batch that reaches the store, and whether its sender learns of it; answers the zeros.
    fn write_as(&mut self, tenant: &str, mut decoded: DecodedMetrics, is_told: bool) -> Vec<i64> {
        let sent = decoded.batch.samples.len();
        let added = self.starts.add_zeros(&tenant.parse().unwrap(), &mut decoded, 0, self.now_ms);
        let zeros: Vec<_> = added.iter().flat_map(|added| added.of_series.iter().map(|zero| zero.at_ms)).collect();
        let MetricBatch { series, samples, .. } = &decoded.batch;
        assert_eq!(samples.len() - sent, zeros.len());
        for run in series {
            let name = decoded.batch.labels(run).unwrap().metric_name().to_owned();
            for sample in &samples[run.samples.clone()] {
                self.stored.insert((name.clone(), sample.timestamp_ms), sample.value);
            }
        }
        if let (Some(added), true) = (added, is_told) {
            added.stored_but(&[]);
        }
        zeros
    }

    fn write(&mut self, samples: &[(i64, i64, f64)]) -> Vec<i64> {
        self.write_as("1", decoded(&[("m", samples)]), true)
    }
}

#[test]
fn a_series_that_begins_gets_its_zero_once() {
    let mut world = world(10);
    assert_eq!(world.write(&[(BEGUN_MS + 5, BEGUN_MS + 10, 3.0)]), [BEGUN_MS + 5]);
    assert_eq!(world.write(&[(BEGUN_MS + 5, BEGUN_MS + 20, 4.0)]), [0; 0]);
    // The process behind it began anew, twice in one batch.
    let anew =
        [(BEGUN_MS + 25, BEGUN_MS + 30, 1.0), (BEGUN_MS + 25, BEGUN_MS + 31, 2.0), (BEGUN_MS + 32, BEGUN_MS + 33, 1.0)];
    assert_eq!(world.write(&anew), [BEGUN_MS + 25, BEGUN_MS + 32]);
    assert_eq!(world.write(&anew), [0; 0], "what comes again has its zeros");
    assert_eq!(world.stored.values().filter(|value| **value == 0.0).count(), 3);
}

#[test]
fn a_batch_that_failed_brings_its_zeros_again() {
    let mut world = world(10);
    let first = [(BEGUN_MS + 5, BEGUN_MS + 10, 3.0)];
    assert_eq!(world.write_as("1", decoded(&[("m", &first)]), false), [BEGUN_MS + 5]);
    assert_eq!(world.write_as("1", decoded(&[("m", &first)]), false), [BEGUN_MS + 5]);
    // Its sender gave it up; the next one has the same start.
    assert_eq!(world.write(&[(BEGUN_MS + 5, BEGUN_MS + 20, 4.0)]), [BEGUN_MS + 5]);
    assert_eq!(world.write(&first), [0; 0]);
}

#[test]
fn a_sample_at_the_instant_of_a_start_stays() {
    let mut world = world(10);
    // Who does not know since when it counts names its first sample.
    assert_eq!(world.write(&[(BEGUN_MS + 10, BEGUN_MS + 10, 100.0)]), [0; 0]);
    assert_eq!(world.write(&[(BEGUN_MS + 10, BEGUN_MS + 20, 101.0)]), [0; 0]);
    // A sum that begins where the one before it ended.
    assert_eq!(world.write(&[(BEGUN_MS + 20, BEGUN_MS + 30, 1.0)]), [0; 0]);
    // A zero that nobody was told of, and a late sample in its place.
    let late = [(BEGUN_MS + 40, BEGUN_MS + 50, 1.0)];
    assert_eq!(world.write_as("1", decoded(&[("m", &late)]), false), [BEGUN_MS + 40]);
    assert_eq!(world.write(&[(BEGUN_MS + 20, BEGUN_MS + 40, 7.0)]), [0; 0]);
    assert_eq!(world.write(&late), [0; 0]);
    let at = |at_ms: i64| world.stored[&("m".to_owned(), BEGUN_MS + at_ms)];
    assert_eq!((at(10), at(20), at(40)), (100.0, 101.0, 7.0));
}

#[test]
fn what_began_before_the_memory_did_gets_none() {
    let mut world = world(10);
    for (start_ms, at_ms) in [
        (BEGUN_MS - 5, BEGUN_MS + 10),
        (BEGUN_MS, BEGUN_MS + 11),
        (0, BEGUN_MS + 12),
        (-5, BEGUN_MS + 13),
        (BEGUN_MS + 20, BEGUN_MS + 14),
        (i64::MIN, BEGUN_MS + 15),
        (i64::MAX, BEGUN_MS + 16),
    ] {
        assert_eq!(world.write(&[(start_ms, at_ms, 1.0)]), [0; 0], "{start_ms}");
    }
    assert_eq!(world.write(&[(BEGUN_MS + 17, BEGUN_MS + 18, stale_nan())]), [0; 0], "a series that ends");
    let old = BEGUN_MS + 30;
    let mut outside = decoded(&[("n", &[(old, old + 1, 1.0)])]);
    assert!(
        world.starts.add_zeros(&TenantId::default(), &mut outside, old + 1, BEGUN_MS).is_none(),
        "out of retention"
    );
}

#[test]
fn tenants_and_series_have_starts_of_their_own_and_gauges_none() {
    let mut world = world(10);
    let sample = [(BEGUN_MS + 5, BEGUN_MS + 10, 3.0)];
    let mut two = decoded(&[("m", &sample), ("n", &sample)]);
    two.counted[0] = false;
    assert_eq!(world.write_as("1", two, true), [BEGUN_MS + 5]);
    assert_eq!(world.write_as("1", decoded(&[("m", &sample)]), true), [BEGUN_MS + 5]);
    assert_eq!(world.write_as("2", decoded(&[("m", &sample)]), true), [BEGUN_MS + 5]);
    assert_eq!(world.starts.series_count(), 3);
}

/// Whoever leaves out series between decoding and the store leaves out what is known of them.
#[test]
fn zeros_are_those_of_the_series_that_stay() {
    let mut world = world(10);
    let sample = [(BEGUN_MS + 5, BEGUN_MS + 10, 3.0)];
    let mut some = decoded(&[("gauge", &sample), ("gone", &sample), ("counter", &sample)]);
    some.counted = vec![false, true, true];
    some.keep_series(|place| place != 1);
    assert_eq!(world.write_as("1", some, true).len(), 1);
    let zeros: Vec<_> = world.stored.iter().filter(|(_, value)| **value == 0.0).map(|((name, _), _)| name).collect();
    assert_eq!(zeros, ["counter"]);
}

/// A store that has no room for a series refuses its zero with it: that is not counted, and comes again.
#[test]
fn a_zero_goes_with_its_series() {
    let starts = StartMemory::new(10, BEGUN_MS);
    let sample = [(BEGUN_MS + 5, BEGUN_MS + 10, 3.0)];
    let batch = || {
        let mut decoded = decoded(&["a", "h_sum", "h_count", "b"].map(|name| (name, &sample[..])));
        decoded.counted[0] = false;
        decoded.batch.groups = vec![RunGroup { runs: 1..3, added: 0..0, items: 1 }];
        decoded
    };
    let mut first = batch();
    let added = starts.add_zeros(&TenantId::default(), &mut first, 0, BEGUN_MS).unwrap();
    let units: Vec<_> = first.batch.units().map(|unit| (unit.places().collect::<Vec<_>>(), unit.items)).collect();
    assert_eq!(units, [(vec![3], 1), (vec![0, 1, 4, 5], 1), (vec![2, 6], 1)]);
    assert_eq!(added.stored_but(&[2, 6]), (2, 0));
    let mut second = batch();
    let again = starts.add_zeros(&TenantId::default(), &mut second, 0, BEGUN_MS).unwrap();
    let names: Vec<_> = (0..again.of_series.len())
        .map(|place| second.batch.labels(&second.batch.series[place]).unwrap().metric_name().to_owned())
        .collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn a_full_memory_gives_fewer_zeros_and_idle_series_make_room() {
    let mut world = world(1);
    let mut write = |name: &str, after_ms: i64| {
        let samples = [(BEGUN_MS + after_ms, BEGUN_MS + after_ms + 10, 3.0)];
        world.now_ms = BEGUN_MS + after_ms + 10;
        world.write_as("1", decoded(&[(name, &samples)]), true).len()
    };
    assert_eq!((write("a", 5), write("b", 6)), (1, 1));
    // It is not remembered that "b" has a zero: none is later than its sample.
    assert_eq!((write("b", 6), write("c", 16), write("c", 27), write("a", 20)), (0, 0, 1, 1));
    // An hour later "a" makes room.
    assert_eq!((write("d", IDLE_MS + 50), write("d", IDLE_MS + 50), write("d", IDLE_MS + 90)), (1, 0, 1));
    assert_eq!(write("a", 20), 0, "what was forgotten is not given another");
}

#[test]
fn tenants_that_are_idle_are_forgotten_with_their_floor() {
    let mut world = world(10);
    let sample = |at_ms: i64| decoded(&[("m", &[(at_ms, at_ms + 10, 3.0)])]);
    assert_eq!(world.write_as("1", sample(BEGUN_MS + 5), true).len(), 1);
    world.now_ms += IDLE_MS + 100;
    assert_eq!(world.write_as("2", sample(BEGUN_MS + 5), true).len(), 0, "no later than what was forgotten");
    assert_eq!(world.write_as("1", sample(BEGUN_MS + 5), true).len(), 0);
    assert_eq!(world.write_as("1", sample(BEGUN_MS + 16), true).len(), 1);
}

#[test]
fn histograms_get_an_empty_one_of_their_form() {
    let mut builder = BatchBuilder::new();
    let custom = Histogram {
        is_integer: true,
        count: 2.0,
        custom_bounds: vec![1.0, 2.0],
        ..Histogram::empty(CUSTOM_BUCKETS_SCHEMA)
    };
    let gauge = Histogram { reset_hint: ResetHint::Gauge, ..Histogram::empty(3) };
    for (name, histogram) in [("h", &custom), ("g", &gauge), ("s", &Histogram::stale())] {
        builder.push_histogram(BEGUN_MS + 10, histogram.clone(), BEGUN_MS + 5);
        builder.finish_series_encoded(&Labels::from_pairs([("__name__", name)]).unwrap());
    }
    let mut decoded = DecodedMetrics { batch: builder.build(), counted: vec![true; 3], ..DecodedMetrics::default() };
    let added = StartMemory::new(10, BEGUN_MS).add_zeros(&TenantId::default(), &mut decoded, 0, BEGUN_MS).unwrap();
    let MetricBatch { series, histograms, histogram_start_ms, .. } = &decoded.batch;
    assert_eq!(
        (series.len(), histograms.len(), histogram_start_ms.as_slice()),
        (4, 4, &[BEGUN_MS + 5, BEGUN_MS + 5, BEGUN_MS + 5, 0][..])
    );
    let zero = &histograms[series[0].histograms.start];
    assert_eq!((zero.timestamp_ms, zero.histogram.validate()), (BEGUN_MS + 5, Ok(())));
    let expected = Histogram { reset_hint: ResetHint::Reset, count: 0.0, ..custom };
    assert_eq!(*zero.histogram, expected);
    assert_eq!(decoded.batch.labels(&series[0]).unwrap().metric_name(), "h");
    assert_eq!(added.stored_but(&[]), (0, 1));
}

proptest! {
    /// Whatever order batches come in, repeated, refused or unheard of: no zero takes the place of a sample, and none is
    /// between samples of one start.
    #[test]
    fn zeros_are_in_nobodys_way(
        writes in proptest::collection::vec((0..2_usize, 0..30_i64, 1..8_i64, any::<bool>(), any::<bool>()), 1..40),
        series_max in 0..3_usize,
    ) {
        let mut world = world(series_max);
        let mut sent = BTreeMap::new();
        for (series, start, length, is_start_known, is_told) in writes {
            let name = ["m", "n"][series];
            let (start_ms, at_ms) = (BEGUN_MS + start, BEGUN_MS + start + length);
            let value = at_ms as f64;
            sent.insert((name.to_owned(), at_ms), value);
            let start_ms = if is_start_known { start_ms } else { at_ms };
            world.write_as("1", decoded(&[(name, &[(start_ms, at_ms, value)])]), is_told);
        }
        // A zero may be overtaken by a sample that comes later, never the other way round.
        for (place, value) in sent {
            prop_assert_eq!(world.stored[&place], value);
        }
    }
}
