//! Answers of the monitor as JSON, in the mapping of protobuf.

use jiff::Timestamp;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};

use super::answer::{Family, Gauge};

#[derive(Serialize)]
pub(super) struct FamilyJson<'a> {
    name: &'a str,
    r#type: &'static str,
    help: &'a str,
    metrics: Vec<MetricJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MetricJson<'a> {
    labels: Vec<LabelJson<'a>>,
    metric_points: PointsJson<'a>,
}

#[derive(Serialize)]
struct LabelJson<'a> {
    name: &'a str,
    value: &'a str,
}

/// Points, each built when its turn comes.
struct PointsJson<'a>(&'a [(i64, f64)]);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PointJson {
    gauge_value: GaugeJson,
    timestamp: InstantJson,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GaugeJson {
    double_value: DoubleJson,
}

/// JSON has no word for what is no finite number; protobuf's mapping has texts.
struct DoubleJson(f64);

/// Unix milliseconds as RFC 3339.
struct InstantJson(i64);

impl<'a> From<&'a Family> for FamilyJson<'a> {
    fn from(family: &'a Family) -> Self {
        let metrics = family.gauges.iter().map(MetricJson::from).collect();
        Self { name: &family.name, r#type: "GAUGE", help: &family.help, metrics }
    }
}

impl<'a> From<&'a Gauge> for MetricJson<'a> {
    fn from(gauge: &'a Gauge) -> Self {
        let labels = gauge.labels.iter().map(|(name, value)| LabelJson { name, value });
        Self { labels: labels.collect(), metric_points: PointsJson(&gauge.points) }
    }
}

impl Serialize for PointsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|&(time_ms, value)| PointJson {
            gauge_value: GaugeJson { double_value: DoubleJson(value) },
            timestamp: InstantJson(time_ms),
        }))
    }
}

impl Serialize for DoubleJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            value if value.is_nan() => serializer.serialize_str("NaN"),
            f64::INFINITY => serializer.serialize_str("Infinity"),
            f64::NEG_INFINITY => serializer.serialize_str("-Infinity"),
            value => serializer.serialize_f64(value),
        }
    }
}

impl Serialize for InstantJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let instant = Timestamp::from_millisecond(self.0).map_err(S::Error::custom)?;
        let form = if self.0 % 1_000 == 0 { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%.3fZ" };
        serializer.collect_str(&instant.strftime(form))
    }
}
