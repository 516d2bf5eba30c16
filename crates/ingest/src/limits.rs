//! What a request may hold: every limit of the way in, and its name.

use pharos_base::{ByteSize, HumanDuration};
use serde::{Deserialize, Serialize};

/// Limits of ingest. What breaks one is refused and told; the rest of its request is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest request body, counted while inflating. Default 64 MiB, as OpenTelemetry recommends. Above: 413.
    pub body_max: ByteSize,
    /// Request bodies held at a time, all requests together, as they were sent; at least `body_max`. Default
    /// 256 MiB. Above: 503, send again.
    pub bodies_max: ByteSize,
    /// A request whose body would not begin to be read within this time is refused, if possible before the body is taken: 503, send
    /// again. It bounds what overload adds to the latency of requests that are accepted. Default 1 s.
    pub queue_wait: HumanDuration,
    /// The same while overload lasts: once somebody waited at all times for as long as `queue_wait`, or was refused, until nobody was
    /// for ten seconds. Bursts may wait, a crowd that stays is turned away early. Default 50 ms.
    pub overload_wait: HumanDuration,
    /// Memory that one request may take, decoded, beside its body and the text of its labels: a message of 2 bytes can be one of
    /// hundreds in memory. OTLP's JSON counts as the message it becomes, symbols of remote write as a table. Default 512 MiB. Above: 413.
    pub decoded_max: ByteSize,
    /// Bytes of label text of one decoded request, all series together and 128 more for each: a bound on what a
    /// small body can grow to by repeating. Default 512 MiB. Above: 413.
    pub label_bytes_max: ByteSize,
    /// Labels of a series, the metric name included. Default 64.
    pub labels_max: usize,
    /// Bytes of a label name. Default 512.
    pub label_name_bytes_max: usize,
    /// Bytes of a label value, the metric name included. Default 4096.
    pub label_value_bytes_max: usize,
    /// Characters of all labels of an exemplar; one with more is dropped. Default 128, as OpenMetrics says.
    pub exemplar_label_chars_max: usize,
    /// Buckets of one histogram, both sides together, or quantiles of one summary. Default 2048.
    pub histogram_buckets_max: usize,
    /// Bytes of a metric's help text; longer ones are cut. Default 2048.
    pub help_bytes_max: usize,
    /// How far ahead of the server's clock a sample may be. Default 10 minutes.
    pub future_max: HumanDuration,
    /// Attributes of a span, resource, scope, event or link, each for itself. A span with more is refused. Default 4096.
    pub span_items_max: usize,
    /// Events of a span. A span with more is refused. Default 4096.
    pub span_events_max: usize,
    /// Links of a span. A span with more is refused. Default 4096.
    pub span_links_max: usize,
    /// Bytes of one attribute's value, all that is in it together. A span with a longer one, at itself, its resource, scope,
    /// events or links, is refused. Default 1 MiB.
    pub span_value_bytes_max: ByteSize,
    /// Attributes of a span, those of its events and links included. A span with more is refused. Default 16384.
    pub span_attributes_max: usize,
    /// Nesting of attribute values and of JSON. Default 32. Deeper: 400.
    pub nesting_max: usize,
    /// Memory in which the label sets of known OTLP metric streams are kept, all tenants together. Default 64 MiB, which
    /// is about 100,000 streams. Full: what was not seen for ten minutes goes, all of the tenant that has the most if another
    /// has next to nothing, and label sets of other streams are made anew with each request.
    pub otlp_streams_memory_max: ByteSize,
    /// Memory in which the label sets of series that came by remote write are kept, all tenants together, so that they are
    /// recognised when they come again; counted as if no store shared them. Default 512 MiB, which is about 1,500,000
    /// series. Full: series that are no longer sent go, all of the tenant that has the most if another has next to nothing, and
    /// labels of others are read anew with each request.
    pub remote_write_memory_max: ByteSize,
    /// Series of a tenant whose starts are remembered where `created_zero` asks for zeros. Default 1,000,000, which is
    /// about 60 MB. Full: what was not written for an hour goes, and series that begin get no zero.
    pub start_series_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_max: ByteSize::mib(64),
            bodies_max: ByteSize::mib(256),
            queue_wait: HumanDuration::from_ms(1_000),
            overload_wait: HumanDuration::from_ms(50),
            decoded_max: ByteSize::mib(512),
            label_bytes_max: ByteSize::mib(512),
            labels_max: 64,
            label_name_bytes_max: 512,
            label_value_bytes_max: 4096,
            exemplar_label_chars_max: 128,
            histogram_buckets_max: 2048,
            help_bytes_max: 2048,
            future_max: HumanDuration::from_ms(600_000),
            span_items_max: 4096,
            span_events_max: 4096,
            span_links_max: 4096,
            span_value_bytes_max: ByteSize::mib(1),
            span_attributes_max: 16_384,
            nesting_max: 32,
            otlp_streams_memory_max: ByteSize::mib(64),
            remote_write_memory_max: ByteSize::mib(512),
            start_series_max: 1_000_000,
        }
    }
}

impl Limits {
    /// What a client may send on: the server has limits of its own, and says what is over them. Only the bounds on what small
    /// bytes can grow to in memory are the default's.
    #[must_use]
    pub fn of_client() -> Self {
        Self {
            labels_max: usize::MAX,
            label_name_bytes_max: usize::MAX,
            label_value_bytes_max: usize::MAX,
            exemplar_label_chars_max: usize::MAX,
            histogram_buckets_max: usize::MAX,
            help_bytes_max: usize::MAX,
            ..Self::default()
        }
    }
}

/// Where a sample's timestamp may lie, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindow {
    /// Oldest, Unix milliseconds: what retention still keeps.
    pub min_ms: i64,
    /// Newest, Unix milliseconds.
    pub max_ms: i64,
}

impl TimeWindow {
    /// All of time.
    pub const ALL: Self = Self { min_ms: i64::MIN, max_ms: i64::MAX };
}

/// The front of `text`, at most `bytes_max` long, cut between characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_limits_are_errors_and_absent_ones_defaults() {
        let limits: Limits = serde_json::from_str(r#"{"body_max": "1MiB"}"#).unwrap();
        assert_eq!(limits, Limits { body_max: ByteSize::mib(1), ..Limits::default() });
        assert!(serde_json::from_str::<Limits>(r#"{"body": "1MiB"}"#).is_err());
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }
}
