//! Parts of a plan that stand in it more than once are evaluated once.
//!
//! Whoever asks first evaluates the part; its series are kept, booked like any others, until the query ends, and each
//! gets copies. Not kept is what would take too much memory, and what had something to say: notes tell their place in
//! the text, and each place has its own.

use hashbrown::HashMap;
use pharos_model::StepRange;
use pharos_storage::ReadCounts;

use super::QueryError;
use super::eval::{Evaluator, from_list};
use super::plan::Node;
use super::series::{Series, SeriesIter};

/// All parts together may keep this share of a query's memory.
const SHARE_MAX: u64 = 8;

/// The parts met so far, by number.
#[derive(Debug, Default)]
pub(super) struct SharedParts {
    parts: HashMap<usize, Part>,
    bytes: u64,
}

#[derive(Debug)]
enum Part {
    /// Each evaluates it for itself.
    Unshared,
    Kept(Kept),
}

#[derive(Debug)]
struct Kept {
    steps: StepRange,
    series: Vec<Series>,
    /// Samples it looked at: as often as it stands in the text, as if it were evaluated as often.
    queryable: Queryable,
}

/// Samples looked at so far: by ourselves, by the store, and by the store for all steps at once.
#[derive(Debug, Clone, Copy, Default)]
struct Queryable {
    own: u64,
    in_store: u64,
    once: u64,
}

impl Evaluator<'_> {
    pub(super) fn shared<'a>(
        &'a self,
        number: usize,
        node: &'a Node,
        steps: StepRange,
    ) -> Result<SeriesIter<'a>, QueryError> {
        // Who wants counts for each step wants them of each evaluation.
        if self.step_counts.is_some() {
            return self.vector(node, steps);
        }
        match self.shared.borrow().parts.get(&number) {
            Some(Part::Kept(kept)) if kept.steps == steps => {
                let Queryable { own, in_store, once } = kept.queryable;
                self.ledger.count_queryable(own);
                self.context.meter.add(ReadCounts { samples_queryable: in_store, ..ReadCounts::default() });
                self.context_of_once.meter.add(ReadCounts { samples_queryable: once, ..ReadCounts::default() });
                return self.copies(&kept.series).map(from_list);
            }
            Some(_) => return self.vector(node, steps),
            None => {}
        }
        self.evaluate_for_all(number, node, steps)
    }

    fn evaluate_for_all<'a>(
        &'a self,
        number: usize,
        node: &'a Node,
        steps: StepRange,
    ) -> Result<SeriesIter<'a>, QueryError> {
        let (before, notes) = (self.queryable(), self.notes.borrow().len());
        let mut input = self.vector(node, steps)?;
        let mut series: Vec<Series> = Vec::new();
        let mut bytes = self.shared.borrow().bytes;
        while bytes <= self.settings.memory_bytes_max / SHARE_MAX {
            let Some(next) = input.next() else {
                let said_something = self.notes.borrow().len() != notes;
                return self.keep(number, steps, series, before, said_something);
            };
            let next = next?;
            bytes += next.bytes();
            series.push(next);
        }
        self.shared.borrow_mut().parts.insert(number, Part::Unshared);
        Ok(Box::new(series.into_iter().map(Ok).chain(input)))
    }

    fn keep(
        &self,
        number: usize,
        steps: StepRange,
        series: Vec<Series>,
        before: Queryable,
        said_something: bool,
    ) -> Result<SeriesIter<'_>, QueryError> {
        if said_something {
            self.shared.borrow_mut().parts.insert(number, Part::Unshared);
            return Ok(from_list(series));
        }
        let now = self.queryable();
        let queryable = Queryable {
            own: now.own - before.own,
            in_store: now.in_store - before.in_store,
            once: now.once - before.once,
        };
        let copies = self.copies(&series)?;
        let mut shared = self.shared.borrow_mut();
        shared.bytes += series.iter().map(Series::bytes).sum::<u64>();
        shared.parts.insert(number, Part::Kept(Kept { steps, series, queryable }));
        Ok(from_list(copies))
    }

    fn copies(&self, series: &[Series]) -> Result<Vec<Series>, QueryError> {
        let copies = series.iter().map(|one| {
            self.context.check()?;
            self.series(one.labels.clone(), one.drop_name, one.cells.clone())
        });
        copies.collect()
    }

    fn queryable(&self) -> Queryable {
        Queryable {
            own: self.ledger.counts().samples_queryable,
            in_store: self.context.meter.counts().samples_queryable,
            once: self.context_of_once.meter.counts().samples_queryable,
        }
    }
}
