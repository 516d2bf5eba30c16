//! Aggregations that pick some of the input series at each step: `topk`, `bottomk`, `limitk`, `limit_ratio`.
//!
//! Of the first three no more is held than what is picked so far and what arrived since: now and then those that no step
//! would pick any more are dropped. What is picked is a property of the set of series, not of the order of their arrival.

use std::cmp::Ordering;

use pharos_base::sort_checked;
use pharos_model::{Labels, StepRange};

use super::extremes;
use crate::ast::AggregateOp;
use crate::engine::QueryError;
use crate::engine::annotations::Note;
use crate::engine::eval::{Evaluator, from_list};
use crate::engine::gofmt::go_g;
use crate::engine::pace::Pace;
use crate::engine::plan::Aggregate;
use crate::engine::series::{Cell, Series, SeriesIter};
use pharos_grid::Groups;

/// At least so many series arrive before those that are not picked are dropped.
const PRUNE_SERIES_MIN: usize = 512;

impl Evaluator<'_> {
    pub(super) fn pick<'a>(
        &'a self,
        aggregate: &'a Aggregate,
        groups: Groups,
        steps: StepRange,
    ) -> Result<SeriesIter<'a>, QueryError> {
        let params = self.param(aggregate, steps)?;
        if aggregate.op == AggregateOp::LimitRatio {
            return self.limit_ratio(aggregate, params, steps);
        }
        // What the input has to tell, its failure above all, comes first: then it is said what is wrong with the parameter,
        // and nothing if no step asks for anything.
        let counts = check_counts(&params);
        let is_wanted = matches!(counts, Ok(Some(_)));
        let mut picks = Picks::new(self, aggregate, groups, counts);
        for series in self.vector(&aggregate.input, steps)? {
            let series = series?;
            if is_wanted {
                picks.push(series)?;
            }
        }
        // Where one step of many is evaluated, as for a cached answer, the order must be that of the others.
        let is_ranked = steps.len() == 1 && self.steps.len() == 1;
        Ok(from_list(picks.finish(is_ranked)?))
    }

    fn limit_ratio<'a>(
        &'a self,
        aggregate: &'a Aggregate,
        mut ratios: Vec<f64>,
        steps: StepRange,
    ) -> Result<SeriesIter<'a>, QueryError> {
        if ratios.iter().all(|ratio| *ratio == 0.0) {
            for series in self.vector(&aggregate.input, steps)? {
                series?;
            }
            return Ok(Box::new(std::iter::empty()));
        }
        if ratios.iter().any(|ratio| ratio.is_nan()) {
            return Err(QueryError::execution("Ratio value is NaN"));
        }
        let (least, most) = extremes(&ratios);
        for (given, used) in [(most, 1.0), (least, -1.0)] {
            if given.abs() > 1.0 && given.signum() == used {
                self.note(aggregate.param_span, &Note::InvalidRatio { given, used });
            }
        }
        for ratio in &mut ratios {
            *ratio = ratio.clamp(-1.0, 1.0);
        }
        let input = self.vector(&aggregate.input, steps)?;
        Ok(Box::new(input.filter_map(move |series| {
            let mut series = match series {
                Ok(series) => series,
                Err(error) => return Some(Err(error)),
            };
            let offset = super::hash::offset(&series.labels);
            for (cell, ratio) in series.cells.iter_mut().zip(&ratios) {
                let picked = if *ratio >= 0.0 { offset < *ratio } else { offset >= 1.0 + *ratio };
                if !picked {
                    *cell = Cell::Empty;
                }
            }
            (!series.is_empty()).then_some(Ok(series))
        })))
    }
}

/// The best series of each group so far, and those that arrived since that was found out.
struct Picks<'a> {
    evaluator: &'a Evaluator<'a>,
    aggregate: &'a Aggregate,
    /// How many are picked at each step; why there are none.
    counts: Result<Vec<usize>, QueryError>,
    groups: Groups,
    members: Vec<Members>,
    held: usize,
    prune_at: usize,
    pace: Pace<'a>,
}

/// The series of a group.
struct Members {
    /// The least labels that any of them has or had.
    first: Labels,
    series: Vec<Series>,
    /// How many of them were looked at already.
    known: usize,
}

impl<'a> Picks<'a> {
    fn new(
        evaluator: &'a Evaluator<'a>,
        aggregate: &'a Aggregate,
        groups: Groups,
        counts: Result<Option<Vec<usize>>, QueryError>,
    ) -> Self {
        Self {
            evaluator,
            aggregate,
            counts: counts.map(Option::unwrap_or_default),
            groups,
            members: Vec::new(),
            held: 0,
            prune_at: PRUNE_SERIES_MIN,
            pace: Pace::new(&evaluator.context),
        }
    }

    fn push(&mut self, series: Series) -> Result<(), QueryError> {
        let (number, is_new) = self.groups.number(series.labels.encoded());
        if is_new {
            self.members.push(Members { first: series.labels.clone(), series: Vec::new(), known: 0 });
        }
        let members = &mut self.members[number];
        if series.labels < members.first {
            members.first = series.labels.clone();
        }
        members.series.push(series);
        self.held += 1;
        if self.held >= self.prune_at { self.prune() } else { Ok(()) }
    }

    /// Drops what no step picks. Costs as much as what is held, so it is done when that has doubled.
    fn prune(&mut self) -> Result<(), QueryError> {
        let least = self.counts.iter().flatten().copied().min().unwrap_or(0);
        let mut members = std::mem::take(&mut self.members);
        for group in members.iter_mut().filter(|group| group.series.len() > group.known.max(least)) {
            group.series = self.best(std::mem::take(&mut group.series))?;
            group.known = group.series.len();
        }
        self.held = members.iter().map(|group| group.series.len()).sum();
        self.members = members;
        self.prune_at = self.held + self.held.max(PRUNE_SERIES_MIN);
        Ok(())
    }

    /// All that is picked, by labels; or each group's best first, groups by their least labels.
    fn finish(mut self, is_ranked: bool) -> Result<Vec<Series>, QueryError> {
        self.counts = Ok(self.counts?);
        let context = &self.evaluator.context;
        let groups = sort_checked(std::mem::take(&mut self.members), |a, b| a.first.cmp(&b.first), || context.check())?;
        let mut picked = Vec::new();
        for group in groups {
            let mut best = self.best(group.series)?;
            if is_ranked && self.aggregate.op != AggregateOp::Limitk {
                best = self.sorted(best, |a, b| self.order(value_at(a, 0), value_at(b, 0)))?;
            }
            picked.extend(best);
        }
        if is_ranked { Ok(picked) } else { self.sorted(picked, |a, b| a.labels.cmp(&b.labels)) }
    }

    /// Those of one group that are picked at some step, by labels, with no other cells than those picked.
    fn best(&mut self, series: Vec<Series>) -> Result<Vec<Series>, QueryError> {
        // Ties and first picks go by labels, not by the order of the store.
        let mut series = self.sorted(series, |a, b| a.labels.cmp(&b.labels))?;
        let steps = self.counts.as_ref().map_or(0, Vec::len);
        let mut picked = vec![false; series.len() * steps];
        for step in 0..steps {
            self.pace.spend(series.len())?;
            for at in self.picked(&series, step) {
                picked[at * steps + step] = true;
            }
        }
        for (one, flags) in series.iter_mut().zip(picked.chunks_exact(steps.max(1))) {
            for (cell, _) in one.cells.iter_mut().zip(flags).filter(|(_, is_picked)| !**is_picked) {
                *cell = Cell::Empty;
            }
        }
        series.retain(|one| !one.is_empty());
        Ok(series)
    }

    /// The series of a group picked at one step, in no order.
    fn picked(&self, group: &[Series], step: usize) -> Vec<usize> {
        let count = self.counts.as_ref().map_or(0, |counts| counts[step]);
        if self.aggregate.op == AggregateOp::Limitk {
            let present = group.iter().enumerate().filter(|(_, one)| !one.cells[step].is_empty());
            return present.take(count).map(|(at, _)| at).collect();
        }
        let mut values: Vec<(f64, usize)> = Vec::with_capacity(group.len());
        for (at, one) in group.iter().enumerate() {
            match &one.cells[step] {
                Cell::Float(value) => values.push((*value, at)),
                Cell::Histogram(_) if count > 0 => {
                    let ignored = Note::HistogramIgnored { aggregation: self.aggregate.op.name() };
                    self.evaluator.note(self.aggregate.span, &ignored);
                }
                Cell::Empty | Cell::Histogram(_) => {}
            }
        }
        if count == 0 {
            return Vec::new();
        }
        if values.len() > count {
            values.select_nth_unstable_by(count - 1, |(a, at), (b, bt)| self.order(*a, *b).then(at.cmp(bt)));
            values.truncate(count);
        }
        values.into_iter().map(|(_, at)| at).collect()
    }

    /// The better of two values first; NaN is the worst.
    fn order(&self, a: f64, b: f64) -> Ordering {
        match (a.is_nan(), b.is_nan()) {
            (false, false) if self.aggregate.op == AggregateOp::Topk => b.total_cmp(&a),
            (false, false) => a.total_cmp(&b),
            (a_nan, b_nan) => a_nan.cmp(&b_nan),
        }
    }

    fn sorted(
        &self,
        series: Vec<Series>,
        compare: impl FnMut(&Series, &Series) -> Ordering,
    ) -> Result<Vec<Series>, QueryError> {
        Ok(sort_checked(series, compare, || self.evaluator.context.check())?)
    }
}

fn value_at(series: &Series, step: usize) -> f64 {
    series.cells.get(step).and_then(Cell::float).unwrap_or(f64::NAN)
}

/// How many series each step asks for: whole numbers of 64 bits; `None` if no step asks for any.
fn check_counts(params: &[f64]) -> Result<Option<Vec<usize>>, QueryError> {
    let (least, most) = extremes(params);
    if most < 1.0 {
        return Ok(None);
    }
    if params.iter().any(|param| param.is_nan()) {
        return Err(QueryError::execution("Parameter value is NaN"));
    }
    if least <= -9_223_372_036_854_775_808.0 {
        return Err(QueryError::execution(format!("Scalar value {} underflows int64", go_g(least))));
    }
    // The largest double below 2^63 is refused as well.
    if most >= 9_223_372_036_854_774_784.0 {
        return Err(QueryError::execution(format!("Scalar value {} overflows int64", go_g(most))));
    }
    Ok(Some(params.iter().map(|param| param.max(0.0) as usize).collect()))
}
