//! One pair of samples under an operator.

use pharos_model::ResetHint;

use crate::ast::BinaryOp;
use crate::engine::annotations::Note;
use crate::engine::histogram;
use crate::engine::series::Cell;

/// Arithmetic, or a comparison as 0 or 1.
pub(super) fn scalars(op: BinaryOp, lhs: f64, rhs: f64) -> f64 {
    match compare(op, lhs, rhs) {
        Some(holds) => f64::from(u8::from(holds)),
        None => arithmetic(op, lhs, rhs).unwrap_or(f64::NAN),
    }
}

fn arithmetic(op: BinaryOp, lhs: f64, rhs: f64) -> Option<f64> {
    Some(match op {
        BinaryOp::Add => lhs + rhs,
        BinaryOp::Sub => lhs - rhs,
        BinaryOp::Mul => lhs * rhs,
        BinaryOp::Div => lhs / rhs,
        BinaryOp::Mod => lhs % rhs,
        BinaryOp::Pow => lhs.powf(rhs),
        BinaryOp::Atan2 => lhs.atan2(rhs),
        _ => return None,
    })
}

fn compare(op: BinaryOp, lhs: f64, rhs: f64) -> Option<bool> {
    Some(match op {
        BinaryOp::Eql => lhs == rhs,
        BinaryOp::Neq => lhs != rhs,
        BinaryOp::Lss => lhs < rhs,
        BinaryOp::Lte => lhs <= rhs,
        BinaryOp::Gtr => lhs > rhs,
        BinaryOp::Gte => lhs >= rhs,
        _ => return None,
    })
}

/// The result and whether a comparison holds (`true` for other operators).
///
/// `None` where the operator does not know this pair of types, or the histograms do not go together; `note` says so.
pub(super) fn compute(op: BinaryOp, lhs: &Cell, rhs: &Cell, note: impl Fn(&Note<'_>)) -> Option<(Cell, bool)> {
    let unknown = |lhs, rhs| {
        note(&Note::IncompatibleTypes { operator: op.symbol(), lhs, rhs });
        None
    };
    match (lhs, rhs) {
        (Cell::Empty, _) | (_, Cell::Empty) => None,
        (Cell::Float(lhs), Cell::Float(rhs)) => match (compare(op, *lhs, *rhs), arithmetic(op, *lhs, *rhs)) {
            (Some(holds), _) => Some((Cell::Float(*lhs), holds)),
            (None, Some(result)) => Some((Cell::Float(result), true)),
            (None, None) => unknown("float", "float"),
        },
        (Cell::Float(factor), Cell::Histogram(histogram)) => match op {
            BinaryOp::Mul => Some((Cell::histogram(histogram::scaled(histogram, *factor)), true)),
            _ => unknown("float", "histogram"),
        },
        (Cell::Histogram(histogram), Cell::Float(number)) => match op {
            BinaryOp::Mul => Some((Cell::histogram(histogram::scaled(histogram, *number)), true)),
            BinaryOp::Div => Some((Cell::histogram(histogram::divided(histogram, *number)), true)),
            BinaryOp::TrimUpper => Some((Cell::histogram(histogram::trimmed(histogram, *number, true)), true)),
            BinaryOp::TrimLower => Some((Cell::histogram(histogram::trimmed(histogram, *number, false)), true)),
            _ => unknown("histogram", "float"),
        },
        (Cell::Histogram(left), Cell::Histogram(right)) => match op {
            BinaryOp::Eql => Some((lhs.clone(), histogram::equals(left, right))),
            BinaryOp::Neq => Some((lhs.clone(), !histogram::equals(left, right))),
            BinaryOp::Add | BinaryOp::Sub => {
                let mut result = (**left).clone();
                let (joined, operation) = if op == BinaryOp::Add {
                    (histogram::add(&mut result, right), "addition")
                } else {
                    (histogram::subtract(&mut result, right), "subtraction")
                };
                let Ok(joined) = joined else {
                    note(&Note::IncompatibleBuckets { operator: op.symbol() });
                    return None;
                };
                if joined.conflicting_resets {
                    note(&Note::ConflictingResets { operation });
                    return None;
                }
                if op == BinaryOp::Sub {
                    result.reset_hint = ResetHint::Gauge;
                }
                if joined.bounds_reconciled {
                    note(&Note::MismatchedCustomBuckets { operation });
                }
                histogram::compact(&mut result);
                Some((Cell::histogram(result), true))
            }
            _ => unknown("histogram", "histogram"),
        },
    }
}
