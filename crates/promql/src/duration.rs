//! Durations: their text (`1h30m`), and the arithmetic of duration expressions.
//!
//! A duration is text of the units y, w, d, h, m, s, ms in that order, each at most once. The engine resolves the
//! expressions of ranges, offsets and steps here, once per query, because `step()` and `range()` depend on it.

use std::fmt::Write as _;

use crate::ast::{BinaryOp, DurationExpr, UnaryOp};
use crate::position::Span;

/// Unit names in the order in which they must appear, with their length in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Longest duration in seconds: the nanoseconds of an `i64`, about 292 years.
pub const DURATION_SECONDS_MAX: f64 = 9_223_372_036.854_776;
const DURATION_MS_MAX: u64 = 9_223_372_036_854;

/// The text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum DurationTextError {
    /// No text at all.
    #[error("empty duration string")]
    Empty,
    /// Not numbers followed by units in falling order.
    #[error("not a valid duration string: {text:?}")]
    Malformed { text: String },
    /// A unit that does not exist.
    #[error("unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { unit: String, text: String },
    /// Longer than 292 years.
    #[error("duration out of range")]
    OutOfRange,
}

/// Milliseconds of a duration such as `1h30m`; `0` needs no unit.
///
/// # Errors
/// [`DurationTextError`] says what is wrong with the text.
pub fn parse_duration_ms(text: &str) -> Result<i64, DurationTextError> {
    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err(DurationTextError::Empty);
    }
    let malformed = || DurationTextError::Malformed { text: text.to_owned() };
    let (mut rest, mut total_ms, mut next_unit) = (text, 0_u64, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: u64 = rest[..digits].parse().map_err(|_| malformed())?;
        rest = &rest[digits..];
        let unit = &rest[..rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len())];
        rest = &rest[unit.len()..];
        if unit.is_empty() {
            return Err(malformed());
        }
        let Some(rank) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(DurationTextError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() });
        };
        if rank < next_unit {
            return Err(malformed());
        }
        next_unit = rank + 1;
        total_ms = count
            .checked_mul(UNITS[rank].1)
            .and_then(|ms| ms.checked_add(total_ms))
            .filter(|ms| *ms <= DURATION_MS_MAX)
            .ok_or(DurationTextError::OutOfRange)?;
    }
    Ok(total_ms as i64)
}

/// The shortest usual text of a duration: `90m` is `1h30m`; years and weeks appear only where nothing remains.
#[must_use]
pub fn format_duration_ms(duration_ms: i64) -> String {
    let mut text = String::new();
    if duration_ms == 0 {
        return "0s".to_owned();
    }
    if duration_ms < 0 {
        text.push('-');
    }
    let mut rest = duration_ms.unsigned_abs();
    for (name, unit_ms) in UNITS {
        let must_divide = matches!(name, "y" | "w");
        if rest < unit_ms || (must_divide && !rest.is_multiple_of(unit_ms)) {
            continue;
        }
        let _ = write!(text, "{}{name}", rest / unit_ms);
        rest %= unit_ms;
    }
    text
}

/// What `step()` and `range()` mean in the running query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DurationContext {
    /// Step of the query in milliseconds; 0 for instant queries.
    pub step_ms: i64,
    /// End minus start of the query in milliseconds; 0 for instant queries.
    pub range_ms: i64,
}

/// A duration expression has no usable value; `span` says which part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum DurationError {
    /// `x / 0`.
    #[error("division by zero")]
    DivisionByZero { span: Span },
    /// `x % 0`.
    #[error("modulo by zero")]
    ModuloByZero { span: Span },
    /// A range or step of zero or less.
    #[error("duration must be greater than 0")]
    NotPositive { span: Span },
    /// NaN, infinite, or beyond 292 years.
    #[error("duration is out of range")]
    OutOfRange { span: Span },
}

impl DurationError {
    /// The part of the query at fault.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::DivisionByZero { span }
            | Self::ModuloByZero { span }
            | Self::NotPositive { span }
            | Self::OutOfRange { span } => *span,
        }
    }
}

impl DurationExpr {
    /// Milliseconds, truncated towards zero; may be negative or zero (offsets).
    pub fn resolve_ms(&self, context: DurationContext) -> Result<i64, DurationError> {
        let seconds = self.seconds(context)?;
        if !seconds.is_finite() || seconds.abs() > DURATION_SECONDS_MAX {
            return Err(DurationError::OutOfRange { span: self.span() });
        }
        Ok(seconds_to_ms(seconds))
    }

    /// Milliseconds of a range or a step, which must be positive.
    pub fn resolve_positive_ms(&self, context: DurationContext) -> Result<i64, DurationError> {
        let duration_ms = self.resolve_ms(context)?;
        if duration_ms <= 0 {
            return Err(DurationError::NotPositive { span: self.span() });
        }
        Ok(duration_ms)
    }

    /// Milliseconds if the expression is a single literal.
    #[must_use]
    pub fn literal_ms(&self) -> Option<i64> {
        match self {
            Self::Literal(number) => Some(seconds_to_ms(number.value)),
            _ => None,
        }
    }

    fn seconds(&self, context: DurationContext) -> Result<f64, DurationError> {
        Ok(match self {
            Self::Literal(number) => number.value,
            Self::Step(_) => context.step_ms as f64 / 1000.0,
            Self::Range(_) => context.range_ms as f64 / 1000.0,
            Self::MinOf(lhs, rhs, _) => go_min(lhs.seconds(context)?, rhs.seconds(context)?),
            Self::MaxOf(lhs, rhs, _) => -go_min(-lhs.seconds(context)?, -rhs.seconds(context)?),
            Self::Unary(UnaryOp::Plus, expr, _) | Self::Paren(expr, _) => expr.seconds(context)?,
            Self::Unary(UnaryOp::Minus, expr, _) => -expr.seconds(context)?,
            Self::Binary(op, lhs, rhs, _) => {
                let (lhs_value, rhs_value) = (lhs.seconds(context)?, rhs.seconds(context)?);
                match op {
                    BinaryOp::Add => lhs_value + rhs_value,
                    BinaryOp::Sub => lhs_value - rhs_value,
                    BinaryOp::Mul => lhs_value * rhs_value,
                    BinaryOp::Div if rhs_value == 0.0 => {
                        return Err(DurationError::DivisionByZero { span: rhs.span() });
                    }
                    BinaryOp::Div => lhs_value / rhs_value,
                    BinaryOp::Mod if rhs_value == 0.0 => return Err(DurationError::ModuloByZero { span: rhs.span() }),
                    BinaryOp::Mod => lhs_value % rhs_value,
                    BinaryOp::Pow => lhs_value.powf(rhs_value),
                    _ => f64::NAN, // the grammar has no others; NaN is refused by the caller
                }
            }
        })
    }
}

/// The smaller; NaN if either is (unlike [`f64::min`]).
fn go_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// Rounds to nanoseconds first, so that 4.18 s is 4180 ms and not 4179.
fn seconds_to_ms(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_milliseconds_correspond() {
        for (text, ms) in [
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("4s180ms", 4180),
            ("90d", 90 * 86_400_000),
            ("2w", 14 * 86_400_000),
            ("1y", 365 * 86_400_000),
            ("1d12h", 129_600_000),
        ] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
            assert_eq!(parse_duration_ms(&format_duration_ms(ms)), Ok(ms), "{text}");
        }
        assert_eq!(format_duration_ms(5_400_000), "1h30m");
        assert_eq!(format_duration_ms(-14 * 86_400_000), "-2w");
        assert_eq!(format_duration_ms(0), "0s");
    }

    #[test]
    fn malformed_texts_name_their_fault() {
        let message = |text| parse_duration_ms(text).unwrap_err().to_string();
        assert_eq!(message(""), "empty duration string");
        assert_eq!(message("5m1m"), "not a valid duration string: \"5m1m\"");
        assert_eq!(message("m"), "not a valid duration string: \"m\"");
        assert_eq!(message("5y1hs"), "unknown unit \"hs\" in duration \"5y1hs\"");
        assert_eq!(message("300y"), "duration out of range");
        assert_eq!(message("99999999999999999999s"), "not a valid duration string: \"99999999999999999999s\"");
    }
}
