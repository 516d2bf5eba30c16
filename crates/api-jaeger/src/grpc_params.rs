//! Messages of API v3 as questions to the store; every message of a mistake names its field.

use pharos_model::TimeRangeNs;
use pharos_proto::jaeger::api_v3::{
    GetDependenciesRequest, GetOperationsRequest, GetTraceRequest, TraceQueryParameters,
};
use pharos_storage::{OperationQuery, TraceLookup, TraceQuery};
use prost_types::{Duration, Timestamp};

use crate::filter::{filter_of, kind_of};
use crate::params::checked_query;
use crate::trace_id::parse_trace_id;

const NS_PER_S: u64 = 1_000_000_000;

pub(crate) fn lookup(request: &GetTraceRequest) -> Result<TraceLookup, String> {
    let trace_id =
        parse_trace_id(&request.trace_id).ok_or_else(|| format!("cannot parse trace id {:?}", request.trace_id))?;
    let start_ns = optional_ns("start_time", request.start_time)?;
    let end_ns = optional_ns("end_time", request.end_time)?;
    let range = (start_ns.is_some() || end_ns.is_some())
        .then(|| TimeRangeNs::inclusive(start_ns.unwrap_or(0), end_ns.unwrap_or(u64::MAX - 1)));
    Ok(TraceLookup { trace_id, range })
}

pub(crate) fn query(query: Option<TraceQueryParameters>) -> Result<TraceQuery, String> {
    let query = query.ok_or("query is required")?;
    let start_ns = required_ns("query.start_time_min", query.start_time_min)?;
    let end_ns = required_ns("query.start_time_max", query.start_time_max)?;
    if start_ns >= end_ns {
        return Err("query.start_time_min must lie before query.start_time_max".to_owned());
    }
    if query.filter.is_some() {
        return Err("query.filter: structured filters are not supported; use query.attributes".to_owned());
    }
    let text = |text: String| (!text.is_empty()).then_some(text);
    let found = TraceQuery {
        service: text(query.service_name),
        operation: text(query.operation_name),
        filters: query.attributes.iter().map(|(key, value)| filter_of(key, value)).collect(),
        predicate: None,
        start: TimeRangeNs { start_ns, end_ns },
        duration_min_ns: duration_ns("query.duration_min", query.duration_min)?,
        duration_max_ns: duration_ns("query.duration_max", query.duration_max)?,
        limit: usize::try_from(query.search_depth).unwrap_or(0),
    };
    checked_query(found, ["query.duration_min", "query.duration_max", "query.search_depth"])
}

pub(crate) fn operations(request: GetOperationsRequest) -> Result<OperationQuery, String> {
    if request.service.is_empty() {
        return Err("service is required".to_owned());
    }
    let word = request.span_kind;
    let kind = match word.as_str() {
        "" => None,
        _ => Some(kind_of(&word).ok_or_else(|| format!("span_kind: {word:?} is no kind of span"))?),
    };
    Ok(OperationQuery { service: request.service, kind })
}

pub(crate) fn dependencies(request: &GetDependenciesRequest) -> Result<TimeRangeNs, String> {
    let start_ns = required_ns("start_time", request.start_time)?;
    Ok(TimeRangeNs::inclusive(start_ns, required_ns("end_time", request.end_time)?))
}

fn required_ns(name: &str, time: Option<Timestamp>) -> Result<u64, String> {
    optional_ns(name, time)?.ok_or_else(|| format!("{name} is required"))
}

fn optional_ns(name: &str, time: Option<Timestamp>) -> Result<Option<u64>, String> {
    let ns = |Timestamp { seconds, nanos }| {
        whole_ns(seconds, nanos).ok_or_else(|| format!("{name}: {seconds} s and {nanos} ns are no time since 1970"))
    };
    time.map(ns).transpose()
}

/// A bound of the duration; zero is none.
fn duration_ns(name: &str, duration: Option<Duration>) -> Result<Option<u64>, String> {
    let ns = |Duration { seconds, nanos }| {
        whole_ns(seconds, nanos).ok_or_else(|| format!("{name}: {seconds} s and {nanos} ns are no duration"))
    };
    Ok(duration.map(ns).transpose()?.filter(|&ns| ns > 0))
}

fn whole_ns(seconds: i64, nanos: i32) -> Option<u64> {
    let nanos = u64::try_from(nanos).ok().filter(|&nanos| nanos < NS_PER_S)?;
    u64::try_from(seconds).ok()?.checked_mul(NS_PER_S)?.checked_add(nanos)
}
