//! The reference of the tests: the same translation from the messages that a generated decoder makes, point by point,
//! with nothing remembered. It is written for being plainly right.

mod attributes;
mod labels;
mod points;

use hashbrown::HashSet;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric, ResourceMetrics, ScopeMetrics};
use pharos_model::MetricKind;
use pharos_storage::RejectReason;

use super::OtlpSettings;
use super::names::{NameKind, metric_name, unit_text};
use super::target_info::TargetInfo;
use crate::limits::cut;
use crate::sink::{Refusal, SeriesSink, check_shared};
use crate::{DecodedMetrics, IngestError, Limits, TimeWindow};
use labels::{PointLabels, ResourceLabels, scope_labels};

const WARNINGS_MAX: usize = 8;

/// Translates a request by the rules of Prometheus 3.
///
/// # Errors
/// [`IngestError::BatchTooLarge`].
pub(super) fn translate(
    request: &ExportMetricsServiceRequest,
    settings: &OtlpSettings,
    limits: &Limits,
    window: TimeWindow,
) -> Result<DecodedMetrics, IngestError> {
    let mut translator = Translator::new(SeriesSink::new(limits, window), settings);
    let mut target_info = TargetInfo::default();
    for resource in &request.resource_metrics {
        translator.resource(resource, &mut target_info)?;
    }
    target_info.finish(&mut translator.sink)?;
    let mut decoded = translator.sink.build();
    decoded.warnings = translator.warnings;
    Ok(decoded)
}

/// The state that points share.
pub(super) struct Translator<'a> {
    pub sink: SeriesSink<'a>,
    pub settings: &'a OtlpSettings,
    labels: PointLabels,
    resource: ResourceLabels,
    pub scope: Vec<(String, String)>,
    /// The translated name of the current metric.
    pub name: String,
    /// Why no point of the current resource or scope can be stored, if so.
    shared_refusal: Option<Refusal>,
    /// First and last instant of the current resource's points.
    pub seen_ms: Option<(i64, i64)>,
    families: HashSet<String>,
    warnings: Vec<String>,
}

impl<'a> Translator<'a> {
    fn new(sink: SeriesSink<'a>, settings: &'a OtlpSettings) -> Self {
        Self {
            sink,
            settings,
            labels: PointLabels::default(),
            resource: ResourceLabels::default(),
            scope: Vec::new(),
            name: String::new(),
            shared_refusal: None,
            seen_ms: None,
            families: HashSet::new(),
            warnings: Vec::new(),
        }
    }

    fn resource(&mut self, message: &ResourceMetrics, target_info: &mut TargetInfo) -> Result<(), IngestError> {
        let attributes = message.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        self.resource = ResourceLabels::new(attributes, self.settings);
        self.seen_ms = None;
        message.scope_metrics.iter().try_for_each(|scope| self.scope(scope))?;
        if let Some((first_ms, last_ms)) = self.seen_ms {
            match check_shared(&self.resource.info, self.sink.limits()) {
                Ok(()) => {
                    if let Some(labels) = self.resource.target() {
                        target_info.add(&labels, first_ms, last_ms);
                    }
                }
                Err(refusal) => self.warn(|| format!("target_info is left out: {}", refusal.message)),
            }
        }
        Ok(())
    }

    fn scope(&mut self, message: &ScopeMetrics) -> Result<(), IngestError> {
        self.scope = scope_labels(message.scope.as_ref(), &message.schema_url, self.settings);
        let limits = self.sink.limits();
        self.shared_refusal = self.resource.check(limits).and_then(|()| check_shared(&self.scope, limits)).err();
        message.metrics.iter().try_for_each(|metric| self.metric(metric))
    }

    fn metric(&mut self, metric: &Metric) -> Result<(), IngestError> {
        let Some(data) = &metric.data else {
            self.warn(|| format!("metric {:?} has no data this server knows", cut(&metric.name, 128)));
            return Ok(());
        };
        let points = point_count(data);
        if points == 0 {
            self.warn(|| format!("metric {:?} has no data points", cut(&metric.name, 128)));
            return Ok(());
        }
        let checked = self.shared_refusal.clone().map_or(Ok(()), Err);
        let checked = checked.and_then(|()| check_name(&metric.name, self.sink.limits()));
        if let Err(refusal) = checked.and_then(|()| check_temporality(data, &metric.name)) {
            self.sink.reject(points, refusal);
            return Ok(());
        }
        let (name_kind, kind) = kinds(data);
        let Some(name) = metric_name(&metric.name, &metric.unit, name_kind, self.settings.translation_strategy) else {
            let message = format!("metric name {:?} has no letter or digit", cut(&metric.name, 128));
            self.sink.reject(points, Refusal { reason: RejectReason::InvalidLabels, message });
            return Ok(());
        };
        self.name = name;
        if !self.families.contains(&self.name) {
            self.sink.push_metadata(&self.name, kind, &metric.description, &unit_text(&metric.unit));
            self.families.insert(self.name.clone());
        }
        self.points(data)
    }

    fn points(&mut self, data: &Data) -> Result<(), IngestError> {
        match data {
            Data::Gauge(gauge) => gauge.data_points.iter().try_for_each(|point| self.number(point, false)),
            Data::Sum(sum) => sum.data_points.iter().try_for_each(|point| self.number(point, sum.is_monotonic)),
            Data::Histogram(all) if self.settings.convert_histograms_to_nhcb => {
                all.data_points.iter().try_for_each(|point| self.custom_histogram(point))
            }
            Data::Histogram(all) => all.data_points.iter().try_for_each(|point| self.classic_histogram(point)),
            Data::ExponentialHistogram(all) => {
                all.data_points.iter().try_for_each(|point| self.exponential_histogram(point))
            }
            Data::Summary(summary) => summary.data_points.iter().try_for_each(|point| self.summary(point)),
        }
    }

    fn warn(&mut self, message: impl FnOnce() -> String) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(message());
        }
    }
}

fn point_count(data: &Data) -> u64 {
    let count = match data {
        Data::Gauge(gauge) => gauge.data_points.len(),
        Data::Sum(sum) => sum.data_points.len(),
        Data::Histogram(histogram) => histogram.data_points.len(),
        Data::ExponentialHistogram(histogram) => histogram.data_points.len(),
        Data::Summary(summary) => summary.data_points.len(),
    };
    count as u64
}

fn kinds(data: &Data) -> (NameKind, MetricKind) {
    match data {
        Data::Gauge(_) => (NameKind::Gauge, MetricKind::Gauge),
        Data::Sum(sum) if sum.is_monotonic => (NameKind::MonotonicCounter, MetricKind::Counter),
        // A sum that can fall is a gauge to PromQL, but `1` is a count there and no ratio.
        Data::Sum(_) => (NameKind::Other, MetricKind::Gauge),
        Data::Histogram(_) | Data::ExponentialHistogram(_) => (NameKind::Other, MetricKind::Histogram),
        Data::Summary(_) => (NameKind::Other, MetricKind::Summary),
    }
}

/// Checks the name before it is copied into every series; suffixes come on top and are checked with the point.
fn check_name(name: &str, limits: &Limits) -> Result<(), Refusal> {
    let limit = limits.label_value_bytes_max;
    if name.len() <= limit {
        return Ok(());
    }
    let (start, length) = (cut(name, 64), name.len());
    let message =
        format!("metric name {start:?}… has {length} bytes, more than ingest.limits.label_value_bytes_max = {limit}");
    Err(Refusal { reason: RejectReason::Limit, message })
}

fn check_temporality(data: &Data, name: &str) -> Result<(), Refusal> {
    let temporality = match data {
        Data::Gauge(_) | Data::Summary(_) => return Ok(()),
        Data::Sum(sum) => sum.aggregation_temporality,
        Data::Histogram(histogram) => histogram.aggregation_temporality,
        Data::ExponentialHistogram(histogram) => histogram.aggregation_temporality,
    };
    let found = match AggregationTemporality::try_from(temporality) {
        Ok(AggregationTemporality::Cumulative) => return Ok(()),
        Ok(AggregationTemporality::Delta) => "delta",
        _ => "unspecified",
    };
    let message = format!(
        "metric {:?} has {found} temporality; set OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative in the \
         sender, or a deltatocumulative processor in the collector",
        cut(name, 128)
    );
    Err(Refusal { reason: RejectReason::Unsupported, message })
}
