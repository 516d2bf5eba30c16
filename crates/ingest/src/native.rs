//! Native histogram buckets: building spans, and lowering the resolution.

use pharos_model::{BucketSide, BucketSpan, Histogram};

/// The finest resolution that is stored.
pub(crate) const SCHEMA_MAX: i32 = 8;
/// A gap of at most this many empty buckets is cheaper as zeros than as a new span.
const GAP_FILLED_MAX: i64 = 2;

/// Builds one side from buckets in ascending order of index; equal indexes are added up.
#[derive(Debug, Default)]
pub(crate) struct SideBuilder {
    side: BucketSide,
    /// One past the last bucket; `None` before the first.
    next: Option<i64>,
}

impl SideBuilder {
    pub(crate) fn push(&mut self, index: i32, count: f64) {
        let index = i64::from(index);
        match self.next {
            Some(next) if index < next => {
                if let Some(last) = self.side.counts.last_mut() {
                    *last += count;
                }
                return;
            }
            Some(next) if index - next <= GAP_FILLED_MAX => {
                let zeros = (index - next) as usize;
                self.side.counts.resize(self.side.counts.len() + zeros, 0.0);
                self.extend(zeros as u32 + 1);
            }
            before => {
                // Between two indexes lie at most 2^32 buckets: the gap of a sound histogram fits.
                let offset = i32::try_from(index - before.unwrap_or(0)).unwrap_or(i32::MAX);
                self.side.spans.push(BucketSpan { offset, length: 1 });
            }
        }
        self.side.counts.push(count);
        self.next = Some(index + 1);
    }

    fn extend(&mut self, buckets: u32) {
        if let Some(last) = self.side.spans.last_mut() {
            last.length += buckets;
        }
    }

    pub(crate) fn build(self) -> BucketSide {
        self.side
    }
}

/// The index, at a resolution lower by `steps`, of the bucket that contains bucket `index`.
///
/// Bucket `i` of schema `s` covers `(2^((i-1)·2^-s), 2^(i·2^-s)]`, so merging pairs halves `i - 1`.
pub(crate) fn downscaled_index(index: i32, steps: u32) -> i32 {
    (((i64::from(index) - 1) >> steps.min(63)) + 1) as i32
}

/// Lowers an exponential histogram to [`SCHEMA_MAX`]: see [`lower_to`].
pub(crate) fn downscale(histogram: &mut Histogram) {
    lower_to(histogram, SCHEMA_MAX);
}

/// Lowers an exponential histogram to this resolution, if it is finer: exact, as neighbouring buckets are added up.
///
/// The spans must fit the counts.
pub(crate) fn lower_to(histogram: &mut Histogram, schema: i32) {
    let steps = u32::try_from(histogram.schema - schema).unwrap_or(0);
    if steps == 0 {
        return;
    }
    for side in [&mut histogram.positive, &mut histogram.negative] {
        let mut lower = SideBuilder::default();
        side.iter().for_each(|(index, count)| lower.push(downscaled_index(index, steps), count));
        *side = lower.build();
    }
    histogram.schema = schema;
}

/// Both sides in one; they must be of one resolution, and their spans fit the counts.
pub(crate) fn merge(one: &BucketSide, other: &BucketSide) -> BucketSide {
    let filled = |(_, count): &(i32, f64)| *count > 0.0;
    let (mut one, mut other) = (one.iter().filter(filled).peekable(), other.iter().filter(filled).peekable());
    let mut merged = SideBuilder::default();
    loop {
        let is_first = match (one.peek(), other.peek()) {
            (Some((index, _)), Some((other, _))) => index <= other,
            (first, _) => first.is_some(),
        };
        match if is_first { one.next() } else { other.next() } {
            Some((index, count)) => merged.push(index, count),
            None => return merged.build(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn side(buckets: &[(i32, f64)]) -> BucketSide {
        let mut builder = SideBuilder::default();
        for &(index, count) in buckets {
            builder.push(index, count);
        }
        builder.build()
    }

    #[test]
    fn small_gaps_are_filled_and_large_ones_skipped() {
        let built = side(&[(-3, 1.0), (0, 2.0), (4, 3.0)]);
        assert_eq!(built.spans, [BucketSpan { offset: -3, length: 4 }, BucketSpan { offset: 3, length: 1 }]);
        assert_eq!(built.counts, [1.0, 0.0, 0.0, 2.0, 3.0]);
    }

    #[test]
    fn one_step_down_joins_pairs() {
        // Schema s: (1, r], (r, r²] are buckets 1 and 2; both lie in bucket 1, (1, r²], of schema s - 1.
        assert_eq!([-1, 0, 1, 2, 3].map(|index| downscaled_index(index, 1)), [0, 0, 1, 1, 2]);
        let mut histogram = Histogram { positive: side(&[(1, 1.0), (2, 2.0), (3, 4.0)]), ..Histogram::empty(9) };
        downscale(&mut histogram);
        assert_eq!((histogram.schema, histogram.positive), (8, side(&[(1, 3.0), (2, 4.0)])));
    }

    proptest! {
        #[test]
        fn downscaling_loses_no_observation(
            indexes in proptest::collection::btree_map(-1000..1000_i32, 1..100_u32, 0..40), schema in 9..=52_i32,
        ) {
            let buckets: Vec<_> = indexes.into_iter().map(|(index, count)| (index, f64::from(count))).collect();
            let before: f64 = buckets.iter().map(|(_, count)| count).sum();
            let mut histogram = Histogram { positive: side(&buckets), count: before, ..Histogram::empty(schema) };
            downscale(&mut histogram);
            prop_assert_eq!(histogram.positive.counts.iter().sum::<f64>(), before);
            prop_assert_eq!(histogram.validate(), Ok(()));
        }
    }
}
