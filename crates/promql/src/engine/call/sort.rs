//! `sort`, `sort_desc`, `sort_by_label`, `sort_by_label_desc`: the order of an instant query's answer.

use std::cmp::Ordering;

use pharos_model::{Labels, StepRange};

use crate::engine::QueryError;
use crate::engine::annotations::Note;
use crate::engine::eval::{Evaluator, from_list, text};
use crate::engine::plan::Call;
use crate::engine::series::{Cell, Series, SeriesIter};
use crate::functions::FunctionId as F;

impl Evaluator<'_> {
    pub(super) fn sort<'a>(&'a self, call: &'a Call, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let by_value = matches!(call.function.id, F::Sort | F::SortDesc);
        if self.steps.start_ms != self.steps.end_ms {
            self.note(call.span, &Note::IneffectiveSort);
            return self.vector(&call.args[0], steps);
        }
        let mut series = self.collected(&call.args[0], steps)?;
        let reverse = matches!(call.function.id, F::SortDesc | F::SortByLabelDesc);
        let turned = |order: Ordering| if reverse { order.reverse() } else { order };
        if by_value {
            series.retain(|series| value(series).is_some());
            series.sort_by(|a, b| match (value(a), value(b)) {
                (Some(a), Some(b)) if !a.is_nan() && !b.is_nan() => turned(a.total_cmp(&b)),
                (a, b) => a.is_none_or(f64::is_nan).cmp(&b.is_none_or(f64::is_nan)),
            });
        } else {
            let names = call.args[1..].iter().map(text).collect::<Result<Vec<_>, _>>()?;
            series.sort_by(|a, b| turned(by_labels(&a.labels, &b.labels, &names)));
        }
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

/// The order in which people sort: runs of digits as numbers, so that `a9` stands before `a10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (a_run, b_run) = (digits(a), digits(b));
        if !a_run.is_empty() && !b_run.is_empty() {
            let (a_number, b_number) = (a_run.trim_start_matches('0'), b_run.trim_start_matches('0'));
            let order = a_number.len().cmp(&b_number.len()).then_with(|| a_number.cmp(b_number));
            // Equal numbers: the one with fewer leading zeros first.
            let order = order.then_with(|| a_run.len().cmp(&b_run.len()));
            if order.is_ne() {
                return order;
            }
            (a, b) = (&a[a_run.len()..], &b[b_run.len()..]);
            continue;
        }
        match (a.chars().next(), b.chars().next()) {
            (Some(x), Some(y)) if x == y => (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]),
            (x, y) => return x.cmp(&y),
        }
    }
}

fn digits(text: &str) -> &str {
    &text[..text.bytes().take_while(u8::is_ascii_digit).count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_sort_as_numbers() {
        let mut texts = ["cpu10", "cpu9", "cpu", "a", "cpu009", "10", "9"];
        texts.sort_by(|a, b| natural(a, b));
        assert_eq!(texts, ["9", "10", "a", "cpu", "cpu9", "cpu009", "cpu10"]);
    }
}
