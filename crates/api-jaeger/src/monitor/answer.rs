//! The answer of the monitor: gauges by service or operation.

use std::collections::BTreeSet;

use pharos_base::{CancelToken, ErrorClass};
use pharos_model::TenantId;
use pharos_promql::engine::MatrixSeries;
use pharos_promql::{Engine, QueryError, QueryOptions, Value};
use pharos_storage::StorageError;

use super::question::Question;
use super::settings::MonitorSettings;

/// The label that answers call otherwise than stored metrics do.
const STORED_OPERATION: &str = "span_name";
const OPERATION: &str = "operation";
const SERVICE: &str = "service_name";

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) help: String,
    /// By labels, ascending.
    pub(super) gauges: Vec<Gauge>,
}

/// The points of one service or operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gauge {
    /// By name, ascending.
    pub(super) labels: Vec<(String, String)>,
    /// Unix milliseconds and value, ascending in time.
    pub(super) points: Vec<(i64, f64)>,
}

/// Answers a question.
pub(super) fn answer(
    engine: &Engine,
    settings: &MonitorSettings,
    tenant: &TenantId,
    question: &Question,
    cancel: &CancelToken,
) -> Result<Family, StorageError> {
    let ask = |query: &str| -> Result<Vec<Gauge>, StorageError> {
        let options = QueryOptions { cancel: cancel.clone(), ..QueryOptions::default() };
        match engine.range(tenant, query, question.steps, &options).map_err(storage_error)?.value {
            Value::Matrix(series) => Ok(series.into_iter().map(gauge).collect()),
            _ => Ok(Vec::new()),
        }
    };
    let mut gauges = ask(&question.query(settings))?;
    // Services whose durations are no native histograms have classic ones, or none.
    let told: BTreeSet<&str> = gauges.iter().filter_map(Gauge::service).collect();
    let missing = question.services.iter().filter(|service| !told.contains(service.as_str())).cloned().collect();
    if let Some(query) = question.classic_query(settings, &missing).filter(|_| !missing.is_empty()) {
        gauges.extend(ask(&query)?);
    }
    gauges.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Family { name: question.name(), help: question.help(), gauges })
}

impl Gauge {
    fn service(&self) -> Option<&str> {
        self.labels.iter().find(|(name, _)| name == SERVICE).map(|(_, value)| value.as_str())
    }
}

fn gauge(series: MatrixSeries) -> Gauge {
    let name = |name: &str| if name == STORED_OPERATION { OPERATION } else { name }.to_owned();
    let mut labels: Vec<_> = series.labels.iter().map(|(key, value)| (name(key), value.to_owned())).collect();
    labels.sort();
    Gauge { labels, points: series.floats }
}

/// The engine's failure in the words of the reads beside it.
fn storage_error(error: QueryError) -> StorageError {
    match error {
        QueryError::Storage(error) => error,
        QueryError::Interrupted(interrupted) => interrupted.into(),
        QueryError::TimedOut { .. } => pharos_base::Interrupted::DeadlineExceeded.into(),
        QueryError::Memory(exceeded) => exceeded.into(),
        other if matches!(other.class(), ErrorClass::Invalid | ErrorClass::LimitExceeded) => {
            StorageError::Invalid { message: other.to_string() }
        }
        other => StorageError::Internal { action: "the query of the monitor", source: other.into() },
    }
}
