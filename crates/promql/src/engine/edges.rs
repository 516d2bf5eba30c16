//! `anchored` and `smoothed`: windows with values at their edges.

use pharos_model::StepRange;
use pharos_storage::RawSeries;

use super::QueryError;
use super::eval::Evaluator;
use super::over_time::Context;
use super::plan::TimeShift;
use super::select::Samples;
use super::series::Cell;

pub(super) fn cells(context: &Context<'_>, _: &Samples, _: StepRange) -> Result<Vec<Cell>, QueryError> {
    let keyword = context.range.edge.map_or("", |edge| edge.keyword());
    Err(QueryError::unsupported(format!("modifier {keyword}"), "in range selectors"))
}

pub(super) fn smoothed_cells(
    _: &Evaluator<'_>,
    _: &RawSeries,
    _: TimeShift,
    _: StepRange,
) -> Result<Vec<Cell>, QueryError> {
    Err(QueryError::unsupported("modifier smoothed", "in instant selectors"))
}

/// The window of a bare range selector, with samples at both edges.
pub(super) fn bare(_: Samples, range: &super::plan::Range, _: i64) -> Result<Samples, QueryError> {
    let keyword = range.edge.map_or("", |edge| edge.keyword());
    Err(QueryError::unsupported(format!("modifier {keyword}"), "in range selectors"))
}
