//! What deltas add up to: numbers, explicit buckets, exponential buckets.
//!
//! Counts are added as integers. Sums are kept in two halves, so that a long stream of small deltas loses none of them to
//! a sum that has become large.

use pharos_model::Histogram;

use crate::native::{lower_to, merge};

/// The coarsest resolution that is stored.
const SCHEMA_MIN: i32 = -4;

/// A delta, or the sum of several.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::otlp) enum Value {
    /// Of a sum.
    Number(Total),
    /// Of a histogram with explicit bounds.
    Buckets(Box<Buckets>),
    /// Of an exponential histogram.
    Exponential(Box<Histogram>, Total),
}

/// A sum that does not forget what its last digits cannot show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::otlp) struct Total {
    high: f64,
    low: f64,
}

/// A histogram with explicit bounds.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::otlp) struct Buckets {
    pub bounds: Vec<f64>,
    /// Of each bucket alone.
    pub counts: Vec<u64>,
    pub count: u64,
    /// Absent once one delta had none.
    pub sum: Option<Total>,
}

impl Total {
    pub(in crate::otlp) fn new(value: f64) -> Self {
        Self { high: value, low: 0.0 }
    }

    /// Knuth's exact sum of two numbers: `low` is what `high` cannot hold.
    fn plus(self, Self { high, low }: Self) -> Self {
        let sum = self.high + high;
        if !sum.is_finite() {
            return Self::new(sum);
        }
        let of_other = sum - self.high;
        let lost = (self.high - (sum - of_other)) + (high - of_other);
        Self { high: sum, low: self.low + low + lost }
    }

    pub(in crate::otlp) fn value(self) -> f64 {
        self.high + self.low
    }
}

impl Value {
    /// The sum of both; `None` where they have other buckets, or come to more than a number can be, and a new stream begins with
    /// the delta.
    pub(super) fn plus(&self, delta: &Self, buckets_max: usize) -> Option<Self> {
        let sum = match (self, delta) {
            (Self::Number(total), Self::Number(delta)) => Some(Self::Number(total.plus(*delta))),
            (Self::Buckets(total), Self::Buckets(delta)) => total.plus(delta).map(|sum| Self::Buckets(Box::new(sum))),
            (Self::Exponential(total, sum), Self::Exponential(delta, more)) => {
                let sum = sum.plus(*more);
                let mut histogram = exponential_sum(total, delta, buckets_max)?;
                histogram.sum = sum.value();
                Some(Self::Exponential(Box::new(histogram), sum))
            }
            _ => None,
        };
        sum.filter(|sum| sum.sum().is_none_or(f64::is_finite))
    }

    /// The number, or what was observed together; `None` of a histogram that does not say.
    pub(in crate::otlp) fn sum(&self) -> Option<f64> {
        match self {
            Self::Number(total) | Self::Exponential(_, total) => Some(total.value()),
            Self::Buckets(buckets) => buckets.sum.map(Total::value),
        }
    }

    /// A number of its own for each kind.
    pub(in crate::otlp) fn kind(&self) -> u8 {
        match self {
            Self::Number(_) => 0,
            Self::Buckets(_) => 1,
            Self::Exponential(..) => 2,
        }
    }

    /// Whether it may grow.
    pub(super) fn has_buckets(&self) -> bool {
        !matches!(self, Self::Number(_))
    }

    /// Memory beside its own size.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Number(_) => 0,
            Self::Buckets(buckets) => {
                size_of::<Buckets>() + size_of_val(&*buckets.bounds) + size_of_val(&*buckets.counts)
            }
            Self::Exponential(histogram, _) => {
                let sides = [&histogram.positive, &histogram.negative];
                let side = sides.map(|side| size_of_val(&*side.spans) + size_of_val(&*side.counts));
                size_of::<Histogram>() + side.iter().sum::<usize>()
            }
        }
    }

    /// Numbers that two deltas share only if they are equal, or by a rare accident.
    pub(super) fn words(&self) -> Vec<u64> {
        match self {
            Self::Number(total) => vec![total.high.to_bits()],
            Self::Buckets(buckets) => {
                let sum = buckets.sum.map_or([0, 0], |sum| [1, sum.high.to_bits()]);
                let bounds = buckets.bounds.iter().map(|bound| bound.to_bits());
                bounds.chain(buckets.counts.iter().copied()).chain([buckets.count]).chain(sum).collect()
            }
            Self::Exponential(histogram, sum) => {
                let Histogram { zero_threshold, zero_count, count, .. } = histogram.as_ref();
                let numbers = [*zero_threshold, *zero_count, *count, sum.high].map(f64::to_bits);
                let side = |side: &pharos_model::BucketSide| {
                    let buckets = side.iter().filter(|(_, count)| *count > 0.0);
                    buckets.flat_map(|(index, count)| [u64::from(index as u32), count.to_bits()]).collect::<Vec<_>>()
                };
                let sides = [side(&histogram.positive), vec![u64::MAX], side(&histogram.negative)].concat();
                [histogram.schema as u64].into_iter().chain(numbers).chain(sides).collect()
            }
        }
    }
}

impl Buckets {
    fn plus(&self, delta: &Self) -> Option<Self> {
        let bits = |bounds: &[f64]| bounds.iter().map(|bound| bound.to_bits()).collect::<Vec<_>>();
        if bits(&self.bounds) != bits(&delta.bounds) || self.counts.len() != delta.counts.len() {
            return None;
        }
        let counts = self.counts.iter().zip(&delta.counts).map(|(total, delta)| total.saturating_add(*delta)).collect();
        Some(Self {
            bounds: self.bounds.clone(),
            counts,
            count: self.count.saturating_add(delta.count),
            sum: self.sum.zip(delta.sum).map(|(total, delta)| total.plus(delta)),
        })
    }
}

/// The sum, but for `sum`, at the lower of both resolutions, or a lower one yet if it would have too many buckets.
fn exponential_sum(total: &Histogram, delta: &Histogram, buckets_max: usize) -> Option<Histogram> {
    if total.zero_threshold.to_bits() != delta.zero_threshold.to_bits() {
        return None;
    }
    let schema = total.schema.min(delta.schema);
    let (mut total, mut delta) = (total.clone(), delta.clone());
    lower_to(&mut total, schema);
    lower_to(&mut delta, schema);
    total.positive = merge(&total.positive, &delta.positive);
    total.negative = merge(&total.negative, &delta.negative);
    total.zero_count += delta.zero_count;
    total.count += delta.count;
    let buckets = |histogram: &Histogram| histogram.positive.counts.len() + histogram.negative.counts.len();
    while buckets(&total) > buckets_max {
        if total.schema <= SCHEMA_MIN {
            return None;
        }
        let lower = total.schema - 1;
        lower_to(&mut total, lower);
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::point_rules::{Exponential, exponential, side};

    #[test]
    fn small_deltas_are_not_lost_to_a_large_sum() {
        let mut total = Total::new(2_f64.powi(53));
        for _ in 0..10 {
            total = total.plus(Total::new(1.0));
        }
        assert_eq!(total.value(), 2_f64.powi(53) + 10.0);
        assert_eq!(Total::new(f64::MAX).plus(Total::new(f64::MAX)).value(), f64::INFINITY);
    }

    fn histogram(scale: i32, offset: i32, counts: &[u64]) -> Histogram {
        let count = counts.iter().sum();
        let found = Exponential { count, sum: Some(1.0), scale, zero_count: 0, zero_threshold: 0.0 };
        exponential(found, side(offset, counts.iter().copied()), side(0, std::iter::empty()))
    }

    #[test]
    fn exponential_sums_take_the_lower_resolution_and_fit_the_limit() {
        let (fine, coarse) = (histogram(1, 0, &[1, 2]), histogram(0, 0, &[4]));
        for (one, other) in [(&fine, &coarse), (&coarse, &fine)] {
            let sum = exponential_sum(one, other, 9).unwrap();
            assert_eq!((sum.schema, sum.positive.iter().collect::<Vec<_>>()), (0, vec![(1, 7.0)]));
            assert_eq!((sum.count, sum.validate()), (7.0, Ok(())));
        }
        let wide = exponential_sum(&histogram(3, 0, &[1; 8]), &histogram(3, 8, &[1; 8]), 8).unwrap();
        assert_eq!((wide.schema, wide.positive.counts.len(), wide.count), (2, 8, 16.0));
        let far = exponential_sum(&histogram(-4, 0, &[1]), &histogram(-4, 40, &[1]), 1);
        assert_eq!(far, None);
    }
}
