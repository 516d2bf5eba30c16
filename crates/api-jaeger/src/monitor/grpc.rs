//! `jaeger.api_v2.metrics.MetricsQueryService`.

use std::sync::Arc;

use pharos_gateway::Scope;
use pharos_model::{SpanKind, StepRange};
use pharos_proto::jaeger::metrics as pb;
use pharos_proto::jaeger::metrics::metrics_query_service_server::{MetricsQueryService, MetricsQueryServiceServer};
use prost_types::{Duration, Timestamp};
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::{Request, Response, Status};

use super::DISABLED;
use super::answer::{Family, Gauge, answer};
use super::question::{Measure, Question};
use crate::grpc_call::opened_for;
use crate::grpc_params::optional_ns;
use crate::routes::JaegerApi;

/// How far back the monitor looks where nobody says.
pub(super) const LOOKBACK_MS: i64 = 3_600_000;
/// The distance of points where nobody says.
pub(super) const STEP_MS: i64 = 5_000;
/// The window of rates where nobody says.
pub(super) const RATE_MS: i64 = 600_000;

/// The service, without a fallback.
pub(crate) fn routes(api: &Arc<JaegerApi>) -> axum::Router {
    let service = MetricsQueryServiceServer::new(Monitor { api: Arc::clone(api) })
        .accept_compressed(Gzip)
        .accept_compressed(Zstd)
        .send_compressed(Gzip)
        .send_compressed(Zstd)
        .max_decoding_message_size(api.bodies.limit().len_max());
    axum::Router::new().route_service("/jaeger.api_v2.metrics.MetricsQueryService/{method}", service)
}

/// A kind as labels have it.
pub(super) fn kind_label(kind: SpanKind) -> String {
    let kind = match kind {
        SpanKind::Unspecified => pb::SpanKind::Unspecified,
        SpanKind::Internal => pb::SpanKind::Internal,
        SpanKind::Server => pb::SpanKind::Server,
        SpanKind::Client => pb::SpanKind::Client,
        SpanKind::Producer => pb::SpanKind::Producer,
        SpanKind::Consumer => pb::SpanKind::Consumer,
    };
    kind.as_str_name().to_owned()
}

struct Monitor {
    api: Arc<JaegerApi>,
}

impl Monitor {
    async fn ask<T: std::fmt::Debug>(
        &self,
        request: Request<T>,
        read: impl FnOnce(T) -> Result<(Option<pb::MetricsQueryBaseRequest>, Measure), String>,
    ) -> Result<Response<pb::GetMetricsResponse>, Status> {
        let (asker, request) = opened_for(request, Scope::MetricsRead)?;
        let engine = self.api.monitor.clone().ok_or_else(|| Status::unimplemented(DISABLED))?;
        let now_ms = self.api.clock.unix_ms();
        let question = read(request).and_then(|(base, measure)| question(base, measure, now_ms));
        let question = question.map_err(Status::invalid_argument)?;
        let answered = asker.read(&self.api, move |api, tenant, context| {
            answer(&engine, &api.settings.monitor, tenant, &question, &context.cancel)
        });
        Ok(Response::new(pb::GetMetricsResponse { metrics: Some(family(answered.await?)) }))
    }
}

#[tonic::async_trait]
impl MetricsQueryService for Monitor {
    async fn get_min_step_duration(
        &self,
        request: Request<pb::GetMinStepDurationRequest>,
    ) -> Result<Response<pb::GetMinStepDurationResponse>, Status> {
        opened_for(request, Scope::MetricsRead)?;
        let min_step = Some(Duration { seconds: 0, nanos: 1_000_000 });
        Ok(Response::new(pb::GetMinStepDurationResponse { min_step }))
    }

    async fn get_latencies(
        &self,
        request: Request<pb::GetLatenciesRequest>,
    ) -> Result<Response<pb::GetMetricsResponse>, Status> {
        let read = |request: pb::GetLatenciesRequest| match request.quantile {
            quantile if (0.0..=1.0).contains(&quantile) => Ok((request.base_request, Measure::Latencies(quantile))),
            other => Err(format!("quantile: {other} is no number from 0 to 1")),
        };
        self.ask(request, read).await
    }

    async fn get_call_rates(
        &self,
        request: Request<pb::GetCallRatesRequest>,
    ) -> Result<Response<pb::GetMetricsResponse>, Status> {
        self.ask(request, |request| Ok((request.base_request, Measure::Calls))).await
    }

    async fn get_error_rates(
        &self,
        request: Request<pb::GetErrorRatesRequest>,
    ) -> Result<Response<pb::GetMetricsResponse>, Status> {
        self.ask(request, |request| Ok((request.base_request, Measure::Errors))).await
    }
}

fn question(base: Option<pb::MetricsQueryBaseRequest>, measure: Measure, now_ms: i64) -> Result<Question, String> {
    let base = base.unwrap_or_default();
    let kind = |number: &i32| {
        let kind = pb::SpanKind::try_from(*number).map_err(|_| format!("spanKinds: {number} is no kind of span"))?;
        Ok::<_, String>(kind.as_str_name().to_owned())
    };
    let mut kinds: Vec<String> = base.span_kinds.iter().map(kind).collect::<Result<_, _>>()?;
    if kinds.is_empty() {
        kinds.push(kind_label(SpanKind::Server));
    }
    let services: std::collections::BTreeSet<_> =
        base.service_names.into_iter().filter(|service| !service.is_empty()).collect();
    if services.is_empty() {
        return Err("please provide at least one service name".to_owned());
    }
    let ns_per_ms = 1_000_000;
    let end_ms = match optional_ns("end_time", base.end_time)? {
        None => now_ms,
        Some(end_ns) => (end_ns / ns_per_ms).cast_signed(),
    };
    Ok(Question {
        measure,
        services,
        by_operation: base.group_by_operation,
        kinds,
        steps: StepRange {
            start_ms: end_ms.saturating_sub(ms("lookback", base.lookback, LOOKBACK_MS, 0)?),
            end_ms,
            step_ms: ms("step", base.step, STEP_MS, 1)?,
        },
        rate_ms: ms("ratePer", base.rate_per, RATE_MS, 1)?,
    })
}

fn ms(name: &str, duration: Option<Duration>, usual: i64, least: i64) -> Result<i64, String> {
    let Some(Duration { seconds, nanos }) = duration else { return Ok(usual) };
    let ms = seconds.checked_mul(1_000).and_then(|ms| ms.checked_add(i64::from(nanos / 1_000_000)));
    ms.filter(|ms| *ms >= least).ok_or_else(|| format!("{name}: {seconds} s and {nanos} ns are below {least} ms"))
}

fn family(family: Family) -> pb::MetricFamily {
    pb::MetricFamily {
        name: family.name,
        r#type: pb::MetricType::Gauge.into(),
        unit: String::new(),
        help: family.help,
        metrics: family.gauges.into_iter().map(metric).collect(),
    }
}

fn metric(gauge: Gauge) -> pb::Metric {
    let point = |(time_ms, value): (i64, f64)| {
        let nanos = i32::try_from(time_ms.rem_euclid(1_000) * 1_000_000).unwrap_or(0);
        let value = pb::GaugeValue { value: Some(pb::gauge_value::Value::DoubleValue(value)) };
        pb::MetricPoint {
            timestamp: Some(Timestamp { seconds: time_ms.div_euclid(1_000), nanos }),
            value: Some(pb::metric_point::Value::GaugeValue(value)),
        }
    };
    pb::Metric {
        labels: gauge.labels.into_iter().map(|(name, value)| pb::Label { name, value }).collect(),
        metric_points: gauge.points.into_iter().map(point).collect(),
    }
}
