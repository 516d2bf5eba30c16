//! Branches: parts of a plan that treat each series of one leaf for itself. Large ones are evaluated by several threads.
//!
//! The store cuts the leaf into pieces, threads evaluate the branch over one piece after another, and the thread of the
//! query takes the series up in the order of the pieces. So all that is above a branch, sums above all, sees the very
//! series in the very order that one thread alone would make: answers are the same to the bit, however many threads.
//! What is said about series is gathered by each piece for itself; told twice, it is told once.
//!
//! Threads are lent, as many as are free ([`pharos_base::Helpers`]); while other queries run, none may be. They are joined
//! when the branch is read to its end, fails or is dropped, which is always before the query ends.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use pharos_base::{InOrder, Work};
use pharos_model::{StepRange, TenantId};
use pharos_storage::{LeafPlan, LeafStream, OpenLeaf, ReadContext};

use super::annotations::Notebook;
use super::counts::Scope;
use super::eval::Evaluator;
use super::leaf::Earlier;
use super::ledger::Ledger;
use super::plan::Node;
use super::series::{Cell, Series, SeriesIter};
use super::{Engine, QueryError};

/// What a series costs whatever is in it, in steps and samples.
const SERIES_WORK: u64 = 100;
/// How far apart samples are taken to be; only how many threads are asked for depends on it.
const SAMPLE_INTERVAL_MS: u64 = 15_000;
/// The results of a piece take about this much: they shall still be in a core's cache when they are taken up.
const PIECE_BYTES: usize = 256 << 10;
const PIECE_SERIES_MIN: usize = 16;
const PIECE_SERIES_MAX: usize = 1024;
/// Pieces end where blocks of the store do, which may be so many series later.
const BLOCK_SERIES: usize = 256;
/// Each thread gets so many pieces at least, so that none waits long for the last.
const PIECES_PER_THREAD_MIN: usize = 4;
/// Pieces that each thread may be ahead.
const WINDOW_PER_THREAD: usize = 2;
/// What a series of the results takes beside its cells, about.
const ROW_BYTES: usize = 256;

/// Where the leaves of an evaluator come from.
#[derive(Default)]
pub(super) struct Leaves<'q> {
    /// Opened already: the one that is asked for next.
    ready: RefCell<Option<(LeafPlan, LeafStream)>>,
    from: From<'q>,
}

#[derive(Default)]
enum From<'q> {
    #[default]
    Store,
    /// Nowhere: which leaf is asked for is noted, and no series come.
    Noted(RefCell<Option<(LeafPlan, Scope)>>),
    /// A piece of one leaf is all there is.
    Piece(&'q SharedEarlier),
}

/// The histograms before a leaf, read by whoever needs them first.
pub(super) type SharedEarlier = Mutex<Option<Arc<Earlier>>>;

impl Leaves<'_> {
    /// Whether these are of a branch, whose series are joined with those of other pieces later.
    pub(super) fn are_pieces(&self) -> bool {
        matches!(self.from, From::Piece(_))
    }

    /// What the pieces of a leaf share.
    pub(super) fn shared_earlier(&self) -> Option<&SharedEarlier> {
        if let From::Piece(earlier) = &self.from { Some(earlier) } else { None }
    }
}

/// A branch at work.
struct Branch {
    engine: Engine,
    tenant: TenantId,
    query: String,
    /// Of the whole query.
    query_steps: StepRange,
    lookback_ms: i64,
    context: ReadContext,
    context_of_once: ReadContext,
    context_of_inner: ReadContext,
    ledger: Ledger,
    node: Node,
    steps: StepRange,
    plan: LeafPlan,
    earlier: SharedEarlier,
}

/// What a piece comes to.
struct Yield {
    series: Vec<Series>,
    notes: Notebook,
    derived_hints: bool,
}

impl Work for Branch {
    type Piece = LeafStream;
    type Bench = ();
    type Done = Yield;
    type Error = QueryError;

    fn bench(&self) {}

    fn work(&self, (): &mut (), piece: LeafStream) -> Result<Yield, QueryError> {
        let evaluator = Evaluator {
            engine: &self.engine,
            store: &*self.engine.store,
            tenant: &self.tenant,
            settings: &self.engine.settings,
            query: &self.query,
            steps: self.query_steps,
            lookback_ms: self.lookback_ms,
            context: self.context.clone(),
            context_of_once: self.context_of_once.clone(),
            context_of_inner: self.context_of_inner.clone(),
            ledger: self.ledger.clone(),
            notes: RefCell::default(),
            derived_hints: std::cell::Cell::new(false),
            step_counts: None,
            shared: RefCell::default(),
            leaves: Leaves { ready: RefCell::new(Some((self.plan.clone(), piece))), from: From::Piece(&self.earlier) },
            threads: Threads::One,
        };
        let series = evaluator.vector(&self.node, self.steps)?.collect::<Result<_, _>>()?;
        let derived_hints = evaluator.derived_hints.get();
        Ok(Yield { series, notes: evaluator.notes.into_inner(), derived_hints })
    }
}

/// How many threads an evaluator may use.
#[derive(Debug, Clone, Copy)]
pub(super) enum Threads<'q> {
    One,
    /// As many as are worth it and free; told is how many at most there were at a time.
    Several(&'q std::cell::Cell<usize>),
}

impl Threads<'_> {
    /// How many there were at a time.
    pub(super) fn most(self) -> usize {
        if let Self::Several(most) = self { most.get() } else { 1 }
    }
}

/// The series of a branch, in the order of one thread.
struct Gathered<'a, P> {
    evaluator: &'a Evaluator<'a>,
    pieces: InOrder<Branch, P>,
    series: std::vec::IntoIter<Series>,
}

impl<P: Iterator<Item = Result<LeafStream, QueryError>>> Iterator for Gathered<'_, P> {
    type Item = Result<Series, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(series) = self.series.next() {
                return Some(Ok(series));
            }
            match self.pieces.next()? {
                Ok(Yield { series, notes, derived_hints }) => {
                    self.evaluator.notes.borrow_mut().absorb(notes);
                    if derived_hints {
                        self.evaluator.derived_hints.set(true);
                    }
                    self.series = series.into_iter();
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<P> Drop for Gathered<'_, P> {
    fn drop(&mut self) {
        // Those who are still at work need not finish their pieces; nobody else has this token.
        self.pieces.work().context.cancel.cancel();
    }
}

impl Evaluator<'_> {
    /// Opens a leaf.
    pub(super) fn open(&self, plan: LeafPlan, scope: Scope) -> Result<LeafStream, QueryError> {
        if let Some((opened, stream)) = self.leaves.ready.take() {
            if opened == plan {
                return Ok(stream);
            }
            return Err(QueryError::execution("another leaf was opened than is asked for"));
        }
        match &self.leaves.from {
            From::Store => Ok(self.store.leaf(self.tenant, &plan, self.context_of(scope))?),
            From::Noted(noted) => {
                *noted.borrow_mut() = Some((plan, scope));
                Ok(Box::new(std::iter::empty()))
            }
            From::Piece(_) => Err(QueryError::execution("a branch has more than one leaf")),
        }
    }

    /// Evaluates a part of the plan by several threads; `None` if it is no branch, or not worth it.
    pub(super) fn in_branches<'a>(
        &'a self,
        node: &'a Node,
        steps: StepRange,
    ) -> Result<Option<SeriesIter<'a>>, QueryError> {
        let Threads::Several(most) = self.threads else { return Ok(None) };
        let is_one_threads = self.engine.helpers.total() == 0 || self.step_counts.is_some();
        if is_one_threads || self.leaves.ready.borrow().is_some() {
            return Ok(None);
        }
        let Some(kind) = node.branch(self.settings) else { return Ok(None) };
        let Some((plan, scope)) = self.leaf_of(node, steps)? else { return Ok(None) };
        let cancel = self.context.cancel.child();
        let context = ReadContext { cancel: cancel.clone(), ..self.context_of(scope).clone() };
        let leaf = self.store.open_leaf(self.tenant, &plan, &context)?;
        let wanted = work(&plan, steps, leaf.series_count()) / self.settings.branch_work_min.max(1);
        let busy = self.engine.evaluating.load(Ordering::Relaxed).saturating_sub(1);
        let lent = self.engine.helpers.lend(usize::try_from(wanted).unwrap_or(usize::MAX), busy);
        let window = (lent.count() + 1) * WINDOW_PER_THREAD;
        let row_bytes = steps.len() * size_of::<Cell>() + ROW_BYTES;
        let piece_series = piece_series(leaf.series_count(), row_bytes, lent.count() + 1);
        let waiting_bytes = window * piece_series.max(BLOCK_SERIES).min(leaf.series_count()) * row_bytes;
        // A query that fits its memory only without pieces in waiting goes without them.
        if lent.count() == 0 || !self.context.memory.has_room(waiting_bytes as u64) {
            self.leaves.ready.replace(Some((plan, leaf.stream())));
            return Ok(None);
        }
        most.set(most.get().max(lent.count() + 1));
        let branch = Branch {
            engine: self.engine.clone(),
            tenant: self.tenant.clone(),
            query: self.query.to_owned(),
            query_steps: self.steps,
            lookback_ms: self.lookback_ms,
            context: ReadContext { cancel: cancel.clone(), ..self.context.clone() },
            context_of_once: ReadContext { cancel: cancel.clone(), ..self.context_of_once.clone() },
            context_of_inner: ReadContext { cancel, ..self.context_of_inner.clone() },
            ledger: self.ledger.clone(),
            node: node.clone(),
            steps,
            plan,
            earlier: SharedEarlier::default(),
        };
        let pieces = OpenLeaf::pieces(leaf, piece_series).map(|piece| piece.map_err(QueryError::from));
        let pieces = InOrder::spawn("promql", branch, pieces, lent, window);
        let series = Box::new(Gathered { evaluator: self, pieces, series: Vec::new().into_iter() });
        Ok(Some(if kind.joins { self.merged(series)? } else { series }))
    }

    /// The leaf that a branch asks for, found by evaluating the branch without series.
    fn leaf_of(&self, node: &Node, steps: StepRange) -> Result<Option<(LeafPlan, Scope)>, QueryError> {
        let dry = Evaluator {
            engine: self.engine,
            store: self.store,
            tenant: self.tenant,
            settings: self.settings,
            query: self.query,
            steps: self.steps,
            lookback_ms: self.lookback_ms,
            context: self.context.clone(),
            context_of_once: self.context_of_once.clone(),
            context_of_inner: self.context_of_inner.clone(),
            ledger: self.ledger.clone(),
            notes: RefCell::default(),
            derived_hints: std::cell::Cell::new(false),
            step_counts: None,
            shared: RefCell::default(),
            leaves: Leaves { ready: RefCell::default(), from: From::Noted(RefCell::default()) },
            threads: Threads::One,
        };
        drop(dry.vector(node, steps)?);
        let From::Noted(noted) = dry.leaves.from else { return Ok(None) };
        Ok(noted.into_inner())
    }
}

/// What a branch has to do, in steps and samples.
fn work(plan: &LeafPlan, steps: StepRange, series: usize) -> u64 {
    let (range, leaf_steps) = match plan {
        LeafPlan::Raw(plan) => (plan.range, 0),
        LeafPlan::Grid(plan) => (plan.read_range(), plan.steps.len()),
        LeafPlan::Aggregate { .. } => return 0,
    };
    let samples = range.end_ms.saturating_sub(range.start_ms).max(0) as u64 / SAMPLE_INTERVAL_MS;
    let each = samples.saturating_add((leaf_steps + steps.len()) as u64).saturating_add(SERIES_WORK);
    each.saturating_mul(series as u64)
}

fn piece_series(series: usize, row_bytes: usize, threads: usize) -> usize {
    let by_bytes = (PIECE_BYTES / row_bytes).clamp(PIECE_SERIES_MIN, PIECE_SERIES_MAX);
    by_bytes.min(series / (threads * PIECES_PER_THREAD_MIN)).max(1)
}
