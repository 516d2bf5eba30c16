//! How much a tenant or a credential may: the names and types of all limits. What is not set is left to the next: a token's to its
//! tenant's, that to the one of all tenants.

use pharos_base::ByteSize;
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
    /// Largest body, inflated; may only lower the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_max: Option<ByteSize>,
}

impl LimitOverrides {
    /// Names of all limits, in order.
    pub const NAMES: [&'static str; 5] =
        ["requests_in_flight", "bytes_per_second", "samples_per_second", "spans_per_second", "body_max"];

    /// These limits, and those of `lower` where these say nothing.
    #[must_use]
    pub fn over(&self, lower: &Self) -> Self {
        Self {
            requests_in_flight: self.requests_in_flight.or(lower.requests_in_flight),
            bytes_per_second: self.bytes_per_second.or(lower.bytes_per_second),
            samples_per_second: self.samples_per_second.or(lower.samples_per_second),
            spans_per_second: self.spans_per_second.or(lower.spans_per_second),
            body_max: self.body_max.or(lower.body_max),
        }
    }

    /// The lower of each limit.
    #[must_use]
    pub fn strictest_with(&self, other: &Self) -> Self {
        fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }
        }
        Self {
            requests_in_flight: least(self.requests_in_flight, other.requests_in_flight),
            bytes_per_second: least(self.bytes_per_second, other.bytes_per_second),
            samples_per_second: least(self.samples_per_second, other.samples_per_second),
            spans_per_second: least(self.spans_per_second, other.spans_per_second),
            body_max: least(self.body_max, other.body_max),
        }
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether something is limited that has to be counted over requests.
    pub(crate) fn counts(&self) -> bool {
        self.requests_in_flight.is_some()
            || self.bytes_per_second.is_some()
            || self.samples_per_second.is_some()
            || self.spans_per_second.is_some()
    }
}
