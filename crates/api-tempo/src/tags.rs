//! Names and values for completion, as the store lists them for the range of time that is asked.
//!
//! With `q`, what is on spans that pass it; what it asks of traces (their root, their duration) narrows nothing. Lists are
//! sorted and cut at the limit the client gives; where that or a limit of the store leaves something out, the answer says
//! that it is partial, which Grafana skips.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use pharos_http::QueryKind;
use pharos_model::{TenantId, TimeRangeNs};
use pharos_storage::{
    AttributeKeyQuery, AttributeLevel, ListedType, ReadContext, SpanField, SpanPredicate, SpanReference, StorageError,
    ValueQuery,
};
use serde_json::{Value, json};

use crate::call::{Caller, OfTag, bad};
use crate::params::Params;
use crate::routes::TempoApi;
use crate::traceql::{Field, Filter, Folded, Intrinsic, Known, Literal, Scope, parse};

/// Names of a scope, or values, that an answer has where the client does not say.
const LISTED_DEFAULT: usize = 5_000;
/// At most so many.
const LISTED_MAX: usize = 10_000;
/// The scope of what is no attribute.
const INTRINSIC: &str = "intrinsic";

type Pairs = Query<Vec<(String, String)>>;

/// Which list.
struct Asked {
    range: TimeRangeNs,
    limit: usize,
    /// TraceQL.
    narrowing: Option<String>,
}

impl Asked {
    fn of(params: &Params) -> Result<Self, String> {
        Ok(Self {
            range: params.range()?.unwrap_or(TimeRangeNs::ALL),
            limit: params.count("limit", LISTED_DEFAULT, LISTED_MAX)?,
            narrowing: params.get("q").map(str::to_owned),
        })
    }

    /// What spans have to pass. To be called within the job: patterns take their time to compile.
    fn folded(&self) -> Result<Folded, StorageError> {
        let Some(text) = &self.narrowing else { return Ok(Folded::Always(true)) };
        let query = parse(text).map_err(|error| format!("invalid TraceQL query: {error}"));
        let filter = query.and_then(|query| Filter::of(&query));
        filter.map(|filter| filter.fold(Known::Nothing)).map_err(|message| StorageError::Invalid { message })
    }
}

/// An answer, and whether all is in it.
fn answer(mut value: Value, is_complete: bool) -> Response {
    value["metrics"] = json!({});
    if !is_complete {
        value["status"] = json!("PARTIAL");
        value["message"] = json!("there is more: narrow the query or the range, or raise the limit");
    }
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// Names by the words of their scopes, in the order of these, and whether all are there.
type Names = (Vec<(&'static str, BTreeSet<String>)>, bool);

async fn names(api: &Arc<TempoApi>, caller: &Caller, params: Params) -> Result<Names, Response> {
    let wanted = match params.get("scope") {
        None | Some("none") => None,
        Some(scope) if scope == INTRINSIC || Scope::of(scope).is_some() => Some(scope.to_owned()),
        Some(scope) => return Err(bad(format!("invalid scope {scope:?}"))),
    };
    let asked = Asked::of(&params).map_err(bad)?;
    let range = asked.range;
    let read = move |api: &TempoApi, tenant: &TenantId, context: &ReadContext| {
        names_of(api, tenant, wanted.as_deref(), &asked, context)
    };
    caller.read(api, (QueryKind::TraceLists, Some(range)), read).await
}

fn names_of(
    api: &TempoApi,
    tenant: &TenantId,
    wanted: Option<&str>,
    asked: &Asked,
    context: &ReadContext,
) -> Result<Names, StorageError> {
    let is_wanted = |word: &str| wanted.is_none_or(|wanted| wanted == word);
    let mut by_level: BTreeMap<AttributeLevel, BTreeSet<String>> = BTreeMap::new();
    let mut is_complete = true;
    let predicate = match asked.folded()? {
        Folded::Always(truth) => truth.then_some(None),
        Folded::If(predicate) => Some(Some(predicate)),
    };
    if let Some(predicate) = predicate.filter(|_| wanted != Some(INTRINSIC)) {
        let level = wanted.and_then(Scope::of).map(level_of);
        let limit = if level.is_some() { asked.limit } else { asked.limit * Scope::ALL.len() };
        let query = AttributeKeyQuery { level, range: asked.range, predicate, limit };
        let listed = api.store.attribute_keys(tenant, &query, context)?;
        is_complete = listed.is_complete;
        for entry in listed.entries {
            let keys = by_level.entry(entry.level).or_default();
            if keys.len() < asked.limit {
                keys.insert(entry.key);
            } else {
                is_complete = false;
            }
        }
    }
    let mut names: Vec<_> = Scope::ALL
        .iter()
        .filter(|(word, _)| is_wanted(word))
        .map(|(word, scope)| (*word, by_level.remove(&level_of(*scope)).unwrap_or_default()))
        .collect();
    if is_wanted(INTRINSIC) {
        names.push((INTRINSIC, Intrinsic::names().map(str::to_owned).collect()));
    }
    Ok((names, is_complete))
}

fn level_of(scope: Scope) -> AttributeLevel {
    match scope {
        Scope::Span => AttributeLevel::Span,
        Scope::Resource => AttributeLevel::Resource,
        Scope::Event => AttributeLevel::Event,
        Scope::Link => AttributeLevel::Link,
        Scope::Instrumentation => AttributeLevel::Scope,
    }
}

/// Names in one list.
pub(crate) async fn names_v1(State(api): State<Arc<TempoApi>>, caller: Caller, Query(params): Pairs) -> Response {
    match names(&api, &caller, Params(params)).await {
        Ok((scopes, is_complete)) => {
            let names: BTreeSet<_> = scopes.into_iter().flat_map(|(_, names)| names).collect();
            answer(json!({"tagNames": names}), is_complete)
        }
        Err(refusal) => refusal,
    }
}

/// Names by scope.
pub(crate) async fn names_v2(State(api): State<Arc<TempoApi>>, caller: Caller, Query(params): Pairs) -> Response {
    match names(&api, &caller, Params(params)).await {
        Ok((scopes, is_complete)) => {
            let scopes: Vec<_> = scopes.iter().map(|(name, tags)| json!({"name": name, "tags": tags})).collect();
            answer(json!({"scopes": scopes}), is_complete)
        }
        Err(refusal) => refusal,
    }
}

/// Values as texts. The tag is a key, without a scope.
pub(crate) async fn values_v1(
    State(api): State<Arc<TempoApi>>,
    caller: Caller,
    Path(OfTag { tag }): Path<OfTag>,
    Query(params): Pairs,
) -> Response {
    let field = Intrinsic::of(&tag).map_or_else(|| Field::Attribute { scope: None, key: tag }, Field::Intrinsic);
    values(&api, &caller, field, &Params(params), |values| {
        let texts: BTreeSet<_> = values.into_iter().map(|(_, text)| text).collect();
        json!(texts)
    })
    .await
}

/// Values with their types. The tag is a field of TraceQL.
pub(crate) async fn values_v2(
    State(api): State<Arc<TempoApi>>,
    caller: Caller,
    Path(OfTag { tag }): Path<OfTag>,
    Query(params): Pairs,
) -> Response {
    let field = match field_of(&tag) {
        Ok(field) => field,
        Err(message) => return bad(format!("invalid tag: {message}")),
    };
    values(&api, &caller, field, &Params(params), |values| {
        values.into_iter().map(|(kind, value)| json!({"type": kind, "value": value})).collect()
    })
    .await
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

/// Values with their types, as TraceQL calls them.
type Values = BTreeSet<(&'static str, String)>;

async fn values(
    api: &Arc<TempoApi>,
    caller: &Caller,
    field: Field,
    params: &Params,
    shown: impl Fn(Values) -> Value,
) -> Response {
    let asked = match Asked::of(params) {
        Ok(asked) => asked,
        Err(message) => return bad(message),
    };
    let (range, limit) = (asked.range, asked.limit);
    let read =
        move |api: &TempoApi, tenant: &TenantId, context: &ReadContext| values_of(api, tenant, &field, &asked, context);
    match caller.read(api, (QueryKind::TraceLists, Some(range)), read).await {
        Ok((values, is_complete)) => {
            let is_complete = is_complete && values.len() <= limit;
            answer(json!({"tagValues": shown(values.into_iter().take(limit).collect())}), is_complete)
        }
        Err(refusal) => refusal,
    }
}

fn values_of(
    api: &TempoApi,
    tenant: &TenantId,
    field: &Field,
    asked: &Asked,
    context: &ReadContext,
) -> Result<(Values, bool), StorageError> {
    let folded = asked.folded()?;
    let (of, folded) = match field {
        Field::Intrinsic(Intrinsic::Status) => return Ok((words(|of| matches!(of, Literal::Status(_))), true)),
        Field::Intrinsic(Intrinsic::Kind) => return Ok((words(|of| matches!(of, Literal::Kind(_))), true)),
        Field::Attribute { scope, key } => {
            (SpanReference::Attribute { level: scope.map(level_of), key: key.clone() }, folded)
        }
        // Roots are spans of their own: what is asked of others narrows nothing.
        Field::Intrinsic(Intrinsic::RootName) => (SpanReference::Field(SpanField::Name), Folded::If(is_root())),
        Field::Intrinsic(Intrinsic::RootService) => (SpanReference::Field(SpanField::Service), Folded::If(is_root())),
        Field::Intrinsic(intrinsic) => match listed_field(*intrinsic) {
            Some(field) => (SpanReference::Field(field), folded),
            None => return Ok((Values::new(), true)),
        },
    };
    let predicate = match folded {
        Folded::Always(false) => return Ok((Values::new(), true)),
        Folded::Always(true) => None,
        Folded::If(predicate) => Some(predicate),
    };
    let query = ValueQuery { of, range: asked.range, predicate, limit: asked.limit };
    let listed = api.store.listed_values(tenant, &query, context)?;
    let typed = listed.entries.into_iter().filter_map(|value| Some((type_word(value.value_type)?, value.text)));
    Ok((typed.collect(), listed.is_complete))
}

fn words(is_wanted: fn(&Literal) -> bool) -> Values {
    let words = Literal::WORDS.iter().filter(|(_, literal)| is_wanted(literal));
    words.map(|(word, _)| ("keyword", (*word).to_owned())).collect()
}

fn is_root() -> SpanPredicate {
    SpanPredicate::Not(Box::new(SpanPredicate::Exists(SpanReference::Field(SpanField::ParentSpanId))))
}

/// Fields with texts to choose from; of ids and times there is no use.
fn listed_field(intrinsic: Intrinsic) -> Option<SpanField> {
    match intrinsic {
        Intrinsic::Name => Some(SpanField::Name),
        Intrinsic::StatusMessage => Some(SpanField::StatusMessage),
        Intrinsic::EventName => Some(SpanField::EventName),
        Intrinsic::InstrumentationName => Some(SpanField::ScopeName),
        Intrinsic::InstrumentationVersion => Some(SpanField::ScopeVersion),
        _ => None,
    }
}

/// Tempo's word for a type; arrays, maps and bytes cannot be compared with anything.
fn type_word(value_type: ListedType) -> Option<&'static str> {
    match value_type {
        ListedType::Text => Some("string"),
        ListedType::Bool => Some("bool"),
        ListedType::Int => Some("int"),
        ListedType::Double => Some("float"),
        ListedType::Other => None,
    }
}
