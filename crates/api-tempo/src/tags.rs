//! Names and values for completion.
//!
//! Names of services and operations, the words of statuses and kinds, and the intrinsics: what the store lists. Lists are sorted,
//! and cut at the limit the client gives.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use pharos_http::QueryKind;
use pharos_model::TenantId;
use pharos_storage::{OperationQuery, ReadContext, StorageError};
use serde_json::{Value, json};

use crate::call::{Caller, bad};
use crate::params::Params;
use crate::routes::TempoApi;
use crate::traceql::{Field, Intrinsic, Literal, Scope, parse};

/// Values an answer has where the client does not say, and at most.
const VALUES_MAX: usize = 10_000;
const SERVICE_NAME: &str = "service.name";
/// The scope of what is no attribute.
const INTRINSIC: &str = "intrinsic";

type Pairs = Query<Vec<(String, String)>>;

fn answer(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// Names by scope.
fn scopes(wanted: Option<&str>) -> Result<Vec<(&'static str, Vec<&'static str>)>, String> {
    let mut all: Vec<_> = Scope::ALL
        .iter()
        .map(|(word, scope)| (*word, if *scope == Scope::Resource { vec![SERVICE_NAME] } else { Vec::new() }))
        .collect();
    all.push((INTRINSIC, Intrinsic::names().collect()));
    match wanted {
        None | Some("none") => {}
        Some(scope) if all.iter().any(|(word, _)| *word == scope) => all.retain(|(word, _)| *word == scope),
        Some(scope) => return Err(format!("invalid scope {scope:?}")),
    }
    Ok(all)
}

/// Names in one list.
pub(crate) async fn names_v1(_: Caller, Query(params): Pairs) -> Response {
    match scopes(Params(params).get("scope")) {
        Ok(scopes) => {
            let names: BTreeSet<_> = scopes.into_iter().flat_map(|(_, names)| names).collect();
            answer(&json!({"tagNames": names, "metrics": {}}))
        }
        Err(message) => bad(message),
    }
}

/// Names by scope.
pub(crate) async fn names_v2(_: Caller, Query(params): Pairs) -> Response {
    match scopes(Params(params).get("scope")) {
        Ok(scopes) => {
            let scopes: Vec<_> = scopes.iter().map(|(name, tags)| json!({"name": name, "tags": tags})).collect();
            answer(&json!({"scopes": scopes, "metrics": {}}))
        }
        Err(message) => bad(message),
    }
}

/// Values as texts. The tag is a key, without a scope.
pub(crate) async fn values_v1(
    State(api): State<Arc<TempoApi>>,
    caller: Caller,
    Path(tag): Path<String>,
    Query(params): Pairs,
) -> Response {
    let field = Intrinsic::of(&tag).map_or_else(|| Field::Attribute { scope: None, key: tag }, Field::Intrinsic);
    values(&api, &caller, field, &Params(params), |(_, value)| json!(value)).await
}

/// Values with their types. The tag is a field of TraceQL.
pub(crate) async fn values_v2(
    State(api): State<Arc<TempoApi>>,
    caller: Caller,
    Path(tag): Path<String>,
    Query(params): Pairs,
) -> Response {
    let params = Params(params);
    let field = match field_of(&tag) {
        Ok(field) => field,
        Err(message) => return bad(format!("invalid tag: {message}")),
    };
    if let Some(Err(error)) = params.get("q").map(parse) {
        return bad(format!("invalid TraceQL query: {error}"));
    }
    values(&api, &caller, field, &params, |(kind, value)| json!({"type": kind, "value": value})).await
}

/// A field as TraceQL writes it; a bare key is taken for an attribute.
fn field_of(tag: &str) -> Result<Field, String> {
    if let Some(intrinsic) = Intrinsic::of(tag) {
        return Ok(Field::Intrinsic(intrinsic));
    }
    let selected = parse(&format!("{{}} | select({tag})")).or_else(|_| parse(&format!("{{}} | select(.{tag})")));
    match selected.map(|query| query.selected) {
        Ok(fields) if fields.len() == 1 => Ok(fields[0].clone()),
        Ok(_) => Err(format!("{tag:?} is not one field")),
        Err(error) => Err(error.message),
    }
}

async fn values(
    api: &Arc<TempoApi>,
    caller: &Caller,
    field: Field,
    params: &Params,
    shown: impl Fn((&'static str, String)) -> Value,
) -> Response {
    let limit = match params.count("limit", VALUES_MAX, VALUES_MAX) {
        Ok(limit) => limit,
        Err(message) => return bad(message),
    };
    let read = move |api: &TempoApi, tenant: &TenantId, context: &ReadContext| values_of(api, tenant, &field, context);
    match caller.read(api, (QueryKind::TraceLists, None), read).await {
        Ok(values) => {
            let values: Vec<_> = values.into_iter().take(limit).map(shown).collect();
            answer(&json!({"tagValues": values, "metrics": {}}))
        }
        Err(refusal) => refusal,
    }
}

/// Values with their types, as TraceQL calls them.
fn values_of(
    api: &TempoApi,
    tenant: &TenantId,
    field: &Field,
    context: &ReadContext,
) -> Result<BTreeSet<(&'static str, String)>, StorageError> {
    let words = |is_wanted: fn(&Literal) -> bool| {
        let words = Literal::WORDS.iter().filter(|(_, literal)| is_wanted(literal));
        words.map(|(word, _)| ("keyword", (*word).to_owned())).collect()
    };
    Ok(match field {
        Field::Intrinsic(Intrinsic::Status) => words(|literal| matches!(literal, Literal::Status(_))),
        Field::Intrinsic(Intrinsic::Kind) => words(|literal| matches!(literal, Literal::Kind(_))),
        Field::Intrinsic(Intrinsic::Name | Intrinsic::RootName) => {
            let mut names = BTreeSet::new();
            for service in api.store.services(tenant)? {
                context.check()?;
                let operations = api.store.operations(tenant, &OperationQuery { service, kind: None })?;
                names.extend(operations.into_iter().map(|operation| ("string", operation.name)));
            }
            names
        }
        Field::Intrinsic(Intrinsic::RootService) => services(api, tenant)?,
        Field::Attribute { scope: None | Some(Scope::Resource), key } if key == SERVICE_NAME => services(api, tenant)?,
        _ => BTreeSet::new(),
    })
}

fn services(api: &TempoApi, tenant: &TenantId) -> Result<BTreeSet<(&'static str, String)>, StorageError> {
    Ok(api.store.services(tenant)?.into_iter().map(|service| ("string", service)).collect())
}
