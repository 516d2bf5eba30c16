//! Why a query has no answer.

use std::time::Duration;

use pharos_base::{BudgetExceeded, ErrorClass, HumanDuration, Interrupted};
use pharos_storage::{StorageError, memory_advice};

use crate::ParseError;
use crate::ast::ValueType;
use crate::duration::DurationError;
use crate::position::LineColumn;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum QueryError {
    /// The text is not valid PromQL.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A duration expression has no usable value in this query.
    #[error("{place}: parse error: {source}")]
    Duration { place: LineColumn, source: DurationError },
    /// Text, time range or step make no query.
    #[error("{message}")]
    Invalid { message: String },
    /// Range queries answer scalars and instant vectors only.
    #[error("invalid expression type {:?} for range query, must be Scalar or instant Vector", .found.documented_name())]
    RangeType { found: ValueType },
    /// The expression is valid but these data have no answer, for instance because two series collide.
    #[error("{message}")]
    Execution { message: String },
    /// More samples at once than [`super::EngineSettings::samples_max`].
    #[error(
        "query processing would load too many samples into memory in query execution: more than {limit}; select fewer series or a shorter range, or raise query.samples_max (limits.query_samples_max where a tenant or credential has its own)"
    )]
    TooManySamples { limit: u64 },
    /// An answer of more points than [`super::EngineSettings::points_max`].
    #[error(
        "the answer has {points} points, more than the limit of {limit}: use a longer step, aggregate, or raise query.points_max"
    )]
    TooManyPoints { points: u64, limit: u64 },
    /// More steps than [`super::EngineSettings::steps_max`].
    #[error("the query has {steps} steps, more than the limit of {limit}: use a longer step or a shorter range")]
    TooManySteps { steps: usize, limit: usize },
    /// The query's memory is used up, or that of all queries.
    #[error("query {0}; {advice}", advice = memory_advice(.0))]
    Memory(#[from] BudgetExceeded),
    /// Cancelled, or later than its caller wanted it.
    #[error("query {}", match .0 { Interrupted::Cancelled => "was canceled in query execution", Interrupted::DeadlineExceeded => "timed out in query execution" })]
    Interrupted(#[from] Interrupted),
    /// Longer than [`super::EngineSettings::timeout`].
    #[error(
        "query timed out in query execution: it took longer than {}; narrow the selection or the time range, or raise query.timeout",
        HumanDuration(*.limit)
    )]
    TimedOut { limit: Duration },
    /// Understood, but not computed by this version; nothing was approximated.
    #[error("{feature} is not supported yet: {detail}")]
    Unsupported { feature: String, detail: String },
    /// The store refused.
    #[error(transparent)]
    Storage(StorageError),
}

impl QueryError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Parse(_)
            | Self::Duration { .. }
            | Self::Invalid { .. }
            | Self::RangeType { .. }
            | Self::Execution { .. } => ErrorClass::Invalid,
            Self::TooManySamples { .. } | Self::TooManyPoints { .. } | Self::TooManySteps { .. } => {
                ErrorClass::LimitExceeded
            }
            Self::Memory(exceeded) => exceeded.class(),
            Self::Interrupted(Interrupted::Cancelled) => ErrorClass::Cancelled,
            Self::Interrupted(Interrupted::DeadlineExceeded) | Self::TimedOut { .. } => ErrorClass::Timeout,
            Self::Unsupported { .. } => ErrorClass::Unsupported,
            Self::Storage(error) => error.class(),
        }
    }

    /// Whether text or parameters alone are at fault: `bad_data` in Prometheus' dialect. An `Invalid` that is not
    /// is `execution`: the query is sound, but these data have no answer.
    #[must_use]
    pub fn is_bad_data(&self) -> bool {
        matches!(self, Self::Parse(_) | Self::Duration { .. } | Self::Invalid { .. } | Self::RangeType { .. })
    }

    pub(crate) fn execution(message: impl Into<String>) -> Self {
        Self::Execution { message: message.into() }
    }

    pub(crate) fn unsupported(feature: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Unsupported { feature: feature.into(), detail: detail.into() }
    }
}

impl From<StorageError> for QueryError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Interrupted(why) => Self::Interrupted(why),
            StorageError::Memory(exceeded) => Self::Memory(exceeded),
            other => Self::Storage(other),
        }
    }
}
