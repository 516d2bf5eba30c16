//! What the operator of an engine and the caller of a query may choose.

use std::time::Duration;

use pharos_base::CancelToken;

use super::QueryWatch;
use crate::ParserOptions;

/// Limits and switches of an engine; one set for all its queries.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "switches that have nothing to do with each other")]
pub struct EngineSettings {
    /// How far back an instant selector looks for the newest sample, ms. Default 5 min.
    pub lookback_ms: i64,
    /// Step of subqueries that name none, ms. Default 1 min.
    pub default_subquery_step_ms: i64,
    /// Longest run of one query. Default 2 min.
    pub timeout: Duration,
    /// What one query may hold in memory at a time, bytes. Default 1 GiB.
    pub memory_bytes_max: u64,
    /// What all queries of the engine may hold together, bytes: their answers count until they are dropped. Default
    /// 4 GiB.
    pub memory_total_bytes_max: u64,
    /// Samples one query may hold in memory at a time. Default 50 million.
    pub samples_max: u64,
    /// Points, floats and histograms of all series together, that one answer may have. Default 50 million.
    pub points_max: u64,
    /// Series one selector may touch. Default 1 million.
    pub series_max: u64,
    /// Steps one range query may have, whoever asks. Default 1 million; doors have lower limits of their own.
    pub steps_max: usize,
    /// What answers of range queries may take in memory until they are asked for again, bytes; 0 keeps none. Default 32 MiB.
    pub cache_bytes_max: u64,
    /// Answers that took fewer samples than this are as cheap to compute as to keep. Default 500.
    pub cache_samples_min: u64,
    /// Whether metric names are removed at the very end only, so that label functions can still see them.
    pub delayed_name_removal: bool,
    /// Whether `rate`, `irate`, `increase` and `resets` read the start timestamps of samples.
    pub use_start_timestamps: bool,
    /// Whether `__type__` tells counters apart, rather than the suffix of the name.
    pub type_and_unit_labels: bool,
    /// Whether a store may compute what it computes only up to rounding ([`pharos_storage::Precision::Rounded`]).
    /// Default: no.
    pub rounded_push_down: bool,
    /// How many steps and samples of series are worth another thread; fewer are evaluated sooner than one is started.
    /// Default 2^20, some 4 ms.
    pub branch_work_min: u64,
    /// Which parts of the language are allowed.
    pub parser: ParserOptions,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            lookback_ms: 300_000,
            default_subquery_step_ms: 60_000,
            timeout: Duration::from_mins(2),
            memory_bytes_max: 1 << 30,
            memory_total_bytes_max: 4 << 30,
            points_max: 50_000_000,
            samples_max: 50_000_000,
            series_max: 1_000_000,
            steps_max: 1_000_000,
            cache_bytes_max: 32 << 20,
            cache_samples_min: 500,
            delayed_name_removal: false,
            use_start_timestamps: false,
            type_and_unit_labels: false,
            rounded_push_down: false,
            branch_work_min: 1 << 20,
            parser: ParserOptions::default(),
        }
    }
}

/// What the caller of one query may choose.
#[derive(Debug, Clone, Default)]
pub struct QueryOptions {
    /// Replaces [`EngineSettings::lookback_ms`].
    pub lookback_ms: Option<i64>,
    /// Lowers [`EngineSettings::timeout`]; a longer one has no effect.
    pub timeout: Option<Duration>,
    /// Cancels the query from outside. Its own deadline, if any, counts as well.
    pub cancel: CancelToken,
    /// Evaluates every step, whatever was answered before.
    pub no_cache: bool,
    /// Counts samples step by step, too ([`super::QueryStats::steps`]); such a query is answered without the cache.
    pub step_counts: bool,
    /// Lets others look at the query while it runs.
    pub watch: Option<QueryWatch>,
    /// What its caller may, where that is less than the engine allows.
    pub bounds: QueryBounds,
}

/// Bounds of one query that lower those of [`EngineSettings`]; `None` leaves these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryBounds {
    /// Lowers [`EngineSettings::memory_bytes_max`].
    pub memory_bytes_max: Option<u64>,
    /// Lowers [`EngineSettings::samples_max`].
    pub samples_max: Option<u64>,
    /// Lowers [`EngineSettings::series_max`].
    pub series_max: Option<u64>,
}
