//! Exports from outside, and back in through the reader of imports.

use axum::Router;
use axum::body::to_bytes;
use http::{Request, StatusCode};
use pharos_gateway::{Principal, Scope, TenantAccess};
use pharos_ingest::text::{TextFormat, TextImport, TextOptions};
use pharos_ingest::{Encoding, Limits, TimeWindow};
use pharos_model::{BatchBuilder, LabelsBuilder, MatchOp, Sample, stale_nan};
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{BatchId, MetricStore, ReadContext};
use tower::ServiceExt;

use super::*;
use crate::ApiSettings;
use crate::testing::{NOW_MS, api};

fn router(store: &Arc<MemoryMetricStore>, series_max: u64, principal: Principal) -> Router {
    let mut api = api(Arc::clone(store) as _);
    api.settings = Arc::new(ApiSettings { listed_series_max: series_max, ..(*api.settings).clone() });
    crate::router(api).layer(axum::Extension(principal))
}

/// Labels, and instants with values.
type Series<'a> = (&'a [(&'a str, &'a str)], Vec<(i64, f64)>);

fn store(series: &[Series<'_>]) -> Arc<MemoryMetricStore> {
    let store = Arc::new(MemoryMetricStore::new());
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for (pairs, samples) in series {
        for (timestamp_ms, value) in samples {
            builder.push_sample(Sample { timestamp_ms: *timestamp_ms, value: *value }, 0);
        }
        pairs.iter().for_each(|(name, value)| labels.push(name, value));
        builder.finish_series(&mut labels).unwrap();
    }
    store.append(&TenantId::default(), builder.build(), BatchId::random()).wait().unwrap().unwrap();
    store
}

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    (status, String::from_utf8(to_bytes(response.into_body(), 1 << 26).await.unwrap().to_vec()).unwrap())
}

/// A series: its labels, instants and the bits of its values.
type Contents = (String, Vec<i64>, Vec<u64>);

/// All samples, to the bit, in order of labels.
fn contents(store: &MemoryMetricStore) -> Vec<Contents> {
    let matchers = vec![Matcher::new(MatchOp::NotEqual, "__name__", "").unwrap()];
    let plan = LeafPlan::Raw(RawPlan { matchers, range: TimeRange::ALL });
    let mut all: Vec<_> = store
        .leaf(&TenantId::default(), &plan, &ReadContext::unlimited())
        .unwrap()
        .map(|series| {
            let LeafSeries::Raw(series) = series.unwrap() else { panic!("raw plan") };
            let bits = series.values.iter().map(|value| value.to_bits()).collect();
            (series.labels.to_string(), series.timestamps_ms, bits)
        })
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn what_is_exported_comes_back_to_the_bit() {
    let special = [
        1.0,
        -0.0,
        0.1 + 0.2,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        -1e-7,
        1e21,
        f64::INFINITY,
        f64::NEG_INFINITY,
        stale_nan(),
        f64::from_bits(ORDINARY_NAN_BITS),
        f64::NAN,
        f64::from_bits(0xfff8_0000_dead_beef),
        9_007_199_254_740_993.0,
    ];
    let odd = special.iter().enumerate().map(|(at, value)| (NOW_MS + at as i64, *value)).collect();
    let long = (0..25_000).map(|at| (at * 15_000 - 1_000, (at as f64).sqrt())).collect();
    let source = store(&[
        (&[("__name__", "odd"), ("text", "a\"b\\c\nd\u{e4}\u{1}"), ("dotted.name", "x")], odd),
        (&[("__name__", "long")], long),
    ]);
    let (status, text) = get(
        &router(&source, 10, Principal::anonymous()),
        "/select/0/prometheus/api/v1/export?match[]=%7B__name__!=%22%22%7D",
    )
    .await;
    assert_eq!((status, text.lines().count()), (StatusCode::OK, 4), "25,000 samples are three lines");
    let target = Arc::new(MemoryMetricStore::new());
    let mut import = TextImport::new(TextFormat::JsonLines, Encoding::Identity, TextOptions::default()).unwrap();
    let (limits, mut body) = (Limits::default(), Bytes::from(text));
    let mut batches = Vec::new();
    while !body.is_empty() {
        batches.extend(import.feed(&mut body, &limits, TimeWindow::ALL).unwrap());
    }
    batches.extend(import.finish(&limits, TimeWindow::ALL).unwrap());
    for decoded in batches {
        assert_eq!(decoded.rejections, []);
        target.append(&TenantId::default(), decoded.batch, BatchId::random()).wait().unwrap().unwrap();
    }
    assert_eq!(import.bad_lines().first, None);
    assert_eq!(contents(&target), contents(&source));
}

#[tokio::test]
async fn lines_have_the_shape_of_victoriametrics() {
    let samples =
        vec![(1_000, 1.5), (2_000, f64::from_bits(ORDINARY_NAN_BITS)), (3_000, f64::NEG_INFINITY), (4_000, 7.0)];
    let router = router(&store(&[(&[("__name__", "m"), ("a", "b")], samples)]), 10, Principal::anonymous());
    let line = |values: &str, at: &str| {
        format!("{{\"metric\":{{\"__name__\":\"m\",\"a\":\"b\"}},\"values\":[{values}],\"timestamps\":[{at}]}}\n")
    };
    for (query, expected) in [
        ("match[]=m", line("1.5,null,\"-Infinity\",7", "1000,2000,3000,4000")),
        ("match[]=m&match[]=%7Ba=%22b%22%7D&start=1.5&end=3", line("null,\"-Infinity\"", "2000,3000")),
        ("match[]=other", String::new()),
    ] {
        assert_eq!(get(&router, &format!("/api/v1/export?{query}")).await, (StatusCode::OK, expected), "{query}");
    }
}

#[tokio::test]
async fn what_cannot_be_exported_is_refused() {
    let source = store(&[(&[("__name__", "a")], vec![(1, 1.0)]), (&[("__name__", "b")], vec![(1, 1.0)])]);
    let open = router(&source, 1, Principal::anonymous());
    assert_eq!(get(&open, "/api/v1/export").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(get(&open, "/api/v1/export?match[]=a%20b").await.0, StatusCode::BAD_REQUEST);
    let (status, text) = get(&open, "/api/v1/export?match[]=%7B__name__!=%22%22%7D").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{text}");
    let writer = Principal::new("w", &[Scope::MetricsWrite], "*".parse::<TenantAccess>().unwrap());
    assert_eq!(get(&router(&source, 1, writer), "/api/v1/export?match[]=a").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place() {
    let series: Vec<_> =
        (0..200).map(|at| (at.to_string(), (0..2_000).map(|ms| (ms, 0.1)).collect::<Vec<_>>())).collect();
    let pairs: Vec<[(&str, &str); 2]> =
        series.iter().map(|(name, _)| [("__name__", "m"), ("n", name.as_str())]).collect();
    let all: Vec<_> =
        pairs.iter().zip(&series).map(|(pairs, (_, samples))| (pairs.as_slice(), samples.clone())).collect();
    let router = router(&store(&all), 1_000, Principal::anonymous());
    let request = Request::get("/api/v1/export?match[]=m").body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    // Several megabytes are due and few fit the queue: the worker waits, then sees that nobody listens.
    drop(response);
    assert_eq!(
        get(&router, "/api/v1/export?match[]=m%7Bn=%227%22%7D").await.1.lines().count(),
        1,
        "the pool has one place"
    );
}
