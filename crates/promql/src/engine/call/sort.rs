//! `sort`, `sort_desc`, `sort_by_label`, `sort_by_label_desc`: the order of an instant query's answer.

use std::cmp::Ordering;

use pharos_base::sort_checked;
use pharos_model::{Labels, StepRange};

use super::without_empty;
use crate::engine::QueryError;
use crate::engine::annotations::Note;
use crate::engine::eval::{Evaluator, from_list, mapped, text};
use crate::engine::plan::Call;
use crate::engine::series::{Cell, Series, SeriesIter};
use crate::functions::FunctionId as F;

impl Evaluator<'_> {
    pub(super) fn sort<'a>(&'a self, call: &'a Call, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let by_value = matches!(call.function.id, F::Sort | F::SortDesc);
        // The steps of a subquery may be many where the query has one.
        let is_range = |steps: StepRange| steps.start_ms != steps.end_ms;
        if is_range(self.steps) || is_range(steps) {
            self.note(call.span, &Note::IneffectiveSort);
            let input = self.vector(&call.args[0], steps)?;
            let floats = move |cell: Cell| if by_value { cell.float().into() } else { cell };
            return Ok(without_empty(mapped(input, floats)));
        }
        let mut series = self.collected(&call.args[0], steps)?;
        let reverse = matches!(call.function.id, F::SortDesc | F::SortByLabelDesc);
        let turned = |order: Ordering| if reverse { order.reverse() } else { order };
        let check = || self.context.check();
        let series = if by_value {
            series.retain(|series| value(series).is_some());
            let order = |a: &Series, b: &Series| match (value(a), value(b)) {
                (Some(a), Some(b)) if !a.is_nan() && !b.is_nan() => turned(a.total_cmp(&b)),
                (a, b) => a.is_none_or(f64::is_nan).cmp(&b.is_none_or(f64::is_nan)),
            };
            sort_checked(series, order, check)?
        } else {
            let names = call.args[1..].iter().map(text).collect::<Result<Vec<_>, _>>()?;
            sort_checked(series, |a, b| turned(by_labels(&a.labels, &b.labels, &names)), check)?
        };
        Ok(from_list(series))
    }
}

fn value(series: &Series) -> Option<f64> {
    series.cells.first().and_then(Cell::float)
}

fn by_labels(a: &Labels, b: &Labels, names: &[&str]) -> Ordering {
    names
        .iter()
        .map(|name| natural(a.get(name).unwrap_or(""), b.get(name).unwrap_or("")))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a.cmp(b))
}

/// The order in which people sort: runs of digits as numbers, so that `a9` stands before `a10`; what is between them as
/// a whole, so that `a1` stands before `a-1`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let ((a_run, a_rest), (b_run, b_rest)) = (first_run(a), first_run(b));
        let order = if is_number(a_run) && is_number(b_run) {
            let (a_number, b_number) = (a_run.trim_start_matches('0'), b_run.trim_start_matches('0'));
            // Equal numbers: the one with fewer leading zeros first.
            a_number.len().cmp(&b_number.len()).then(a_number.cmp(b_number)).then(a_run.len().cmp(&b_run.len()))
        } else {
            a_run.cmp(b_run)
        };
        if order.is_ne() || a_run.is_empty() {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
}

/// The digits at the beginning, or all up to the first digit; and the rest.
fn first_run(text: &str) -> (&str, &str) {
    let digits = is_number(text);
    let end = text.bytes().position(|byte| byte.is_ascii_digit() != digits);
    text.split_at(end.unwrap_or(text.len()))
}

fn is_number(run: &str) -> bool {
    run.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_sort_as_numbers() {
        let mut texts = ["cpu10", "cpu-1", "cpu9", "cpu", "a", "cpu009", "10", "", "9"];
        texts.sort_by(|a, b| natural(a, b));
        assert_eq!(texts, ["", "9", "10", "a", "cpu", "cpu9", "cpu009", "cpu10", "cpu-1"]);
    }
}
