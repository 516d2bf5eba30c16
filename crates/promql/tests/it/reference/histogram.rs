//! Histograms as plain maps of buckets, and what can be computed with them.

use std::collections::BTreeMap;

use pharos_model::{Histogram, ResetHint};

type Side = BTreeMap<i32, f64>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Naive {
    pub(crate) custom: bool,
    pub(crate) schema: i32,
    pub(crate) zero_threshold: f64,
    pub(crate) zero: f64,
    pub(crate) count: f64,
    pub(crate) sum: f64,
    pub(crate) positive: Side,
    pub(crate) negative: Side,
    pub(crate) bounds: Vec<f64>,
    pub(crate) gauge: bool,
}

fn upper(schema: i32, index: i32) -> f64 {
    2_f64.powf(f64::from(index) / 2_f64.powi(schema))
}

impl Naive {
    pub(crate) fn of(histogram: &Histogram) -> Self {
        Self {
            custom: histogram.has_custom_buckets(),
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            zero: histogram.zero_count,
            count: histogram.count,
            sum: histogram.sum,
            positive: histogram.positive.iter().collect(),
            negative: histogram.negative.iter().collect(),
            bounds: histogram.custom_bounds.clone(),
            gauge: histogram.reset_hint == ResetHint::Gauge,
        }
    }

    /// Nothing, in the layout of `self`.
    pub(crate) fn nothing(&self) -> Self {
        Self {
            zero_threshold: 0.0,
            zero: 0.0,
            count: 0.0,
            sum: 0.0,
            positive: Side::new(),
            negative: Side::new(),
            gauge: false,
            ..self.clone()
        }
    }

    /// Every number changed; buckets without observations have none.
    pub(crate) fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        let filled = |side: &Side| side.clone().into_iter().filter(|(_, count)| *count != 0.0).collect::<Side>();
        let side = |side: &Side| filled(side).into_iter().map(|(index, count)| (index, change(count))).collect();
        Self {
            zero: change(self.zero),
            count: change(self.count),
            sum: change(self.sum),
            positive: side(&self.positive),
            negative: side(&self.negative),
            ..self.clone()
        }
    }

    /// Both under one layout, joined bucket by bucket; `None` if one has custom buckets and the other has not.
    pub(crate) fn join(&self, other: &Self, with: impl Fn(f64, f64) -> f64) -> Option<Self> {
        if self.custom != other.custom {
            return None;
        }
        let (a, b) = if self.custom {
            let common: Vec<f64> = self.bounds.iter().copied().filter(|bound| other.bounds.contains(bound)).collect();
            (self.under(&common), other.under(&common))
        } else {
            let threshold = common_threshold(self, other);
            let schema = self.schema.min(other.schema);
            (self.widened(threshold).coarser(schema), other.widened(threshold).coarser(schema))
        };
        let sides = |a: &Side, b: &Side| {
            let indexes = a.keys().chain(b.keys());
            indexes.map(|at| (*at, with(get(a, *at), get(b, *at)))).collect()
        };
        Some(Self {
            zero: with(a.zero, b.zero),
            count: with(a.count, b.count),
            sum: with(a.sum, b.sum),
            positive: sides(&a.positive, &b.positive),
            negative: sides(&a.negative, &b.negative),
            gauge: a.gauge || b.gauge,
            ..a
        })
    }

    /// Each bucket goes to the first of fewer bounds that is not below its own.
    fn under(&self, bounds: &[f64]) -> Self {
        let mut positive = Side::new();
        for (index, count) in &self.positive {
            let own = self.bounds.get(*index as usize).copied().unwrap_or(f64::INFINITY);
            let at = bounds.iter().position(|bound| *bound >= own).unwrap_or(bounds.len());
            *positive.entry(at as i32).or_default() += count;
        }
        Self { positive, bounds: bounds.to_vec(), ..self.clone() }
    }

    fn widened(&self, threshold: f64) -> Self {
        let mut wide = self.clone();
        wide.zero_threshold = threshold;
        if threshold > self.zero_threshold {
            for side in [&mut wide.positive, &mut wide.negative] {
                let inside = |index: &i32| upper(self.schema, *index) <= threshold;
                wide.zero += side.iter().filter(|(index, _)| inside(index)).map(|(_, count)| count).sum::<f64>();
                side.retain(|index, _| !inside(index));
            }
        }
        wide
    }

    /// Two to the number of halvings buckets become one.
    pub(crate) fn coarser(&self, schema: i32) -> Self {
        let factor = 2_f64.powi(self.schema - schema);
        let side = |side: &Side| {
            let mut coarse = Side::new();
            for (index, count) in side {
                *coarse.entry((f64::from(*index) / factor).ceil() as i32).or_default() += count;
            }
            coarse
        };
        Self { schema, positive: side(&self.positive), negative: side(&self.negative), ..self.clone() }
    }

    /// Whether `self` cannot follow `before` without a reset in between.
    pub(crate) fn resets(&self, before: &Self) -> bool {
        let falls = |new: &Side, old: &Side| {
            old.iter().any(|(index, count)| {
                new.get(index).filter(|new| **new != 0.0).map_or(*count != 0.0, |new| new < count)
            })
        };
        if self.count < before.count || self.custom != before.custom {
            return true;
        }
        if self.custom {
            let common: Vec<f64> = self.bounds.iter().copied().filter(|bound| before.bounds.contains(bound)).collect();
            return falls(&self.under(&common).positive, &before.under(&common).positive);
        }
        if self.schema > before.schema || self.zero_threshold < before.zero_threshold {
            return true;
        }
        let mut wider = before.clone();
        if self.zero_threshold > before.zero_threshold {
            let empty = Self { zero_threshold: self.zero_threshold, ..self.nothing() };
            let threshold = common_threshold(before, &empty);
            if threshold != self.zero_threshold {
                return true;
            }
            wider = before.widened(threshold);
        }
        let old = wider.coarser(self.schema);
        self.zero < old.zero || falls(&self.positive, &old.positive) || falls(&self.negative, &old.negative)
    }

    /// The same observations in the same buckets.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        let filled =
            |side: &Side| side.iter().filter(|(_, count)| **count != 0.0).map(|(a, b)| (*a, *b)).collect::<Side>();
        let key = |one: &Self| (one.schema, filled(&one.positive), filled(&one.negative), one.bounds.clone());
        let numbers = |one: &Self| [one.zero_threshold, one.zero, one.count, one.sum];
        key(self) == key(other) && numbers(self) == numbers(other)
    }

    /// Lower and upper bound and count of each bucket with observations, ascending.
    fn buckets(&self) -> Vec<(f64, f64, f64)> {
        let mut list = Vec::new();
        for (index, count) in &self.positive {
            let bounds = if self.custom {
                let at = |index: i32| self.bounds.get(index as usize).copied().unwrap_or(f64::INFINITY);
                (if *index == 0 { f64::NEG_INFINITY } else { at(index - 1) }, at(*index))
            } else {
                (upper(self.schema, index - 1).max(self.zero_threshold), upper(self.schema, *index))
            };
            list.push((bounds.0, bounds.1, *count));
        }
        for (index, count) in &self.negative {
            let inner = upper(self.schema, index - 1).max(self.zero_threshold);
            list.push((-upper(self.schema, *index), -inner, *count));
        }
        if self.zero != 0.0 {
            let lower = if self.negative.is_empty() && !self.positive.is_empty() { 0.0 } else { -self.zero_threshold };
            let upper = if self.positive.is_empty() && !self.negative.is_empty() { 0.0 } else { self.zero_threshold };
            list.push((lower, upper, self.zero));
        }
        list.retain(|(_, _, count)| *count != 0.0);
        list.sort_by(|a, b| a.1.total_cmp(&b.1));
        list
    }

    /// The φ-quantile of a histogram whose count is that of its buckets; from above for the upper half.
    pub(crate) fn quantile(&self, phi: f64) -> f64 {
        if self.count == 0.0 {
            return f64::NAN;
        }
        let buckets = self.buckets();
        let mut below = 0.0;
        let wanted = phi * self.count;
        let mut at = None;
        if phi < 0.5 {
            at = buckets.iter().position(|(_, _, count)| {
                below += count;
                below >= wanted
            });
        } else {
            let mut above = 0.0;
            for (index, (_, _, count)) in buckets.iter().enumerate().rev() {
                above += count;
                if above >= self.count - wanted {
                    at = Some(index);
                    break;
                }
            }
        }
        let at = at.unwrap_or(buckets.len() - 1);
        let before: f64 = buckets[..at].iter().map(|(_, _, count)| count).sum();
        let (mut lower, upper, count) = buckets[at];
        let share = (wanted - before) / count;
        if self.custom {
            if lower.is_infinite() {
                if upper <= 0.0 {
                    return upper;
                }
                lower = 0.0;
            } else if upper.is_infinite() {
                return lower;
            }
        } else if lower > 0.0 || upper < 0.0 {
            return lower * (upper / lower).powf(share);
        }
        lower + (upper - lower) * share
    }
}

fn get(side: &Side, index: i32) -> f64 {
    side.get(&index).copied().unwrap_or(0.0)
}

/// The least threshold that is not below those of both and lies in no bucket with observations that it widens.
fn common_threshold(a: &Naive, b: &Naive) -> f64 {
    let mut threshold = a.zero_threshold.max(b.zero_threshold);
    loop {
        let wider = [a, b].into_iter().filter(|one| one.zero_threshold < threshold).flat_map(|one| {
            let filled = one.positive.iter().chain(&one.negative).filter(|(_, count)| **count != 0.0);
            filled.map(|(index, _)| (upper(one.schema, index - 1), upper(one.schema, *index)))
        });
        match wider.into_iter().find(|(lower, upper)| *lower < threshold && threshold < *upper) {
            Some((_, upper)) => threshold = upper,
            None => return threshold,
        }
    }
}
