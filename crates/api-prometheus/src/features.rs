//! `features`: what this server can do, by upstream's categories and names. Clients ask here instead of guessing by version.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pharos_promql::ast::AggregateOp;
use pharos_promql::functions::FUNCTIONS;
use serde_json::{Map, Value, json};

use crate::call::Caller;
use crate::reply::success;
use crate::routes::PrometheusApi;

/// Operators that are always there, beside the aggregations.
const OPERATORS: [&str; 19] =
    ["!=", "!~", "%", "*", "+", "-", "/", "<", "<=", "==", "=~", ">", ">=", "@", "^", "and", "atan2", "or", "unless"];

/// Which features are on. What has no name here is not there.
pub(crate) async fn features(State(api): State<Arc<PrometheusApi>>, _caller: Caller) -> Response {
    success(&listing(&api))
}

fn listing(api: &PrometheusApi) -> Value {
    let engine = api.engine.settings();
    let parser = engine.parser;
    let functions: Map<_, _> = FUNCTIONS
        .iter()
        .map(|function| (function.name.to_owned(), json!(!function.experimental || parser.experimental_functions)))
        .collect();
    let aggregations =
        AggregateOp::ALL.map(|op| (op.name(), !op.is_experimental() || parser.experimental_functions)).into_iter();
    let trimming = [("</", true), (">/", true)];
    let operators: Map<_, _> = OPERATORS
        .map(|name| (name, true))
        .into_iter()
        .chain(aggregations)
        .chain(trimming)
        .map(|(name, is_on)| (name.to_owned(), json!(is_on)))
        .collect();
    json!({
        "api": {
            "admin": true,
            "exclude_alerts": true,
            "label_values_match": true,
            "lifecycle": false,
            "openapi_3.1": true,
            "openapi_3.2": true,
            "otlp_write_receiver": true,
            "query_stats": true,
            "query_warnings": true,
            "remote_write_receiver": true,
            "search": true,
            "search_fuzz_alg_jarowinkler": true,
            "search_fuzz_alg_subsequence": true,
            "time_range_labels": true,
            "time_range_series": true,
        },
        "otlp_receiver": {"delta_conversion": false, "native_delta_ingestion": false},
        "prometheus": {"agent_mode": false, "auto_reload_config": false, "server_mode": true, "stringlabels": true},
        "promql": {
            "anchored": parser.extended_range_selectors,
            "at_modifier": true,
            "bool": true,
            "by": true,
            "delayed_name_removal": engine.delayed_name_removal,
            "duration_expr": parser.duration_expressions,
            "fill": parser.binop_fill_modifiers,
            "fill_left": parser.binop_fill_modifiers,
            "fill_right": parser.binop_fill_modifiers,
            "group_left": true,
            "group_right": true,
            "ignoring": true,
            "negative_offset": true,
            "offset": true,
            "on": true,
            "per_query_lookback_delta": true,
            "per_step_stats": api.settings.per_step_stats,
            "smoothed": parser.extended_range_selectors,
            "subqueries": true,
            "type_and_unit_labels": engine.type_and_unit_labels,
            "without": true,
        },
        "promql_functions": functions,
        "promql_operators": operators,
        "rules": {},
        "scrape": {},
        "service_discovery_providers": {},
        "templating_functions": {},
        "tsdb": {"delayed_compaction": false, "exemplar_storage": true, "isolation": true, "native_histograms": true},
        "ui": {"ui_v2": false, "ui_v3": false},
    })
}
