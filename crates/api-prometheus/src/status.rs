//! `status/*`: what this server is and what it holds.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use pharos_base::HumanDuration;
use pharos_storage::{CardinalityEntry, StoredBlock};
use serde_json::{Value, json};

use crate::call::{Caller, Insider};
use crate::params::{Params, bad, parse_integer};
use crate::read::{FRAME_BYTES_MAX, READS_MAX};
use crate::reply::{Reply, success};
use crate::routes::PrometheusApi;
use crate::search::LIMIT_MAX;

const TOP_DEFAULT: usize = 10;
const TOP_MAX: usize = 10_000;

/// What was built. Grafana reads `version` to pick features; Prometheus' API level is told apart.
pub(crate) async fn build_info(State(api): State<Arc<PrometheusApi>>, _caller: Caller) -> Response {
    success(&build_json(&api))
}

/// `/version`: the same without the envelope.
pub(crate) async fn version(State(api): State<Arc<PrometheusApi>>) -> Json<Value> {
    Json(build_json(&api))
}

fn build_json(api: &PrometheusApi) -> Value {
    json!({
        "version": "3.14.0",
        "revision": api.build.revision,
        "branch": format!("pharos-{}", api.build.version),
        "buildUser": "pharos",
        "buildDate": "",
        "goVersion": "",
        "application": "pharos",
        "applicationVersion": api.build.version,
    })
}

/// How this process is doing.
pub(crate) async fn runtime_info(State(api): State<Arc<PrometheusApi>>, _insider: Insider) -> Reply {
    let time = |unix_ms: i64| Timestamp::from_millisecond(unix_ms).map_or(String::new(), |time| time.to_string());
    let cwd = std::env::current_dir().map_or(String::new(), |path| path.display().to_string());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let inner = Arc::clone(&api);
    let damage_met = api.ask(move || inner.store.stats().damage_met).await?;
    Ok(success(&json!({
        "startTime": time(api.started_at_ms),
        "CWD": cwd,
        "hostname": host.trim_end(),
        "serverTime": time(api.clock.unix_ms()),
        "reloadConfigSuccess": true,
        "lastConfigTime": time(api.started_at_ms),
        "corruptionCount": damage_met,
        "goroutineCount": 0,
        "GOMAXPROCS": pharos_base::available_cores(),
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": api.settings.retention,
    })))
}

/// Of upstream's flags those that say something about this server, with what holds here. Clients read limits off them.
pub(crate) async fn flags(State(api): State<Arc<PrometheusApi>>, _insider: Insider) -> Response {
    let engine = api.engine.settings();
    let seconds = |duration_ms: u64| HumanDuration::from_ms(duration_ms).to_string();
    let parser = engine.parser;
    let features: Vec<_> = [
        ("promql-experimental-functions", parser.experimental_functions),
        ("promql-extended-range-selectors", parser.extended_range_selectors),
        ("promql-binop-fill-modifiers", parser.binop_fill_modifiers),
        ("promql-delayed-name-removal", engine.delayed_name_removal),
        ("promql-per-step-stats", api.settings.per_step_stats),
        ("use-start-timestamps", engine.use_start_timestamps),
        ("type-and-unit-labels", engine.type_and_unit_labels),
        ("exemplar-storage", true),
        ("search-api", true),
    ]
    .into_iter()
    .filter_map(|(name, is_on)| is_on.then_some(name))
    .collect();
    success(&json!({
        "enable-feature": features.join(","),
        "query.lookback-delta": seconds(engine.lookback_ms.unsigned_abs()),
        "query.max-samples": engine.samples_max.to_string(),
        "query.timeout": seconds(u64::try_from(engine.timeout.as_millis()).unwrap_or(u64::MAX)),
        "storage.remote.read-concurrent-limit": READS_MAX.to_string(),
        "storage.remote.read-max-bytes-in-frame": FRAME_BYTES_MAX.to_string(),
        "storage.remote.read-sample-limit": engine.samples_max.to_string(),
        "storage.tsdb.retention.time": api.settings.retention,
        "web.enable-admin-api": "true",
        "web.enable-otlp-receiver": "true",
        "web.enable-remote-write-receiver": "true",
        "web.search.max-limit": LIMIT_MAX.to_string(),
    }))
}

/// No Prometheus configuration is loaded.
pub(crate) async fn config(_caller: Caller) -> Response {
    success(&json!({"yaml": ""}))
}

/// Where the tenant's series come from.
pub(crate) async fn tsdb(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let top = params.get("limit").map_or(Ok(TOP_DEFAULT as i64), parse_integer);
    let top = top.ok().and_then(|top| usize::try_from(top).ok()).filter(|top| *top > 0);
    let top = top.ok_or_else(|| bad("limit must be a positive number"))?;
    if top > TOP_MAX {
        return Err(bad(format!("limit must not exceed {TOP_MAX}")).into());
    }
    let inner = Arc::clone(&api);
    let tenant = caller.tenant.clone();
    let found = api.pool.run(&tenant, move |_| inner.store.cardinality(&caller.tenant, top)).await??;
    let list = |entries: &[CardinalityEntry]| -> Vec<Value> {
        entries.iter().map(|entry| json!({"name": entry.name, "value": entry.value})).collect()
    };
    Ok(success(&json!({
        "headStats": {
            "numSeries": found.series,
            "numLabelPairs": found.label_pairs,
            "chunkCount": found.chunks,
            "minTime": found.min_time_ms,
            "maxTime": found.max_time_ms,
        },
        "seriesCountByMetricName": list(&found.series_by_metric),
        "labelValueCountByLabelName": list(&found.values_by_label),
        "memoryInBytesByLabelName": list(&found.bytes_by_label),
        "seriesCountByLabelValuePair": list(&found.series_by_pair),
    })))
}

/// The tenant's parts, told as Prometheus describes its blocks.
pub(crate) async fn blocks(State(api): State<Arc<PrometheusApi>>, caller: Caller) -> Reply {
    let inner = Arc::clone(&api);
    let found = api.ask(move || inner.store.blocks(&caller.tenant)).await??;
    Ok(success(&json!({"blocks": found.iter().map(block_json).collect::<Vec<_>>()})))
}

fn block_json(block: &StoredBlock) -> Value {
    let name = ulid(block);
    json!({
        "ulid": name,
        "minTime": block.range.start_ms,
        "maxTime": block.range.end_ms,
        "stats": {
            "numSamples": block.floats + block.histograms,
            "numFloatSamples": block.floats,
            "numHistogramSamples": block.histograms,
            "numSeries": block.series,
            "numChunks": block.chunks,
        },
        // Upstream begins to count where the head is written.
        "compaction": {"level": block.level + 1, "sources": [name]},
        "version": 1,
    })
}

/// A block's number in the form of a ULID: 48 bits of time, here the end of the block, and 80 bits of what else tells it apart.
fn ulid(block: &StoredBlock) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let time = u128::from(block.range.end_ms.max(0).unsigned_abs()) & ((1 << 48) - 1);
    let bits = time << 80 | u128::from(block.number);
    (0..26).rev().map(|digit| char::from(DIGITS[(bits >> (digit * 5)) as usize & 31])).collect()
}

/// The log is replayed before the port opens, so it is always done.
pub(crate) async fn wal_replay(_caller: Caller) -> Response {
    success(&json!({"min": 0, "max": 0, "current": 0}))
}

#[cfg(test)]
mod tests {
    use pharos_model::TimeRange;

    use super::*;

    #[test]
    fn blocks_are_told_as_upstream_tells_them() {
        let block = StoredBlock {
            number: 33,
            range: TimeRange::inclusive(1_000, 1_999),
            level: 1,
            series: 2,
            floats: 30,
            histograms: 4,
            chunks: 5,
        };
        // The first ten digits are the time, 2000 = 1·1024 + 30·32 + 16; the others the number, 33 = 1·32 + 1.
        let name = ulid(&block);
        assert_eq!(
            block_json(&block),
            json!({
                "ulid": name, "minTime": 1_000, "maxTime": 2_000, "version": 1,
                "stats": {
                    "numSamples": 34, "numFloatSamples": 30, "numHistogramSamples": 4, "numSeries": 2, "numChunks": 5
                },
                "compaction": {"level": 2, "sources": [name]},
            })
        );
        assert_eq!(name, "00000001YG0000000000000011");
        let later = StoredBlock { number: 34, ..block };
        assert!(ulid(&later) > ulid(&block), "names sort like numbers");
    }
}
