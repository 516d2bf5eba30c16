//! Adding, subtracting, scaling and comparing histograms.

use std::sync::Arc;

use pharos_model::{BucketSide, Histogram, HistogramSample, ResetHint};

use super::buckets::{
    coarsened, common_bounds, joined, list, reconcile_zero, side, to_schema, wider_zero, with_bounds,
};

/// Exponential and custom buckets: there is no sum of the two.
#[derive(Debug)]
pub(in crate::engine) struct Incompatible;

/// What had to be done to add two histograms.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::engine) struct Joined {
    /// One says "reset", the other "no reset".
    pub(in crate::engine) conflicting_resets: bool,
    /// Only the bounds that both had were kept.
    pub(in crate::engine) bounds_reconciled: bool,
}

pub(in crate::engine) fn add(sum: &mut Histogram, other: &Histogram) -> Result<Joined, Incompatible> {
    join(sum, other, |a, b| a + b)
}

/// Hints are joined as for sums; what the difference is, a gauge mostly, is for the caller to say.
pub(in crate::engine) fn subtract(minuend: &mut Histogram, other: &Histogram) -> Result<Joined, Incompatible> {
    join(minuend, other, |a, b| a - b)
}

fn join(a: &mut Histogram, b: &Histogram, with: impl Fn(f64, f64) -> f64 + Copy) -> Result<Joined, Incompatible> {
    if a.has_custom_buckets() != b.has_custom_buckets() {
        return Err(Incompatible);
    }
    let mut other = b.clone();
    let mut joined_by = Joined { conflicting_resets: join_hints(a, b), bounds_reconciled: false };
    if a.has_custom_buckets() {
        if a.custom_bounds != b.custom_bounds {
            let bounds = common_bounds(&a.custom_bounds, &b.custom_bounds);
            with_bounds(a, &bounds);
            with_bounds(&mut other, &bounds);
            joined_by.bounds_reconciled = true;
        }
    } else {
        reconcile_zero(a, &mut other);
        let schema = a.schema.min(other.schema);
        to_schema(a, schema);
        to_schema(&mut other, schema);
        a.zero_count = with(a.zero_count, other.zero_count);
    }
    a.is_integer = false;
    a.count = with(a.count, other.count);
    a.sum = with(a.sum, other.sum);
    a.positive = side(&joined(&list(&a.positive), &list(&other.positive), with));
    a.negative = side(&joined(&list(&a.negative), &list(&other.negative), with));
    Ok(joined_by)
}

/// The hint of the result; `true` if the hints contradict each other.
pub(super) fn join_hints(a: &mut Histogram, b: &Histogram) -> bool {
    use ResetHint as H;
    let (hint, conflict) = match (a.reset_hint, b.reset_hint) {
        (x, y) if x == y => (x, false),
        (H::Gauge, _) | (_, H::Gauge) => (H::Gauge, false),
        (H::Unknown, _) | (_, H::Unknown) => (H::Unknown, false),
        _ => (H::Unknown, true),
    };
    a.reset_hint = hint;
    conflict
}

/// Applies `map` to every number that counts or sums.
fn map_counts(histogram: &mut Histogram, map: impl Fn(f64) -> f64) {
    histogram.is_integer = false;
    for value in [&mut histogram.count, &mut histogram.sum, &mut histogram.zero_count] {
        *value = map(*value);
    }
    for count in histogram.positive.counts.iter_mut().chain(&mut histogram.negative.counts) {
        *count = map(*count);
    }
}

/// Multiplies in place; by a negative factor it is no longer a counter.
pub(in crate::engine) fn scale(histogram: &mut Histogram, factor: f64) {
    map_counts(histogram, |value| value * factor);
    if factor < 0.0 {
        histogram.reset_hint = ResetHint::Gauge;
    }
}

pub(in crate::engine) fn scaled(histogram: &Histogram, factor: f64) -> Histogram {
    let mut result = histogram.clone();
    scale(&mut result, factor);
    result
}

/// Divided by a number; by 0 nothing is left in the buckets.
pub(in crate::engine) fn divided(histogram: &Histogram, by: f64) -> Histogram {
    let mut result = histogram.clone();
    map_counts(&mut result, |value| value / by);
    if by == 0.0 {
        (result.positive, result.negative) = (BucketSide::default(), BucketSide::default());
    } else if by < 0.0 {
        result.reset_hint = ResetHint::Gauge;
    }
    result
}

/// Leaves out empty buckets.
pub(in crate::engine) fn compact(histogram: &mut Histogram) {
    histogram.positive = side(&list(&histogram.positive));
    histogram.negative = side(&list(&histogram.negative));
}

/// Equality as `==` means it: the same observations, in the same buckets; hints do not count.
pub(in crate::engine) fn equals(a: &Histogram, b: &Histogram) -> bool {
    // Zeros of different signs differ.
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    a.schema == b.schema
        && same(a.count, b.count)
        && same(a.sum, b.sum)
        && a.zero_threshold == b.zero_threshold
        && same(a.zero_count, b.zero_count)
        && a.custom_bounds == b.custom_bounds
        && side(&list(&a.positive)) == side(&list(&b.positive))
        && side(&list(&a.negative)) == side(&list(&b.negative))
}

/// The same with hints "reset" and "no reset" forgotten.
pub(in crate::engine) fn with_unknown_resets(histogram: Arc<Histogram>) -> Arc<Histogram> {
    match histogram.reset_hint {
        ResetHint::Reset | ResetHint::NotReset => {
            let mut histogram = Arc::unwrap_or_clone(histogram);
            histogram.reset_hint = ResetHint::Unknown;
            Arc::new(histogram)
        }
        ResetHint::Unknown | ResetHint::Gauge => histogram,
    }
}

/// Fills in unknown hints from the sample before: "no reset" where the counts go on. A reset that is found stays
/// unknown, as where a new chunk begins.
pub(in crate::engine) fn with_derived_resets(mut previous: Option<Arc<Histogram>>, samples: &mut [HistogramSample]) {
    for sample in samples {
        let original = Arc::clone(&sample.histogram);
        if let (Some(previous), ResetHint::Unknown) = (&previous, original.reset_hint)
            && !is_reset(previous, &original)
        {
            Arc::make_mut(&mut sample.histogram).reset_hint = ResetHint::NotReset;
        }
        // A marker of staleness says nothing of what comes next.
        previous = (!original.is_stale()).then_some(original);
    }
}

/// Leaves only counts, sums and hints. Unknown hints are filled in from the sample before, while there are buckets.
pub(in crate::engine) fn only_counts(mut previous: Option<Arc<Histogram>>, samples: &mut [HistogramSample]) {
    for sample in samples.iter_mut().filter(|sample| !sample.histogram.is_stale()) {
        let full = &sample.histogram;
        let reset_hint = match (&previous, full.reset_hint) {
            (Some(previous), ResetHint::Unknown) if is_reset(previous, full) => ResetHint::Reset,
            (Some(_), ResetHint::Unknown) => ResetHint::NotReset,
            (_, hint) => hint,
        };
        let counts = Histogram { reset_hint, count: full.count, sum: full.sum, ..Histogram::empty(full.schema) };
        previous = Some(std::mem::replace(&mut sample.histogram, Arc::new(counts)));
    }
}

/// Whether `current` started a new count after `previous`.
pub(in crate::engine) fn is_reset(previous: &Histogram, current: &Histogram) -> bool {
    match current.reset_hint {
        ResetHint::Reset => return true,
        ResetHint::NotReset => return false,
        ResetHint::Unknown | ResetHint::Gauge => {}
    }
    if current.count < previous.count || current.has_custom_buckets() != previous.has_custom_buckets() {
        return true;
    }
    if current.has_custom_buckets() {
        if current.custom_bounds == previous.custom_bounds {
            return falls(&list(&previous.positive), &list(&current.positive));
        }
        // Finer than before can only be a new start; otherwise compare under the common bounds.
        let bounds = common_bounds(&previous.custom_bounds, &current.custom_bounds);
        let (mut old, mut new) = (previous.clone(), current.clone());
        with_bounds(&mut old, &bounds);
        with_bounds(&mut new, &bounds);
        return falls(&list(&old.positive), &list(&new.positive));
    }
    if current.schema > previous.schema || current.zero_threshold < previous.zero_threshold {
        return true;
    }
    let (zero_count, threshold) = wider_zero(previous, current.zero_threshold);
    if threshold != current.zero_threshold || current.zero_count < zero_count {
        return true;
    }
    let halvings = u32::try_from(previous.schema - current.schema).unwrap_or(0);
    [(&previous.positive, &current.positive), (&previous.negative, &current.negative)].into_iter().any(|(old, new)| {
        let mut old = coarsened(&list(old), halvings);
        // What reaches into the new zero bucket from outside is compared as a whole.
        old.retain(|(index, _)| pharos_model::exponential_bound(current.schema, *index) > threshold);
        falls(&old, &list(new))
    })
}

/// Whether any bucket that there was holds less than before, or is gone though it held something. Both ascend.
fn falls(old: &[(i32, f64)], new: &[(i32, f64)]) -> bool {
    let mut new = new.iter().peekable();
    old.iter().any(|(index, old_count)| {
        while new.next_if(|(other, _)| other < index).is_some() {}
        match new.peek() {
            Some((other, new_count)) if other == index => new_count < old_count,
            _ => *old_count != 0.0,
        }
    })
}
