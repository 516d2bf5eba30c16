//! `/api/metrics/{latencies,calls,errors}`.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use pharos_base::ErrorClass;
use pharos_http::{QueryKind, Refusal};
use pharos_model::StepRange;

use super::answer::answer;
use super::json::FamilyJson;
use super::question::{Measure, Question};
use super::{DISABLED, grpc};
use crate::call::MetricsCaller;
use crate::filter::kind_of;
use crate::params::{Params, parse_bool};
use crate::routes::JaegerApi;

type Api = State<Arc<JaegerApi>>;

/// A quantile of the durations.
pub(crate) async fn latencies(
    State(api): Api,
    MetricsCaller(caller): MetricsCaller,
    RawQuery(query): RawQuery,
) -> Response {
    let params = Params::parse(query.as_deref());
    let quantile = params.get("quantile").unwrap_or("");
    match quantile.parse::<f64>() {
        Ok(quantile) if (0.0..=1.0).contains(&quantile) => {
            respond(&api, &caller, &params, Measure::Latencies(quantile)).await
        }
        _ => caller.bad(format!("unable to parse param 'quantile': {quantile:?} is no number from 0 to 1")),
    }
}

/// Calls a second.
pub(crate) async fn calls(
    State(api): Api,
    MetricsCaller(caller): MetricsCaller,
    RawQuery(query): RawQuery,
) -> Response {
    respond(&api, &caller, &Params::parse(query.as_deref()), Measure::Calls).await
}

/// The part of the calls that ended in error.
pub(crate) async fn errors(
    State(api): Api,
    MetricsCaller(caller): MetricsCaller,
    RawQuery(query): RawQuery,
) -> Response {
    respond(&api, &caller, &Params::parse(query.as_deref()), Measure::Errors).await
}

async fn respond(api: &Arc<JaegerApi>, caller: &crate::call::Caller, params: &Params, measure: Measure) -> Response {
    let Some(engine) = api.monitor.clone() else {
        return caller.refuse(&Refusal::new(ErrorClass::Unsupported, DISABLED));
    };
    let now_ms = api.clock.unix_ms();
    let question = match question(params, measure, now_ms) {
        Ok(question) => question,
        Err(message) => return caller.bad(message),
    };
    let is_pretty = params.get("prettyPrint").is_some_and(|text| text != "false");
    let rendered = caller.render(api, (QueryKind::Range, None), move |api, tenant, rendering| {
        let family = answer(&engine, &api.settings.monitor, tenant, &question, &rendering.context.cancel)?;
        rendering.finish(&FamilyJson::from(&family), is_pretty).map(Some)
    });
    match rendered.await {
        Ok(Some(response)) | Err(response) => response,
        Ok(None) => caller.not_found("no answer"),
    }
}

/// Reads the parameters; mistakes are told in Jaeger's words.
pub(super) fn question(params: &Params, measure: Measure, now_ms: i64) -> Result<Question, String> {
    let wrong = |name: &str, why: &str| format!("unable to parse param '{name}': {why}");
    let ms = |name: &'static str, usual: i64, least: i64| match params.get(name) {
        None => Ok(usual),
        Some(text) => match text.parse::<i64>() {
            Ok(value) if value >= least => Ok(value),
            Ok(_) => Err(wrong(name, &format!("{text} is below {least}"))),
            Err(_) => Err(wrong(name, &format!("{text:?} is no number of milliseconds"))),
        },
    };
    let by_operation = params.get("groupByOperation").map(parse_bool).transpose();
    let kinds = params.all("spanKind").filter(|kind| !kind.is_empty()).map(|kind| {
        let known = kind_of(kind).map(grpc::kind_label);
        known.ok_or_else(|| wrong("spanKind", &format!("unsupported span kind: '{kind}'")))
    });
    let mut kinds: Vec<String> = kinds.collect::<Result<_, _>>()?;
    if kinds.is_empty() {
        kinds.push(grpc::kind_label(pharos_model::SpanKind::Server));
    }
    // Jaeger's UI asks for several services in one value.
    let services = params.all("service").flat_map(|text| text.split(',').chain([text]));
    let services: std::collections::BTreeSet<_> =
        services.filter(|service| !service.is_empty()).map(str::to_owned).collect();
    if services.is_empty() {
        return Err(wrong("service", "please provide at least one service name"));
    }
    let end_ms = ms("endTs", now_ms, i64::MIN)?;
    let lookback_ms = ms("lookback", grpc::LOOKBACK_MS, 0)?;
    Ok(Question {
        measure,
        services,
        by_operation: by_operation.map_err(|why| wrong("groupByOperation", &why))?.unwrap_or(false),
        kinds,
        steps: StepRange {
            start_ms: end_ms.saturating_sub(lookback_ms),
            end_ms,
            step_ms: ms("step", grpc::STEP_MS, 1)?,
        },
        rate_ms: ms("ratePer", grpc::RATE_MS, 1)?,
    })
}
