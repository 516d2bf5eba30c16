//! Which series a data point has, and the making of their label sets.

use pharos_model::{METRIC_NAME, MetricKind};
use pharos_storage::RejectReason;

use super::Failure;
use super::attribute::Attribute;
use super::labels::{check_count, point_labels};
use super::metrics::Translator;
use super::point_fields::AttributeBytes;
use super::stream_pass::StreamPass;
use crate::sink::Refusal;

/// The longest suffix of a metric name that a point's series add; beside it they add one label.
const SUFFIX_BYTES_MAX: usize = "_bucket".len();

/// The series of a point.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape<'a> {
    /// One.
    Single,
    /// `_sum`, `_count`, then a bucket for each bound and one for all.
    Buckets(&'a [f64]),
    /// `_sum`, `_count`, then the quantiles.
    Quantiles(&'a [(f64, f64)]),
}

/// The place of `_sum`, or of the only series, among those of a point.
pub(super) const SUM: usize = 0;
/// The place of `_count`.
pub(super) const COUNT: usize = 1;
/// The place of what follows.
pub(super) const REST: usize = 2;

impl Shape<'_> {
    /// The numbers that tell the series of points of the same attributes apart, as bytes.
    fn key(self) -> Vec<u8> {
        match self {
            Self::Single => Vec::new(),
            Self::Buckets(bounds) => bounds.iter().flat_map(|bound| bound.to_le_bytes()).collect(),
            Self::Quantiles(quantiles) => quantiles.iter().flat_map(|(quantile, _)| quantile.to_le_bytes()).collect(),
        }
    }

    fn series_count(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Buckets(bounds) => REST + bounds.len() + 1,
            Self::Quantiles(quantiles) => REST + quantiles.len(),
        }
    }

    /// What series `index` adds to the metric's name, and its own label.
    fn series(self, index: usize) -> (&'static str, Option<(&'static str, String)>) {
        match (self, index) {
            (Self::Single, _) => ("", None),
            (_, SUM) => ("_sum", None),
            (_, COUNT) => ("_count", None),
            (Self::Buckets(bounds), index) => {
                let bound = bounds.get(index - REST).map_or_else(|| "+Inf".to_owned(), f64::to_string);
                ("_bucket", Some(("le", bound)))
            }
            (Self::Quantiles(quantiles), index) => ("", Some(("quantile", quantiles[index - REST].0.to_string()))),
        }
    }
}

impl Translator<'_> {
    /// Makes the point's stream the current one of `pass`, or answers why the point is refused.
    #[inline]
    pub(super) fn find_or_make(
        &mut self,
        attributes: &AttributeBytes<'_>,
        shape: Shape<'_>,
        pass: &mut StreamPass<'_>,
    ) -> Result<Result<(), Refusal>, Failure> {
        let key = shape.key();
        let Err(hash) = pass.find(attributes, &key, self.rules.known) else { return Ok(Ok(())) };
        attributes.check()?;
        let made = self.make(attributes, shape, pass)?;
        if made.is_ok() {
            pass.add(hash, attributes, &key, self.rules.now_minute);
        }
        Ok(made)
    }

    /// Makes the label sets of a point whose attributes are checked. What is refused leaves its labels in the sink.
    fn make(
        &mut self,
        attributes: &AttributeBytes<'_>,
        shape: Shape<'_>,
        pass: &mut StreamPass<'_>,
    ) -> Result<Result<(), Refusal>, Failure> {
        let made = self.base_labels(attributes, pass).and_then(|()| {
            let (labels_more, name_more) = if let Shape::Single = shape { (0, 0) } else { (1, SUFFIX_BYTES_MAX) };
            self.push_labels(&pass.metric.name, "", None);
            self.sink.check_labels(labels_more, name_more)
        });
        if made.is_err() {
            return Ok(made);
        }
        pass.made.clear();
        for index in 0..shape.series_count() {
            let memory_bytes = pass.made.memory_bytes();
            u32::try_from(memory_bytes).map_or_else(|_| self.require(usize::MAX), |_| self.require(memory_bytes))?;
            let (suffix, extra) = shape.series(index);
            self.sink.labels.clear();
            self.push_labels(&pass.metric.name, suffix, extra);
            if let Err(error) = pass.made.push(&mut self.sink.labels) {
                return Ok(Err(Refusal { reason: RejectReason::InvalidLabels, message: error.to_string() }));
            }
        }
        Ok(Ok(()))
    }

    fn base_labels(&mut self, attributes: &AttributeBytes<'_>, pass: &StreamPass<'_>) -> Result<(), Refusal> {
        let (settings, limits) = (self.rules.settings, self.rules.limits);
        check_count(attributes.messages().count(), limits)?;
        let mut attributes: Vec<_> = attributes.messages().map(Attribute::new).collect();
        let (resource, scope) = (&pass.resource.labels, &pass.group.group.labels);
        let joined = point_labels(&mut self.base, &mut attributes, resource, scope, (settings, limits))?;
        self.rules.note_joined(joined);
        if settings.type_and_unit_labels {
            let kind = pass.metric.metric_kind;
            let kind = if kind == MetricKind::Unknown { "" } else { kind.as_str() };
            for (name, value) in [("__type__", kind), ("__unit__", &*pass.metric.unit)] {
                if !value.is_empty() {
                    self.base.set(name, value);
                }
            }
        }
        Ok(())
    }

    fn push_labels(&mut self, name: &str, suffix: &str, extra: Option<(&str, String)>) {
        let labels = &mut self.sink.labels;
        for (name, value) in self.base.pairs() {
            labels.push(name, value);
        }
        if suffix.is_empty() {
            labels.push(METRIC_NAME, name);
        } else {
            labels.push(METRIC_NAME, &[name, suffix].concat());
        }
        if let Some((name, value)) = extra {
            labels.set(name, &value);
        }
    }
}
