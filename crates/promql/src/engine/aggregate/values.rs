//! Aggregations that need all values of a group at once: `quantile`, `count_values`.

use hashbrown::HashMap;
use pharos_base::sort_checked;
use pharos_model::{Labels, METRIC_NAME, StepRange};

use super::extremes;
use crate::engine::QueryError;
use crate::engine::annotations::Note;
use crate::engine::eval::{Evaluator, from_list, text};
use crate::engine::gofmt::go_f;
use crate::engine::histogram;
use crate::engine::pace::Pace;
use crate::engine::plan::Aggregate;
use crate::engine::quantile::quantile;
use crate::engine::series::{Cell, SeriesIter, build, builder_of};
use pharos_grid::{Groups, KeyLabels};

impl Evaluator<'_> {
    pub(super) fn quantile<'a>(
        &'a self,
        aggregate: &'a Aggregate,
        mut groups: Groups,
        steps: StepRange,
    ) -> Result<SeriesIter<'a>, QueryError> {
        let phis = self.param(aggregate, steps)?;
        let has_nan = phis.iter().any(|phi| phi.is_nan());
        let (least, most) = extremes(&phis);
        let wrong = [(has_nan, f64::NAN), (most > 1.0, most), (least < 0.0, least)];
        for (_, phi) in wrong.into_iter().filter(|(is_wrong, _)| *is_wrong) {
            self.note(aggregate.param_span, &Note::InvalidQuantile(phi));
        }
        let mut labels: Vec<(Labels, bool)> = Vec::new();
        let mut columns: Vec<Vec<Vec<f64>>> = Vec::new();
        let mut lease = self.ledger.hold(0, 0)?;
        for series in self.vector(&aggregate.input, steps)? {
            self.context.check()?;
            let series = series?;
            let (number, is_new) = groups.number(series.labels.encoded());
            if is_new {
                labels.push((groups.key_of(series.labels.encoded()), false));
                columns.push(vec![Vec::new(); steps.len()]);
            }
            labels[number].1 |= series.drop_name;
            lease.grow(series.cells.len(), series.cells.len() * 8)?;
            for (values, cell) in columns[number].iter_mut().zip(&series.cells) {
                match cell {
                    Cell::Empty => {}
                    Cell::Float(value) => values.push(*value),
                    Cell::Histogram(_) => {
                        self.note(aggregate.input_span, &Note::HistogramIgnored { aggregation: "quantile" });
                    }
                }
            }
        }
        let mut pace = Pace::new(&self.context);
        let mut output = Vec::with_capacity(columns.len());
        for ((labels, drop_name), column) in labels.into_iter().zip(columns) {
            let mut cells: Vec<Cell> = Vec::with_capacity(column.len());
            for (mut values, phi) in column.into_iter().zip(&phis) {
                pace.spend(values.len())?;
                cells.push((!values.is_empty()).then(|| quantile(*phi, &mut values)).into());
            }
            if !cells.iter().all(Cell::is_empty) {
                output.push(self.series(labels, drop_name, cells)?);
            }
        }
        let output = sort_checked(output, |a, b| a.labels.cmp(&b.labels), || self.context.check())?;
        Ok(from_list(output))
    }

    pub(super) fn count_values<'a>(
        &'a self,
        aggregate: &'a Aggregate,
        steps: StepRange,
    ) -> Result<SeriesIter<'a>, QueryError> {
        let name = match &aggregate.param {
            Some(param) => text(param)?,
            None => return Err(QueryError::execution("count_values needs a parameter")),
        };
        // The parser has made U+FFFD of bytes that were no UTF-8.
        if name.is_empty() || name.contains(char::REPLACEMENT_CHARACTER) {
            return Err(QueryError::execution(format!("invalid label name {name}")));
        }
        // A label that is aggregated away is away, though the value was put there.
        let shown =
            !(aggregate.without && (name == METRIC_NAME || aggregate.labels.iter().any(|label| **label == *name)));
        let groups = Groups::new(KeyLabels::new(aggregate.without, &aggregate.labels));
        // How often a value was met, per step.
        let mut counts: HashMap<Labels, Vec<f64>> = HashMap::new();
        let mut lease = self.ledger.hold(0, 0)?;
        for series in self.vector(&aggregate.input, steps)? {
            self.context.check()?;
            let series = series?;
            let key = groups.key_of(series.labels.encoded());
            for (step, cell) in series.cells.iter().enumerate() {
                let text = match cell {
                    Cell::Empty => continue,
                    _ if !shown => String::new(),
                    Cell::Float(value) => go_f(*value),
                    Cell::Histogram(histogram) => histogram::text(histogram),
                };
                let mut builder = builder_of(&key);
                if shown {
                    builder.set(name, &text);
                }
                let labels = build(builder);
                let column = if let Some(column) = counts.get_mut(&labels) {
                    column
                } else {
                    lease.grow(steps.len(), steps.len() * 8 + labels.encoded().len())?;
                    counts.entry(labels).or_insert_with(|| vec![0.0; steps.len()])
                };
                column[step] += 1.0;
            }
        }
        let counts: Vec<(Labels, Vec<f64>)> = counts.into_iter().collect();
        let counts = sort_checked(counts, |(a, _), (b, _)| a.cmp(b), || self.context.check())?;
        let mut output = Vec::with_capacity(counts.len());
        for (labels, column) in counts {
            let cells = column.into_iter().map(|count| (count > 0.0).then_some(count).into()).collect();
            output.push(self.series(labels, false, cells)?);
        }
        Ok(from_list(output))
    }
}
