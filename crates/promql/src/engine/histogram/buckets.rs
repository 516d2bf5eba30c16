//! Buckets as lists: bounds, coarser schemas, wider zero buckets, common custom bounds.

use pharos_model::{BucketSide, BucketSpan, Histogram, exponential_bound};

/// Index and count, ascending by index.
pub(super) type Buckets = Vec<(i32, f64)>;

/// A bucket with its bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounded {
    pub(super) lower: f64,
    pub(super) upper: f64,
    pub(super) count: f64,
    pub(super) kind: Kind,
}

/// Where a bucket belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Negative(i32),
    Zero,
    Positive(i32),
}

pub(super) fn list(side: &BucketSide) -> Buckets {
    side.iter().collect()
}

/// Spans and counts of a list; buckets without observations are left out.
pub(super) fn side(buckets: &[(i32, f64)]) -> BucketSide {
    let mut side = BucketSide::default();
    let mut next = 0_i64;
    for (index, count) in buckets.iter().filter(|(_, count)| *count != 0.0) {
        let gap = i64::from(*index) - next;
        match side.spans.last_mut() {
            Some(span) if gap == 0 => span.length += 1,
            _ => side.spans.push(BucketSpan { offset: gap as i32, length: 1 }),
        }
        side.counts.push(*count);
        next = i64::from(*index) + 1;
    }
    side
}

/// Index of the bucket of a coarser schema that holds bucket `index` of a finer one.
fn coarser_index(index: i32, halvings: u32) -> i32 {
    ((index.saturating_sub(1)) >> halvings.min(31)) + 1
}

pub(super) fn coarsened(buckets: &[(i32, f64)], halvings: u32) -> Buckets {
    let mut coarse: Buckets = Vec::with_capacity(buckets.len());
    for (index, count) in buckets {
        let index = coarser_index(*index, halvings);
        match coarse.last_mut() {
            Some((last, sum)) if *last == index => *sum += count,
            _ => coarse.push((index, *count)),
        }
    }
    coarse
}

/// `histogram` in a schema that is not finer than its own.
pub(super) fn to_schema(histogram: &mut Histogram, schema: i32) {
    let halvings = u32::try_from(histogram.schema - schema).unwrap_or(0);
    if halvings > 0 && !histogram.has_custom_buckets() {
        histogram.positive = side(&coarsened(&list(&histogram.positive), halvings));
        histogram.negative = side(&coarsened(&list(&histogram.negative), halvings));
        histogram.schema = schema;
    }
}

/// All buckets from the most negative to the largest, also those that are empty but kept; where the zero bucket
/// reaches into one, that one begins behind it.
pub(super) fn all(histogram: &Histogram) -> Vec<Bounded> {
    let mut buckets = negative(histogram);
    buckets.reverse();
    if histogram.zero_count > 0.0 {
        buckets.push(zero(histogram));
    }
    buckets.extend(positive(histogram));
    let threshold = histogram.zero_threshold;
    for bucket in &mut buckets {
        match bucket.kind {
            Kind::Negative(_) => bucket.upper = bucket.upper.min(-threshold),
            Kind::Positive(_) if !histogram.has_custom_buckets() => bucket.lower = bucket.lower.max(threshold),
            Kind::Zero | Kind::Positive(_) => {}
        }
    }
    buckets
}

/// The zero bucket.
pub(super) fn zero(histogram: &Histogram) -> Bounded {
    let threshold = histogram.zero_threshold;
    Bounded { lower: -threshold, upper: threshold, count: histogram.zero_count, kind: Kind::Zero }
}

/// The buckets above zero, or all custom ones, under the bounds of the schema.
pub(super) fn positive(histogram: &Histogram) -> Vec<Bounded> {
    let custom = |at: i64| match usize::try_from(at) {
        Ok(at) => histogram.custom_bounds.get(at).copied().unwrap_or(f64::INFINITY),
        Err(_) => f64::NEG_INFINITY,
    };
    let bounded = |(index, count)| {
        let (lower, upper) = if histogram.has_custom_buckets() {
            (custom(i64::from(index) - 1), custom(i64::from(index)))
        } else {
            exponential_bounds(histogram.schema, index)
        };
        Bounded { lower, upper, count, kind: Kind::Positive(index) }
    };
    histogram.positive.iter().map(bounded).collect()
}

/// The buckets below zero, the one next to zero first.
pub(super) fn negative(histogram: &Histogram) -> Vec<Bounded> {
    let bounded = |(index, count)| {
        let (inner, outer) = exponential_bounds(histogram.schema, index);
        Bounded { lower: -outer, upper: -inner, count, kind: Kind::Negative(index) }
    };
    histogram.negative.iter().map(bounded).collect()
}

fn exponential_bounds(schema: i32, index: i32) -> (f64, f64) {
    (exponential_bound(schema, index.saturating_sub(1)), exponential_bound(schema, index))
}

/// What the zero bucket would hold if it reached to `threshold` or, where that lies inside a bucket with
/// observations, to the end of that bucket; with the threshold that comes of it.
pub(super) fn wider_zero(histogram: &Histogram, threshold: f64) -> (f64, f64) {
    if threshold == histogram.zero_threshold {
        // Not wider: a bucket that the zero bucket reaches into stays apart.
        return (histogram.zero_count, threshold);
    }
    let mut threshold = threshold;
    loop {
        let mut count = histogram.zero_count;
        let mut moved = false;
        for side in [&histogram.positive, &histogram.negative] {
            for (index, bucket_count) in side.iter() {
                let lower = exponential_bound(histogram.schema, index.saturating_sub(1));
                if lower >= threshold {
                    break;
                }
                count += bucket_count;
                let upper = exponential_bound(histogram.schema, index);
                if upper > threshold {
                    if bucket_count != 0.0 {
                        threshold = upper;
                        moved = true;
                    }
                    break;
                }
            }
        }
        if !moved {
            return (count, threshold);
        }
    }
}

/// Moves everything up to `threshold` into the zero bucket; `threshold` must come from [`wider_zero`].
fn widen_zero(histogram: &mut Histogram, count: f64, threshold: f64) {
    let schema = histogram.schema;
    let keep = |side: &BucketSide| {
        let rest: Buckets = side.iter().filter(|(index, _)| exponential_bound(schema, *index) > threshold).collect();
        self::side(&rest)
    };
    (histogram.positive, histogram.negative) = (keep(&histogram.positive), keep(&histogram.negative));
    (histogram.zero_count, histogram.zero_threshold) = (count, threshold);
}

/// Gives both the same zero bucket.
pub(super) fn reconcile_zero(a: &mut Histogram, b: &mut Histogram) {
    while a.zero_threshold != b.zero_threshold {
        let (narrow, wide) = if a.zero_threshold < b.zero_threshold { (&mut *a, &*b) } else { (&mut *b, &*a) };
        let (count, threshold) = wider_zero(narrow, wide.zero_threshold);
        widen_zero(narrow, count, threshold);
    }
}

/// The buckets under only those custom bounds that `bounds` keeps.
pub(super) fn with_bounds(histogram: &mut Histogram, bounds: &[f64]) {
    let mut counts = vec![0.0; bounds.len() + 1];
    for (index, count) in histogram.positive.iter() {
        let upper = usize::try_from(index).ok().and_then(|at| histogram.custom_bounds.get(at)).copied();
        let at = upper.map_or(bounds.len(), |upper| bounds.partition_point(|bound| *bound < upper));
        counts[at] += count;
    }
    let list: Buckets = counts.into_iter().enumerate().map(|(at, count)| (at as i32, count)).collect();
    histogram.positive = side(&list);
    histogram.custom_bounds = bounds.to_vec();
}

/// Bounds that both have; both ascend.
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().copied().filter(|bound| b.binary_search_by(|other| other.total_cmp(bound)).is_ok()).collect()
}

/// Joins two lists bucket by bucket.
pub(super) fn joined(a: &[(i32, f64)], b: &[(i32, f64)], join: impl Fn(f64, f64) -> f64) -> Buckets {
    let mut result = Vec::with_capacity(a.len().max(b.len()));
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let next = match (a.peek(), b.peek()) {
            (None, None) => return result,
            (Some((left, _)), Some((right, _))) => *left.min(right),
            (Some((index, _)), None) | (None, Some((index, _))) => *index,
        };
        let left = a.next_if(|(index, _)| *index == next).map_or(0.0, |(_, count)| *count);
        let right = b.next_if(|(index, _)| *index == next).map_or(0.0, |(_, count)| *count);
        result.push((next, join(left, right)));
    }
}
