//! Random requests out of few words, so that everything meets everything.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

const KEYS: [&str; 18] = [
    "a",
    "b",
    "a.b",
    "a-b",
    "a_b",
    "",
    "_",
    "..",
    "__name__",
    "._name__",
    "le",
    "quantile",
    "2x",
    "_x",
    "job",
    "größe",
    "host.name",
    "http.request.method",
];
const RESOURCE_KEYS: [&str; 7] =
    ["service.name", "service.namespace", "service.instance.id", "host.name", "a.b", "instance", "._name__"];
const WORDS: [&str; 8] = ["", "x", "y", "GET", "a longer value, of more than thirty bytes", "ü", "1", "\u{0}"];
const NAMES: [&str; 8] =
    ["", "up", "http.requests", "requests_total", "..", "size_bytes", "größe", "a.name.of.more.than.thirty.bytes"];
const UNITS: [&str; 6] = ["", "1", "s", "By", "m/s", "{x}"];

/// `SplitMix64`: the same numbers for the same seed.
pub(in crate::otlp) struct Random(u64);

impl Random {
    pub(in crate::otlp) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::otlp) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(in crate::otlp) fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit.max(1) as u64) as usize
    }

    /// True once in `of` times.
    pub(in crate::otlp) fn once_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub(in crate::otlp) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn many<T>(&mut self, count_max: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(count_max + 1)).map(|_| one(self)).collect()
    }

    fn maybe<T>(&mut self, one: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.once_in(8) { None } else { Some(one(self)) }
    }

    pub(in crate::otlp) fn request(&mut self) -> ExportMetricsServiceRequest {
        ExportMetricsServiceRequest { resource_metrics: self.many(3, Self::resource_metrics) }
    }

    fn resource_metrics(&mut self) -> ResourceMetrics {
        let resource = self.maybe(|random| Resource {
            attributes: random.many(4, |random| random.attribute(&RESOURCE_KEYS)),
            dropped_attributes_count: random.below(3) as u32,
            entity_refs: random.many(1, |random| EntityRef { r#type: random.word(), ..EntityRef::default() }),
        });
        ResourceMetrics { resource, scope_metrics: self.many(2, Self::scope_metrics), schema_url: self.word() }
    }

    fn scope_metrics(&mut self) -> ScopeMetrics {
        let scope = self.maybe(|random| InstrumentationScope {
            name: random.word(),
            version: random.word(),
            attributes: random.many(2, |random| random.attribute(&KEYS)),
            dropped_attributes_count: 0,
        });
        ScopeMetrics { scope, metrics: self.many(4, Self::metric), schema_url: self.word() }
    }

    fn metric(&mut self) -> Metric {
        Metric {
            name: self.pick(&NAMES).to_owned(),
            description: self.word(),
            unit: self.pick(&UNITS).to_owned(),
            metadata: self.many(1, |random| random.attribute(&KEYS)),
            data: self.maybe(Self::data),
        }
    }

    fn data(&mut self) -> Data {
        // Mostly cumulative.
        let aggregation_temporality = self.pick(&[2, 2, 2, 2, 2, 1, 0, 77]);
        match self.below(5) {
            0 => Data::Gauge(Gauge { data_points: self.many(4, Self::number_point) }),
            1 => Data::Sum(Sum {
                data_points: self.many(4, Self::number_point),
                aggregation_temporality,
                is_monotonic: self.once_in(2),
            }),
            2 => {
                Data::Histogram(Histogram { data_points: self.many(3, Self::histogram_point), aggregation_temporality })
            }
            3 => Data::ExponentialHistogram(ExponentialHistogram {
                data_points: self.many(3, Self::exponential_point),
                aggregation_temporality,
            }),
            _ => Data::Summary(Summary { data_points: self.many(3, Self::summary_point) }),
        }
    }

    fn number_point(&mut self) -> NumberDataPoint {
        let value = if self.once_in(2) {
            number_data_point::Value::AsInt(self.number() as i64)
        } else {
            number_data_point::Value::AsDouble(self.double())
        };
        NumberDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.start(),
            time_unix_nano: self.time(),
            exemplars: self.many(2, Self::exemplar),
            flags: self.flags(),
            value: self.maybe(|_| value),
        }
    }

    fn histogram_point(&mut self) -> HistogramDataPoint {
        let explicit_bounds = match self.below(8) {
            0 => vec![2.0, 1.0],
            1 => vec![f64::INFINITY],
            2 => Vec::new(),
            _ => [0.5, 1.0, 2.5, 1e9].into_iter().take(self.below(5)).collect(),
        };
        let mut bucket_counts: Vec<u64> = (0..=explicit_bounds.len()).map(|_| self.below(3) as u64).collect();
        let count = if self.once_in(8) { 3 } else { bucket_counts.iter().sum() };
        if self.once_in(8) {
            bucket_counts.clear();
        }
        HistogramDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.start(),
            time_unix_nano: self.time(),
            count,
            sum: self.maybe(Self::double),
            bucket_counts,
            explicit_bounds,
            exemplars: self.many(3, Self::exemplar),
            flags: self.flags(),
            min: self.maybe(Self::double),
            max: None,
        }
    }

    fn exponential_point(&mut self) -> ExponentialHistogramDataPoint {
        let (positive, negative) = (self.maybe(Self::buckets), self.maybe(Self::buckets));
        let zero_count = self.below(3) as u64;
        let counted = |side: &Option<Buckets>| side.iter().flat_map(|side| &side.bucket_counts).sum::<u64>();
        ExponentialHistogramDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.start(),
            time_unix_nano: self.time(),
            count: if self.once_in(8) { 7 } else { counted(&positive) + counted(&negative) + zero_count },
            sum: self.maybe(Self::double),
            scale: self.pick(&[0, 1, 3, 8, 9, 20, -4, -5, i32::MAX]),
            zero_count,
            positive,
            negative,
            flags: self.flags(),
            exemplars: self.many(2, Self::exemplar),
            min: None,
            max: self.maybe(Self::double),
            zero_threshold: self.pick(&[0.0, 0.5, -1.0]),
        }
    }

    fn buckets(&mut self) -> Buckets {
        let offset = self.pick(&[0, -3, 40, i32::MAX, i32::MIN]);
        Buckets { offset, bucket_counts: self.many(9, |random| random.pick(&[0, 0, 1, 2, 300])) }
    }

    fn summary_point(&mut self) -> SummaryDataPoint {
        SummaryDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.start(),
            time_unix_nano: self.time(),
            count: self.below(9) as u64,
            sum: self.double(),
            quantile_values: self.many(3, |random| ValueAtQuantile {
                quantile: random.pick(&[0.0, 0.5, 0.99, 1.0, f64::INFINITY, f64::NAN]),
                value: random.double(),
            }),
            flags: self.flags(),
        }
    }

    fn exemplar(&mut self) -> Exemplar {
        let value = if self.once_in(4) {
            exemplar::Value::AsInt(self.below(3) as i64)
        } else {
            exemplar::Value::AsDouble(self.double())
        };
        Exemplar {
            filtered_attributes: self.many(2, |random| random.attribute(&KEYS)),
            time_unix_nano: self.time(),
            span_id: self.many(2, |random| random.below(2) as u8),
            trace_id: self.many(16, |random| random.below(200) as u8),
            value: self.maybe(|_| value),
        }
    }

    fn attributes(&mut self) -> Vec<KeyValue> {
        if self.once_in(2) {
            // Streams that come again.
            let method = AnyValue { value: Some(Value::StringValue(self.pick(&["GET", "POST"]).to_owned())) };
            return vec![KeyValue { key: "method".to_owned(), value: Some(method), ..KeyValue::default() }];
        }
        self.many(4, |random| random.attribute(&KEYS))
    }

    fn attribute(&mut self, keys: &[&str]) -> KeyValue {
        let key = self.pick(keys).to_owned();
        KeyValue { key, value: self.maybe(|random| random.any_value(2)), key_strindex: self.pick(&[0, 0, 0, 7]) }
    }

    fn any_value(&mut self, nesting: usize) -> AnyValue {
        let value = match self.below(if nesting == 0 { 14 } else { 16 }) {
            0 => Value::BoolValue(self.once_in(2)),
            1 => Value::IntValue(self.number() as i64),
            2 => Value::DoubleValue(self.double()),
            3 => Value::BytesValue(self.many(5, |random| random.number() as u8)),
            4 => Value::StringValueStrindex(1),
            14 => Value::ArrayValue(ArrayValue { values: self.many(3, |random| random.any_value(nesting - 1)) }),
            15 => Value::KvlistValue(KeyValueList {
                values: self.many(3, |random| {
                    let value = random.maybe(|random| random.any_value(nesting - 1));
                    KeyValue { key: random.word(), value, ..KeyValue::default() }
                }),
            }),
            _ => Value::StringValue(self.word()),
        };
        AnyValue { value: self.maybe(|_| value) }
    }

    fn word(&mut self) -> String {
        self.pick(&WORDS).to_owned()
    }

    fn double(&mut self) -> f64 {
        let any = f64::from_bits(self.number());
        self.pick(&[0.0, -0.0, 0.3, 1.0, 7.5, -2.0, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, any])
    }

    fn flags(&mut self) -> u32 {
        self.pick(&[0, 0, 0, 0, 1, 2, u32::MAX])
    }

    /// Mostly inside the window.
    fn time(&mut self) -> u64 {
        let step = 15_000_000_000 * self.below(40) as u64;
        self.pick(&[
            1_700_000_000_000_000_000 + step,
            1_700_000_000_000_000_000,
            1_700_000_000_123_456_789,
            0,
            u64::MAX,
        ])
    }

    fn start(&mut self) -> u64 {
        self.pick(&[0, 0, 1_699_999_999_000_000_000])
    }
}
