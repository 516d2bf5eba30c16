//! Aggregations that pick some of the input series at each step: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use pharos_model::StepRange;

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

impl Evaluator<'_> {
    pub(super) fn pick<'a>(
        &'a self,
        aggregate: &'a Aggregate,
        mut groups: Groups,
        steps: StepRange,
    ) -> Result<SeriesIter<'a>, QueryError> {
        let params = self.param(aggregate, steps)?;
        if aggregate.op == AggregateOp::LimitRatio {
            return self.limit_ratio(aggregate, params, steps);
        }
        // What the input has to tell, its failure above all, is told even if no step asks for any of it.
        let mut series = self.collected(&aggregate.input, steps)?;
        if !check_counts(&params)? {
            return Ok(Box::new(std::iter::empty()));
        }
        // Ties and first picks go by labels, not by the order of the store.
        series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        let mut members: Vec<Vec<usize>> = Vec::new();
        for (at, one) in series.iter().enumerate() {
            let (number, is_new) = groups.number(one.labels.encoded());
            if is_new {
                members.push(Vec::new());
            }
            members[number].push(at);
        }
        let mut keep = vec![vec![false; steps.len()]; series.len()];
        let mut ranking: Vec<usize> = Vec::new();
        // Where one step of many is evaluated, as for a cached answer, the order must be that of the others.
        let is_ranked = steps.len() == 1 && self.steps.len() == 1;
        let mut pace = Pace::new(&self.context);
        for group in &members {
            for (step, param) in params.iter().enumerate() {
                pace.spend(group.len())?;
                let picked = self.picked(aggregate, &series, group, step, *param);
                for at in &picked {
                    keep[*at][step] = true;
                }
                if is_ranked {
                    ranking.extend(picked);
                }
            }
        }
        Ok(from_list(kept(series, &keep, &ranking)))
    }

    /// The series of a group picked at one step, best first.
    fn picked(&self, aggregate: &Aggregate, series: &[Series], group: &[usize], step: usize, param: f64) -> Vec<usize> {
        let count = param.max(0.0) as usize;
        if aggregate.op == AggregateOp::Limitk {
            return group.iter().copied().filter(|at| !series[*at].cells[step].is_empty()).take(count).collect();
        }
        let mut values: Vec<(f64, usize)> = Vec::with_capacity(group.len());
        for at in group {
            match &series[*at].cells[step] {
                Cell::Float(value) => values.push((*value, *at)),
                Cell::Histogram(_) if count > 0 => {
                    self.note(aggregate.span, &Note::HistogramIgnored { aggregation: aggregate.op.name() });
                }
                Cell::Empty | Cell::Histogram(_) => {}
            }
        }
        let largest_first = aggregate.op == AggregateOp::Topk;
        values.sort_by(|(a, _), (b, _)| match (a.is_nan(), b.is_nan()) {
            (false, false) if largest_first => b.total_cmp(a),
            (false, false) => a.total_cmp(b),
            (a_nan, b_nan) => a_nan.cmp(&b_nan),
        });
        values.into_iter().take(count).map(|(_, at)| at).collect()
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

/// Counts are whole numbers of 64 bits; false if no step asks for any series.
fn check_counts(params: &[f64]) -> Result<bool, QueryError> {
    let (least, most) = extremes(params);
    if most < 1.0 {
        return Ok(false);
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
    Ok(true)
}

/// The series with only the cells picked; in the order of `ranking` for an instant query.
fn kept(series: Vec<Series>, keep: &[Vec<bool>], ranking: &[usize]) -> Vec<Series> {
    let mut slots: Vec<Option<Series>> = Vec::with_capacity(series.len());
    for (mut one, flags) in series.into_iter().zip(keep) {
        for (cell, picked) in one.cells.iter_mut().zip(flags) {
            if !picked {
                *cell = Cell::Empty;
            }
        }
        slots.push((!one.is_empty()).then_some(one));
    }
    let mut output: Vec<Series> = ranking.iter().filter_map(|at| slots[*at].take()).collect();
    output.extend(slots.into_iter().flatten());
    output
}
