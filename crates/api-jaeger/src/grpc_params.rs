//! What the gRPC services ask, as questions to the store; every message of a mistake names its field.

use pharos_model::TimeRangeNs;
use pharos_proto::jaeger::api_v3::{GetTraceRequest, TraceQueryParameters};
use pharos_proto::jaeger::expression_v1::Call;
use pharos_storage::{OperationQuery, SpanFilter, TraceLookup, TraceQuery};
use prost_types::{Duration, Timestamp};
use tonic::Status;

use crate::filter::{filter_of, kind_of};
use crate::filter_tree::{check_size, predicate_of};
use crate::params::{checked_query, with_predicate};
use crate::trace_id::parse_trace_id;

const NS_PER_S: u64 = 1_000_000_000;
/// What clients written in Go send for a time that was never set: the beginning of year 1.
const GO_ZERO_S: i64 = -62_135_596_800;

pub(crate) fn lookup(request: &GetTraceRequest) -> Result<TraceLookup, String> {
    let trace_id =
        parse_trace_id(&request.trace_id).ok_or_else(|| format!("cannot parse trace id {:?}", request.trace_id))?;
    Ok(TraceLookup { trace_id, range: lookup_range(request.start_time, request.end_time)? })
}

/// Where to look for a trace, if one of the bounds is known.
pub(crate) fn lookup_range(start: Option<Timestamp>, end: Option<Timestamp>) -> Result<Option<TimeRangeNs>, String> {
    let (start_ns, end_ns) = (optional_ns("start_time", start)?, optional_ns("end_time", end)?);
    Ok((start_ns.is_some() || end_ns.is_some()).then(|| whole_range(start_ns, end_ns)))
}

/// From one instant to another, both inside.
pub(crate) fn whole_range(start_ns: Option<u64>, end_ns: Option<u64>) -> TimeRangeNs {
    TimeRangeNs::inclusive(start_ns.unwrap_or(0), end_ns.unwrap_or(u64::MAX - 1))
}

pub(crate) fn query(query: Option<TraceQueryParameters>) -> Result<TraceQuery, String> {
    let query = query.ok_or("query is required")?;
    let start_ns = required_ns("query.start_time_min", query.start_time_min)?;
    let end_ns = required_ns("query.start_time_max", query.start_time_max)?;
    if start_ns >= end_ns {
        return Err("query.start_time_min must lie before query.start_time_max".to_owned());
    }
    Search {
        service: query.service_name,
        operation: query.operation_name,
        filters: query.attributes.iter().map(|(key, value)| filter_of(key, value)).collect(),
        // This API's own words: the first instant is inside, the last is not.
        start: TimeRangeNs { start_ns, end_ns },
        duration_min: query.duration_min,
        duration_max: query.duration_max,
        depth: query.search_depth,
        filter: query.filter,
    }
    .checked()
}

/// What the searches of all services have in common.
pub(crate) struct Search {
    pub(crate) service: String,
    pub(crate) operation: String,
    pub(crate) filters: Vec<SpanFilter>,
    pub(crate) start: TimeRangeNs,
    pub(crate) duration_min: Option<Duration>,
    pub(crate) duration_max: Option<Duration>,
    pub(crate) depth: i32,
    pub(crate) filter: Option<Call>,
}

impl Search {
    pub(crate) fn checked(self) -> Result<TraceQuery, String> {
        let text = |text: String| (!text.is_empty()).then_some(text);
        let predicate = self.filter.as_ref().map(predicate_of).transpose();
        let predicate = predicate.map_err(|problem| format!("query.{problem}"))?;
        let found = TraceQuery {
            service: text(self.service),
            operation: text(self.operation),
            filters: self.filters,
            predicate: None,
            start: self.start,
            duration_min_ns: duration_ns("query.duration_min", self.duration_min)?,
            duration_max_ns: duration_ns("query.duration_max", self.duration_max)?,
            limit: usize::try_from(self.depth).unwrap_or(0),
        };
        let found = checked_query(found, ["query.duration_min", "query.duration_max", "query.search_depth"])?;
        with_predicate(found, predicate)
    }
}

/// Attributes a search asks for, and traces that are read at a time.
const LISTED_MAX: usize = 10_000;

/// Refuses what is more than any question may hold, before it waits for its turn.
pub(crate) fn bounded(what: &str, count: usize, filter: Option<&Call>) -> Result<(), Status> {
    if count > LISTED_MAX {
        return Err(Status::invalid_argument(format!(
            "{what}: {count}, more than {LISTED_MAX}: ask for less at a time"
        )));
    }
    let filter = filter.map_or(Ok(()), check_size);
    filter.map_err(|problem| Status::invalid_argument(format!("query.{problem}")))
}

pub(crate) fn operations(service: String, kind: &str) -> Result<OperationQuery, String> {
    if service.is_empty() {
        return Err("service is required".to_owned());
    }
    let kind = match kind {
        "" => None,
        word => Some(kind_of(word).ok_or_else(|| format!("span_kind: {word:?} is no kind of span"))?),
    };
    Ok(OperationQuery { service, kind })
}

pub(crate) fn dependency_range(start: Option<Timestamp>, end: Option<Timestamp>) -> Result<TimeRangeNs, String> {
    let (start_ns, end_ns) = (required_ns("start_time", start)?, required_ns("end_time", end)?);
    if start_ns > end_ns {
        return Err("start_time must not lie after end_time".to_owned());
    }
    Ok(TimeRangeNs::inclusive(start_ns, end_ns))
}

fn required_ns(name: &str, time: Option<Timestamp>) -> Result<u64, String> {
    optional_ns(name, time)?.ok_or_else(|| format!("{name} is required"))
}

pub(crate) fn optional_ns(name: &str, time: Option<Timestamp>) -> Result<Option<u64>, String> {
    let ns = |Timestamp { seconds, nanos }| {
        whole_ns(seconds, nanos).ok_or_else(|| format!("{name}: {seconds} s and {nanos} ns are no time since 1970"))
    };
    time.filter(|time| time.seconds != GO_ZERO_S || time.nanos != 0).map(ns).transpose()
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
