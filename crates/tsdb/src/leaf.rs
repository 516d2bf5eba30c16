//! Leaves for the contract: opened once, then streamed whole or in pieces.

use std::sync::Arc;

use parking_lot::Mutex;
use pharos_base::Reservation;
use pharos_model::{Labels, TenantId, TimeRange};
use pharos_storage::{
    GridEvaluator, GridSeries, LeafPieces, LeafPlan, LeafSeries, LeafStream, OpenLeaf, ReadContext, ReadMeter,
    SharedWindows, StorageError, WholeLeaf,
};

use crate::grid::floats;
use crate::instant::{self, is_instant};
use crate::narrow::Narrowed;
use crate::pieces::Pieces;
use crate::read::{Order, Selection, Together, until_error};
use crate::samples::Samples;
use crate::shared::Shared;
use crate::source::Source;

/// Selected series, and how they are answered.
struct SelectedLeaf {
    store: Arc<Shared>,
    sources: Vec<Source>,
    held: Reservation,
    answer: Answer,
    context: ReadContext,
}

/// What becomes of each series that has samples in the range.
#[derive(Clone)]
enum Answer {
    Raw(TimeRange),
    Newest(TimeRange),
    Grid { range: TimeRange, benches: Benches },
}

/// Benches that nobody uses at the moment: a piece takes up where another ended, windows it remembers included.
#[derive(Clone)]
struct Benches {
    narrowed: Arc<Narrowed>,
    spare: Arc<Mutex<Vec<Bench>>>,
    windows: SharedWindows,
}

/// What is used for series after series.
struct Bench {
    evaluator: GridEvaluator,
    samples: Samples,
}

/// A bench while it is in use.
struct Borrowed {
    bench: Option<Bench>,
    benches: Benches,
}

impl Benches {
    fn borrow(&self) -> Borrowed {
        let spare = self.spare.lock().pop();
        let new = || Bench {
            evaluator: GridEvaluator::new(&self.narrowed.plan, None).sharing(&self.windows),
            samples: Samples::default(),
        };
        Borrowed { bench: Some(spare.unwrap_or_else(new)), benches: self.clone() }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.benches.spare.lock().extend(self.bench.take());
    }
}

/// The counts of one piece: told when it was read, so that threads do not wait for each other to count.
struct PieceMeter {
    own: ReadMeter,
    all: ReadMeter,
}

impl Drop for PieceMeter {
    fn drop(&mut self) {
        self.all.add(self.own.counts());
    }
}

impl Shared {
    /// As [`pharos_storage::MetricStore::open_leaf`].
    pub(crate) fn open_leaf(
        self: &Arc<Self>,
        tenant: &TenantId,
        plan: &LeafPlan,
        context: &ReadContext,
    ) -> Result<Box<dyn OpenLeaf>, StorageError> {
        let (matchers, range) = match plan {
            LeafPlan::Raw(plan) => (&plan.matchers, plan.range),
            LeafPlan::Grid(plan) => {
                if let Some(wanted) = self.rollups_for(tenant, plan).filter(|_| !is_instant(plan)) {
                    // Cells are not cut.
                    return Ok(Box::new(WholeLeaf::new(self.rolled_grid(tenant, plan, wanted, context)?)));
                }
                (&plan.matchers, plan.read_range())
            }
            LeafPlan::Aggregate { grid, aggregation, grouping } => {
                let groups = self.aggregate(tenant, grid, *aggregation, grouping, context)?;
                return Ok(Box::new(WholeLeaf::new(groups)));
            }
        };
        let range = self.kept(tenant, range);
        let sets = std::slice::from_ref(matchers);
        let (sources, held) = self.sources(tenant, sets, range, (Order::Labels, None), context)?;
        if !matches!(plan, LeafPlan::Grid(plan) if is_instant(plan)) {
            self.count_candidates(&sources, tenant, sets, range, context)?;
        }
        let answer = match plan {
            LeafPlan::Grid(plan) if is_instant(plan) => Answer::Newest(range),
            LeafPlan::Grid(plan) => {
                let narrowed = Arc::new(Narrowed::new(plan, &sources));
                let benches = Benches { narrowed, spare: Arc::default(), windows: SharedWindows::default() };
                Answer::Grid { range, benches }
            }
            _ => Answer::Raw(range),
        };
        let (store, context) = (Arc::clone(self), context.clone());
        Ok(Box::new(SelectedLeaf { store, sources, held, answer, context }))
    }
}

impl OpenLeaf for SelectedLeaf {
    fn series_count(&self) -> usize {
        self.sources.iter().map(Source::series_count).sum()
    }

    fn stream(self: Box<Self>) -> LeafStream {
        let selection = self.store.walk(self.sources, self.held, &self.context);
        self.answer.stream(selection)
    }

    fn pieces(self: Box<Self>, series: usize) -> LeafPieces {
        let Self { store, sources, held, answer, context } = *self;
        // For what all of them select.
        let held = Arc::new(held);
        let together = Together::default();
        Box::new(Pieces::new(sources, series).map(move |sources| {
            let sources = sources.map_err(|error| store.damaged.met_in_query(error))?;
            let meter = PieceMeter { own: ReadMeter::default(), all: context.meter.clone() };
            let context = ReadContext { meter: meter.own.clone(), ..context.clone() };
            let selection = store.walk(sources, context.memory.reserve(0)?, &context).with_others(&together);
            let (mut series, held) = (answer.stream(selection), Arc::clone(&held));
            let stream: LeafStream = Box::new(std::iter::from_fn(move || {
                let _for_as_long = (&meter, &held);
                series.next()
            }));
            Ok(stream)
        }))
    }
}

impl Answer {
    fn stream(&self, selection: Selection) -> LeafStream {
        match self {
            Self::Raw(range) => raw(selection, *range),
            Self::Newest(range) => instant::newest(selection, *range),
            Self::Grid { range, benches } => grids(selection, *range, benches.clone()),
        }
    }
}

/// The samples.
fn raw(mut selection: Selection, range: TimeRange) -> LeafStream {
    Box::new(until_error(move || {
        let mut samples = Samples::default();
        if !selection.next_samples(range, &mut samples)? {
            return Ok(None);
        }
        let labels = Labels::from_canonical(selection.labels()?);
        Ok(Some(LeafSeries::Raw(samples.into_raw(labels))))
    }))
}

/// Grids evaluated where the samples are decoded, one series after the other; those with native histograms, and others
/// the plan says, raw.
fn grids(mut selection: Selection, range: TimeRange, benches: Benches) -> LeafStream {
    let mut borrowed = None;
    Box::new(until_error(move || {
        let borrowed: &mut Borrowed = borrowed.get_or_insert_with(|| benches.borrow());
        let Some(Bench { evaluator, samples }) = &mut borrowed.bench else { return Ok(None) };
        while selection.next_samples(range, samples)? {
            if evaluator.needs_raw(floats(samples), !samples.histograms.is_empty()) {
                let labels = Labels::from_canonical(selection.labels()?);
                return Ok(Some(LeafSeries::Raw(std::mem::take(samples).into_raw(labels))));
            }
            if let Some(values) = evaluator.evaluate(floats(samples), &[], selection.context())? {
                let values = benches.narrowed.widen(values);
                let labels = Labels::from_canonical(selection.labels()?);
                return Ok(Some(LeafSeries::Grid(GridSeries { labels, values })));
            }
        }
        Ok(None)
    }))
}
