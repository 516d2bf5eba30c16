//! How much a tenant or a credential may: the names and types of all limits. What is not set is left to the next: a token's to its
//! tenant's, that to the one of all tenants.

use pharos_base::{ByteSize, HumanDuration};
use serde::{Deserialize, Serialize};

/// Limits that may be set for all tenants, for one, or for one credential; `None`: not limited here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitOverrides {
    /// Requests that may be under way at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_in_flight: Option<u32>,
    /// Bytes of bodies in a second, as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<ByteSize>,
    /// Samples written in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples_per_second: Option<u64>,
    /// Spans written in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spans_per_second: Option<u64>,
    /// Series that may be active at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series_active: Option<u64>,
    /// Largest body, inflated; may only lower the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_max: Option<ByteSize>,
    /// Labels of a series; may only lower the server's, and so may those below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels_max: Option<usize>,
    /// Bytes of a label's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_name_bytes_max: Option<usize>,
    /// Bytes of a label's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_value_bytes_max: Option<usize>,
    /// Attributes of a span.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_attributes_max: Option<usize>,
    /// Events of a span.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_events_max: Option<usize>,
    /// Queries that may run at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queries_in_flight: Option<u32>,
    /// Queries that may wait for their turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queries_queued: Option<u32>,
    /// Longest time of a query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_timeout: Option<HumanDuration>,
    /// Memory of a query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_memory_max: Option<ByteSize>,
    /// Samples a query may load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_samples_max: Option<u64>,
    /// Series a query may select.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_series_max: Option<u64>,
}
