//! The fields of OTLP's metrics and trace messages: JSON name, number, kind.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

/// A message.
#[derive(Debug)]
pub(in crate::otlp) struct MessageSchema {
    /// Its name, for error messages.
    pub name: &'static str,
    /// What one takes in memory, decoded, without what it points to.
    pub memory_bytes: usize,
    /// Its fields.
    pub fields: &'static [FieldSchema],
}

/// A field.
#[derive(Debug)]
pub(in crate::otlp) struct FieldSchema {
    pub name: &'static str,
    pub number: u32,
    pub kind: Kind,
    pub is_repeated: bool,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(in crate::otlp) enum Kind {
    Message(&'static MessageSchema),
    Text,
    /// Bytes as hexadecimal: ids. What is none is written as one byte of zeros: as long as no id, and as good as none where no
    /// length is asked for.
    Hex,
    /// Bytes as base64.
    Base64,
    Bool,
    Double,
    Fixed64,
    Fixed32,
    SignedFixed64,
    /// `int32`, `uint32`, `int64`, `uint64`.
    Varint,
    /// `sint32`.
    Zigzag,
    /// A number or a name.
    Enum(fn(&str) -> Option<i32>),
}

impl Kind {
    /// Whether a list of them is written packed: one key for all.
    pub(super) fn is_packed(self) -> bool {
        match self {
            Self::Message(_) | Self::Text | Self::Hex | Self::Base64 => false,
            Self::Bool
            | Self::Double
            | Self::Fixed64
            | Self::Fixed32
            | Self::SignedFixed64
            | Self::Varint
            | Self::Zigzag
            | Self::Enum(_) => true,
        }
    }
}

const fn one(name: &'static str, number: u32, kind: Kind) -> FieldSchema {
    FieldSchema { name, number, kind, is_repeated: false }
}

const fn many(name: &'static str, number: u32, kind: Kind) -> FieldSchema {
    FieldSchema { name, number, kind, is_repeated: true }
}

macro_rules! messages {
    ($($name:ident $message:ident [$($field:expr),* $(,)?])*) => {
        $(pub(in crate::otlp) static $name: MessageSchema = MessageSchema {
            name: stringify!($message),
            memory_bytes: size_of::<$message>(),
            fields: &[$($field),*],
        };)*
    };
}

use Kind::{Base64, Bool, Double, Enum, Fixed32, Fixed64, Hex, Message, SignedFixed64, Text, Varint, Zigzag};

const SPAN_KIND: Kind = Enum(|name| SpanKind::from_str_name(name).map(|kind| kind as i32));
const STATUS_CODE: Kind = Enum(|name| StatusCode::from_str_name(name).map(|code| code as i32));
const TEMPORALITY: Kind =
    Enum(|name| AggregationTemporality::from_str_name(name).map(|temporality| temporality as i32));

messages! {
    ANY_VALUE AnyValue [
        one("stringValue", 1, Text),
        one("boolValue", 2, Bool),
        one("intValue", 3, Varint),
        one("doubleValue", 4, Double),
        one("arrayValue", 5, Message(&ARRAY_VALUE)),
        one("kvlistValue", 6, Message(&KEY_VALUE_LIST)),
        one("bytesValue", 7, Base64),
        one("stringValueStrindex", 8, Varint),
    ]
    ARRAY_VALUE ArrayValue [many("values", 1, Message(&ANY_VALUE))]
    KEY_VALUE_LIST KeyValueList [many("values", 1, Message(&KEY_VALUE))]
    KEY_VALUE KeyValue [one("key", 1, Text), one("value", 2, Message(&ANY_VALUE)), one("keyStrindex", 3, Varint)]
    ENTITY_REF EntityRef [
        one("schemaUrl", 1, Text),
        one("type", 2, Text),
        many("idKeys", 3, Text),
        many("descriptionKeys", 4, Text),
    ]
    RESOURCE Resource [
        many("attributes", 1, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 2, Varint),
        many("entityRefs", 3, Message(&ENTITY_REF)),
    ]
    SCOPE InstrumentationScope [
        one("name", 1, Text),
        one("version", 2, Text),
        many("attributes", 3, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 4, Varint),
    ]

    TRACES_REQUEST ExportTraceServiceRequest [many("resourceSpans", 1, Message(&RESOURCE_SPANS))]
    RESOURCE_SPANS ResourceSpans [
        one("resource", 1, Message(&RESOURCE)),
        many("scopeSpans", 2, Message(&SCOPE_SPANS)),
        one("schemaUrl", 3, Text),
    ]
    SCOPE_SPANS ScopeSpans [
        one("scope", 1, Message(&SCOPE)),
        many("spans", 2, Message(&SPAN)),
        one("schemaUrl", 3, Text),
    ]
    SPAN Span [
        one("traceId", 1, Hex),
        one("spanId", 2, Hex),
        one("traceState", 3, Text),
        one("parentSpanId", 4, Hex),
        one("name", 5, Text),
        one("kind", 6, SPAN_KIND),
        one("startTimeUnixNano", 7, Fixed64),
        one("endTimeUnixNano", 8, Fixed64),
        many("attributes", 9, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 10, Varint),
        many("events", 11, Message(&EVENT)),
        one("droppedEventsCount", 12, Varint),
        many("links", 13, Message(&LINK)),
        one("droppedLinksCount", 14, Varint),
        one("status", 15, Message(&STATUS)),
        one("flags", 16, Fixed32),
    ]
    EVENT Event [
        one("timeUnixNano", 1, Fixed64),
        one("name", 2, Text),
        many("attributes", 3, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 4, Varint),
    ]
    LINK Link [
        one("traceId", 1, Hex),
        one("spanId", 2, Hex),
        one("traceState", 3, Text),
        many("attributes", 4, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 5, Varint),
        one("flags", 6, Fixed32),
    ]
    STATUS Status [one("message", 2, Text), one("code", 3, STATUS_CODE)]

    METRICS_REQUEST ExportMetricsServiceRequest [many("resourceMetrics", 1, Message(&RESOURCE_METRICS))]
    RESOURCE_METRICS ResourceMetrics [
        one("resource", 1, Message(&RESOURCE)),
        many("scopeMetrics", 2, Message(&SCOPE_METRICS)),
        one("schemaUrl", 3, Text),
    ]
    SCOPE_METRICS ScopeMetrics [
        one("scope", 1, Message(&SCOPE)),
        many("metrics", 2, Message(&METRIC)),
        one("schemaUrl", 3, Text),
    ]
    METRIC Metric [
        one("name", 1, Text),
        one("description", 2, Text),
        one("unit", 3, Text),
        one("gauge", 5, Message(&GAUGE)),
        one("sum", 7, Message(&SUM)),
        one("histogram", 9, Message(&HISTOGRAM)),
        one("exponentialHistogram", 10, Message(&EXPONENTIAL_HISTOGRAM)),
        one("summary", 11, Message(&SUMMARY)),
        many("metadata", 12, Message(&KEY_VALUE)),
    ]
    GAUGE Gauge [many("dataPoints", 1, Message(&NUMBER_DATA_POINT))]
    SUM Sum [
        many("dataPoints", 1, Message(&NUMBER_DATA_POINT)),
        one("aggregationTemporality", 2, TEMPORALITY),
        one("isMonotonic", 3, Bool),
    ]
    HISTOGRAM Histogram [
        many("dataPoints", 1, Message(&HISTOGRAM_DATA_POINT)),
        one("aggregationTemporality", 2, TEMPORALITY),
    ]
    EXPONENTIAL_HISTOGRAM ExponentialHistogram [
        many("dataPoints", 1, Message(&EXPONENTIAL_HISTOGRAM_DATA_POINT)),
        one("aggregationTemporality", 2, TEMPORALITY),
    ]
    SUMMARY Summary [many("dataPoints", 1, Message(&SUMMARY_DATA_POINT))]
    NUMBER_DATA_POINT NumberDataPoint [
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("asDouble", 4, Double),
        many("exemplars", 5, Message(&EXEMPLAR)),
        one("asInt", 6, SignedFixed64),
        many("attributes", 7, Message(&KEY_VALUE)),
        one("flags", 8, Varint),
    ]
    HISTOGRAM_DATA_POINT HistogramDataPoint [
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("count", 4, Fixed64),
        one("sum", 5, Double),
        many("bucketCounts", 6, Fixed64),
        many("explicitBounds", 7, Double),
        many("exemplars", 8, Message(&EXEMPLAR)),
        many("attributes", 9, Message(&KEY_VALUE)),
        one("flags", 10, Varint),
        one("min", 11, Double),
        one("max", 12, Double),
    ]
    EXPONENTIAL_HISTOGRAM_DATA_POINT ExponentialHistogramDataPoint [
        many("attributes", 1, Message(&KEY_VALUE)),
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("count", 4, Fixed64),
        one("sum", 5, Double),
        one("scale", 6, Zigzag),
        one("zeroCount", 7, Fixed64),
        one("positive", 8, Message(&BUCKETS)),
        one("negative", 9, Message(&BUCKETS)),
        one("flags", 10, Varint),
        many("exemplars", 11, Message(&EXEMPLAR)),
        one("min", 12, Double),
        one("max", 13, Double),
        one("zeroThreshold", 14, Double),
    ]
    BUCKETS Buckets [one("offset", 1, Zigzag), many("bucketCounts", 2, Varint)]
    SUMMARY_DATA_POINT SummaryDataPoint [
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("count", 4, Fixed64),
        one("sum", 5, Double),
        many("quantileValues", 6, Message(&VALUE_AT_QUANTILE)),
        many("attributes", 7, Message(&KEY_VALUE)),
        one("flags", 8, Varint),
    ]
    VALUE_AT_QUANTILE ValueAtQuantile [one("quantile", 1, Double), one("value", 2, Double)]
    EXEMPLAR Exemplar [
        one("timeUnixNano", 2, Fixed64),
        one("asDouble", 3, Double),
        one("spanId", 4, Hex),
        one("traceId", 5, Hex),
        one("asInt", 6, SignedFixed64),
        many("filteredAttributes", 7, Message(&KEY_VALUE)),
    ]
}
