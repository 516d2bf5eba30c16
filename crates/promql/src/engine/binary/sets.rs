//! `and`, `or`, `unless`: which samples stay depends on whether the other side has one of equal key.

use pharos_model::StepRange;

use super::matching::key_labels;
use crate::ast::BinaryOp;
use crate::engine::QueryError;
use crate::engine::eval::{Evaluator, from_list};
use crate::engine::ledger::Lease;
use crate::engine::plan::Binary;
use crate::engine::series::{Cell, Merger, Series, SeriesIter};
use pharos_grid::Groups;

impl Evaluator<'_> {
    pub(super) fn set_operation<'a>(
        &'a self,
        binary: &'a Binary,
        steps: StepRange,
    ) -> Result<SeriesIter<'a>, QueryError> {
        let mut groups = Groups::new(key_labels(binary));
        if binary.op == BinaryOp::Or {
            let mut present = Presence::new(self)?;
            let mut merger = Merger::default();
            for series in self.vector(&binary.lhs, steps)? {
                let series = series?;
                present.add(&mut groups, &series)?;
                merger.push(series)?;
            }
            for series in self.vector(&binary.rhs, steps)? {
                let mut series = series?;
                present.filter(&mut groups, &mut series, false);
                if !series.is_empty() {
                    merger.push(series)?;
                }
            }
            return Ok(from_list(merger.into_series(&self.context)?));
        }
        let mut present = Presence::new(self)?;
        for series in self.vector(&binary.rhs, steps)? {
            present.add(&mut groups, &series?)?;
        }
        let wanted = binary.op == BinaryOp::And;
        let input = self.vector(&binary.lhs, steps)?;
        Ok(Box::new(input.filter_map(move |series| match series {
            Ok(mut series) => {
                present.filter(&mut groups, &mut series, wanted);
                (!series.is_empty()).then_some(Ok(series))
            }
            Err(error) => Some(Err(error)),
        })))
    }
}

/// For each key, at which steps some series of it has a sample.
struct Presence {
    flags: Vec<Vec<bool>>,
    lease: Lease,
}

impl Presence {
    fn new(evaluator: &Evaluator<'_>) -> Result<Self, QueryError> {
        Ok(Self { flags: Vec::new(), lease: evaluator.ledger.hold(0, 0)? })
    }

    fn add(&mut self, groups: &mut Groups, series: &Series) -> Result<(), QueryError> {
        let (number, is_new) = groups.number(series.labels.encoded());
        if is_new {
            self.lease.grow(0, size_of::<Vec<bool>>() + series.cells.len())?;
            self.flags.push(vec![false; series.cells.len()]);
        }
        for (flag, cell) in self.flags[number].iter_mut().zip(&series.cells) {
            *flag |= !cell.is_empty();
        }
        Ok(())
    }

    /// Leaves the cells at the steps where the key is present, or (`wanted` is false) where it is not.
    fn filter(&self, groups: &mut Groups, series: &mut Series, wanted: bool) {
        match groups.find(series.labels.encoded()) {
            Some(number) => {
                for (cell, present) in series.cells.iter_mut().zip(&self.flags[number]) {
                    if *present != wanted {
                        *cell = Cell::Empty;
                    }
                }
            }
            None if wanted => series.cells.fill(Cell::Empty),
            None => {}
        }
    }
}
