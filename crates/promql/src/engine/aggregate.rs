//! Aggregations: series folded into groups.

mod fold;
mod hash;
mod pick;
mod values;

use pharos_model::StepRange;

use super::QueryError;
use super::eval::{Evaluator, go_max, go_min};
use super::plan::Aggregate;
use super::series::SeriesIter;
use crate::ast::AggregateOp;
use pharos_grid::{Groups, KeyLabels};

impl Evaluator<'_> {
    pub(super) fn aggregate<'a>(
        &'a self,
        aggregate: &'a Aggregate,
        steps: StepRange,
    ) -> Result<SeriesIter<'a>, QueryError> {
        let groups = Groups::new(KeyLabels::new(aggregate.without, &aggregate.labels));
        match aggregate.op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio => {
                self.pick(aggregate, groups, steps)
            }
            AggregateOp::Quantile => self.quantile(aggregate, groups, steps),
            AggregateOp::CountValues => self.count_values(aggregate, steps),
            _ => self.fold(aggregate, groups, steps),
        }
    }

    /// The scalar parameter, one per step.
    fn param(&self, aggregate: &Aggregate, steps: StepRange) -> Result<Vec<f64>, QueryError> {
        match &aggregate.param {
            Some(param) => self.scalar(param, steps),
            None => Err(QueryError::execution(format!("{} needs a parameter", aggregate.op.name()))),
        }
    }
}

/// The least and the greatest of the parameters, NaN if one of them is.
fn extremes(params: &[f64]) -> (f64, f64) {
    let least = params.iter().copied().fold(f64::INFINITY, go_min);
    let most = params.iter().copied().fold(f64::NEG_INFINITY, go_max);
    (least, most)
}
