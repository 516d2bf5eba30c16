//! Vector matching: each sample of the "many" side meets the one sample of equal key on the "one" side.
//!
//! One-to-one is many-to-one with at most one on either side. For `group_right` the sides change roles; operands
//! keep their places. Both sides are held back, because a partner may come last.

use hashbrown::HashMap;
use pharos_base::sort_checked;
use pharos_model::{Labels, StepRange};

use super::changes_quantity;
use crate::ast::{Cardinality, VectorMatching};
use crate::engine::QueryError;
use crate::engine::eval::{Evaluator, from_list};
use crate::engine::plan::Binary;
use crate::engine::series::{
    Cell, Merger, Series, SeriesIter, build, builder_of, filtered, go_labels, is_metadata_label,
};
use pharos_grid::{Groups, KeyLabels};

/// The labels by which samples of both sides are matched.
pub(super) fn key_labels(binary: &Binary) -> KeyLabels {
    match &binary.matching {
        Some(matching) => KeyLabels::new(!matching.on, &matching.labels),
        None => KeyLabels::new(true, &[]),
    }
}

/// The series of one key.
#[derive(Default)]
struct Pairing {
    key: Labels,
    many: Vec<Series>,
    one: Vec<Series>,
}

struct Matcher<'a> {
    evaluator: &'a Evaluator<'a>,
    binary: &'a Binary,
    matching: &'a VectorMatching,
    /// The "many" side stands right.
    swapped: bool,
    /// At which steps the "many" side has any sample.
    many_present: Vec<bool>,
    output: Merger,
}

impl Evaluator<'_> {
    pub(super) fn match_vectors<'a>(
        &'a self,
        binary: &'a Binary,
        steps: StepRange,
    ) -> Result<SeriesIter<'a>, QueryError> {
        let default = VectorMatching::default();
        let matching = binary.matching.as_ref().unwrap_or(&default);
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (&binary.rhs, &binary.lhs) } else { (&binary.lhs, &binary.rhs) };
        let mut groups = Groups::new(key_labels(binary));
        let mut pairings: Vec<Pairing> = Vec::new();
        let mut many_present = vec![false; steps.len()];
        for (node, is_many) in [(many, true), (one, false)] {
            for series in self.vector(node, steps)? {
                self.context.check()?;
                let series = series?;
                let (number, is_new) = groups.number(series.labels.encoded());
                if is_new {
                    pairings.push(Pairing { key: groups.key_of(series.labels.encoded()), ..Pairing::default() });
                }
                if is_many {
                    many_present.iter_mut().zip(&series.cells).for_each(|(flag, cell)| *flag |= !cell.is_empty());
                    pairings[number].many.push(series);
                } else {
                    pairings[number].one.push(series);
                }
            }
        }
        let mut matcher =
            Matcher { evaluator: self, binary, matching, swapped, many_present, output: Merger::default() };
        // Which of two faults is told must not depend on which series came first.
        let pairings = sort_checked(pairings, |a, b| a.key.cmp(&b.key), || self.context.check())?;
        for pairing in pairings {
            self.context.check()?;
            matcher.pair(&pairing, steps)?;
        }
        Ok(from_list(matcher.output.into_series(&self.context)?))
    }
}

impl Matcher<'_> {
    /// The value for a side without a sample. Upstream's `fill_left` stands for the "many" side also where
    /// `group_right` has it on the right; so does ours.
    fn fill(&self, many: bool) -> Option<f64> {
        if many { self.matching.fill_left } else { self.matching.fill_right }
    }

    fn pair(&mut self, pairing: &Pairing, steps: StepRange) -> Result<(), QueryError> {
        let partners = self.partners(pairing, steps.len())?;
        let (fill_many, fill_one) = (self.fill(true), self.fill(false));
        if pairing.many.is_empty() && fill_many.is_none() || pairing.one.is_empty() && fill_one.is_none() {
            return Ok(());
        }
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        // At which steps each result, or for one-to-one the key as a whole, was already matched.
        let mut taken: HashMap<Labels, Vec<bool>> = HashMap::new();
        let mut met = vec![false; steps.len()];
        for many in &pairing.many {
            self.evaluator.context.check()?;
            // One output for each partner that this series meets over time.
            for one in distinct(&partners, many, fill_one.is_some()) {
                let partner = one.map(|at| &pairing.one[at]);
                let labels = self.labels(&many.labels, partner.map_or(&pairing.key, |one| &one.labels));
                let key = if one_to_one { Labels::empty() } else { labels.clone() };
                let taken = taken.entry(key).or_insert_with(|| vec![false; steps.len()]);
                let mut cells = vec![Cell::Empty; steps.len()];
                for (step, cell) in cells.iter_mut().enumerate() {
                    let filled = fill_one.map_or(Cell::Empty, Cell::Float);
                    let other = match (one, partners[step]) {
                        (Some(at), Some(present)) if at == present => &pairing.one[at].cells[step],
                        (None, None) => &filled,
                        _ => continue,
                    };
                    if many.cells[step].is_empty() || other.is_empty() {
                        continue;
                    }
                    // Samples that do not go together have not met.
                    let Some(result) = self.result(&many.cells[step], other) else { continue };
                    met[step] = true;
                    if std::mem::replace(&mut taken[step], true) {
                        return Err(QueryError::execution(if one_to_one {
                            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                        } else {
                            "multiple matches for labels: grouping labels must ensure unique matches"
                        }));
                    }
                    *cell = result;
                }
                self.emit(labels, many.drop_name, cells)?;
            }
        }
        match fill_many {
            Some(fill) => self.fill_many(pairing, &partners, &met, fill),
            None => Ok(()),
        }
    }

    /// The series of the "one" side that has a sample, per step; an error if two have.
    fn partners(&self, pairing: &Pairing, step_count: usize) -> Result<Vec<Option<usize>>, QueryError> {
        let mut partners: Vec<Option<usize>> = vec![None; step_count];
        for (at, one) in pairing.one.iter().enumerate() {
            for (step, cell) in one.cells.iter().enumerate() {
                if cell.is_empty() {
                    continue;
                }
                match partners[step] {
                    None => partners[step] = Some(at),
                    Some(other)
                        if self.many_present[step] || self.fill(true).is_some() || self.fill(false).is_some() =>
                    {
                        return Err(self.not_unique(&pairing.key, &pairing.one[other], one));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(partners)
    }

    fn not_unique(&self, key: &Labels, a: &Series, b: &Series) -> QueryError {
        let (first, second) = if a.labels <= b.labels { (a, b) } else { (b, a) };
        let side = if self.swapped { "left" } else { "right" };
        QueryError::execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];\
             many-to-many matching not allowed: matching labels must be unique on one side",
            go_labels(key),
            go_labels(&first.labels),
            go_labels(&second.labels)
        ))
    }

    /// The result of a pair, empty where a comparison does not hold; `None` if the two do not go together.
    fn result(&self, many: &Cell, one: &Cell) -> Option<Cell> {
        let (lhs, rhs) = if self.swapped { (one, many) } else { (many, one) };
        Some(match self.evaluator.element(self.binary, lhs, rhs)? {
            (_, holds) if self.binary.return_bool => Cell::Float(f64::from(u8::from(holds))),
            (result, true) => result,
            (_, false) => Cell::Empty,
        })
    }

    /// Results of samples of the "one" side that meet no series of the other.
    fn fill_many(
        &mut self,
        pairing: &Pairing,
        partners: &[Option<usize>],
        met: &[bool],
        fill: f64,
    ) -> Result<(), QueryError> {
        for (at, one) in pairing.one.iter().enumerate() {
            let mut cells = vec![Cell::Empty; partners.len()];
            for (step, cell) in cells.iter_mut().enumerate() {
                if partners[step] == Some(at) && !met[step] {
                    *cell = self.result(&Cell::Float(fill), &one.cells[step]).unwrap_or_default();
                }
            }
            let labels = self.labels(&pairing.key, &one.labels);
            self.emit(labels, false, cells)?;
        }
        Ok(())
    }

    fn emit(&mut self, labels: Labels, many_drops_name: bool, cells: Vec<Cell>) -> Result<(), QueryError> {
        if cells.iter().all(Cell::is_empty) {
            return Ok(());
        }
        let drops_name = self.binary.return_bool || (many_drops_name && !changes_quantity(self.binary.op));
        let drop_name = drops_name && self.evaluator.settings.delayed_name_removal;
        let series = self.evaluator.series(labels, drop_name, cells)?;
        self.output.push(series)
    }

    /// The labels of a result. Arithmetic removes the name at once, so that one included from the "one" side stays.
    fn labels(&self, many: &Labels, one: &Labels) -> Labels {
        let matching = self.matching;
        let listed = |name: &str| matching.labels.iter().any(|label| label == name);
        let one_to_one = matching.cardinality == Cardinality::OneToOne;
        let at_once = self.binary.return_bool && !self.evaluator.settings.delayed_name_removal;
        let nameless = changes_quantity(self.binary.op) || at_once;
        let base = filtered(many, |name| {
            !(nameless && is_metadata_label(name)) && (!one_to_one || listed(name) == matching.on)
        });
        if matching.include.is_empty() {
            return base;
        }
        let mut builder = builder_of(&base);
        for name in &matching.include {
            builder.set(name, one.get(name).unwrap_or(""));
        }
        build(builder)
    }
}

/// The partners that a series meets, in the order of time; `None` stands for the fill value.
fn distinct(partners: &[Option<usize>], many: &Series, with_fill: bool) -> Vec<Option<usize>> {
    let mut met: Vec<Option<usize>> = Vec::new();
    for (partner, cell) in partners.iter().zip(&many.cells) {
        if !cell.is_empty() && (partner.is_some() || with_fill) && !met.contains(partner) {
            met.push(*partner);
        }
    }
    met
}
