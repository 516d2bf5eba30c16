//! Calls, durations and sizes.

use pharos_base::HumanDuration;
use pharos_model::{SpanKind, TimeRange};
use pharos_spanmetrics::{ServiceGraphSettings, SpanMetricsSettings};
use pharos_storage::{MetricStore, ReadContext, SpanTap};

use crate::world::{START_MS, World, batch, matchers, span};

#[test]
fn calls_errors_and_durations_are_asked_for_by_both_namings() {
    let world = World::new();
    for _ in 0..4 {
        world.store(&[span("shop", "GET /", SpanKind::Server, 3.0), span("shop", "GET /", SpanKind::Server, 900.0)]);
        world.store(&[span("shop", "GET /", SpanKind::Server, 30.0).failed()]);
        world.flush_after(15_000);
    }
    // Of the first flush, too: the series begins with a zero.
    assert_eq!(world.value("sum(increase(traces_span_metrics_calls_total[60s] offset -1ms))").round(), 12.0);
    for (calls, service) in
        [("traces_span_metrics_calls_total", "service_name"), ("traces_spanmetrics_calls_total", "service")]
    {
        let by = format!("sum by ({service}, span_name, span_kind, status_code) ({calls})");
        let kind = format!(r#"{service}="shop", span_kind="SPAN_KIND_SERVER", span_name="GET /", status_code"#);
        let sorted = |status: &str| {
            let mut pairs: Vec<String> =
                format!(r#"{kind}="STATUS_CODE_{status}""#).split(", ").map(str::to_owned).collect();
            pairs.sort();
            format!("{{{}}}", pairs.join(", "))
        };
        assert_eq!(world.ask(&by), [(sorted("ERROR"), 4.0), (sorted("UNSET"), 8.0)]);
    }
    let unset = r#"status_code="STATUS_CODE_UNSET""#;
    let bucket = |name: &str, le: &str| world.value(&format!(r#"{name}_bucket{{le="{le}", {unset}}}"#));
    let (ms, s) = ("traces_span_metrics_duration_milliseconds", "traces_spanmetrics_latency");
    for (le_ms, le_s, count) in [("2", "0.002", 0.), ("4", "0.004", 4.), ("800", "0.8", 4.), ("1024", "1.024", 8.)] {
        assert_eq!((bucket(ms, le_ms), bucket(s, le_s)), (count, count), "{le_ms} ms");
    }
    assert_eq!((bucket(ms, "+Inf"), bucket(s, "+Inf")), (8.0, 8.0));
    let sum = |name: &str| world.value(&format!("{name}_sum{{{unset}}}"));
    assert_eq!((sum(ms), sum(s)), (3612.0, 3.612));
    let quantile =
        |name: &str| world.value(&format!("histogram_quantile(0.4, sum by (le) (rate({name}_bucket{{{unset}}}[1m])))"));
    assert!((quantile(ms) / quantile(s) - 1000.0).abs() < 1e-9);
    assert!((2.0..=4.0).contains(&quantile(ms)));
    let native = world.value(&format!("histogram_quantile(0.4, sum(rate({ms}{{{unset}}}[1m])))"));
    assert!((native - quantile(ms)).abs() < 1e-9, "{native}");
}

#[test]
fn what_the_store_refused_is_not_counted() {
    let world = World::new();
    let spans = [span("shop", "GET /", SpanKind::Server, 3.0)];
    drop(world.meter.notice(&world.tenant, &batch(&spans)));
    world.flush_after(15_000);
    assert!(world.raw(r#"{__name__=~".+"}"#).is_empty());
    world.store(&spans);
    world.flush_after(15_000);
    assert_eq!(world.value("traces_span_metrics_calls_total"), 1.0);
}

#[test]
fn a_series_begins_with_a_zero_and_tells_when() {
    let world = World::new();
    world.clock.advance_ms(5_000);
    world.store(&[span("shop", "GET /", SpanKind::Server, 3.0)]);
    world.flush_after(10_000);
    let calls = world.raw("traces_spanmetrics_calls_total").remove(0);
    let created_ms = START_MS + 5_000;
    assert_eq!(calls.timestamps_ms, [created_ms, START_MS + 15_000]);
    assert_eq!(calls.values, [0.0, 1.0]);
    assert_eq!(calls.start_ms, [created_ms, created_ms]);
    for name in ["traces_spanmetrics_latency_count", r#"traces_spanmetrics_latency_bucket{le="0.004"}"#] {
        let series = world.raw(name).remove(0);
        assert_eq!((series.values, series.start_ms), (vec![0.0, 1.0], vec![created_ms; 2]), "{name}");
    }
}

#[test]
fn idle_series_end_and_begin_again() {
    let idle = HumanDuration::from_ms(60_000);
    let world = World::with(
        SpanMetricsSettings { idle_max: idle, ..SpanMetricsSettings::default() },
        ServiceGraphSettings::default(),
    );
    let one = [span("shop", "GET /", SpanKind::Client, 3.0).ids(1, 2, 0).with("db.name", "orders")];
    world.store(&one);
    for _ in 0..5 {
        world.flush_after(15_000);
    }
    for metric in
        ["traces_spanmetrics_calls_total", "traces_spanmetrics_latency_count", "traces_service_graph_request_total"]
    {
        assert_eq!(world.ask(metric), [], "{metric} has ended");
        let values = world.raw(metric).remove(0).values;
        assert!(pharos_model::is_stale_nan(values[values.len() - 1]), "{metric} is marked");
    }
    assert_eq!((world.meter.stats().series, world.meter.stats().edges), (0, 0));
    world.store(&one);
    world.flush_after(15_000);
    assert_eq!(world.value("traces_spanmetrics_calls_total"), 1.0);
    assert_eq!(world.value("resets(traces_spanmetrics_calls_total[3m])"), 1.0);
}

/// Over the limit a service's rates and errors stay right; operations are not told apart.
#[test]
fn too_many_operations_count_for_their_service() {
    let world = World::with(
        SpanMetricsSettings { series_max: 8, ..SpanMetricsSettings::default() },
        ServiceGraphSettings::default(),
    );
    let mut spans: Vec<_> = (0..20).map(|id| span("a", &format!("GET /{id}"), SpanKind::Server, 3.0)).collect();
    spans.extend((0..20).map(|id| span(&format!("service-{id}"), "GET /", SpanKind::Server, 3.0)));
    spans.push(span("a", "GET /99", SpanKind::Server, 3.0).failed());
    world.store(&spans);
    world.flush_after(15_000);
    assert_eq!(world.value("sum(traces_span_metrics_calls_total)"), 41.0, "R1");
    assert_eq!(
        world.value(r#"sum(traces_spanmetrics_calls_total{service="a",status_code="STATUS_CODE_UNSET"})"#),
        20.0
    );
    assert_eq!(world.value(r#"traces_spanmetrics_calls_total{service="a",otel_metric_overflow="true"}"#), 12.0);
    assert_eq!(world.value(r#"sum(traces_spanmetrics_calls_total{service="",otel_metric_overflow="true"})"#), 20.0);
    let stats = world.meter.stats();
    assert_eq!((stats.spans_counted, stats.spans_overflowed), (41, 33));
    assert!(stats.series <= 8 + 2 + 2, "{}", stats.series);
}

#[test]
fn dimensions_come_from_the_span_or_its_resource() {
    let dimensions = vec!["http.request.method".to_owned(), "deployment.environment".to_owned()];
    let world = World::with(
        SpanMetricsSettings { dimensions, ..SpanMetricsSettings::default() },
        ServiceGraphSettings::default(),
    );
    let made = span("shop", "GET /", SpanKind::Server, 3.0).with("http.request.method", "GET");
    let mut with_resource = batch(std::slice::from_ref(&made));
    let resource = std::sync::Arc::make_mut(&mut with_resource.groups[0].resource);
    resource.attributes.push(crate::world::attribute("deployment.environment", "prod"));
    world.meter.notice(&world.tenant, &with_resource).stored();
    world.store(&[made]);
    world.flush_after(15_000);
    let by = "sum by (http_request_method, deployment_environment) (traces_span_metrics_calls_total)";
    assert_eq!(
        world.ask(by),
        [
            (r#"{deployment_environment="prod", http_request_method="GET"}"#.to_owned(), 1.0),
            (r#"{http_request_method="GET"}"#.to_owned(), 1.0)
        ]
    );
}

#[test]
fn sampled_spans_count_for_those_left_out_if_asked_to() {
    for (adjusted_counts, expected) in [(false, 2.0), (true, 5.0)] {
        let world = World::with(
            SpanMetricsSettings { adjusted_counts, ..SpanMetricsSettings::default() },
            ServiceGraphSettings::default(),
        );
        let mut quarter = span("shop", "GET /", SpanKind::Server, 3.0);
        quarter.span.trace_state = "ot=th:c".to_owned();
        world.store(&[quarter, span("shop", "GET /", SpanKind::Server, 3.0)]);
        world.flush_after(15_000);
        assert_eq!(world.value("traces_span_metrics_calls_total"), expected);
        assert_eq!(world.value("traces_spanmetrics_latency_count"), expected);
        assert_eq!(world.value("sum(traces_service_graph_request_total)"), expected);
    }
}

#[test]
fn old_spans_are_left_out_if_asked_to() {
    let world = World::with(
        SpanMetricsSettings { span_age_max: Some(HumanDuration::from_ms(30_000)), ..SpanMetricsSettings::default() },
        ServiceGraphSettings::default(),
    );
    world.store(&[span("shop", "GET /", SpanKind::Server, 3.0)]);
    world.clock.advance_ms(60_000);
    world.store(&[span("shop", "GET /", SpanKind::Server, 3.0)]);
    world.flush_after(1);
    assert_eq!(world.value("traces_span_metrics_calls_total"), 1.0);
    assert_eq!(world.meter.stats().spans_too_old, 1);
}

/// At a bucket's bound the exemplar is in the bucket; values are in the naming's unit.
#[test]
fn exemplars_link_to_traces() {
    let world = World::new();
    world.store(&[span("shop", "GET /", SpanKind::Server, 3.0).ids(7, 8, 0)]);
    world.store(&[span("shop", "GET /", SpanKind::Server, 50.0).ids(9, 10, 0)]);
    world.store(&[span("shop", "GET /", SpanKind::Server, 4.0).ids(11, 12, 0)]);
    world.flush_after(15_000);
    let ask = |selector: &str| {
        let sets = [matchers(selector)];
        world.views.exemplars(&world.tenant, &sets, TimeRange::ALL, &ReadContext::unlimited()).unwrap()
    };
    let of = |selector: &str| -> Vec<(String, f64, String)> {
        let mut all: Vec<_> = ask(selector)
            .into_iter()
            .flat_map(|series| {
                let le = series.labels.get("le").unwrap_or("").to_owned();
                series.exemplars.into_iter().map(move |exemplar| {
                    let trace = exemplar.labels.get("trace_id").unwrap().to_owned();
                    assert_eq!(exemplar.labels.get("span_id").unwrap().len(), 16);
                    (le.clone(), exemplar.value, trace)
                })
            })
            .collect();
        all.sort_by(|a, b| a.1.total_cmp(&b.1));
        all
    };
    let (slowest, latest) = ("09".repeat(16), "0b".repeat(16));
    let ms = [("4".to_owned(), 4.0, latest.clone()), ("50".to_owned(), 50.0, slowest.clone())];
    assert_eq!(of("traces_span_metrics_duration_milliseconds_bucket"), ms);
    let s = [("0.004".to_owned(), 0.004, latest), ("0.05".to_owned(), 0.05, slowest)];
    assert_eq!(of(r#"traces_spanmetrics_latency_bucket{service="shop"}"#), s);
    assert_eq!(of(r#"traces_spanmetrics_latency_bucket{le="0.05"}"#).len(), 1);
    assert_eq!(of("traces_spanmetrics_latency").len(), 2);
    assert!(of(r#"traces_spanmetrics_latency_bucket{service="other"}"#).is_empty());
}

#[test]
fn exemplars_have_a_limit() {
    let world = World::with(
        SpanMetricsSettings { exemplars_max: 3, ..SpanMetricsSettings::default() },
        ServiceGraphSettings::default(),
    );
    let spans: Vec<_> =
        (0..10).map(|id| span("shop", &format!("{id}"), SpanKind::Server, 3.0).ids(id + 1, id + 1, 0)).collect();
    world.store(&spans);
    world.flush_after(15_000);
    let sets = [matchers("traces_span_metrics_duration_milliseconds")];
    let found = world.stored.exemplars(&world.tenant, &sets, TimeRange::ALL, &ReadContext::unlimited()).unwrap();
    assert_eq!(found.iter().map(|series| series.exemplars.len()).sum::<usize>(), 3);
}

#[test]
fn tenants_are_counted_apart() {
    let world = World::new();
    let other: pharos_model::TenantId = "other".parse().unwrap();
    world.meter.notice(&other, &batch(&[span("shop", "GET /", SpanKind::Server, 3.0)])).stored();
    world.flush_after(15_000);
    assert_eq!(world.ask("traces_span_metrics_calls_total"), []);
    assert_eq!(crate::world::raw_of(&*world.views, &other, "traces_spanmetrics_calls_total").len(), 1);
}

#[test]
fn both_have_their_own_switch() {
    let one = [span("shop", "GET /", SpanKind::Client, 3.0).ids(1, 2, 0).with("db.name", "orders")];
    for (red, graph) in [(true, false), (false, true)] {
        let world = World::with(
            SpanMetricsSettings { enabled: red, ..SpanMetricsSettings::default() },
            ServiceGraphSettings { enabled: graph, ..ServiceGraphSettings::default() },
        );
        world.store(&one);
        world.flush_after(15_000);
        assert_eq!(!world.ask("traces_span_metrics_calls_total").is_empty(), red);
        assert_eq!(!world.ask("traces_service_graph_request_total").is_empty(), graph);
    }
}
