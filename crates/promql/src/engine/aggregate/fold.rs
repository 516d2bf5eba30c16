//! Aggregations that fold each series into a column per group: memory grows with groups, not with series.

use pharos_base::sort_checked;
use pharos_grid::{ABSENT, FoldColumn, FoldState, Groups, Mean, Sum, greater, is_absent, lesser, present};
use pharos_model::{Histogram, Labels, StepRange};

use crate::ast::AggregateOp;
use crate::engine::QueryError;
use crate::engine::annotations::Note;
use crate::engine::eval::{Evaluator, from_list};
use crate::engine::histogram;
use crate::engine::leaf::aggregation;
use crate::engine::ledger::Lease;
use crate::engine::plan::Aggregate;
use crate::engine::series::{Cell, SeriesIter};

/// What a group has gathered at one step.
#[derive(Debug, Default)]
enum Gathered {
    #[default]
    Nothing,
    /// `sum`
    Sum(Sum),
    /// `avg`
    Mean(Mean),
    /// `min`, `max`: the best; `count`: how many; `group`: 1
    Value(f64),
    /// `stddev`, `stdvar`
    Spread { count: f64, mean: f64, squares: f64 },
    /// `sum` and `avg` of histograms
    Histogram(Box<histogram::Accumulator>),
    /// Floats and histograms, or histograms that do not go together: no result.
    Spoiled,
}

struct Group {
    labels: Labels,
    drop_name: bool,
    column: Column,
    _lease: Lease,
}

/// The steps of a group.
enum Column {
    /// Nothing but floats so far.
    Floats(FoldColumn),
    Any(Vec<Gathered>),
}

impl Column {
    fn new(op: AggregateOp, steps: usize) -> Self {
        match aggregation(op) {
            Some(aggregation) => Self::Floats(FoldColumn::new(aggregation, steps)),
            None => Self::Any(std::iter::repeat_with(Gathered::default).take(steps).collect()),
        }
    }

    /// The steps one by one; from then on they stay so.
    fn steps(&mut self) -> &mut [Gathered] {
        if let Self::Floats(column) = self {
            let states = column.states().into_iter().map(|state| match state {
                None => Gathered::Nothing,
                Some(FoldState::Sum(sum)) => Gathered::Sum(sum),
                Some(FoldState::Mean(mean)) => Gathered::Mean(mean),
                Some(FoldState::Value(value)) => Gathered::Value(value),
            });
            *self = Self::Any(states.collect());
        }
        match self {
            Self::Any(steps) => steps,
            Self::Floats(_) => &mut [],
        }
    }

    /// Whether histograms that were summed up contradict each other in resets; those that were given up do not count.
    fn has_conflicting_resets(&self) -> bool {
        let Self::Any(steps) = self else { return false };
        steps.iter().any(|step| matches!(step, Gathered::Histogram(sum) if sum.has_conflicting_resets()))
    }

    fn finish(self, op: AggregateOp) -> Vec<Cell> {
        match self {
            Self::Floats(column) => column.finish().into_iter().map(|value| present(value).into()).collect(),
            Self::Any(steps) => steps.into_iter().map(|gathered| finish(op, gathered)).collect(),
        }
    }
}

/// Replaces `grid` by the floats of `cells`; false if there are histograms as well.
fn floats_of(cells: &[Cell], grid: &mut Vec<f64>) -> bool {
    grid.clear();
    let mut histograms = false;
    grid.extend(cells.iter().map(|cell| match cell {
        // A sign that changed could make these bits; the value is a NaN like others.
        Cell::Float(value) if is_absent(*value) => f64::NAN,
        Cell::Float(value) => *value,
        Cell::Empty => ABSENT,
        Cell::Histogram(_) => {
            histograms = true;
            ABSENT
        }
    }));
    !histograms
}

impl Evaluator<'_> {
    pub(super) fn fold<'a>(
        &'a self,
        aggregate: &'a Aggregate,
        mut groups: Groups,
        steps: StepRange,
    ) -> Result<SeriesIter<'a>, QueryError> {
        if let Some(groups) = self.aggregate_in_store(aggregate, steps)? {
            return Ok(from_list(groups));
        }
        let mut columns: Vec<Group> = Vec::new();
        let mut grid = Vec::new();
        let fold = Fold { evaluator: self, aggregate };
        for series in self.vector(&aggregate.input, steps)? {
            self.context.check()?;
            let series = series?;
            let (number, is_new) = groups.number(series.labels.encoded());
            if is_new {
                let lease = self.ledger.hold(0, steps.len() * size_of::<Gathered>())?;
                let column = Column::new(aggregate.op, steps.len());
                columns.push(Group {
                    labels: groups.key_of(series.labels.encoded()),
                    drop_name: false,
                    column,
                    _lease: lease,
                });
            }
            let group = &mut columns[number];
            group.drop_name |= series.drop_name;
            if let Column::Floats(column) = &mut group.column
                && floats_of(&series.cells, &mut grid)
            {
                column.add(&grid);
                continue;
            }
            for (gathered, cell) in group.column.steps().iter_mut().zip(&series.cells) {
                match cell {
                    Cell::Empty => {}
                    Cell::Float(value) => fold.float(gathered, *value),
                    Cell::Histogram(histogram) => fold.histogram(gathered, histogram, &series.labels),
                }
            }
        }
        let op = aggregate.op;
        // Not in the order of arrival, which depends on the steps that are evaluated.
        let columns = sort_checked(columns, |a, b| a.labels.cmp(&b.labels), || self.context.check())?;
        let mut output = Vec::with_capacity(columns.len());
        for group in columns {
            if group.column.has_conflicting_resets() {
                fold.note(&Note::ConflictingResets { operation: "aggregation" });
            }
            let cells = group.column.finish(op);
            if !cells.iter().all(Cell::is_empty) {
                output.push(self.series(group.labels, group.drop_name, cells)?);
            }
        }
        Ok(from_list(output))
    }
}

struct Fold<'a> {
    evaluator: &'a Evaluator<'a>,
    aggregate: &'a Aggregate,
}

impl Fold<'_> {
    fn float(&self, gathered: &mut Gathered, value: f64) {
        let op = self.aggregate.op;
        match gathered {
            Gathered::Nothing => *gathered = first(op, value),
            Gathered::Sum(sum) => sum.add(value),
            Gathered::Mean(mean) => mean.add(value),
            Gathered::Value(best) => match op {
                AggregateOp::Min => *best = lesser(*best, value),
                AggregateOp::Max => *best = greater(*best, value),
                AggregateOp::Count => *best += 1.0,
                _ => {}
            },
            Gathered::Spread { count, mean, squares } => {
                *count += 1.0;
                let before = value - *mean;
                *mean += before / *count;
                *squares += before * (value - *mean);
            }
            Gathered::Histogram(_) => {
                self.note(&Note::MixedFloatsHistogramsAggregation);
                *gathered = Gathered::Spoiled;
            }
            Gathered::Spoiled => {}
        }
    }

    fn histogram(&self, gathered: &mut Gathered, histogram: &Histogram, labels: &Labels) {
        let op = self.aggregate.op;
        match (op, &mut *gathered) {
            (AggregateOp::Count | AggregateOp::Group, Gathered::Nothing) => *gathered = Gathered::Value(1.0),
            (AggregateOp::Count, Gathered::Value(count)) => *count += 1.0,
            (AggregateOp::Group, _) | (_, Gathered::Spoiled) => {}
            (AggregateOp::Sum | AggregateOp::Avg, Gathered::Nothing) => {
                let first = histogram::Accumulator::starting_at(histogram, op == AggregateOp::Avg);
                *gathered = Gathered::Histogram(Box::new(first));
            }
            (AggregateOp::Sum | AggregateOp::Avg, Gathered::Histogram(sum)) => {
                let Ok(reconciled) = sum.add(histogram) else {
                    self.note(&Note::MixedSchemas { metric: labels.metric_name() });
                    *gathered = Gathered::Spoiled;
                    return;
                };
                if reconciled {
                    self.note(&Note::MismatchedCustomBuckets { operation: "aggregation" });
                }
            }
            (AggregateOp::Sum | AggregateOp::Avg, _) => {
                self.note(&Note::MixedFloatsHistogramsAggregation);
                *gathered = Gathered::Spoiled;
            }
            _ => self.note(&Note::HistogramIgnored { aggregation: op.name() }),
        }
    }

    fn note(&self, note: &Note<'_>) {
        self.evaluator.note(self.aggregate.input_span, note);
    }
}

fn first(op: AggregateOp, value: f64) -> Gathered {
    match op {
        AggregateOp::Sum => Gathered::Sum(Sum::starting_at(value)),
        AggregateOp::Avg => Gathered::Mean(Mean::starting_at(value)),
        AggregateOp::Min | AggregateOp::Max => Gathered::Value(value),
        AggregateOp::Stddev | AggregateOp::Stdvar => {
            let squares = if value.is_finite() { 0.0 } else { f64::NAN };
            Gathered::Spread { count: 1.0, mean: value, squares }
        }
        _ => Gathered::Value(1.0),
    }
}

fn finish(op: AggregateOp, gathered: Gathered) -> Cell {
    match gathered {
        Gathered::Nothing | Gathered::Spoiled => Cell::Empty,
        Gathered::Sum(sum) => Cell::Float(sum.value()),
        Gathered::Mean(mean) => Cell::Float(mean.value()),
        Gathered::Value(value) => Cell::Float(value),
        Gathered::Spread { count, squares, .. } => {
            let variance = squares / count;
            Cell::Float(if op == AggregateOp::Stddev { variance.sqrt() } else { variance })
        }
        Gathered::Histogram(sum) => Cell::histogram(sum.finish()),
    }
}
