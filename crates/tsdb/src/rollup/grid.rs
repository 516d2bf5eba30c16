//! Grid and aggregate plans that read cells instead of samples where the answer has the same bits.
//!
//! What the plans mean, and the order of the series, are those of the plain evaluation in `grid.rs` of this crate; a series
//! that cells cannot answer exactly is read from its samples and evaluated as there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pharos_grid::{Aggregation, Floats, GroupFold, Grouping};
use pharos_model::{Labels, TenantId};
use pharos_storage::{
    GridEvaluator, GridPlan, GridSeries, LeafSeries, LeafStream, ReadContext, ReadCounts, ReadMeter, StorageError,
};

use super::Resolution;
use super::coverage::Coverage;
use super::cursor::Wanted;
use super::evaluate::PointsEvaluator;
use super::thin::{Points, ThinSeries, Want};
use crate::read::{Selection, until_error};
use crate::samples::Samples;
use crate::shared::Shared;

/// A plan under way. It stands on one series at a time.
struct RolledGrid {
    selection: Selection,
    wanted: Arc<Wanted>,
    points_evaluator: PointsEvaluator,
    samples_evaluator: GridEvaluator,
    series: ThinSeries,
    points: Points,
    samples: Samples,
    context: ReadContext,
    cells_read: Arc<AtomicU64>,
}

/// What a series comes to.
enum Evaluated<'a> {
    Grid(Option<&'a [f64]>),
    /// The plan wants the samples.
    Raw,
}

impl RolledGrid {
    /// Goes to the next series that has something in the range; false at the end.
    fn next(&mut self) -> Result<bool, StorageError> {
        self.selection.next_thin(self.wanted.range, &mut self.series, &mut self.samples)
    }

    fn evaluate(&mut self) -> Result<Evaluated<'_>, StorageError> {
        if !self.series.is_empty() {
            if self.evaluate_cells()? {
                return Ok(Evaluated::Grid(self.points_evaluator.values()));
            }
            self.selection.read(self.wanted.range, &mut self.samples)?;
        }
        let has_histograms = !self.samples.histograms.is_empty();
        if self.samples_evaluator.needs_raw(floats(&self.samples), has_histograms) {
            // Parts with a rollup gave only what lies in windows.
            self.selection.read(self.wanted.range, &mut self.samples)?;
            return Ok(Evaluated::Raw);
        }
        let evaluator = &mut self.samples_evaluator;
        Ok(Evaluated::Grid(if has_histograms {
            let raw = self.samples.clone().into_raw(Labels::empty());
            evaluator.evaluate(raw.floats(), &raw.histograms, &self.context)?
        } else {
            evaluator.evaluate(floats(&self.samples), &[], &self.context)?
        }))
    }

    /// False if cells do not answer exactly.
    fn evaluate_cells(&mut self) -> Result<bool, StorageError> {
        let (wanted, samples) = (&self.wanted, &self.samples);
        let started = wanted.without_starts && samples.floats.starts.iter().any(|start_ms| *start_ms != 0);
        if started || !samples.histograms.is_empty() || !self.series.join(samples, wanted.want, &mut self.points) {
            return Ok(false);
        }
        let Some(queryable) = self.points_evaluator.evaluate(&self.points, &self.context)? else { return Ok(false) };
        let (points, cells) = (self.points.times.len() as u64, self.series.len() as u64);
        self.cells_read.fetch_add(cells, Ordering::Relaxed);
        self.context.meter.add(ReadCounts {
            series: 1,
            samples: points,
            samples_queryable: queryable,
            samples_largest: points,
            cells,
        });
        Ok(true)
    }

    fn labels(&mut self) -> Result<Labels, StorageError> {
        Ok(Labels::from_canonical(self.selection.labels()?))
    }
}

impl Shared {
    /// What a plan wants of cells; `None` if it reads samples.
    pub(crate) fn rollups_for(&self, tenant: &TenantId, plan: &GridPlan) -> Option<Arc<Wanted>> {
        let want = Want::of(plan.function).filter(|_| !self.settings.downsampling.is_empty())?;
        let range = self.kept(tenant, plan.read_range());
        let in_use = |resolution: &Resolution| self.settings.downsampling.contains(resolution);
        let resolutions = Resolution::COARSEST_FIRST.into_iter().filter(in_use);
        let coverages: Vec<_> =
            resolutions.filter_map(|resolution| Coverage::of(plan, range, resolution)).map(Arc::new).collect();
        let without_starts = plan.starts_raw && plan.function.reads_starts();
        let wanted = Wanted { want, without_starts, range, coverages, damage: Arc::clone(&self.damaged) };
        let tenant = self.tenants.get(tenant)?;
        let usable =
            tenant.state.read().parts.iter().any(|part| part.overlaps(range) && wanted.file_of(part).is_some());
        usable.then(|| Arc::new(wanted))
    }

    /// As [`Shared::grid`].
    pub(crate) fn rolled_grid(
        &self,
        tenant: &TenantId,
        plan: &GridPlan,
        wanted: Arc<Wanted>,
        context: &ReadContext,
    ) -> Result<LeafStream, StorageError> {
        let mut grid = self.rolled(tenant, plan, None, wanted, context)?;
        Ok(Box::new(until_error(move || {
            while grid.next()? {
                match grid.evaluate()? {
                    Evaluated::Grid(None) => {}
                    Evaluated::Grid(Some(values)) => {
                        let values = values.to_vec();
                        return Ok(Some(LeafSeries::Grid(GridSeries { labels: grid.labels()?, values })));
                    }
                    Evaluated::Raw => {
                        let labels = grid.labels()?;
                        return Ok(Some(LeafSeries::Raw(std::mem::take(&mut grid.samples).into_raw(labels))));
                    }
                }
            }
            Ok(None)
        })))
    }

    /// As [`Shared::aggregate`].
    pub(crate) fn rolled_aggregate(
        &self,
        tenant: &TenantId,
        plan: &GridPlan,
        (aggregation, grouping): (Aggregation, &Grouping),
        wanted: Arc<Wanted>,
        context: &ReadContext,
    ) -> Result<LeafStream, StorageError> {
        // Counts are told only of an answer that stands.
        let counting = ReadContext { meter: ReadMeter::default(), ..context.clone() };
        let mut grid = self.rolled(tenant, plan, Some(aggregation), wanted, &counting)?;
        let mut held = context.memory.reserve(0)?;
        let mut fold = GroupFold::new(aggregation, grouping, plan.steps.len());
        let mut column = Vec::new();
        while grid.next()? {
            match grid.evaluate()? {
                Evaluated::Grid(None) => {}
                Evaluated::Grid(Some(values)) => {
                    column.clear();
                    column.extend_from_slice(values);
                    fold.add(grid.selection.labels()?, &column, |bytes| held.grow(bytes))?;
                }
                Evaluated::Raw => {
                    return Err(StorageError::Unsupported { what: "aggregates of these series".to_owned() });
                }
            }
        }
        context.meter.add(counting.meter.counts());
        let groups = fold.finish().map(move |(labels, values)| {
            let _held = &held;
            Ok(LeafSeries::Grid(GridSeries { labels, values }))
        });
        Ok(Box::new(groups))
    }

    fn rolled(
        &self,
        tenant: &TenantId,
        plan: &GridPlan,
        aggregation: Option<Aggregation>,
        wanted: Arc<Wanted>,
        context: &ReadContext,
    ) -> Result<RolledGrid, StorageError> {
        let matchers = std::slice::from_ref(&plan.matchers);
        Ok(RolledGrid {
            selection: self.select_counted(tenant, matchers, wanted.range, Some(&wanted), context)?,
            points_evaluator: PointsEvaluator::new(plan, wanted.want),
            samples_evaluator: GridEvaluator::new(plan, aggregation),
            wanted,
            series: ThinSeries::default(),
            points: Points::default(),
            samples: Samples::default(),
            context: context.clone(),
            cells_read: Arc::clone(&self.counters.rollup_cells_read),
        })
    }
}

fn floats(samples: &Samples) -> Floats<'_> {
    let floats = &samples.floats;
    Floats { times_ms: &floats.times, values: &floats.values, starts_ms: &floats.starts }
}
