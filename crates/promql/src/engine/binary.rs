//! Binary operators: scalars, a vector with a scalar, and the way to vector matching.

mod element;
mod matching;
mod sets;

use pharos_model::StepRange;

use super::QueryError;
use super::eval::Evaluator;
use super::plan::{Binary, Node};
use super::series::{Cell, SeriesIter};
use crate::ast::{BinaryOp, ValueType};

impl Evaluator<'_> {
    /// Both sides are scalars.
    pub(super) fn scalar_binary(&self, binary: &Binary, steps: StepRange) -> Result<Vec<f64>, QueryError> {
        if matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
            let symbol = binary.op.symbol();
            return Err(QueryError::execution(format!("operator \"{symbol}\" not allowed for Scalar operations")));
        }
        let (lhs, rhs) = (self.scalar(&binary.lhs, steps)?, self.scalar(&binary.rhs, steps)?);
        Ok(lhs.into_iter().zip(rhs).map(|(lhs, rhs)| element::scalars(binary.op, lhs, rhs)).collect())
    }

    /// At least one side is an instant vector.
    pub(super) fn binary<'a>(&'a self, binary: &'a Binary, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let is_scalar = |node: &Node| node.value_type() == ValueType::Scalar;
        match (is_scalar(&binary.lhs), is_scalar(&binary.rhs)) {
            (true, _) => self.with_scalar(binary, &binary.lhs, &binary.rhs, true, steps),
            (_, true) => self.with_scalar(binary, &binary.rhs, &binary.lhs, false, steps),
            _ if binary.op.is_set() => self.set_operation(binary, steps),
            _ => self.match_vectors(binary, steps),
        }
    }

    fn with_scalar<'a>(
        &'a self,
        binary: &'a Binary,
        scalar: &'a Node,
        vector: &'a Node,
        scalar_is_left: bool,
        steps: StepRange,
    ) -> Result<SeriesIter<'a>, QueryError> {
        let numbers = self.scalar(scalar, steps)?;
        let input = self.vector(vector, steps)?;
        let output = input.filter_map(move |series| {
            let mut series = match series {
                Ok(series) => series,
                Err(error) => return Some(Err(error)),
            };
            for (cell, number) in series.cells.iter_mut().zip(&numbers) {
                if cell.is_empty() {
                    continue;
                }
                let number = Cell::Float(*number);
                let (lhs, rhs) = if scalar_is_left { (&number, &*cell) } else { (&*cell, &number) };
                let outcome = self.element(binary, lhs, rhs);
                *cell = match outcome {
                    // A comparison keeps the sample of the vector, whichever side it stands on.
                    Some((_, true)) if binary.op.is_comparison() && !binary.return_bool => std::mem::take(cell),
                    Some((_, keep)) if binary.return_bool => Cell::Float(f64::from(u8::from(keep))),
                    Some((result, true)) => result,
                    Some((_, false)) | None => Cell::Empty,
                };
            }
            (!series.is_empty()).then_some(Ok(series))
        });
        if drops_name(binary) { self.renamed(vector, Box::new(output)) } else { Ok(Box::new(output)) }
    }

    /// One pair of samples: the result and whether a comparison holds; `None` with a note for pairs that do not fit.
    fn element(&self, binary: &Binary, lhs: &Cell, rhs: &Cell) -> Option<(Cell, bool)> {
        element::compute(binary.op, lhs, rhs, |note| self.note(binary.span, note))
    }
}

/// Whether the result is a new quantity, so that the name of the operand no longer fits.
pub(super) fn drops_name(binary: &Binary) -> bool {
    binary.return_bool || changes_quantity(binary.op)
}

fn changes_quantity(op: BinaryOp) -> bool {
    matches!(
        op,
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Pow | BinaryOp::Atan2
    )
}
