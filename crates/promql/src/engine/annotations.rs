//! Warnings and infos: what a query's reader should know although there is an answer.
//!
//! The texts are Prometheus', because dashboards and tests look for them. Each ends in the `(line:column)` of the
//! part of the query it speaks of; equal texts are kept once.

use std::collections::BTreeSet;
use std::hash::Hash;

use hashbrown::HashSet;
use xxhash_rust::xxh3::Xxh3Default;

use super::gofmt::go_g;
use crate::position::{LineColumn, Span};
use crate::quote::quote;

/// Warnings and infos of one query, each text once, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    /// Something is probably wrong with the answer. Each begins with `PromQL warning: `.
    pub warnings: BTreeSet<String>,
    /// Something might be wrong with the query. Each begins with `PromQL info: `.
    pub infos: BTreeSet<String>,
}

impl Annotations {
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.warnings.is_empty() && self.infos.is_empty()
    }
}

/// Collects what a running query has to say. Most of it is said once per series or sample; only the first time
/// costs a text.
#[derive(Debug, Default)]
pub(super) struct Notebook {
    texts: Annotations,
    /// Digests of what stands in `texts`; 128 bits, so that none hides another.
    seen: HashSet<u128, foldhash::fast::RandomState>,
}

impl Notebook {
    pub(super) fn add(&mut self, query: &str, span: Span, note: &Note<'_>) {
        if !self.seen.insert(note.digest(span)) {
            return;
        }
        let place = LineColumn::of(query, span.start);
        let text = note.text();
        let texts = &mut self.texts;
        let (list, level) =
            if note.is_warning() { (&mut texts.warnings, "warning") } else { (&mut texts.infos, "info") };
        list.insert(format!("PromQL {level}: {text} ({place})"));
    }

    /// Adds what another one has, of the same query.
    pub(super) fn absorb(&mut self, other: Self) {
        self.seen.extend(other.seen);
        self.texts.warnings.extend(other.texts.warnings);
        self.texts.infos.extend(other.texts.infos);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn into_annotations(self) -> Annotations {
        self.texts
    }
}

/// Each thing that can be said.
#[derive(Debug, Clone, Copy)]
pub(super) enum Note<'a> {
    InvalidQuantile(f64),
    InvalidRatio { given: f64, used: f64 },
    BadBucketLabel { metric: &'a str, value: &'a str },
    MixedFloatsHistograms { metric: &'a str },
    MixedFloatsHistogramsAggregation,
    MixedClassicNative { metric: &'a str },
    NotCounterHistogram { metric: &'a str },
    NotGaugeHistogram { metric: &'a str },
    MixedSchemas { metric: &'a str },
    IncompatibleBuckets { operator: &'a str },
    IneffectiveSort,
    ConflictingResets { operation: &'a str },
    OverlappingStart { metric: &'a str },
    PossiblyNoCounter { metric: &'a str },
    PossiblyNoCounterType { metric: &'a str, found: &'a str },
    ForcedMonotonicity { metric: &'a str, detail: &'a str },
    IncompatibleTypes { operator: &'a str, lhs: &'a str, rhs: &'a str },
    HistogramIgnored { aggregation: &'a str },
    HistogramIgnoredInMixedRange { metric: &'a str },
    QuantileNan { metric: &'a str },
    QuantileSkewed { metric: &'a str },
    FractionNan { metric: &'a str },
    MismatchedCustomBuckets { operation: &'a str },
}

impl Note<'_> {
    /// Says which note this is, and where, without writing it.
    fn digest(&self, span: Span) -> u128 {
        let mut hasher = Xxh3Default::new();
        std::mem::discriminant(self).hash(&mut hasher);
        span.start.hash(&mut hasher);
        match *self {
            Self::InvalidQuantile(given) => given.to_bits().hash(&mut hasher),
            Self::InvalidRatio { given, used } => (given.to_bits(), used.to_bits()).hash(&mut hasher),
            Self::BadBucketLabel { metric, value } => (metric, value).hash(&mut hasher),
            Self::PossiblyNoCounterType { metric, found } => (metric, found).hash(&mut hasher),
            Self::ForcedMonotonicity { metric, detail } => (metric, detail).hash(&mut hasher),
            Self::IncompatibleTypes { operator, lhs, rhs } => (operator, lhs, rhs).hash(&mut hasher),
            Self::MixedFloatsHistogramsAggregation | Self::IneffectiveSort => {}
            Self::MixedFloatsHistograms { metric: text }
            | Self::MixedClassicNative { metric: text }
            | Self::NotCounterHistogram { metric: text }
            | Self::NotGaugeHistogram { metric: text }
            | Self::MixedSchemas { metric: text }
            | Self::IncompatibleBuckets { operator: text }
            | Self::ConflictingResets { operation: text }
            | Self::OverlappingStart { metric: text }
            | Self::PossiblyNoCounter { metric: text }
            | Self::HistogramIgnored { aggregation: text }
            | Self::HistogramIgnoredInMixedRange { metric: text }
            | Self::QuantileNan { metric: text }
            | Self::QuantileSkewed { metric: text }
            | Self::FractionNan { metric: text }
            | Self::MismatchedCustomBuckets { operation: text } => text.hash(&mut hasher),
        }
        hasher.digest128()
    }

    fn is_warning(&self) -> bool {
        !matches!(
            self,
            Self::PossiblyNoCounter { .. }
                | Self::PossiblyNoCounterType { .. }
                | Self::ForcedMonotonicity { .. }
                | Self::IncompatibleTypes { .. }
                | Self::HistogramIgnored { .. }
                | Self::HistogramIgnoredInMixedRange { .. }
                | Self::QuantileNan { .. }
                | Self::QuantileSkewed { .. }
                | Self::FractionNan { .. }
                | Self::MismatchedCustomBuckets { .. }
        )
    }

    fn text(&self) -> String {
        match *self {
            Self::InvalidQuantile(given) => {
                format!("quantile value should be between 0 and 1, got {}", go_g(given))
            }
            Self::InvalidRatio { given, used } => {
                let (given, used) = (go_g(given), go_g(used));
                format!("ratio value should be between -1 and 1, got {given}, capping to {used}")
            }
            Self::BadBucketLabel { metric, value } => for_metric(
                format!("bucket label \"le\" is missing or has a malformed value of {}", quote(value)),
                metric,
            ),
            Self::MixedFloatsHistograms { metric } => {
                format!("encountered a mix of histograms and floats for metric name {}", quote(metric))
            }
            Self::MixedFloatsHistogramsAggregation => {
                "encountered a mix of histograms and floats for aggregation".to_owned()
            }
            Self::MixedClassicNative { metric } => {
                for_metric("vector contains a mix of classic and native histograms".to_owned(), metric)
            }
            Self::NotCounterHistogram { metric } => {
                format!("this native histogram metric is not a counter: {}", quote(metric))
            }
            Self::NotGaugeHistogram { metric } => {
                format!("this native histogram metric is not a gauge: {}", quote(metric))
            }
            Self::MixedSchemas { metric } => format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
                quote(metric)
            ),
            Self::IncompatibleBuckets { operator } => {
                format!("incompatible bucket layout encountered for binary operator {operator}")
            }
            Self::IneffectiveSort => {
                "sort is ineffective for range queries since results are always ordered by labels".to_owned()
            }
            Self::ConflictingResets { operation } => {
                format!("conflicting counter resets during histogram {operation}")
            }
            Self::OverlappingStart { metric } => format!(
                "sample has start time that overlaps with previous sample timestamp for metric {}",
                quote(metric)
            ),
            Self::PossiblyNoCounter { metric } => format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                quote(metric)
            ),
            Self::PossiblyNoCounterType { metric, found } => format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {}: {}",
                quote(found),
                quote(metric)
            ),
            Self::ForcedMonotonicity { metric, detail } => {
                let stem = "input to histogram_quantile needed to be fixed for monotonicity \
                            (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
                for_metric(stem.to_owned(), metric) + detail
            }
            Self::IncompatibleTypes { operator, lhs, rhs } => format!(
                "incompatible sample types encountered for binary operator {}: {lhs} {operator} {rhs}",
                quote(operator)
            ),
            Self::HistogramIgnored { aggregation } => format!("ignored histogram in {aggregation} aggregation"),
            Self::HistogramIgnoredInMixedRange { metric } => format!(
                "ignored histograms in a range containing both floats and histograms for metric name {}",
                quote(metric)
            ),
            Self::QuantileNan { metric } => {
                for_metric("input to histogram_quantile has NaN observations, result is NaN".to_owned(), metric)
            }
            Self::QuantileSkewed { metric } => for_metric(
                "input to histogram_quantile has NaN observations, result is skewed higher".to_owned(),
                metric,
            ),
            Self::FractionNan { metric } => for_metric(
                "input to histogram_fraction has NaN observations, which are excluded from all fractions".to_owned(),
                metric,
            ),
            Self::MismatchedCustomBuckets { operation } => {
                format!("mismatched custom buckets were reconciled during {operation}")
            }
        }
    }
}

fn for_metric(text: String, metric: &str) -> String {
    if metric.is_empty() { text } else { format!("{text} for metric name {}", quote(metric)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_notes_are_told_once_and_different_ones_all() {
        let mut notebook = Notebook::default();
        let span = |start| Span { start, end: start + 1 };
        for (start, note) in [
            (0, Note::PossiblyNoCounter { metric: "a" }),
            (0, Note::PossiblyNoCounter { metric: "a" }),
            (0, Note::PossiblyNoCounter { metric: "b" }),
            (2, Note::PossiblyNoCounter { metric: "a" }),
            (0, Note::QuantileNan { metric: "a" }),
            (0, Note::PossiblyNoCounterType { metric: "ab", found: "c" }),
            (0, Note::PossiblyNoCounterType { metric: "a", found: "bc" }),
            (0, Note::InvalidQuantile(2.0)),
            (0, Note::InvalidQuantile(3.0)),
        ] {
            notebook.add("up+up", span(start), &note);
        }
        let told = notebook.into_annotations();
        assert_eq!((told.infos.len(), told.warnings.len()), (6, 2));
    }
}
