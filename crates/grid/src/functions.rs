//! The vocabulary: which functions, which aggregations, what makes a group.

/// Functions of the samples in a window; PromQL's definitions, staleness included.
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

impl RangeFunction {
    /// Each once.
    pub const ALL: [Self; 14] = [
        Self::Last,
        Self::Rate,
        Self::Increase,
        Self::Delta,
        Self::Irate,
        Self::Idelta,
        Self::SumOverTime,
        Self::AvgOverTime,
        Self::MinOverTime,
        Self::MaxOverTime,
        Self::CountOverTime,
        Self::LastOverTime,
        Self::Changes,
        Self::Resets,
    ];

    /// Whether the function looks at start timestamps where the query wants that.
    #[must_use]
    pub const fn reads_starts(self) -> bool {
        matches!(self, Self::Rate | Self::Increase | Self::Irate | Self::Resets)
    }
}

/// Aggregations of grids.
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

impl Aggregation {
    /// Each once.
    pub const ALL: [Self; 6] = [Self::Sum, Self::Count, Self::Group, Self::Avg, Self::Min, Self::Max];
}

/// What makes a group: these labels, or all but these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    /// Whether `labels` are left out rather than kept.
    pub without: bool,
    /// Label names, sorted, each once. Nothing is implied: what leaves the metric's name out lists it.
    pub labels: Vec<String>,
}
