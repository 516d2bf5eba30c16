//! What a tenant or a credential may with its queries, where that is less than the server allows.

use std::time::Duration;

use http::Extensions;

use crate::fair::{LaneLimits, OwnLimits};

/// Limits of queries; `None`: the server's alone. They only lower these.
///
/// Who admits a request leaves them in its extensions, and who answers it finds them there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryLimits {
    /// Queries of the tenant that may run at a time, whoever asks.
    pub in_flight: Option<u32>,
    /// Queries of the tenant that may wait for their turn.
    pub queued: Option<u32>,
    /// What the credential's own queries may of both, if it has limits of its own.
    pub own: Option<OwnLimits>,
    /// Longest time, the wait included.
    pub timeout: Option<Duration>,
    /// Memory of one query, bytes.
    pub memory_bytes_max: Option<u64>,
    /// Samples that one may hold at a time.
    pub samples_max: Option<u64>,
    /// Series that one selector may touch.
    pub series_max: Option<u64>,
    /// Largest body of a request, inflated or not, bytes.
    pub body_bytes_max: Option<u64>,
}

impl QueryLimits {
    /// Those of a request.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_default()
    }

    /// The lower of the server's memory of one query and these limits'.
    #[must_use]
    pub fn memory_within(&self, bytes_max: u64) -> u64 {
        self.memory_bytes_max.map_or(bytes_max, |own| own.min(bytes_max))
    }

    pub(crate) fn lane(&self) -> LaneLimits {
        LaneLimits { held_max: self.in_flight, waiting_max: self.queued, own: self.own }
    }
}
