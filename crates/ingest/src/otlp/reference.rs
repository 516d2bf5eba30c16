//! The reference of the tests: the same translation from the messages that a generated decoder makes, point by point,
//! with nothing remembered. It is written for being plainly right.
//!
//! Rules that look at values alone (names, labels, which histograms are sound) are those of the translation itself and
//! have tests of their own; attributes reach them in the form that a generated encoder writes.

mod points;

use hashbrown::HashSet;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use pharos_model::LabelsBuilder;
use pharos_storage::RejectReason;
use prost::Message;

use super::attribute::Attribute;
use super::labels::{Pair, ResourceLabels, ScopeNames, scope_labels};
use super::metric_fields::{DataKind, check_name, check_temporality};
use super::names::{metric_name, unit_text};
use super::target_info::{LOOKBACK_MS, TargetInfo};
use super::{DeltaMode, OtlpSettings};
use crate::limits::cut;
use crate::sink::{Refusal, SeriesSink};
use crate::{DecodedMetrics, IngestError, Limits, TimeWindow};

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
    let mut translator = Translator::new(SeriesSink::new(limits, window), settings, limits);
    let mut target_info = TargetInfo::default();
    for resource in &request.resource_metrics {
        translator.resource(resource, &mut target_info)?;
    }
    target_info.finish(&mut translator.sink, LOOKBACK_MS)?;
    let mut decoded = translator.sink.build();
    decoded.warnings = translator.warnings;
    Ok(decoded)
}

/// The state that points share.
pub(super) struct Translator<'a> {
    pub sink: SeriesSink<'a>,
    pub settings: &'a OtlpSettings,
    pub limits: &'a Limits,
    /// Labels of the current point, all but the metric's name.
    pub base: LabelsBuilder,
    pub resource: ResourceLabels,
    pub scope: Vec<Pair>,
    /// The translated name of the current metric.
    pub name: String,
    /// Why no point of the current scope can be stored, if so.
    scope_refusal: Option<Refusal>,
    /// First and last instant of the current resource's points.
    pub seen_ms: Option<(i64, i64)>,
    families: HashSet<String>,
    warnings: Vec<String>,
}

/// Attributes as a generated encoder writes them.
pub(super) fn messages(attributes: &[KeyValue]) -> Vec<Vec<u8>> {
    attributes.iter().map(Message::encode_to_vec).collect()
}

impl<'a> Translator<'a> {
    fn new(sink: SeriesSink<'a>, settings: &'a OtlpSettings, limits: &'a Limits) -> Self {
        Self {
            sink,
            settings,
            limits,
            base: LabelsBuilder::default(),
            resource: ResourceLabels::new(&[], settings, limits),
            scope: Vec::new(),
            name: String::new(),
            scope_refusal: None,
            seen_ms: None,
            families: HashSet::new(),
            warnings: Vec::new(),
        }
    }

    fn resource(&mut self, message: &ResourceMetrics, target_info: &mut TargetInfo) -> Result<(), IngestError> {
        let attributes = messages(message.resource.as_ref().map_or(&[][..], |resource| &resource.attributes));
        let attributes: Vec<_> = attributes.iter().map(|message| Attribute::new(message)).collect();
        self.resource = ResourceLabels::new(&attributes, self.settings, self.limits);
        self.seen_ms = None;
        message.scope_metrics.iter().try_for_each(|scope| self.scope(scope))?;
        if let Some((first_ms, last_ms)) = self.seen_ms {
            match self.resource.target.clone() {
                Ok(Some(labels)) => drop(target_info.add(&labels, first_ms, last_ms)),
                Ok(None) => {}
                Err(refusal) => self.warn(|| format!("target_info is left out: {}", refusal.message)),
            }
        }
        Ok(())
    }

    fn scope(&mut self, message: &ScopeMetrics) -> Result<(), IngestError> {
        let scope = message.scope.as_ref().filter(|_| self.settings.promote_scope_metadata);
        let labels = scope.map_or(Ok(Vec::new()), |scope| {
            let attributes = messages(&scope.attributes);
            let attributes: Vec<_> = attributes.iter().map(|message| Attribute::new(message)).collect();
            let names = ScopeNames { name: &scope.name, version: &scope.version, schema_url: &message.schema_url };
            scope_labels(&attributes, names, self.settings, self.limits).map(|named| named.labels)
        });
        self.scope_refusal = labels.as_ref().err().cloned();
        self.scope = labels.unwrap_or_default();
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
        let refusal = self.resource.refusal.as_ref().or(self.scope_refusal.as_ref());
        let checked = refusal.cloned().map_or(Ok(()), Err).and_then(|()| check_name(&metric.name, self.limits));
        let (kind, temporality, is_monotonic) = kind(data);
        if let Err(refusal) =
            checked.and_then(|()| check_temporality(kind, temporality, &metric.name, DeltaMode::Refuse))
        {
            self.sink.reject(points, refusal);
            return Ok(());
        }
        let (name_kind, kind) = kind.names(is_monotonic);
        let Some(name) = metric_name(&metric.name, &metric.unit, name_kind, self.settings.translation_strategy) else {
            let message = format!("metric name {:?} has no letter or digit", cut(&metric.name, 128));
            self.sink.reject(points, Refusal { reason: RejectReason::InvalidLabels, message });
            return Ok(());
        };
        self.name = name;
        if !self.families.contains(&self.name) {
            self.sink.push_metadata(&self.name, kind, &metric.description, &unit_text(&metric.unit))?;
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

/// What a metric holds, its temporality and whether it only grows.
fn kind(data: &Data) -> (DataKind, i32, bool) {
    match data {
        Data::Gauge(_) => (DataKind::Gauge, 0, false),
        Data::Sum(sum) => (DataKind::Sum, sum.aggregation_temporality, sum.is_monotonic),
        Data::Histogram(all) => (DataKind::Histogram, all.aggregation_temporality, false),
        Data::ExponentialHistogram(all) => (DataKind::ExponentialHistogram, all.aggregation_temporality, false),
        Data::Summary(_) => (DataKind::Summary, 0, false),
    }
}
