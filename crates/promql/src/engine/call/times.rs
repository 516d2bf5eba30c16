//! The calendar of UTC, and the times of samples.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use pharos_model::{Labels, StepRange};

use super::unmarked;
use crate::engine::QueryError;
use crate::engine::eval::{Evaluator, from_list, seconds};
use crate::engine::plan::{Call, Node};
use crate::engine::series::{Cell, SeriesIter};
use crate::functions::FunctionId as F;

/// Seconds in which the calendar comes round, weekdays included: 400 years.
const CYCLE_SECONDS: i128 = 146_097 * 86_400;
const CYCLE_YEARS: i128 = 400;
/// Go's calendar begins here, in the year −292,277,022,399: what `i64` has before it comes out 2⁶⁴ seconds later.
const EARLIEST_SECONDS: i64 = -9_223_372_028_715_321_600;

/// A part of a date of the first cycle after 1970, that so many years later is the date meant.
pub(super) type Part = fn(DateTime, i128) -> f64;

pub(super) fn part(id: F) -> Option<Part> {
    Some(match id {
        F::DayOfMonth => |date, _| f64::from(date.day()),
        F::DayOfWeek => |date, _| f64::from(date.weekday().to_sunday_zero_offset()),
        F::DayOfYear => |date, _| f64::from(date.day_of_year()),
        F::DaysInMonth => |date, _| f64::from(date.days_in_month()),
        F::Hour => |date, _| f64::from(date.hour()),
        F::Minute => |date, _| f64::from(date.minute()),
        F::Month => |date, _| f64::from(date.month()),
        F::Year => |date, years_later| (i128::from(date.year()) + years_later) as f64,
        _ => return None,
    })
}

/// The part of an instant given in seconds, for all doubles what Prometheus makes of them on x86-64: NaN and what `i64` cannot
/// hold become its least number there.
fn part_at(seconds: f64, part: Part) -> f64 {
    let in_range = seconds >= i64::MIN as f64 && seconds < i64::MAX as f64;
    let whole = if in_range { seconds as i64 } else { i64::MIN };
    let unwrapped = i128::from(whole) + if whole < EARLIEST_SECONDS { 1 << 64 } else { 0 };
    let (cycles, rest) = (unwrapped.div_euclid(CYCLE_SECONDS), unwrapped.rem_euclid(CYCLE_SECONDS));
    let rest = i64::try_from(rest).ok().and_then(|rest| Timestamp::from_second(rest).ok());
    let rest = rest.expect("400 years after 1970 are in the calendar");
    part(TimeZone::UTC.to_datetime(rest), cycles * CYCLE_YEARS)
}

impl Evaluator<'_> {
    pub(super) fn date_part<'a>(
        &'a self,
        call: &'a Call,
        part: Part,
        steps: StepRange,
    ) -> Result<SeriesIter<'a>, QueryError> {
        if call.args.is_empty() {
            let cells = steps.iter().map(|step| Cell::Float(part_at(seconds(step), part))).collect();
            return Ok(from_list(vec![self.series(Labels::empty(), false, cells)?]));
        }
        self.floats(call, steps, move |value| part_at(value, part))
    }

    /// `timestamp` and `start_timestamp`: of the sample itself where the argument is a plain selector.
    pub(super) fn timestamp<'a>(&'a self, call: &'a Call, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let node = &call.args[0];
        let of_start = call.function.id == F::StartTimestamp;
        let output: SeriesIter<'a> = match unmarked(node) {
            _ if of_start && !self.settings.use_start_timestamps => return Ok(Box::new(std::iter::empty())),
            Node::Selector(selector) if selector.edge.is_none() => self.newest(selector, steps, move |picked, _| {
                Cell::Float(seconds(if of_start { picked.start_ms } else { picked.time_ms }))
            })?,
            // Only samples have a start.
            _ if of_start => return Ok(Box::new(std::iter::empty())),
            _ => {
                let input = self.vector(node, steps)?;
                Box::new(input.map(move |series| {
                    let mut series = series?;
                    for (cell, step) in series.cells.iter_mut().zip(steps.iter()) {
                        if !cell.is_empty() {
                            *cell = Cell::Float(seconds(step));
                        }
                    }
                    Ok(series)
                }))
            }
        };
        self.renamed(node, output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [F; 8] =
        [F::Year, F::Month, F::DayOfMonth, F::DayOfWeek, F::DayOfYear, F::DaysInMonth, F::Hour, F::Minute];

    fn check(seconds: f64, expected: [f64; 8]) {
        let found = PARTS.map(|id| part_at(seconds, part(id).unwrap()));
        assert_eq!(found, expected, "{seconds}");
    }

    #[test]
    fn every_double_has_a_date() {
        check(0.0, [1970.0, 1.0, 1.0, 4.0, 1.0, 31.0, 0.0, 0.0]);
        check(-0.9, [1970.0, 1.0, 1.0, 4.0, 1.0, 31.0, 0.0, 0.0]);
        check(-1.0, [1969.0, 12.0, 31.0, 3.0, 365.0, 31.0, 23.0, 59.0]);
        check(951_827_400.0, [2000.0, 2.0, 29.0, 2.0, 60.0, 29.0, 12.0, 30.0]);
        check(-62_135_596_801.0, [0.0, 12.0, 31.0, 0.0, 366.0, 31.0, 23.0, 59.0]);
        check(1e12, [33658.0, 9.0, 27.0, 5.0, 270.0, 30.0, 1.0, 46.0]);
        // As Debian's Prometheus 2.42 says.
        for seconds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 9_223_372_036_854_775_808.0] {
            check(seconds, [292_277_026_596.0, 12.0, 4.0, 0.0, 339.0, 31.0, 15.0, 30.0]);
        }
    }
}
