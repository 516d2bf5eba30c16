//! Leaf plans: what the PromQL planner pushes down into a store.
//!
//! [`LeafPlan::Raw`] must be served by every store and is the reference for exactness. A store says in its
//! [`Capabilities`] which functions and aggregations it computes by itself and how exactly; what it calls exact is
//! bit-equal to what the engine computes from `Raw`, and the conformance suite compares.

use pharos_grid::{Aggregation, Floats, Grouping, RangeFunction};
use pharos_model::{HistogramSample, Labels, Matcher, StepRange, TimeRange};

use crate::StorageError;

/// How close a store's own arithmetic comes to the engine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Every bit is the same.
    Exact,
    /// The last bits may differ: sums in another order or without compensation, factors rounded elsewhere.
    Rounded,
}

/// Which leaf plans a store executes by itself: [`LeafPlan::Grid`] with any of these functions, and
/// [`LeafPlan::Aggregate`] with any of these aggregations over any of these functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    functions: [Option<Precision>; RangeFunction::ALL.len()],
    aggregations: [Option<Precision>; Aggregation::ALL.len()],
}

impl Capabilities {
    /// Raw plans only.
    #[must_use]
    pub fn raw() -> Self {
        Self::default()
    }

    /// Every function and aggregation, to the bit: a store that evaluates with `pharos_grid`.
    #[must_use]
    pub fn exact() -> Self {
        Self {
            functions: [Some(Precision::Exact); RangeFunction::ALL.len()],
            aggregations: [Some(Precision::Exact); Aggregation::ALL.len()],
        }
    }

    /// These, and grids of `function`.
    #[must_use]
    pub fn with_function(mut self, function: RangeFunction, precision: Precision) -> Self {
        self.functions[function as usize] = Some(precision);
        self
    }

    /// These, and `aggregation` over the functions named.
    #[must_use]
    pub fn with_aggregation(mut self, aggregation: Aggregation, precision: Precision) -> Self {
        self.aggregations[aggregation as usize] = Some(precision);
        self
    }

    /// How exactly grids of `function` are computed; `None`: not at all.
    #[must_use]
    pub fn function(&self, function: RangeFunction) -> Option<Precision> {
        self.functions[function as usize]
    }

    /// How exactly grids are joined by `aggregation`; `None`: not at all.
    #[must_use]
    pub fn aggregation(&self, aggregation: Aggregation) -> Option<Precision> {
        self.aggregations[aggregation as usize]
    }
}

/// What a leaf of a query plan asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum LeafPlan {
    /// The samples themselves.
    Raw(RawPlan),
    /// One function evaluated at each step. Of each series the store answers the grid, or its samples where it
    /// cannot: for series with native histograms, and as [`GridPlan::starts_raw`] says. A series without a value at
    /// any step may be left out. Of [`RangeFunction::Last`] at one step the newest sample alone may decide.
    Grid(GridPlan),
    /// Grids joined by group, series by series in the order in which the store streams a raw plan of the same
    /// matchers. All or nothing: where one of the series would have to be answered raw, the first item is
    /// [`StorageError::Unsupported`] and the engine asks for the grids instead. `Count` and `Group` over
    /// [`RangeFunction::Last`] are the exception: there a histogram counts like a float.
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
    /// Series with start timestamps come raw if the function reads these: the engine has more to say about them.
    pub starts_raw: bool,
}

impl GridPlan {
    /// Where the samples lie that any step looks at; also the range of series that are answered raw.
    #[must_use]
    pub fn read_range(&self) -> TimeRange {
        let last_step = self.steps.at(self.steps.len().saturating_sub(1));
        let first = self.steps.start_ms.saturating_sub(self.offset_ms).saturating_sub(self.window_ms);
        TimeRange::inclusive(first.saturating_add(1), last_step.saturating_sub(self.offset_ms))
    }
}

/// One series of a leaf's answer.
#[derive(Debug, Clone)]
pub enum LeafSeries {
    /// Of a raw plan; or of a grid plan, for the engine to evaluate.
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
    /// The float samples.
    #[must_use]
    pub fn floats(&self) -> Floats<'_> {
        Floats { times_ms: &self.timestamps_ms, values: &self.values, starts_ms: &self.start_ms }
    }

    /// Float samples and histograms together.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.timestamps_ms.len() + self.histograms.len()
    }
}

/// A series with one value per step.
#[derive(Debug, Clone)]
pub struct GridSeries {
    /// All labels of the series, its name included; or those of the group.
    pub labels: Labels,
    /// One value per step; [`pharos_grid::ABSENT`] where there is none.
    pub values: Vec<f64>,
}

/// The series of an answer, each exactly once, in no particular order. After an error the stream ends.
pub type LeafStream = Box<dyn Iterator<Item = Result<LeafSeries, StorageError>> + Send>;
