//! Names that are answered and not stored: nobody can tell them from stored ones.

use std::sync::Arc;

use pharos_model::{
    BatchBuilder, BucketSide, BucketSpan, CUSTOM_BUCKETS_SCHEMA, Histogram, MetricKind, Sample, SpanKind, StepRange,
    TenantId, TimeRange,
};
use pharos_promql::{Engine, EngineSettings, QueryOptions};
use pharos_spanmetrics::SpanMetricViews;
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{BatchId, LabelQuery, MetricStore, RawSeries, ReadContext};

use crate::world::{START_MS, World, labels, matchers, raw_of, span};

/// Around any other store it keeps every promise of the contract.
#[test]
fn views_are_a_store_as_any_other() {
    let make = || SpanMetricViews::new(Arc::new(MemoryMetricStore::new()));
    pharos_storage::conformance::metric_store_suite(make, |store| store);
}

/// A store that has really stored what the views show.
fn as_stored(series: &[RawSeries], tenant: &TenantId) -> Arc<MemoryMetricStore> {
    let mut builder = BatchBuilder::new();
    for series in series {
        for (index, (timestamp_ms, value)) in series.timestamps_ms.iter().zip(&series.values).enumerate() {
            let start_ms = series.start_ms.get(index).copied().unwrap_or(0);
            builder.push_sample(Sample { timestamp_ms: *timestamp_ms, value: *value }, start_ms);
        }
        for (index, sample) in series.histograms.iter().enumerate() {
            let start_ms = series.histogram_start_ms.get(index).copied().unwrap_or(0);
            builder.push_histogram(sample.timestamp_ms, Histogram::clone(&sample.histogram), start_ms);
        }
        builder.finish_series_encoded(&series.labels);
    }
    let store = Arc::new(MemoryMetricStore::new());
    store.append(tenant, builder.build(), BatchId::random()).wait().unwrap().unwrap();
    store
}

/// Ten minutes of a shop; one service falls silent.
fn busy() -> World {
    let world = World::with(
        pharos_spanmetrics::SpanMetricsSettings {
            idle_max: pharos_base::HumanDuration::from_ms(120_000),
            ..pharos_spanmetrics::SpanMetricsSettings::default()
        },
        pharos_spanmetrics::ServiceGraphSettings::default(),
    );
    let mut random = 1_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..40_u8 {
        for _ in 0..5 {
            let service = if round < 10 { next(4) } else { next(3) };
            let ms = 0.05 * 1.5_f64.powi(next(40) as i32);
            let (trace, id) = (round + 1, next(200) as u8 + 1);
            let name = format!("op-{}", next(3));
            let mut client = span(&format!("s{service}"), &name, SpanKind::Client, ms).ids(trace, id, 201);
            let server = span(&format!("s{}", service + 1), &name, SpanKind::Server, ms / 2.0).ids(trace, 202, id);
            if next(4) == 0 {
                client = client.failed();
            }
            world.store(&[client, server]);
        }
        world.flush_after(15_000);
    }
    world
}

const QUERIES: [&str; 22] = [
    "traces_spanmetrics_calls_total",
    "traces_spanmetrics_latency_bucket",
    "traces_spanmetrics_latency",
    "sum by (service) (rate(traces_spanmetrics_calls_total[2m]))",
    r#"sum by (service) (rate(traces_spanmetrics_calls_total{service=~"s[12]",status_code!="STATUS_CODE_ERROR"}[2m]))"#,
    "count(traces_spanmetrics_calls_total)",
    "count by (__name__) ({__name__=~\"traces_.*\"})",
    "count({service=\"s1\"})",
    "count({service_name=\"s1\"})",
    "count({service_name!=\"s1\", __name__=~\"traces_spanm.*\"})",
    "histogram_quantile(0.9, sum by (le, service) (rate(traces_spanmetrics_latency_bucket[2m])))",
    "histogram_quantile(0.9, sum by (le, service_name) (rate(traces_span_metrics_duration_milliseconds_bucket[2m])))",
    "histogram_quantile(0.9, sum by (service) (rate(traces_spanmetrics_latency[2m])))",
    "traces_spanmetrics_latency_sum / traces_spanmetrics_latency_count",
    "rate(traces_span_metrics_duration_milliseconds_sum[1m])",
    "increase(traces_spanmetrics_latency_bucket{le=~\"0.00.\"}[5m])",
    "traces_spanmetrics_latency_bucket{le!=\"+Inf\",le!~\"0.*\"}",
    "max_over_time(traces_spanmetrics_latency_bucket{le=\"0.128\"}[3m:30s])",
    "sum by (client, server) (rate(traces_service_graph_request_server_seconds_sum[2m]))",
    "histogram_quantile(0.5, sum by (le) (rate(traces_service_graph_request_client_seconds_bucket[2m])))",
    "changes(traces_spanmetrics_calls_total{service=\"s3\"}[10m]) + resets(traces_spanmetrics_latency_count{service=\"s3\"}[10m])",
    "absent(traces_spanmetrics_latency_bucket{service_name=\"s1\"})",
];

#[test]
fn every_expression_answers_as_if_the_views_were_stored() {
    let world = busy();
    let all = world.raw(r#"{__name__=~".+"}"#);
    assert!(all.iter().any(|series| series.labels.metric_name() == "traces_spanmetrics_latency_bucket"));
    let plain = as_stored(&all, &world.tenant);
    for use_start_timestamps in [false, true] {
        let settings = EngineSettings { use_start_timestamps, cache_bytes_max: 0, ..EngineSettings::default() };
        let engines = [Arc::clone(&world.views) as Arc<dyn MetricStore>, Arc::clone(&plain) as _]
            .map(|store| Engine::new(store, settings.clone()));
        let steps = StepRange { start_ms: START_MS, end_ms: START_MS + 720_000, step_ms: 45_000 };
        for query in QUERIES {
            let [viewed, stored] = engines.each_ref().map(|engine| {
                let found = engine.range(&world.tenant, query, steps, &QueryOptions::default());
                format!("{:?}", found.unwrap_or_else(|error| panic!("{query}: {error}")).value)
            });
            assert!(stored.len() > 100, "{query} answers something: {stored}");
            assert_eq!(viewed, stored, "{query}");
        }
    }
}

#[test]
fn listings_name_views_as_if_they_were_stored() {
    let world = busy();
    let plain = as_stored(&world.raw(r#"{__name__=~".+"}"#), &world.tenant);
    let stores: [&dyn MetricStore; 2] = [&*world.views, &*plain];
    let context = ReadContext::unlimited();
    let selectors = [
        "",
        "traces_spanmetrics_calls_total",
        r#"traces_spanmetrics_latency_bucket{service="s1",le="0.5"}"#,
        r#"{service="s1"}"#,
        r#"{service_name="s1"}"#,
        r#"{__name__=~"traces_service.*",le=~".+"}"#,
        r#"{le="+Inf"}"#,
        r#"traces_spanmetrics_latency_sum{service_name="s1"}"#,
    ];
    // Buckets that nothing ever fell into are not in the plain store's listing only if they have no sample: they have.
    for selector in selectors {
        let matcher_sets = if selector.is_empty() { Vec::new() } else { vec![matchers(selector)] };
        let [viewed, stored] = stores.map(|store| {
            let series = store.series(&world.tenant, &matcher_sets, TimeRange::ALL, &context).unwrap();
            let mut series: Vec<String> = series.map(|labels| labels.unwrap().to_string()).collect();
            series.sort();
            let query = |limit| LabelQuery { matcher_sets: matcher_sets.clone(), range: TimeRange::ALL, limit };
            let names = store.label_names(&world.tenant, &query(100), &context).unwrap();
            let values: Vec<_> = ["__name__", "service", "service_name", "span_name", "le", "client", "absent"]
                .iter()
                .flat_map(|name| [3, 1000].map(|limit| (*name, limit)))
                .map(|(name, limit)| store.label_values(&world.tenant, name, &query(limit), &context).unwrap())
                .collect();
            (series, names, values)
        });
        assert_eq!(viewed, stored, "{selector:?}");
    }
}

/// Somebody else's series of that name are the answer where there are any; ours are beside them.
#[test]
fn stored_series_of_a_views_name_come_first() {
    let world = World::new();
    world.store(&[span("shop", "GET /", SpanKind::Server, 3.0), span("web", "GET /", SpanKind::Server, 3.0)]);
    world.flush_after(15_000);
    let mut builder = BatchBuilder::new();
    let same = [
        ("__name__", "traces_spanmetrics_calls_total"),
        ("service", "shop"),
        ("span_kind", "SPAN_KIND_SERVER"),
        ("span_name", "GET /"),
        ("status_code", "STATUS_CODE_UNSET"),
    ];
    builder.push_sample(Sample { timestamp_ms: START_MS + 15_000, value: 77.0 }, 0);
    builder.finish_series_encoded(&labels(&same));
    world.stored.append(&world.tenant, builder.build(), BatchId::random()).wait().unwrap().unwrap();
    assert_eq!(world.value("sum(traces_spanmetrics_calls_total)"), 78.0);
    assert_eq!(world.value(r#"traces_spanmetrics_calls_total{service="shop"}"#), 77.0);
    let sets = [matchers("traces_spanmetrics_calls_total"), matchers(r#"{service="shop"}"#)];
    let series = world.views.series(&world.tenant, &sets[..1], TimeRange::ALL, &ReadContext::unlimited()).unwrap();
    assert_eq!(series.count(), 2);
    let both = world.views.series(&world.tenant, &sets, TimeRange::ALL, &ReadContext::unlimited()).unwrap();
    let both: Vec<String> = both.map(|labels| labels.unwrap().to_string()).collect();
    let distinct: std::collections::BTreeSet<&String> = both.iter().collect();
    assert_eq!(both.len(), distinct.len(), "each exactly once");
}

/// Gaps, bounds that change, other schemas: what a stranger may have stored under the source's name.
#[test]
fn buckets_are_cut_from_any_custom_histogram() {
    let world = World::new();
    let custom = |bounds: &[f64], spans: &[(i32, u32)], counts: &[f64]| Histogram {
        is_integer: true,
        count: counts.iter().sum(),
        sum: 1.0,
        positive: BucketSide {
            spans: spans.iter().map(|&(offset, length)| BucketSpan { offset, length }).collect(),
            counts: counts.to_vec(),
        },
        custom_bounds: bounds.to_vec(),
        ..Histogram::empty(CUSTOM_BUCKETS_SCHEMA)
    };
    let exponential = Histogram { count: 3.0, zero_count: 3.0, ..Histogram::empty(2) };
    let samples = [
        custom(&[1.0, 2.0, 4.0, 8.0], &[(1, 1), (0, 0), (1, 2)], &[5.0, 7.0, 9.0]),
        custom(&[-1.0, 2.0, 2.5], &[(0, 2)], &[1.0, 2.0]),
        custom(&[1.0, 2.0], &[], &[]),
        exponential,
        Histogram::stale(),
    ];
    for histogram in &samples {
        assert_eq!(histogram.validate(), Ok(()));
    }
    let mut builder = BatchBuilder::new();
    for (index, histogram) in samples.into_iter().enumerate() {
        builder.push_histogram(START_MS + index as i64, histogram, 0);
    }
    let name = "traces_span_metrics_duration_milliseconds";
    builder.finish_series_encoded(&labels(&[("__name__", name), ("service_name", "x"), ("le", "?"), ("service", "y")]));
    world.stored.append(&world.tenant, builder.build(), BatchId::random()).wait().unwrap().unwrap();
    let buckets: Vec<_> = world
        .raw(&format!("{name}_bucket"))
        .into_iter()
        .map(|series| {
            let values = series.timestamps_ms.iter().zip(&series.values);
            let values: Vec<_> =
                values.filter(|(_, value)| !value.is_nan()).map(|(at, value)| (at - START_MS, *value)).collect();
            assert_eq!(series.labels.get("service"), Some("y"));
            (series.labels.get("le").unwrap().to_owned(), values)
        })
        .collect();
    let expected = [
        ("+Inf", vec![(0, 21.0), (1, 3.0), (2, 0.0)]),
        ("-1", vec![(1, 1.0)]),
        ("1", vec![(0, 0.0), (2, 0.0)]),
        ("2", vec![(0, 5.0), (1, 3.0), (2, 0.0)]),
        ("2.5", vec![(1, 3.0)]),
        ("4", vec![(0, 5.0)]),
        ("8", vec![(0, 12.0)]),
    ];
    assert_eq!(buckets, expected.map(|(le, values)| (le.to_owned(), values)));
    let tempo = raw_of(&*world.views, &world.tenant, "traces_spanmetrics_latency_count").remove(0);
    assert_eq!(
        tempo.labels.get("service"),
        Some("x"),
        "the other naming's label takes the place of a label of that name"
    );
    assert_eq!(tempo.timestamps_ms.len(), 4, "three and the mark of the end");
}

#[test]
fn metadata_names_views_beside_their_sources() {
    let world = World::new();
    world.store(&[span("shop", "GET /", SpanKind::Server, 3.0)]);
    world.flush_after(15_000);
    let of = |metric: Option<&str>, limit| world.views.metadata(&world.tenant, metric, limit).unwrap();
    let found = of(Some("traces_spanmetrics_calls_total"), 10).remove(0);
    assert_eq!(
        (found.kind, found.help.as_str()),
        (MetricKind::Counter, "Spans by service, operation, kind and status")
    );
    let latency = of(Some("traces_spanmetrics_latency"), 10).remove(0);
    assert_eq!((latency.kind, latency.unit.as_str()), (MetricKind::Histogram, "seconds"));
    assert_eq!((of(None, 100).len(), of(None, 3).len(), of(Some("up"), 3).len()), (12, 3, 0));
}

/// Somebody else's series of views' names can be deleted as all others, beside ours and without.
#[test]
fn what_is_stored_by_a_views_name_can_be_deleted() {
    for has_views in [true, false] {
        let world = World::new();
        if has_views {
            world.store(&[span("shop", "GET /", SpanKind::Server, 3.0)]);
            world.flush_after(15_000);
        }
        let calls = "traces_spanmetrics_calls_total";
        let mut builder = BatchBuilder::new();
        builder.push_sample(Sample { timestamp_ms: START_MS, value: 77.0 }, 0);
        builder.finish_series_encoded(&labels(&[("__name__", calls), ("service", "theirs")]));
        world.stored.append(&world.tenant, builder.build(), BatchId::random()).wait().unwrap().unwrap();
        assert_eq!(world.raw(calls).len(), 1 + usize::from(has_views));
        world.views.delete(&world.tenant, &[matchers(calls)], TimeRange::ALL).unwrap();
        assert_eq!(world.raw(r#"{service="theirs"}"#).len(), 0, "theirs are gone");
        assert_eq!(world.raw(calls).len(), usize::from(has_views), "ours are not stored by that name");
    }
}

#[test]
fn a_view_cannot_be_deleted_alone() {
    let world = World::new();
    world.store(&[span("shop", "GET /", SpanKind::Server, 3.0)]);
    world.flush_after(15_000);
    let delete = |selector: &str| world.views.delete(&world.tenant, &[matchers(selector)], TimeRange::ALL);
    let refused = delete("traces_spanmetrics_latency_bucket").unwrap_err().to_string();
    assert!(refused.contains("traces_span_metrics_duration_milliseconds"), "{refused}");
    assert!(delete(r#"{__name__=~"traces_spanmetrics_.*"}"#).is_err());
    delete(r#"{__name__="traces_spanmetrics_calls_total",service="other"}"#).expect("there is no such view");
    delete(r#"{__name__=~"traces_span_?metrics_.*"}"#).unwrap();
    assert!(world.raw(r#"{__name__=~".+"}"#).iter().all(|series| series.labels.metric_name().contains("graph")));
}
