//! Names, labels and bounds of everything made of spans. `docs/metrics.md` is the table of it.

use pharos_model::{SpanKind, StatusCode};

/// Calls by operation; stored.
pub(crate) const CALLS: &str = "traces_span_metrics_calls_total";
/// Durations by operation, milliseconds, a native histogram; stored.
pub(crate) const DURATION: &str = "traces_span_metrics_duration_milliseconds";
/// Bytes of spans by operation, in Tempo's naming, the only one there is; stored.
pub(crate) const SIZE: &str = "traces_spanmetrics_size_total";

/// Attributes of who sent spans, in Tempo's naming, the only one there is; stored if it is asked for.
pub(crate) const TARGET_INFO: &str = "traces_target_info";

/// Requests along an edge; stored, as all of the service graph.
pub(crate) const REQUESTS: &str = "traces_service_graph_request_total";
/// Those that failed.
pub(crate) const FAILED: &str = "traces_service_graph_request_failed_total";
/// How long they took as the server saw it, seconds, a native histogram.
pub(crate) const SERVER_SECONDS: &str = "traces_service_graph_request_server_seconds";
/// As the client saw it.
pub(crate) const CLIENT_SECONDS: &str = "traces_service_graph_request_client_seconds";
/// From the end of sending a message to the start of its receipt.
pub(crate) const MESSAGING_SECONDS: &str = "traces_service_graph_request_messaging_system_seconds";
/// Halves of calls whose other half did not come in time.
pub(crate) const UNPAIRED: &str = "traces_service_graph_unpaired_spans_total";
/// Halves of calls that found no room to wait.
pub(crate) const DROPPED: &str = "traces_service_graph_dropped_spans_total";

/// The service, in the collector's naming.
pub(crate) const SERVICE_NAME: &str = "service_name";
/// The service, in Tempo's naming.
pub(crate) const SERVICE: &str = "service";
/// Joins metrics of spans with [`TARGET_INFO`].
pub(crate) const JOB: &str = "job";
/// Joins metrics of spans with [`TARGET_INFO`].
pub(crate) const INSTANCE: &str = "instance";
/// Marks what went over a limit, as OpenTelemetry's SDKs do (`otel.metric.overflow`).
pub(crate) const OVERFLOW: &str = "otel_metric_overflow";
/// The upper bound of a classic bucket.
pub(crate) const LE: &str = "le";

/// Labels that no dimension may become.
pub(crate) const RESERVED_LABELS: [&str; 11] = [
    SERVICE_NAME,
    SERVICE,
    "span_name",
    "span_kind",
    "status_code",
    OVERFLOW,
    LE,
    "__name__",
    "quantile",
    JOB,
    INSTANCE,
];

/// Longest label value, bytes; longer ones are cut.
pub(crate) const VALUE_BYTES_MAX: usize = 1024;

/// Upper bounds of durations, nanoseconds: the collector's, Tempo's, and finer and wider ones. Changing them changes the
/// `le` values of both namings; old samples keep theirs.
pub(crate) const BOUNDS_NS: [u64; 33] = {
    const US: u64 = 1_000;
    const MS: u64 = 1_000_000;
    [
        100 * US,
        250 * US,
        500 * US,
        MS,
        2 * MS,
        4 * MS,
        6 * MS,
        8 * MS,
        10 * MS,
        16 * MS,
        32 * MS,
        50 * MS,
        64 * MS,
        100 * MS,
        128 * MS,
        200 * MS,
        256 * MS,
        400 * MS,
        512 * MS,
        800 * MS,
        1_000 * MS,
        1_024 * MS,
        1_400 * MS,
        2_000 * MS,
        2_048 * MS,
        4_096 * MS,
        5_000 * MS,
        8_192 * MS,
        10_000 * MS,
        15_000 * MS,
        16_384 * MS,
        30_000 * MS,
        60_000 * MS,
    ]
};

/// Upper bounds of the service graph's histograms, nanoseconds: Tempo's 0.1 s · 2^n, and finer ones.
pub(crate) const GRAPH_BOUNDS_NS: [u64; 14] = {
    const US: u64 = 1_000;
    const MS: u64 = 1_000_000;
    [
        MS,
        2_500 * US,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        200 * MS,
        400 * MS,
        800 * MS,
        1_600 * MS,
        3_200 * MS,
        6_400 * MS,
        12_800 * MS,
    ]
};

/// Bounds in a unit of so many nanoseconds.
pub(crate) fn bounds_in(bounds_ns: &[u64], unit_ns: f64) -> Vec<f64> {
    bounds_ns.iter().map(|bound| *bound as f64 / unit_ns).collect()
}

/// Nanoseconds of a millisecond.
pub(crate) const MS_NS: f64 = 1e6;
/// Nanoseconds of a second.
pub(crate) const SECOND_NS: f64 = 1e9;

/// A kind as both namings write it.
pub(crate) fn kind_label(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "SPAN_KIND_UNSPECIFIED",
        SpanKind::Internal => "SPAN_KIND_INTERNAL",
        SpanKind::Server => "SPAN_KIND_SERVER",
        SpanKind::Client => "SPAN_KIND_CLIENT",
        SpanKind::Producer => "SPAN_KIND_PRODUCER",
        SpanKind::Consumer => "SPAN_KIND_CONSUMER",
    }
}

/// An outcome as both namings write it.
pub(crate) fn status_label(status: StatusCode) -> &'static str {
    match status {
        StatusCode::Unset => "STATUS_CODE_UNSET",
        StatusCode::Ok => "STATUS_CODE_OK",
        StatusCode::Error => "STATUS_CODE_ERROR",
    }
}

/// An attribute's key as a label name: letters, digits and underscores, no digit first.
pub(crate) fn label_name(key: &str) -> String {
    let mut name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        name.insert_str(0, "key_");
    }
    name
}

/// `text`, or the start of it that fits a label.
pub(crate) fn cut(text: &str) -> &str {
    if text.len() <= VALUE_BYTES_MAX {
        return text;
    }
    &text[..text.floor_char_boundary(VALUE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults of both peers are among the bounds, to the bit, in both units.
    #[test]
    fn the_bounds_of_both_namings_are_answered() {
        let (ms, seconds) = (bounds_in(&BOUNDS_NS, MS_NS), bounds_in(&BOUNDS_NS, SECOND_NS));
        for bound in [2., 4., 6., 8., 10., 50., 100., 200., 400., 800., 1e3, 1.4e3, 2e3, 5e3, 10e3, 15e3] {
            assert!(ms.contains(&bound), "{bound} ms");
        }
        for exponent in 0..14 {
            let bound = 0.002 * f64::from(1 << exponent);
            assert!(seconds.contains(&bound), "{bound} s");
        }
        let graph = bounds_in(&GRAPH_BOUNDS_NS, SECOND_NS);
        for exponent in 0..8 {
            assert!(graph.contains(&(0.1 * f64::from(1 << exponent))), "0.1 · 2^{exponent}");
        }
        assert!(BOUNDS_NS.is_sorted() && GRAPH_BOUNDS_NS.is_sorted());
        assert!(ms.iter().zip(&seconds).all(|(ms, s)| ms / 1e3 == *s), "a view in seconds divides by a thousand");
    }

    #[test]
    fn names_and_values_fit_labels() {
        assert_eq!(label_name("http.method"), "http_method");
        assert_eq!(label_name("1st"), "key_1st");
        assert_eq!(cut(&"ä".repeat(600)).len(), 1024);
        assert_eq!(cut(&format!("a{}", "ä".repeat(600))).len(), 1023);
    }
}
