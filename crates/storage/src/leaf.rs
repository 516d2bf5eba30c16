//! Leaf plans: what the PromQL planner pushes down into a store.
//!
//! [`LeafPlan::Raw`] must be served by every store and is the reference for exactness. A store that
//! names `Grid` or `Aggregate` in its [`Capabilities`] must answer them bit-equal to what the
//! engine computes from `Raw`; the conformance suite compares.

use std::sync::Arc;

use pharos_model::{HistogramSample, Labels, Matcher, StepRange, TimeRange};

use crate::StorageError;

/// Which leaf plans a store can execute by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Range functions over steps, [`LeafPlan::Grid`].
    pub grid: bool,
    /// Aggregations of grids, [`LeafPlan::Aggregate`].
    pub aggregate: bool,
}

/// What a leaf of a query plan asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum LeafPlan {
    /// The samples themselves.
    Raw(RawPlan),
    /// One function evaluated at each step.
    Grid(GridPlan),
    /// Grids joined by group.
    Aggregate {
        /// The grids.
        grid: GridPlan,
        /// How they are joined.
        aggregation: Aggregation,
        /// What makes a group.
        grouping: Grouping,
    },
}

/// Samples of the series that pass all matchers.
#[derive(Debug, Clone, PartialEq)]
pub struct RawPlan {
    /// All must pass; at least one rejects the empty string.
    pub matchers: Vec<Matcher>,
    /// `[start, end)`, Unix milliseconds.
    pub range: TimeRange,
}

/// A function of the samples in `(t − offset − window, t − offset]` for each step `t`.
#[derive(Debug, Clone, PartialEq)]
pub struct GridPlan {
    /// All must pass; at least one rejects the empty string.
    pub matchers: Vec<Matcher>,
    /// What is computed from the window.
    pub function: RangeFunction,
    /// Length of the window, ms; the lookback for [`RangeFunction::Last`].
    pub window_ms: i64,
    /// Evaluation times.
    pub steps: StepRange,
    /// Shift into the past, ms; negative for the future.
    pub offset_ms: i64,
}

/// Functions that stores may compute; PromQL's definitions, staleness included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "PromQL's function names")]
pub enum RangeFunction {
    /// An instant selector: the newest sample unless it is a stale marker.
    Last,
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    SumOverTime,
    AvgOverTime,
    MinOverTime,
    MaxOverTime,
    CountOverTime,
    LastOverTime,
    Changes,
    Resets,
}

/// Aggregations that stores may compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "PromQL's operator names")]
pub enum Aggregation {
    Sum,
    Count,
    Group,
    Avg,
    Min,
    Max,
}

/// What makes a group: these labels, or all but these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    /// Whether `labels` are left out rather than kept.
    pub without: bool,
    /// Label names, sorted.
    pub labels: Vec<String>,
}

/// One series of a leaf's answer.
#[derive(Debug, Clone)]
pub enum LeafSeries {
    /// Of a raw plan.
    Raw(RawSeries),
    /// Of a grid or aggregate plan.
    Grid(GridSeries),
}

/// A series with its samples in a range; both columns ascend strictly in time and share no instant.
#[derive(Debug, Clone, Default)]
pub struct RawSeries {
    /// The series.
    pub labels: Labels,
    /// Instants of the float samples, Unix milliseconds.
    pub timestamps_ms: Vec<i64>,
    /// Values, one for each instant; stale markers included.
    pub values: Vec<f64>,
    /// Start timestamp of each float sample, 0 where unknown; empty if none is known.
    pub start_ms: Vec<i64>,
    /// Native histograms.
    pub histograms: Vec<HistogramSample>,
    /// Start timestamp of each histogram, as `start_ms`.
    pub histogram_start_ms: Vec<i64>,
}

impl RawSeries {
    /// Float samples and histograms together.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.timestamps_ms.len() + self.histograms.len()
    }
}

/// A series with one optional value per step.
#[derive(Debug, Clone)]
pub struct GridSeries {
    /// The series or group, without its metric name where PromQL drops it.
    pub labels: Labels,
    /// One value per step; `None` where there is none.
    pub values: Arc<[Option<f64>]>,
}

/// The series of an answer, each exactly once, in no particular order. After an error the stream ends.
pub type LeafStream = Box<dyn Iterator<Item = Result<LeafSeries, StorageError>> + Send>;
