//! All columns of a level in one pass: what every record of a class has, and what each record has for itself.

use super::open::Block;
use super::schema::Level;
use crate::codec::DecodeError;

impl Block {
    /// How many columns there are.
    pub(crate) fn column_count(&self) -> Result<usize, DecodeError> {
        Ok(self.catalogue()?.columns.len())
    }

    /// The class of each record of a level.
    pub(crate) fn classes(&self, level: Level) -> Result<&[u32], DecodeError> {
        Ok(&self.catalogue()?.tables[level as usize].class_of)
    }

    /// Column and number of the value that all records of a class have, for each of its columns where they have one, class by
    /// class.
    pub(crate) fn visit_constants(
        &self,
        level: Level,
        mut visit: impl FnMut(u32, usize, usize),
    ) -> Result<(), DecodeError> {
        let table = &self.catalogue()?.tables[level as usize];
        for (number, class) in table.classes.iter().enumerate() {
            for slot in table.slots(class) {
                if let Some(entry) = slot.constant() {
                    visit(number as u32, slot.column as usize, entry);
                }
            }
        }
        Ok(())
    }

    /// Hands over what the records have for themselves: record, column and number of the value, in the order of records.
    /// Columns that are not `wanted` are skipped.
    pub(crate) fn visit_varying(
        &self,
        level: Level,
        wanted: impl Fn(usize) -> bool,
        mut visit: impl FnMut(usize, usize, usize),
    ) -> Result<(), DecodeError> {
        let catalogue = self.catalogue()?;
        let table = &catalogue.tables[level as usize];
        let (mut columns, mut ends) = (Vec::new(), Vec::with_capacity(table.classes.len()));
        for class in &table.classes {
            let varying = table.slots(class).iter().filter(|slot| slot.constant().is_none());
            columns.extend(varying.map(|slot| slot.column as usize).filter(|column| wanted(*column)));
            ends.push(columns.len());
        }
        let mut places = vec![0_usize; catalogue.columns.len()];
        for (record, class) in table.class_of.iter().enumerate() {
            let class = *class as usize;
            let first = if class == 0 { 0 } else { ends[class - 1] };
            for column in &columns[first..ends[class]] {
                let place = &mut places[*column];
                *place += 1;
                visit(record, *column, catalogue.entry(*column, *place - 1)?);
            }
        }
        Ok(())
    }
}
