//! What can go wrong in a store.

use std::time::Duration;

use pharos_base::{BudgetBound, BudgetExceeded, ErrorClass, Interrupted};

/// What can go wrong in a store, whatever its engine.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum StorageError {
    /// The request makes no sense, whatever is stored.
    #[error("{message}")]
    Invalid { message: String },
    /// A limit was reached; `hint` says what to do.
    #[error("{what} limit of {limit} reached: {hint}")]
    LimitExceeded { what: &'static str, limit: u64, hint: &'static str },
    /// The engine cannot do this; nothing was approximated.
    #[error("not supported by this store: {what}")]
    Unsupported { what: String },
    /// Not now: disk full, overloaded, stopping. Any part of the batch may be stored; a repetition completes
    /// it and changes nothing else.
    #[error("store unavailable: {reason}")]
    Unavailable { reason: String, retry_after: Option<Duration> },
    /// The caller went away or the deadline passed.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The query's memory budget is used up.
    #[error("query {0}; {advice}", advice = memory_advice(.0))]
    Memory(#[from] BudgetExceeded),
    /// Damaged data or a bug; `source` says which.
    #[error("{action} failed")]
    Internal { action: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
}

impl StorageError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Invalid { .. } => ErrorClass::Invalid,
            Self::LimitExceeded { .. } => ErrorClass::LimitExceeded,
            Self::Memory(exceeded) => exceeded.class(),
            Self::Unsupported { .. } => ErrorClass::Unsupported,
            Self::Unavailable { .. } => ErrorClass::Unavailable,
            Self::Interrupted(Interrupted::Cancelled) => ErrorClass::Cancelled,
            Self::Interrupted(Interrupted::DeadlineExceeded) => ErrorClass::Timeout,
            Self::Internal { .. } => ErrorClass::Internal,
        }
    }

    /// The message with all its sources, for a log line or an operator.
    #[must_use]
    pub fn full_message(&self) -> String {
        pharos_base::full_message(self)
    }

    /// "Not now", to be tried again after a moment.
    #[must_use]
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), retry_after: Some(Duration::from_secs(5)) }
    }
}

/// What whoever asked can do about memory that is used up.
#[must_use]
pub fn memory_advice(exceeded: &BudgetExceeded) -> &'static str {
    match exceeded.bound {
        BudgetBound::Common => "other queries hold the rest: ask again later, or raise query.memory_total_max",
        BudgetBound::Share => {
            "other queries of this tenant hold it: ask again later, ask less at a time, or raise query.memory_total_max"
        }
        BudgetBound::Own => {
            "narrow the selection or the time range, or raise query.memory_max (limits.query_memory_max where a tenant or credential has its own)"
        }
    }
}
