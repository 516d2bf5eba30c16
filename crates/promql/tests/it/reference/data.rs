//! Random series: floats and histograms of both kinds, with gaps, stale markers, resets and odd values.

use std::sync::Arc;

use pharos_model::{
    BatchBuilder, BucketSide, BucketSpan, CUSTOM_BUCKETS_SCHEMA, Histogram, Labels, ResetHint, Sample, TenantId,
    stale_nan,
};
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{BatchId, MetricStore};

use super::{NAME, Tags};

/// Random numbers that a seed repeats. Source: Vigna, `SplitMix64`.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Once in `bound` times.
    pub(crate) fn once_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len() as u64) as usize]
    }
}

/// A stored sample.
#[derive(Debug, Clone)]
pub(crate) enum Stored {
    Float(f64),
    Histogram(Arc<Histogram>),
    Stale,
}

#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) tags: Tags,
    /// Ascending Unix milliseconds.
    pub(crate) samples: Vec<(i64, Stored)>,
}

/// What is stored covers this much time, from 0 on.
pub(crate) const SPAN_MS: i64 = 300_000;

/// The kinds of metrics: `f` wanders, `c` counts, `h` are exponential histograms that count, `g` such that do not, `n` have
/// custom buckets, `m` has floats and histograms.
pub(crate) fn streams(random: &mut Random) -> Vec<Stream> {
    let mut streams = Vec::new();
    for name in ["f", "c", "h", "g", "n", "m"] {
        for x in ["1", "2", "3"] {
            for y in ["1", "2"] {
                if random.once_in(3) {
                    continue;
                }
                let pairs = [(NAME, name), ("x", x), ("y", y)];
                let tags = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                streams.push(Stream { tags, samples: samples(random, name) });
            }
        }
    }
    streams
}

fn samples(random: &mut Random, name: &str) -> Vec<(i64, Stored)> {
    let mut samples = Vec::new();
    let mut at_ms = random.below(20_000) as i64;
    let mut count = 0.0;
    let mut histogram = start(random, name);
    let odd = random.once_in(8);
    while at_ms < SPAN_MS {
        let as_histogram = match name {
            "f" | "c" => false,
            "m" => random.once_in(2),
            _ => true,
        };
        let stored = if random.once_in(20) {
            Stored::Stale
        } else if as_histogram {
            if random.once_in(7) {
                histogram = start(random, name);
            }
            observe(random, &mut histogram);
            Stored::Histogram(Arc::new(histogram.clone()))
        } else if name == "c" {
            count = if random.once_in(9) { 0.0 } else { count } + random.below(20) as f64;
            Stored::Float(count)
        } else if odd && random.once_in(6) {
            Stored::Float([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0][random.below(4) as usize])
        } else {
            Stored::Float(random.below(200) as f64 / 4.0 - 10.0)
        };
        samples.push((at_ms, stored));
        at_ms += 5_000 + random.below(15_000) as i64 + if random.once_in(15) { 60_000 } else { 0 };
    }
    samples
}

/// An empty histogram of the metric's kind, of some resolution or under some bounds.
fn start(random: &mut Random, name: &str) -> Histogram {
    if name == "n" {
        let bounds = [&[1.0, 2.0, 4.0][..], &[1.0, 4.0, 8.0], &[-2.0, 2.0, 4.0, 8.0], &[1.0, 2.0, 4.0]];
        let custom_bounds = random.pick(&bounds).to_vec();
        return Histogram { custom_bounds, ..Histogram::empty(CUSTOM_BUCKETS_SCHEMA) };
    }
    let reset_hint = if name == "g" { ResetHint::Gauge } else { ResetHint::Unknown };
    let zero_threshold = [0.0, 0.0, 0.25, 0.3][random.below(4) as usize];
    Histogram { reset_hint, zero_threshold, ..Histogram::empty(random.below(3) as i32) }
}

/// Adds observations to some buckets; a gauge loses some as well.
fn observe(random: &mut Random, histogram: &mut Histogram) {
    let custom = histogram.has_custom_buckets();
    let (lowest, highest) = match histogram.custom_bounds.len() {
        0 if histogram.zero_threshold > 0.0 => (1, 5),
        0 => (-5, 5),
        bounds => (0, bounds as i32),
    };
    for _ in 0..=random.below(4) {
        let more = 1.0 + random.below(5) as f64;
        let index = lowest + random.below((highest - lowest + 1) as u64) as i32;
        match random.below(4) {
            0 if !custom => histogram.zero_count += more,
            1 if !custom => add(&mut histogram.negative, index, more),
            _ => add(&mut histogram.positive, index, more),
        }
        histogram.count += more;
        histogram.sum += more * f64::from(index) / 2.0;
    }
}

fn add(side: &mut BucketSide, index: i32, more: f64) {
    let mut buckets: std::collections::BTreeMap<i32, f64> = side.iter().collect();
    *buckets.entry(index).or_default() += more;
    let mut next = 0;
    side.spans.clear();
    side.counts.clear();
    for (index, count) in buckets {
        side.spans.push(BucketSpan { offset: index - next, length: 1 });
        side.counts.push(count);
        next = index + 1;
    }
}

/// The store that holds `streams`.
pub(crate) fn store(streams: &[Stream]) -> Arc<MemoryMetricStore> {
    let store = MemoryMetricStore::new();
    let mut batch = BatchBuilder::new();
    for stream in streams {
        for (timestamp_ms, stored) in &stream.samples {
            let value = match stored {
                Stored::Histogram(histogram) => {
                    batch.push_histogram(*timestamp_ms, (**histogram).clone(), 0);
                    continue;
                }
                Stored::Float(value) => *value,
                Stored::Stale => stale_nan(),
            };
            batch.push_sample(Sample { timestamp_ms: *timestamp_ms, value }, 0);
        }
        let pairs = stream.tags.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        batch.finish_series_encoded(&Labels::from_pairs(pairs).unwrap());
    }
    store.append(&TenantId::default(), batch.build(), BatchId::random()).wait().unwrap().unwrap();
    Arc::new(store)
}
