//! What Prometheus makes of OTLP metrics, duty by duty, and where each has its test; those that none of the others names are
//! below. Names and labels are compared with an independent translation of the same rules in `agreement`.
//!
//! | duty | test |
//! |---|---|
//! | `translation_strategy` | `names::{units_and_types_are_appended_once, other_strategies_keep_more}`, `every_key_of_the_block_is_kept` |
//! | `promote_resource_attributes`, only where the name is free | `tests::resource_becomes_job_instance_and_target_info` |
//! | `promote_all_resource_attributes`, `ignore_resource_attributes` | `every_key_of_the_block_is_kept` |
//! | `keep_identifying_resource_attributes` | `every_key_of_the_block_is_kept` |
//! | `convert_histograms_to_nhcb` | `tests::explicit_histograms_become_native_ones_when_asked` |
//! | `promote_scope_metadata` | `tests::scopes_are_labels_when_asked`, `labels_are_built_in_their_order` |
//! | `label_name_underscore_sanitization`, `label_name_preserve_multiple_underscores` | `names::labels_are_sanitized`, `every_key_of_the_block_is_kept` |
//! | units, `total`, `ratio`, braces, digits, empty names | `names::{units_and_types_are_appended_once, units_in_words, a_name_of_nothing_is_none}` |
//! | counters of deltas: type unknown, no `_total` | `delta::tests::native_deltas_are_no_counters` |
//! | attributes that meet in one label are joined; `__name__` is ignored | `tests::attributes_that_meet_under_one_label_are_joined` |
//! | a counter of warnings of that | `attributes_that_meet_under_one_label_are_counted`; end to end: `own_metrics_count_attributes_that_meet` of `pharos-api-ingest` |
//! | order of labels: attributes, resource, `job` and `instance`, scope, type and unit, name | `labels_are_built_in_their_order` |
//! | `__type__`, `__unit__` | `tests::types_and_units_are_labels_when_asked` |
//! | `target_info`: what it has, when it is there, its samples | `tests::{resource_becomes_job_instance_and_target_info, target_info_covers_the_span_of_its_points, target_info_has_two_samples_in_what_queries_look_back}`, `target_info_is_there_once_and_only_with_an_identity` |
//! | gauges, sums of either kind | `tests::numbers_become_gauges_and_counters` |
//! | deltas: refused, converted or native | `metric_fields::what_adds_up_must_be_cumulative`, `delta::tests` |
//! | explicit histograms, their exemplars | `tests::explicit_histograms_become_classic_ones` |
//! | exponential ones: scales, zero bucket, offsets | `tests::{exponential_histograms_become_native_ones, fine_scales_are_lowered_and_coarse_ones_refused}`, `point_rules::exponential_buckets_are_counted_from_one_and_far_ones_stay_in_range` |
//! | summaries | `tests::summaries_become_quantiles_sum_and_count` |
//! | start times; zeros there | `starts_are_handed_on`, `tests::what_counts_up_is_told_when_asked`, `crate::starts` |
//! | no recorded value | `tests::a_point_without_a_recorded_value_ends_its_series` |
//! | exemplars: ids, attributes if all fit; none of gauges | `point_rules::attributes_of_an_exemplar_are_there_all_or_none`, `tests::numbers_become_gauges_and_counters` |
//! | no data points are a warning | `tests::metrics_without_points_are_warned_of` |
//! | too new, too old, damaged points alone | `tests::refused_points_are_counted_exactly_and_the_rest_is_kept` |
//!
//! On purpose otherwise than Prometheus 3.14: one bad point costs itself, not its request; the width of the zero bucket that a
//! sender names is kept; deltas are added up unless the settings say no.

use super::tests::{NS, decode_with, gauge, samples, text};
use super::*;

fn series(settings: &OtlpSettings, resource: &str, metrics: &str) -> Vec<String> {
    samples(&decode_with(settings, &Limits::default(), resource, metrics))
}

fn counter(name: &str, attributes: &str) -> String {
    format!(
        r#"{{"name":"{name}","unit":"By","sum":{{"isMonotonic":true,"aggregationTemporality":2,"dataPoints":[{{"timeUnixNano":"{NS}","startTimeUnixNano":"1600000000000000000","asInt":1,"attributes":[{attributes}]}}]}}}}"#
    )
}

#[test]
fn attributes_that_meet_under_one_label_are_counted() {
    let settings = OtlpSettings {
        promote_resource_attributes: vec!["r.r".into(), "r_r".into()],
        promote_scope_metadata: true,
        ..OtlpSettings::default()
    };
    let counted = |resource: &str, scope: &str, points: &[&str]| {
        let decoder = MetricsDecoder::new(settings.clone(), Limits::default());
        let metrics: Vec<_> = points.iter().map(|attributes| gauge("g", attributes)).collect();
        let body = format!(
            r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{resource}]}},"scopeMetrics":[{{"scope":{{"name":"s","attributes":[{scope}]}},"metrics":[{}]}}]}}]}}"#,
            metrics.join(",")
        );
        let sender = TenantId::default();
        let decode = || decoder.decode(&sender, (body.as_bytes(), WireForm::Json), TimeWindow::ALL, 0);
        decode().unwrap();
        let first = decoder.joined_attributes();
        decode().unwrap();
        assert_eq!(decoder.joined_attributes(), first, "what is remembered is not made again");
        first
    };
    let of = |names: &[&str]| names.iter().map(|name| text(name, "1")).collect::<Vec<_>>().join(",");
    assert_eq!(counted("", "", &[&of(&["a.b", "c"])]), 0);
    assert_eq!(counted("", "", &[&of(&["a.b", "a_b", "a-b"]), &of(&["d.e", "d_e"]), &of(&["a"])]), 3);
    assert_eq!(counted(&of(&["r.r", "r_r"]), "", &[""]), 1, "without an identity there is no target_info");
    assert_eq!(counted(&of(&["service.name", "r.r", "r_r", "o.o", "o_o"]), "", &[""]), 3);
    assert_eq!(counted("", &of(&["x.y", "x_y"]), &[""]), 1);
}

#[test]
fn every_key_of_the_block_is_kept() {
    use TranslationStrategy as S;
    let resource =
        [text("service.name", "shop"), text("host.name", "h"), text("os__type", "linux"), text("_x", "y")].join(",");
    let of = |settings: &OtlpSettings| series(settings, &resource, &counter("disk.io", ""));
    let usual = OtlpSettings::default();
    assert_eq!(
        of(&usual),
        [
            r#"disk_io_bytes_total{job="shop"} 1"#,
            r#"target_info{host_name="h", job="shop", key_x="y", os__type="linux"} 1"#
        ]
    );
    for (settings, first) in [
        (
            OtlpSettings { promote_all_resource_attributes: true, ..usual.clone() },
            r#"disk_io_bytes_total{host_name="h", job="shop", key_x="y", os__type="linux", service_name="shop"} 1"#,
        ),
        (
            OtlpSettings {
                promote_all_resource_attributes: true,
                ignore_resource_attributes: vec!["service.name".into(), "_x".into()],
                label_name_preserve_multiple_underscores: false,
                ..usual.clone()
            },
            r#"disk_io_bytes_total{host_name="h", job="shop", os_type="linux"} 1"#,
        ),
        (
            OtlpSettings {
                promote_resource_attributes: vec!["_x".into()],
                label_name_underscore_sanitization: false,
                ..usual.clone()
            },
            r#"disk_io_bytes_total{_x="y", job="shop"} 1"#,
        ),
        (
            OtlpSettings { translation_strategy: S::UnderscoreEscapingWithoutSuffixes, ..usual.clone() },
            r#"disk_io{job="shop"} 1"#,
        ),
        (
            OtlpSettings { translation_strategy: S::NoUTF8EscapingWithSuffixes, ..usual.clone() },
            r#"disk.io_bytes_total{job="shop"} 1"#,
        ),
        (
            OtlpSettings {
                translation_strategy: S::NoTranslation,
                promote_resource_attributes: vec!["host.name".into()],
                ..usual.clone()
            },
            r#"disk.io{host.name="h", job="shop"} 1"#,
        ),
    ] {
        assert_eq!(of(&settings)[0], first, "{settings:?}");
    }
    let keeping = OtlpSettings { keep_identifying_resource_attributes: true, ..usual };
    assert_eq!(
        of(&keeping)[1],
        r#"target_info{host_name="h", job="shop", key_x="y", os__type="linux", service_name="shop"} 1"#
    );
}

/// Each of these says what `job`, `tier` or the name is; what comes later in the order wins, but for promoted attributes.
#[test]
fn labels_are_built_in_their_order() {
    let settings = OtlpSettings {
        promote_all_resource_attributes: true,
        promote_scope_metadata: true,
        type_and_unit_labels: true,
        ..OtlpSettings::default()
    };
    let resource =
        [text("service.name", "shop"), text("color", "resource"), text("otel_scope_name", "resource")].join(",");
    let point = [
        text("job", "point"),
        text("color", "point"),
        text("otel_scope_tier", "point"),
        text("__type__", "point"),
        text("__name__", "point"),
    ]
    .join(",");
    assert_eq!(
        series(&settings, &resource, &counter("n", &point))[0],
        r#"n_bytes_total{__type__="counter", __unit__="bytes", color="point", job="shop", otel_scope_name="lib", otel_scope_tier="x", otel_scope_version="2", service_name="shop"} 1"#
    );
}

#[test]
fn target_info_is_there_once_and_only_with_an_identity() {
    let settings = OtlpSettings::default();
    let both = [gauge("a", ""), gauge("b", "")].join(",");
    let identified = [text("service.instance.id", "i"), text("host", "h")].join(",");
    let found = series(&settings, &identified, &both);
    assert_eq!(found[2..], [r#"target_info{host="h", instance="i"} 1"#]);
    assert_eq!(series(&settings, &text("host", "h"), &both).len(), 2, "nobody to join it to");
    assert_eq!(series(&settings, &text("service.instance.id", "i"), &both).len(), 2, "nothing to say");
}

#[test]
fn starts_are_handed_on() {
    let decoded = decode_with(&OtlpSettings::default(), &Limits::default(), "", &counter("n", ""));
    assert_eq!(decoded.batch.start_ms, [1_600_000_000_000]);
}
