//! A metric as it stands on the wire, down to its points, and what of it is refused as a whole.

use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
use pharos_model::MetricKind;
use pharos_storage::RejectReason;

use super::json::{EXPONENTIAL_HISTOGRAM, GAUGE, HISTOGRAM, KEY_VALUE, MessageSchema, SUM, SUMMARY};
use super::message::{DATA_NESTING, METRIC_NESTING, Merged, check};
use super::names::NameKind;
use super::settings::DeltaMode;
use crate::Limits;
use crate::limits::cut;
use crate::sink::Refusal;
use crate::wire::{Reader, WireError};

/// A metric's fields.
#[derive(Debug, Default)]
pub(super) struct MetricFields<'a> {
    pub name: &'a str,
    pub description: &'a str,
    pub unit: &'a str,
    pub data: Option<(DataKind, Merged<'a>)>,
}

/// What a metric holds; the discriminant is the number of its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataKind {
    Gauge = 5,
    Sum = 7,
    Histogram = 9,
    ExponentialHistogram = 10,
    Summary = 11,
}

/// What is beside the points of a metric.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DataFields {
    pub points: u64,
    pub temporality: i32,
    pub is_monotonic: bool,
}

impl<'a> MetricFields<'a> {
    pub(super) fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut metric = Self::default();
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => metric.name = field.text()?,
                2 => metric.description = field.text()?,
                3 => metric.unit = field.text()?,
                12 => check(field.bytes()?, &KEY_VALUE, METRIC_NESTING - 1)?,
                number => {
                    let Some(kind) = DataKind::from_field(number) else { continue };
                    let part = field.bytes()?;
                    match &mut metric.data {
                        Some((before, whole)) if *before == kind => whole.add(part, kind.schema(), DATA_NESTING)?,
                        data => {
                            // The last kind counts.
                            if let Some((kind, whole)) = data {
                                check(whole.get().unwrap_or_default(), kind.schema(), DATA_NESTING)?;
                            }
                            let mut whole = Merged::default();
                            whole.add(part, kind.schema(), DATA_NESTING)?;
                            *data = Some((kind, whole));
                        }
                    }
                }
            }
        }
        Ok(metric)
    }
}

impl DataKind {
    fn from_field(number: u32) -> Option<Self> {
        Some(match number {
            5 => Self::Gauge,
            7 => Self::Sum,
            9 => Self::Histogram,
            10 => Self::ExponentialHistogram,
            11 => Self::Summary,
            _ => return None,
        })
    }

    pub(super) fn schema(self) -> &'static MessageSchema {
        match self {
            Self::Gauge => &GAUGE,
            Self::Sum => &SUM,
            Self::Histogram => &HISTOGRAM,
            Self::ExponentialHistogram => &EXPONENTIAL_HISTOGRAM,
            Self::Summary => &SUMMARY,
        }
    }

    /// As [`names`](Self::names), of deltas that stay deltas: no counter, as far as PromQL goes.
    pub(super) fn delta_names() -> (NameKind, MetricKind) {
        (NameKind::Other, MetricKind::Unknown)
    }

    /// Whether its series are zero where they start, the quantiles of a summary excepted.
    pub(super) fn counts_up(self, is_monotonic: bool) -> bool {
        match self {
            Self::Gauge => false,
            Self::Sum => is_monotonic,
            Self::Histogram | Self::ExponentialHistogram | Self::Summary => true,
        }
    }

    pub(super) fn names(self, is_monotonic: bool) -> (NameKind, MetricKind) {
        match self {
            Self::Gauge => (NameKind::Gauge, MetricKind::Gauge),
            Self::Sum if is_monotonic => (NameKind::MonotonicCounter, MetricKind::Counter),
            // A sum that can fall is a gauge to PromQL, but `1` is a count there and no ratio.
            Self::Sum => (NameKind::Other, MetricKind::Gauge),
            Self::Histogram | Self::ExponentialHistogram => (NameKind::Other, MetricKind::Histogram),
            Self::Summary => (NameKind::Other, MetricKind::Summary),
        }
    }
}

impl DataFields {
    pub(super) fn read(kind: DataKind, data: &[u8]) -> Result<Self, WireError> {
        let mut fields = Self::default();
        let mut reader = Reader::new(data);
        while let Some(field) = reader.next()? {
            match (kind, field.number) {
                (_, 1) => {
                    field.bytes()?;
                    fields.points += 1;
                }
                (DataKind::Sum | DataKind::Histogram | DataKind::ExponentialHistogram, 2) => {
                    fields.temporality = field.varint()? as i32;
                }
                (DataKind::Sum, 3) => fields.is_monotonic = field.varint()? != 0,
                _ => {}
            }
        }
        Ok(fields)
    }
}

/// Checks the name before it is copied into every series; suffixes come on top and are checked with the point.
pub(super) fn check_name(name: &str, limits: &Limits) -> Result<(), Refusal> {
    let limit = limits.label_value_bytes_max;
    if name.len() <= limit {
        return Ok(());
    }
    let (start, length) = (cut(name, 64), name.len());
    let message =
        format!("metric name {start:?}… has {length} bytes, more than ingest.limits.label_value_bytes_max = {limit}");
    Err(Refusal { reason: RejectReason::Limit, message })
}

/// Whether the metric's points are deltas; refused where deltas are, or where nothing is said of it.
pub(super) fn check_temporality(
    kind: DataKind,
    temporality: i32,
    name: &str,
    mode: DeltaMode,
) -> Result<bool, Refusal> {
    if matches!(kind, DataKind::Gauge | DataKind::Summary) {
        return Ok(false);
    }
    let found = match AggregationTemporality::try_from(temporality) {
        Ok(AggregationTemporality::Cumulative) => return Ok(false),
        Ok(AggregationTemporality::Delta) if mode != DeltaMode::Refuse => return Ok(true),
        Ok(AggregationTemporality::Delta) => "delta",
        _ => "unspecified",
    };
    let message = format!(
        "metric {:?} has {found} temporality; set OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative in the \
         sender, or a deltatocumulative processor in the collector, or ingest.otlp.delta here",
        cut(name, 128)
    );
    Err(Refusal { reason: RejectReason::Unsupported, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_adds_up_must_be_cumulative() {
        use DataKind::{ExponentialHistogram, Gauge, Histogram, Sum, Summary};
        let check = |kind, temporality, mode| check_temporality(kind, temporality, "m", mode);
        let refused =
            |kind, temporality| check(kind, temporality, DeltaMode::Refuse).err().map(|refusal| refusal.message);
        for kind in [Sum, Histogram, ExponentialHistogram] {
            assert_eq!(refused(kind, 2), None);
            for (temporality, word) in [(0, "unspecified"), (1, "delta"), (77, "unspecified")] {
                let told = refused(kind, temporality).unwrap();
                assert!(told.contains(&format!("\"m\" has {word} temporality")), "{told}");
            }
        }
        assert_eq!((refused(Gauge, 0), refused(Summary, 1)), (None, None));
        for mode in [DeltaMode::Convert, DeltaMode::Native] {
            assert_eq!(
                (check(Sum, 1, mode), check(Sum, 2, mode), check(Gauge, 1, mode)),
                (Ok(true), Ok(false), Ok(false))
            );
            assert!(check(Sum, 0, mode).is_err());
        }
    }

    #[test]
    fn names_are_limited() {
        let limits = Limits { label_value_bytes_max: 4, ..Limits::default() };
        assert_eq!(check_name("name", &limits), Ok(()));
        assert!(check_name("names", &limits).unwrap_err().message.contains("has 5 bytes"));
    }
}
