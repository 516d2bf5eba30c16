//! Aggregations: series folded into groups.

mod fold;
mod hash;
mod pick;
mod values;

use pharos_model::StepRange;

use super::QueryError;
use super::eval::Evaluator;
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
