//! Messages of `jaeger.api_v2` as questions to the store.

use pharos_model::TraceId;
use pharos_proto::jaeger::api_v2::TraceQueryParameters;
use pharos_storage::TraceQuery;

use crate::filter::filter_of;
use crate::grpc_params::{Search, optional_ns, whole_range};

/// An id of 16 bytes, or of 8 where the upper half is zero.
pub(crate) fn trace_id(bytes: &[u8]) -> Result<TraceId, String> {
    let mut id = [0; 16];
    match bytes.len() {
        length @ (8 | 16) => id[16 - length..].copy_from_slice(bytes),
        other => return Err(format!("trace_id: {other} bytes, 16 or 8 are asked for")),
    }
    if id == [0; 16] {
        return Err("uninitialized TraceID is not allowed".to_owned());
    }
    Ok(TraceId(id))
}

pub(crate) fn query(query: Option<TraceQueryParameters>) -> Result<TraceQuery, String> {
    let query = query.ok_or("missing query")?;
    let start_ns = optional_ns("query.start_time_min", query.start_time_min)?;
    let end_ns = optional_ns("query.start_time_max", query.start_time_max)?;
    Search {
        service: query.service_name,
        operation: query.operation_name,
        filters: query.tags.iter().map(|(key, value)| filter_of(key, value)).collect(),
        start: whole_range(start_ns, end_ns),
        duration_min: query.duration_min,
        duration_max: query.duration_max,
        depth: query.search_depth,
        filter: None,
    }
    .checked()
}
