//! Leaves: which parts of a plan a store computes by itself, and the stream of what it answers.
//!
//! A leaf is a selector, or a function of the window of one. A store that names the function in its capabilities
//! is asked for the grid; all others, and the series it answers raw, are evaluated here by the same kernels. So an
//! answer does not depend on what a store can do.

use std::sync::Arc;

use hashbrown::HashMap;
use pharos_grid::{Aggregation, Kernel, KeyLabels, RangeFunction, present};
use pharos_model::{Histogram, Labels, Matcher, StepRange, TimeRange};
use pharos_storage::{
    GridPlan, GridSeries, LeafPlan, LeafSeries, LeafStream, Precision, RawPlan, RawSeries, ReadContext, StorageError,
};

use super::QueryError;
use super::counts::Scope;
use super::eval::Evaluator;
use super::histogram;
use super::ledger::Lease;
use super::plan::{Aggregate, Hints, Node, Range, RangeSource, Selector, TimeShift, matchers_fix_name};
use super::series::{Cell, Series, histogram_bytes, is_metadata_label};
use crate::ast::{AggregateOp, EdgeMode};
use crate::functions::FunctionId;

/// A function of the samples that a selector finds before each step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf<'a> {
    pub(super) function: RangeFunction,
    pub(super) matchers: &'a [Matcher],
    pub(super) window_ms: i64,
    pub(super) time: TimeShift,
    pub(super) hints: Hints,
    pub(super) scope: Scope,
}

/// One series of a leaf's answer.
pub(super) enum LeafItem {
    /// Evaluated by the store.
    Grid(GridSeries),
    /// Samples, booked.
    Raw(RawSeries, Lease),
}

/// The histogram before the first one read, by series.
pub(super) type Earlier = HashMap<Labels, Arc<Histogram>>;

/// The store's name of a function of windows, if stores may know it.
pub(super) fn range_function(id: FunctionId) -> Option<RangeFunction> {
    use FunctionId as F;
    Some(match id {
        F::Rate => RangeFunction::Rate,
        F::Increase => RangeFunction::Increase,
        F::Delta => RangeFunction::Delta,
        F::Irate => RangeFunction::Irate,
        F::Idelta => RangeFunction::Idelta,
        F::SumOverTime => RangeFunction::SumOverTime,
        F::AvgOverTime => RangeFunction::AvgOverTime,
        F::MinOverTime => RangeFunction::MinOverTime,
        F::MaxOverTime => RangeFunction::MaxOverTime,
        F::CountOverTime => RangeFunction::CountOverTime,
        F::LastOverTime => RangeFunction::LastOverTime,
        F::Changes => RangeFunction::Changes,
        F::Resets => RangeFunction::Resets,
        _ => return None,
    })
}

/// The store's name of an aggregation, if stores may know it.
pub(super) fn aggregation(op: AggregateOp) -> Option<Aggregation> {
    Some(match op {
        AggregateOp::Sum => Aggregation::Sum,
        AggregateOp::Count => Aggregation::Count,
        AggregateOp::Group => Aggregation::Group,
        AggregateOp::Avg => Aggregation::Avg,
        AggregateOp::Min => Aggregation::Min,
        AggregateOp::Max => Aggregation::Max,
        _ => return None,
    })
}

/// Whether PromQL removes the metric's name from the function's results.
fn drops_name(function: RangeFunction) -> bool {
    !matches!(function, RangeFunction::Last | RangeFunction::LastOverTime)
}

/// One cell per step; a grid of a single instant (`@`) serves all of them.
pub(super) fn cells(grid: &[f64], steps: StepRange) -> Vec<Cell> {
    match grid {
        [value] => vec![present(*value).into(); steps.len()],
        _ => grid.iter().map(|value| present(*value).into()).collect(),
    }
}

impl TimeShift {
    /// The evaluation times as a kernel or a store wants them: `@` makes them one.
    pub(super) fn grid_steps(self, steps: StepRange) -> StepRange {
        self.at_ms.map_or(steps, StepRange::instant)
    }
}

impl<'a> Leaf<'a> {
    /// An instant selector.
    pub(super) fn of_selector(selector: &'a Selector, lookback_ms: i64) -> Self {
        Self {
            function: RangeFunction::Last,
            matchers: &selector.matchers,
            window_ms: lookback_ms,
            time: selector.time,
            hints: selector.hints,
            scope: selector.scope,
        }
    }

    /// A function of a range vector.
    pub(super) fn of_range(function: RangeFunction, range: &'a Range) -> Option<Self> {
        match &range.source {
            RangeSource::Samples(matchers) if range.edge.is_none() => {
                let Range { length_ms: window_ms, time, hints, scope, .. } = *range;
                Some(Self { function, matchers, window_ms, time, hints, scope })
            }
            _ => None,
        }
    }

    fn of_node(node: &'a Node, lookback_ms: i64) -> Option<Self> {
        match node {
            Node::Selector(selector) if selector.edge != Some(EdgeMode::Smoothed) => {
                Some(Self::of_selector(selector, lookback_ms))
            }
            Node::Call(call) => match call.args.as_slice() {
                [Node::Range(range)] => Self::of_range(range_function(call.function.id)?, range),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn kernel(&self, steps: StepRange) -> Kernel {
        Kernel::new(self.function, self.window_ms, self.time.grid_steps(steps), self.time.offset_ms)
    }

    fn grid_plan(&self, steps: StepRange, starts_raw: bool) -> GridPlan {
        GridPlan {
            matchers: self.matchers.to_vec(),
            function: self.function,
            window_ms: self.window_ms,
            steps: self.time.grid_steps(steps),
            offset_ms: self.time.offset_ms,
            starts_raw,
        }
    }
}

impl Evaluator<'_> {
    fn accepts(&self, precision: Option<Precision>) -> bool {
        match precision {
            _ if self.step_counts.is_some() => false,
            Some(Precision::Exact) => true,
            Some(Precision::Rounded) => self.settings.rounded_push_down,
            None => false,
        }
    }

    /// Opens a leaf: grids where the store computes them, else samples.
    pub(super) fn leaf<'a>(
        &'a self,
        leaf: Leaf<'a>,
        steps: StepRange,
    ) -> Result<impl Iterator<Item = Result<LeafItem, QueryError>> + 'a, QueryError> {
        let plan = leaf.grid_plan(steps, self.settings.use_start_timestamps);
        let range = plan.read_range();
        let plan = if self.accepts(self.store.capabilities().function(leaf.function)) {
            LeafPlan::Grid(plan)
        } else {
            LeafPlan::Raw(RawPlan { matchers: plan.matchers, range })
        };
        let stream = self.open(plan, leaf.scope)?;
        Ok(self.items(stream, leaf.matchers, range, leaf.hints))
    }

    /// Streams samples of the store, booked and counted.
    pub(super) fn raw<'a>(
        &'a self,
        matchers: &'a [Matcher],
        range: TimeRange,
        hints: Hints,
    ) -> Result<impl Iterator<Item = Result<(RawSeries, Lease), QueryError>> + 'a, QueryError> {
        let plan = LeafPlan::Raw(RawPlan { matchers: matchers.to_vec(), range });
        let stream = self.open(plan, Scope::Each)?;
        Ok(self.items(stream, matchers, range, hints).map(|item| match item? {
            LeafItem::Raw(series, lease) => Ok((series, lease)),
            LeafItem::Grid(_) => Err(QueryError::execution("the store answered a raw plan with a grid")),
        }))
    }

    fn items<'a>(
        &'a self,
        stream: LeafStream,
        matchers: &'a [Matcher],
        range: TimeRange,
        hints: Hints,
    ) -> impl Iterator<Item = Result<LeafItem, QueryError>> + 'a {
        let mut earlier: Option<Arc<Earlier>> = None;
        stream.map(move |series| {
            self.context.check()?;
            let mut series = match series? {
                LeafSeries::Raw(series) => series,
                LeafSeries::Grid(series) => {
                    self.check_read()?;
                    return Ok(LeafItem::Grid(series));
                }
            };
            self.ledger.count_read(series.sample_count());
            if hints != Hints::AsStored && !series.histograms.is_empty() {
                let mut previous = None;
                if hints != (Hints::Counts { joined: false }) {
                    self.derived_hints.set(true);
                    let earlier = match &earlier {
                        Some(earlier) => earlier,
                        None => earlier.insert(self.earlier_of_leaf(matchers, range)?),
                    };
                    previous = earlier.get(&series.labels).cloned();
                }
                match hints {
                    Hints::Counts { .. } => histogram::only_counts(previous, &mut series.histograms),
                    _ => histogram::with_derived_resets(previous, &mut series.histograms),
                }
            }
            let histograms: usize =
                series.histograms.iter().map(|sample| histogram_bytes(&sample.histogram) + 16).sum();
            let floats =
                series.timestamps_ms.len() * 16 + (series.start_ms.len() + series.histogram_start_ms.len()) * 8;
            let lease = self.ledger.hold(series.timestamps_ms.len() + histograms / 16, floats + histograms)?;
            Ok(LeafItem::Raw(series, lease))
        })
    }

    fn earlier_of_leaf(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<Earlier>, QueryError> {
        let Some(shared) = self.leaves.shared_earlier() else { return self.earlier(matchers, range).map(Arc::new) };
        let mut known = shared.lock();
        if let Some(earlier) = &*known {
            return Ok(Arc::clone(earlier));
        }
        Ok(Arc::clone(known.insert(Arc::new(self.earlier(matchers, range)?))))
    }

    /// The newest histogram of each series within the lookback before `range`: the first sample's reset hint depends
    /// on it. Read only if there are histograms at all.
    fn earlier(&self, matchers: &[Matcher], range: TimeRange) -> Result<Earlier, QueryError> {
        let before = TimeRange::new(range.start_ms.saturating_sub(self.lookback_ms), range.start_ms);
        let plan = LeafPlan::Raw(RawPlan { matchers: matchers.to_vec(), range: before });
        let mut newest = Earlier::default();
        for series in self.store.leaf(self.tenant, &plan, &self.context)? {
            self.context.check()?;
            if let LeafSeries::Raw(series) = series?
                && let Some(last) = series.histograms.last()
            {
                newest.insert(series.labels, Arc::clone(&last.histogram));
            }
        }
        Ok(newest)
    }

    /// What the store read by itself may not be more at a time than we would have been allowed to hold.
    fn check_read(&self) -> Result<(), QueryError> {
        let largest = |context: &ReadContext| context.meter.counts().samples_largest;
        let contexts = [&self.context, &self.context_of_once, &self.context_of_inner];
        let largest = contexts.into_iter().map(largest).max().unwrap_or(0);
        if largest > self.ledger.samples_max() { Err(self.ledger.too_many_samples()) } else { Ok(()) }
    }

    /// The groups of an aggregate over a leaf if the store computes all of it.
    ///
    /// What is said about series (that a metric is no counter) must be known without them, and removing names must
    /// not make two series alike: otherwise the grids are asked for and joined here.
    pub(super) fn aggregate_in_store(
        &self,
        aggregate: &Aggregate,
        steps: StepRange,
    ) -> Result<Option<Vec<Series>>, QueryError> {
        let (Some(aggregation), Some(leaf)) =
            (aggregation(aggregate.op), Leaf::of_node(&aggregate.input, self.lookback_ms))
        else {
            return Ok(None);
        };
        let capabilities = self.store.capabilities();
        if !self.accepts(capabilities.function(leaf.function)) || !self.accepts(capabilities.aggregation(aggregation)) {
            return Ok(None);
        }
        let is_counter = matches!(leaf.function, RangeFunction::Rate | RangeFunction::Increase);
        let drop_name = drops_name(leaf.function);
        let delayed = self.settings.delayed_name_removal;
        let named = matchers_fix_name(leaf.matchers);
        if (is_counter && (!named || self.settings.type_and_unit_labels)) || (drop_name && !delayed && !named) {
            return Ok(None);
        }
        let mut grouping = KeyLabels::new(aggregate.without, &aggregate.labels).to_grouping();
        if drop_name && !delayed {
            if grouping.without {
                grouping.labels.extend(["__type__", "__unit__"].map(str::to_owned));
                grouping.labels.sort_unstable();
                grouping.labels.dedup();
            } else {
                grouping.labels.retain(|label| !is_metadata_label(label));
            }
        }
        let grid = leaf.grid_plan(steps, self.settings.use_start_timestamps);
        let plan = LeafPlan::Aggregate { grid, aggregation, grouping };
        let mut groups = Vec::new();
        let stream = match self.store.leaf(self.tenant, &plan, self.context_of(leaf.scope)) {
            Ok(stream) => stream,
            Err(StorageError::Unsupported { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        for group in stream {
            let group = match group {
                Ok(LeafSeries::Grid(group)) => group,
                Ok(LeafSeries::Raw(_)) => {
                    return Err(QueryError::execution("the store answered an aggregate plan with samples"));
                }
                Err(StorageError::Unsupported { .. }) if groups.is_empty() => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            groups.push(self.series(group.labels, drop_name && delayed, cells(&group.values, steps))?);
        }
        self.check_read()?;
        if is_counter && !groups.is_empty() {
            self.note_if_no_counter(aggregate.leaf_span(), metric_name(leaf.matchers));
        }
        Ok(Some(groups))
    }
}

/// The name that an equality matcher demands.
fn metric_name(matchers: &[Matcher]) -> &str {
    let names = matchers.iter().filter(|matcher| matcher.name() == pharos_model::METRIC_NAME);
    names.filter(|matcher| matcher.op() == pharos_model::MatchOp::Equal).map(Matcher::value).next().unwrap_or("")
}
