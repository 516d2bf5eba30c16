//! How much a tenant or a credential may: the names and types of all limits. What is not set is left to the next: a token's to its
//! tenant's, that to the one of all tenants.

use pharos_base::{ByteSize, HumanDuration};
use pharos_http::QueryLimits;
use serde::{Deserialize, Serialize};

/// Declares the limits once: the struct, their names, and how two sets of them are laid over each other.
macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ty,)+) => {
        /// Limits that may be set for all tenants, for one, or for one credential; `None`: not limited here.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct LimitOverrides {
            $($(#[doc = $doc])+ #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<$kind>,)+
        }

        impl LimitOverrides {
            /// Names of all limits, in order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];

            /// These limits, and those of `lower` where these say nothing.
            #[must_use]
            pub fn over(&self, lower: &Self) -> Self {
                Self { $($name: self.$name.or(lower.$name),)+ }
            }

            /// The lower of each limit.
            #[must_use]
            pub fn strictest_with(&self, other: &Self) -> Self {
                Self { $($name: least(self.$name, other.$name),)+ }
            }
        }
    };
}

limits! {
    /// Requests of writers that may be under way at a time.
    requests_in_flight: u32,
    /// Bytes of bodies in a second, as sent.
    bytes_per_second: ByteSize,
    /// Samples written in a second.
    samples_per_second: u64,
    /// Spans written in a second.
    spans_per_second: u64,
    /// Series that are active.
    series_active: u64,
    /// Largest body, inflated; may only lower the server's, and so may all that follow.
    body_max: ByteSize,
    /// Labels of a series, the metric name included.
    labels_max: usize,
    /// Bytes of a label's name.
    label_name_bytes_max: usize,
    /// Bytes of a label's value.
    label_value_bytes_max: usize,
    /// Attributes of a span, those of its events and links included.
    span_attributes_max: usize,
    /// Events of a span.
    span_events_max: usize,
    /// Links of a span.
    span_links_max: usize,
    /// Queries that may run at a time; more wait.
    queries_in_flight: u32,
    /// Queries that may wait for their turn.
    queries_queued: u32,
    /// Longest time of a query, its wait included.
    query_timeout: HumanDuration,
    /// Memory of a query.
    query_memory_max: ByteSize,
    /// Samples that a query may hold at a time.
    query_samples_max: u64,
    /// Series that one selector of a query may touch.
    query_series_max: u64,
}

fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl LimitOverrides {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Those of queries, as a tenant's.
    #[must_use]
    pub fn of_queries(&self) -> QueryLimits {
        QueryLimits {
            in_flight: self.queries_in_flight,
            queued: self.queries_queued,
            own: None,
            timeout: self.query_timeout.map(|timeout| timeout.0),
            memory_bytes_max: self.query_memory_max.map(|bytes| bytes.0),
            samples_max: self.query_samples_max,
            series_max: self.query_series_max,
            body_bytes_max: self.body_max.map(|bytes| bytes.0),
        }
    }

    /// Whether something is limited that has to be counted over requests of writers, beside series.
    pub(crate) fn counts(&self) -> bool {
        self.requests_in_flight.is_some()
            || self.bytes_per_second.is_some()
            || self.samples_per_second.is_some()
            || self.spans_per_second.is_some()
    }
}
