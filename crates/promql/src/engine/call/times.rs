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

/// A part of a date.
pub(super) type Part = fn(DateTime) -> f64;

pub(super) fn part(id: F) -> Option<Part> {
    Some(match id {
        F::DayOfMonth => |date| f64::from(date.day()),
        F::DayOfWeek => |date| f64::from(date.weekday().to_sunday_zero_offset()),
        F::DayOfYear => |date| f64::from(date.day_of_year()),
        F::DaysInMonth => |date| f64::from(date.days_in_month()),
        F::Hour => |date| f64::from(date.hour()),
        F::Minute => |date| f64::from(date.minute()),
        F::Month => |date| f64::from(date.month()),
        F::Year => |date| f64::from(date.year()),
        _ => return None,
    })
}

/// The part of an instant given in seconds; NaN for what is no instant of the years −9999 to 9999.
fn part_at(seconds: f64, part: Part) -> f64 {
    if !seconds.is_finite() {
        return f64::NAN;
    }
    match Timestamp::from_second(seconds as i64) {
        Ok(instant) => part(TimeZone::UTC.to_datetime(instant)),
        Err(_) => f64::NAN,
    }
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
            Node::Selector(selector) if selector.edge.is_none() => self.newest(selector, steps, move |picked, _| {
                Cell::Float(seconds(if of_start { picked.start_ms } else { picked.time_ms }))
            })?,
            _ => {
                let input = self.vector(node, steps)?;
                Box::new(input.map(move |series| {
                    let mut series = series?;
                    for (cell, step) in series.cells.iter_mut().zip(steps.iter()) {
                        if !cell.is_empty() {
                            *cell = Cell::Float(if of_start { 0.0 } else { seconds(step) });
                        }
                    }
                    Ok(series)
                }))
            }
        };
        self.renamed(node, output)
    }
}
