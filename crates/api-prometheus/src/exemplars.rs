//! `query_exemplars`: the exemplars of all series that an expression selects.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use pharos_http::QueryKind;
use pharos_model::{Exemplar, Matcher};
use pharos_promql::ast::Expr;
use pharos_storage::{ExemplarSeries, ReadContext};
use serde::ser::SerializeStruct;

use crate::call::Caller;
use crate::labels::{AsObject, range};
use crate::listed::{self, listing_time};
use crate::number::push_float;
use crate::params::Params;
use crate::query::parsed;
use crate::reply::{Reply, success};
use crate::routes::PrometheusApi;

/// Lists exemplars.
pub(crate) async fn query(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let mut sets = Vec::new();
    collect_selectors(&parsed(&api, &params)?, &mut sets);
    if sets.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let range = range(&params)?;
    let asked = caller.asks(QueryKind::Exemplars, params.query(), listing_time(range));
    let work =
        move |api: &PrometheusApi, context: &ReadContext| api.store.exemplars(&caller.tenant, &sets, range, context);
    let found = listed::read(&api, asked, work).await?;
    Ok(success(&found.iter().map(AsListed).collect::<Vec<_>>()))
}

/// A series with its exemplars as the API shows them.
struct AsListed<'a>(&'a ExemplarSeries);

impl serde::Serialize for AsListed<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let exemplars: Vec<_> = self.0.exemplars.iter().map(AsEntry).collect();
        let mut entry = serializer.serialize_struct("series", 2)?;
        entry.serialize_field("seriesLabels", &AsObject(&self.0.labels))?;
        entry.serialize_field("exemplars", &exemplars)?;
        entry.end()
    }
}

struct AsEntry<'a>(&'a Exemplar);

impl serde::Serialize for AsEntry<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut value = Vec::new();
        push_float(&mut value, self.0.value);
        let at_ms = self.0.timestamp_ms;
        let mut entry = serializer.serialize_struct("exemplar", 3)?;
        entry.serialize_field("labels", &AsObject(&self.0.labels))?;
        entry.serialize_field("value", &String::from_utf8_lossy(&value))?;
        // Whole seconds without a decimal point, as everywhere in this API.
        if at_ms % 1_000 == 0 {
            entry.serialize_field("timestamp", &(at_ms / 1_000))?;
        } else {
            entry.serialize_field("timestamp", &(at_ms as f64 / 1_000.0))?;
        }
        entry.end()
    }
}

fn collect_selectors(expr: &Expr, sets: &mut Vec<Vec<Matcher>>) {
    match expr {
        Expr::VectorSelector(selector) => sets.push(selector.matchers.clone()),
        Expr::MatrixSelector(matrix) => sets.push(matrix.selector.matchers.clone()),
        other => other.for_each_child(|child| collect_selectors(child, sets)),
    }
}
