//! Classes: spans (or events, or links) that have the same columns in the same order and the same name.
//!
//! What all members of a class have alike is written once, with the class: the method and route that a name
//! implies take no room in the spans. Only *varying* slots have occurrences in their columns.

use hashbrown::HashMap;

use super::columns::Columns;
use super::intern::Interner;
use super::schema::Field;

/// Names beyond one for as many records are too many to make classes of.
const RECORDS_PER_NAME: usize = 8;
/// Names that are never too many.
const NAMES_ALWAYS: usize = 16;

/// Spans, events or links while a block is being built: each one's shape.
#[derive(Debug, Default)]
pub(super) struct TableBuilder {
    /// A byte of bits (kind and status of spans), then the numbers of the columns, four bytes each.
    shapes: Interner,
    record_shapes: Vec<u32>,
    scratch: Vec<u8>,
}

impl TableBuilder {
    pub(super) fn push(&mut self, bits: u8, columns: impl Iterator<Item = u32>) {
        self.scratch.clear();
        self.scratch.push(bits);
        for column in columns {
            self.scratch.extend_from_slice(&column.to_le_bytes());
        }
        self.record_shapes.push(self.shapes.number(&self.scratch));
    }

    pub(super) fn len(&self) -> usize {
        self.record_shapes.len()
    }

    pub(super) fn shape_count(&self) -> usize {
        self.shapes.len()
    }

    /// Bits and columns of a shape.
    pub(super) fn shape(&self, shape: usize) -> (u8, impl ExactSizeIterator<Item = u32> + '_) {
        let (bits, columns) = self.shapes.get(shape).split_first().expect("a shape begins with its bits");
        (*bits, columns.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)))
    }

    pub(super) fn clear(&mut self) {
        self.shapes.clear();
        self.record_shapes.clear();
    }

    /// Sorts the records into classes and appends what varies to `varying`, column by column.
    pub(super) fn classify(&self, columns: &Columns, varying: &mut [Vec<u32>]) -> Classes {
        let shapes: Vec<Vec<u32>> = (0..self.shapes.len()).map(|shape| self.shape(shape).1.collect()).collect();
        let has_class_name: Vec<bool> = shapes
            .iter()
            .map(|shape| shape.first().is_some_and(|first| self.names_make_classes(columns, *first)))
            .collect();
        let mut classes = Classes::default();
        let mut numbers: HashMap<(u32, u32), u32> = HashMap::new();
        let mut cursors = vec![0_usize; columns.all().len()];
        for shape in &self.record_shapes {
            let slots = &shapes[*shape as usize];
            let name = match slots.first() {
                Some(first) if has_class_name[*shape as usize] => {
                    columns.all()[*first as usize].occurrences[cursors[*first as usize]]
                }
                _ => 0,
            };
            let mut is_new = false;
            let class = *numbers.entry((*shape, name)).or_insert_with(|| {
                is_new = true;
                classes.push(*shape, slots.len())
            });
            classes.of_record.push(class);
            let first_slot = classes.list[class as usize].first_slot;
            for (slot, column) in classes.slots[first_slot..].iter_mut().zip(slots) {
                let cursor = &mut cursors[*column as usize];
                let value = columns.all()[*column as usize].occurrences[*cursor];
                *cursor += 1;
                if is_new {
                    *slot = Some(value);
                } else if *slot != Some(value) {
                    *slot = None;
                }
            }
        }
        self.collect_varying(columns, &shapes, &classes, varying);
        classes
    }

    fn names_make_classes(&self, columns: &Columns, first: u32) -> bool {
        let column = &columns.all()[first as usize];
        column.kind.field == Field::Name && column.value_count() <= NAMES_ALWAYS.max(self.len() / RECORDS_PER_NAME)
    }

    fn collect_varying(&self, columns: &Columns, shapes: &[Vec<u32>], classes: &Classes, varying: &mut [Vec<u32>]) {
        let mut cursors = vec![0_usize; columns.all().len()];
        for (class, shape) in classes.of_record.iter().zip(&self.record_shapes) {
            let first_slot = classes.list[*class as usize].first_slot;
            for (slot, column) in classes.slots[first_slot..].iter().zip(&shapes[*shape as usize]) {
                let column = *column as usize;
                if slot.is_none() {
                    varying[column].push(columns.all()[column].occurrences[cursors[column]]);
                }
                cursors[column] += 1;
            }
        }
    }
}

/// The classes of one table.
#[derive(Debug, Default)]
pub(super) struct Classes {
    pub(super) list: Vec<Class>,
    /// For each slot of each class the number of the value that all members have, if they do.
    pub(super) slots: Vec<Option<u32>>,
    /// The class of each record.
    pub(super) of_record: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Class {
    pub(super) shape: u32,
    pub(super) first_slot: usize,
    pub(super) slot_count: usize,
}

impl Classes {
    fn push(&mut self, shape: u32, slot_count: usize) -> u32 {
        self.list.push(Class { shape, first_slot: self.slots.len(), slot_count });
        self.slots.resize(self.slots.len() + slot_count, None);
        self.list.len() as u32 - 1
    }
}
