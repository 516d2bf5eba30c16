//! Aggregate plans: grids of series folded by group, on several threads where there are many series.
//!
//! The order in which series are folded, and with it every bit of the answer, is that of a raw plan: ascending encoded
//! labels. Threads evaluate pieces of the selection, one thread folds them in order.

use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use pharos_base::{Reservation, Work, in_order};
use pharos_grid::{Aggregation, GroupFold, Grouping};
use pharos_model::{Labels, TenantId, TimeRange};
use pharos_storage::{
    GridEvaluator, GridPlan, GridSeries, LeafSeries, LeafStream, ReadContext, ReadMeter, SharedWindows, StorageError,
};

use crate::grid::floats;
use crate::instant::is_instant;
use crate::narrow::Narrowed;
use crate::pieces::Pieces;
use crate::read::{Order, Selection};
use crate::samples::Samples;
use crate::shared::Shared;
use crate::source::Source;

/// Fewer series for each are not worth another thread.
const PARALLEL_SERIES_MIN: usize = 2048;
/// Grids of a piece take about this much: they shall still be in a core's cache when they are folded.
const PIECE_BYTES: usize = 256 << 10;
/// Series of a piece, whatever their grids take.
const PIECE_SERIES_MIN: usize = 64;
const PIECE_SERIES_MAX: usize = 1024;
/// What pieces may take more: they end where blocks do.
const PIECE_SLACK: usize = 4;
/// What a series of a piece takes beside its grid, about: its labels.
const ROW_BYTES: usize = 256;
/// Pieces that each thread may be ahead.
const WINDOW_PER_THREAD: usize = 2;

impl Shared {
    /// Grids folded by group; complete before the first group is handed out.
    pub(crate) fn aggregate(
        &self,
        tenant: &TenantId,
        plan: &GridPlan,
        aggregation: Aggregation,
        grouping: &Grouping,
        context: &ReadContext,
    ) -> Result<LeafStream, StorageError> {
        if is_instant(plan) {
            return self.instant_aggregate(tenant, plan, aggregation, grouping, context);
        }
        if let Some(wanted) = self.rollups_for(tenant, plan) {
            return self.rolled_aggregate(tenant, plan, (aggregation, grouping), wanted, context);
        }
        let range = self.kept(tenant, plan.read_range());
        // Counts are told only of an answer that stands.
        let counting = ReadContext { meter: ReadMeter::default(), ..context.clone() };
        let matchers = std::slice::from_ref(&plan.matchers);
        let (sources, selected) = self.sources(tenant, matchers, range, (Order::Labels, None), &counting)?;
        self.count_candidates(&sources, tenant, matchers, range, &counting)?;
        let mut held = context.memory.reserve(0)?;
        let narrowed = Narrowed::new(plan, &sources);
        let plan = &narrowed.plan;
        let mut fold = GroupFold::new(aggregation, grouping, plan.steps.len());
        let grids = Grids {
            store: self,
            plan,
            aggregation,
            range,
            context: &counting,
            spare: Mutex::default(),
            windows: SharedWindows::default(),
        };
        let mut add =
            |labels: &[u8], grid: &[f64]| fold.add(labels, grid, |bytes| held.grow(bytes).map_err(Into::into));
        let series = sources.iter().map(Source::series_count).max().unwrap_or(0);
        let busy = self.reading.load(Ordering::Relaxed).saturating_sub(self.helpers.lent());
        let helpers = self.helpers.lend(series / PARALLEL_SERIES_MIN, busy);
        let window = (helpers.count() + 1) * WINDOW_PER_THREAD;
        // A query that fits its memory only without pieces in waiting goes without them.
        let fits = context.memory.has_room((window * PIECE_BYTES * PIECE_SLACK) as u64);
        if helpers.count() > 0 && fits {
            let piece_series =
                (PIECE_BYTES / (plan.steps.len() * 8 + ROW_BYTES)).clamp(PIECE_SERIES_MIN, PIECE_SERIES_MAX);
            let pieces =
                Pieces::new(sources, piece_series).map(|piece| piece.map_err(|error| self.damaged.met_in_query(error)));
            let mut answered = 0;
            in_order("tsdb-read", &grids, pieces, (helpers.count(), window), |rows| {
                answered += rows.answered;
                counting.check_series(answered)?;
                rows.iter().try_for_each(|(labels, grid)| add(labels, grid))?;
                grids.spare.lock().push(rows);
                Ok(())
            })?;
        } else {
            grids.evaluate(&mut self.walk(sources, selected, &counting), &mut grids.bench(), add)?;
        }
        drop(helpers);
        context.meter.add(counting.meter.counts());
        let groups = fold.finish().map(move |(labels, values)| {
            let _held = &held;
            Ok(LeafSeries::Grid(GridSeries { labels, values: narrowed.widen(&values) }))
        });
        Ok(Box::new(groups))
    }
}

/// Evaluates the grids of a plan, piece by piece.
struct Grids<'a> {
    store: &'a Shared,
    plan: &'a GridPlan,
    aggregation: Aggregation,
    range: TimeRange,
    context: &'a ReadContext,
    /// Rows that were folded, for their memory.
    spare: Mutex<Vec<Rows>>,
    windows: SharedWindows,
}

/// What a thread uses for series after series.
struct Bench {
    evaluator: GridEvaluator,
    samples: Samples,
}

/// Grids of the series of a piece that have one.
struct Rows {
    labels: Vec<u8>,
    /// Where the labels of each series end.
    ends: Vec<usize>,
    values: Vec<f64>,
    steps: usize,
    /// Series that had samples.
    answered: u64,
    /// For as many bytes as it ever took.
    held: Reservation,
}

impl Rows {
    fn push(&mut self, labels: &[u8], grid: &[f64]) -> Result<(), StorageError> {
        self.labels.extend_from_slice(labels);
        self.ends.push(self.labels.len());
        self.values.extend_from_slice(grid);
        let bytes = self.labels.capacity() + self.ends.capacity() * size_of::<usize>() + self.values.capacity() * 8;
        let more = (bytes as u64).saturating_sub(self.held.bytes());
        if more > 0 {
            self.held.grow(more)?;
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.labels.clear();
        self.ends.clear();
        self.values.clear();
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[f64])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let labels = starts.zip(&self.ends).map(|(start, end)| &self.labels[start..*end]);
        labels.zip(self.values.chunks_exact(self.steps))
    }
}

impl Grids<'_> {
    /// Calls `add` with labels and grid of each series that has one, in label order.
    fn evaluate(
        &self,
        selection: &mut Selection,
        bench: &mut Bench,
        mut add: impl FnMut(&[u8], &[f64]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let Bench { evaluator, samples } = bench;
        while selection.next_samples(self.range, samples)? {
            if evaluator.needs_raw(floats(samples), !samples.histograms.is_empty()) {
                return Err(StorageError::Unsupported { what: "aggregates of these series".to_owned() });
            }
            let values = if samples.histograms.is_empty() {
                evaluator.evaluate(floats(samples), &[], selection.context())?
            } else {
                let raw = std::mem::take(samples).into_raw(Labels::empty());
                evaluator.evaluate(raw.floats(), &raw.histograms, selection.context())?
            };
            if let Some(values) = values {
                add(selection.labels()?, values)?;
            }
        }
        Ok(())
    }
}

impl Work for Grids<'_> {
    type Piece = Vec<Source>;
    type Bench = Bench;
    type Done = Rows;
    type Error = StorageError;

    fn bench(&self) -> Bench {
        let evaluator = GridEvaluator::new(self.plan, Some(self.aggregation)).sharing(&self.windows);
        Bench { evaluator, samples: Samples::default() }
    }

    fn work(&self, bench: &mut Bench, piece: Vec<Source>) -> Result<Rows, StorageError> {
        let held = || self.context.memory.reserve(0);
        let spare = self.spare.lock().pop();
        let mut rows = match spare {
            Some(rows) => rows,
            None => Rows {
                labels: Vec::new(),
                ends: Vec::new(),
                values: Vec::new(),
                steps: self.plan.steps.len(),
                answered: 0,
                held: held()?,
            },
        };
        rows.clear();
        // Told together: threads that count each series would wait for each other.
        let context = ReadContext { meter: ReadMeter::default(), ..self.context.clone() };
        let mut selection = self.store.walk(piece, held()?, &context);
        self.evaluate(&mut selection, bench, |labels, grid| rows.push(labels, grid))?;
        rows.answered = selection.answered();
        self.context.meter.add(context.meter.counts());
        Ok(rows)
    }
}
