//! Messages of `jaeger.storage.v2` as questions to the store; every message of a mistake names its field.

use pharos_model::{Attribute, AttributeValue, TraceId};
use pharos_proto::jaeger::storage_v2::any_value::Value;
use pharos_proto::jaeger::storage_v2::{AnyValue, GetTraceParams, KeyValue, TraceQueryParameters};
use pharos_storage::{SpanFilter, TraceLookup, TraceQuery, render_attribute_value};

use crate::filter::filter_of;
use crate::grpc_params::{Search, lookup_range, optional_ns, whole_range};

pub(crate) fn lookups(params: &[GetTraceParams]) -> Result<Vec<TraceLookup>, String> {
    let lookup = |params: &GetTraceParams| {
        let bytes = <[u8; 16]>::try_from(params.trace_id.as_slice());
        let bytes = bytes.map_err(|_| format!("trace_id: {} bytes, 16 are asked for", params.trace_id.len()))?;
        let range = lookup_range(params.start_time, params.end_time)?;
        Ok(TraceLookup { trace_id: TraceId(bytes), range })
    };
    params.iter().map(lookup).collect()
}

pub(crate) fn query(query: Option<TraceQueryParameters>) -> Result<TraceQuery, String> {
    let query = query.ok_or("query is required")?;
    // Pages that were left out would repeat the first one for ever.
    if query.pagination.is_some() {
        return Err("query.pagination: results come in one page; use query.search_depth".to_owned());
    }
    let start_ns = optional_ns("query.start_time_min", query.start_time_min)?;
    let end_ns = optional_ns("query.start_time_max", query.start_time_max)?;
    Search {
        service: query.service_name,
        operation: query.operation_name,
        filters: query.attributes.into_iter().filter_map(filter).collect(),
        start: whole_range(start_ns, end_ns),
        duration_min: query.duration_min,
        duration_max: query.duration_max,
        depth: query.search_depth,
        filter: query.filter,
    }
    .checked()
}

fn filter(KeyValue { key, value }: KeyValue) -> Option<SpanFilter> {
    let value = attribute_value(value?);
    Some(filter_of(&key, &render_attribute_value(&value)))
}

/// How deep values nest is the limit of the messages' decoder.
fn attribute_value(value: AnyValue) -> AttributeValue {
    match value.value {
        None => AttributeValue::Empty,
        Some(Value::StringValue(text)) => AttributeValue::String(text),
        Some(Value::BoolValue(truth)) => AttributeValue::Bool(truth),
        Some(Value::IntValue(number)) => AttributeValue::Int(number),
        Some(Value::DoubleValue(number)) => AttributeValue::Double(number),
        Some(Value::BytesValue(bytes)) => AttributeValue::Bytes(bytes),
        Some(Value::ArrayValue(array)) => {
            AttributeValue::Array(array.values.into_iter().map(attribute_value).collect())
        }
        Some(Value::KvlistValue(list)) => {
            let attribute = |KeyValue { key, value }| Attribute {
                key,
                value: value.map_or(AttributeValue::Empty, attribute_value),
            };
            AttributeValue::Map(list.values.into_iter().map(attribute).collect())
        }
    }
}
