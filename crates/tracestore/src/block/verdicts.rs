//! Which spans, events or links have one of some values: one pass over the classes and what varies of one column.
//!
//! Whoever asks judges each entry of the column once; text that is looked for is found without printing any value.

use std::borrow::Cow;

use pharos_storage::render_attribute_value;

use super::catalogue::{Catalogue, Values};
use super::open::Block;
use super::schema::ValueType;
use crate::codec::DecodeError;

impl Block {
    /// Hands over the records of the column's level that have a value which is shown as `text`, ascending.
    pub(crate) fn visit_shown(&self, column: usize, text: &str, hit: impl FnMut(usize)) -> Result<(), DecodeError> {
        let catalogue = self.catalogue()?;
        let mut verdicts = vec![false; catalogue.columns[column].entry_count];
        let mut is_any = false;
        catalogue.visit_shown_entries(column, text, |entry| {
            verdicts[entry] = true;
            is_any = true;
        })?;
        if is_any { catalogue.visit_verdicts(column, &verdicts, hit) } else { Ok(()) }
    }
}

impl Catalogue {
    /// Hands over the entries of a column that are shown as `text`.
    fn visit_shown_entries(&self, column: usize, text: &str, mut hit: impl FnMut(usize)) -> Result<(), DecodeError> {
        match (&self.columns[column].values, self.columns[column].kind.value_type) {
            (Values::Texts(texts), ValueType::Text) => texts.visit_equal(&self.raw, text.as_bytes(), hit),
            (Values::Ints(ints), ValueType::Int) => {
                // "+7" and "007" are read as numbers, and are not how one is shown.
                if let Some(number) = text.parse::<i64>().ok().filter(|number| number.to_string() == text) {
                    let number = number as u64;
                    ints.visit_within(number..=number, hit);
                }
                Ok(())
            }
            _ => {
                for entry in 0..self.columns[column].entry_count {
                    if render_attribute_value(&self.value(column, entry)?.0) == Cow::Borrowed(text) {
                        hit(entry);
                    }
                }
                Ok(())
            }
        }
    }

    /// Hands over the records of the column's level that have an entry whose verdict is true, ascending.
    pub(super) fn visit_verdicts(
        &self,
        column: usize,
        verdicts: &[bool],
        mut hit: impl FnMut(usize),
    ) -> Result<(), DecodeError> {
        let varying = self.varying_verdicts(column, verdicts)?;
        let table = &self.tables[self.columns[column].kind.level as usize];
        let plans: Vec<ClassPlan> = table
            .classes
            .iter()
            .map(|class| {
                let mut plan = ClassPlan::default();
                for slot in table.slots(class).iter().filter(|slot| slot.column as usize == column) {
                    match slot.constant() {
                        Some(entry) => plan.is_hit |= verdicts[entry],
                        None => plan.varying_count += 1,
                    }
                }
                plan
            })
            .collect();
        let mut next = 0;
        for (record, class) in table.class_of.iter().enumerate() {
            let ClassPlan { is_hit, varying_count } = plans[*class as usize];
            next += varying_count;
            // Each column has as many varying values as the classes ask for.
            if is_hit || (varying_count > 0 && varying[next - varying_count..next].contains(&true)) {
                hit(record);
            }
        }
        Ok(())
    }

    /// The verdict on each varying value of a column.
    fn varying_verdicts<'v>(&self, column: usize, verdicts: &'v [bool]) -> Result<Cow<'v, [bool]>, DecodeError> {
        let column = &self.columns[column];
        let Some(ids) = &column.ids else {
            return Ok(Cow::Borrowed(&verdicts[column.entry_count - column.varying_count..]));
        };
        let verdict = |id: i64| {
            let verdict = usize::try_from(id).ok().and_then(|id| verdicts.get(id));
            verdict.copied().ok_or(DecodeError::OutOfRange("number of a value"))
        };
        ids.iter().map(verdict).collect::<Result<_, _>>().map(Cow::Owned)
    }
}

/// Where the values of a column stand in the records of a class.
#[derive(Clone, Copy, Default)]
struct ClassPlan {
    /// A value that all members have passes.
    is_hit: bool,
    /// Values that each member has for itself.
    varying_count: usize,
}
