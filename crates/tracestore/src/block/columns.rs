//! Columns while a block is being built: distinct values, and for each occurrence the number of its value.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::intern::{IntInterner, Interner};
use super::schema::{ColumnKind, Field, Level, ValueType};
use crate::codec::RawValue;

/// Columns of a block whose memory the next one has.
const KEPT_COLUMNS_MAX: usize = 1024;

/// One column.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) kind: ColumnKind,
    pub(super) key: String,
    /// The number of the value of each occurrence, in the order of the spans, events or links.
    pub(super) occurrences: Vec<u32>,
    /// Values of types that are bytes.
    pub(super) texts: Interner,
    /// Values of types that fit 64 bits.
    pub(super) ints: IntInterner,
    /// The column that followed when this one was last used.
    next: u32,
}

impl Column {
    /// How many distinct values there are.
    pub(super) fn value_count(&self) -> usize {
        match self.kind.value_type {
            ValueType::Empty => 1,
            ValueType::Bool | ValueType::Int | ValueType::Double => self.ints.values().len(),
            ValueType::Text | ValueType::Bytes | ValueType::Nested => self.texts.len(),
        }
    }

    fn number(&mut self, value: RawValue<'_>) -> u32 {
        match value {
            RawValue::Empty => 0,
            RawValue::Text(text) => self.texts.number(text.as_bytes()),
            RawValue::Bytes(bytes) | RawValue::Nested(bytes) => self.texts.number(bytes),
            RawValue::Bool(truth) => self.ints.number(i64::from(truth)),
            RawValue::Int(number) => self.ints.number(number),
            RawValue::Double(bits) => self.ints.number(bits as i64),
        }
    }
}

/// All columns of a block. Cleared, they keep their memory for the next block.
#[derive(Debug, Default)]
pub(super) struct Columns {
    all: Vec<Column>,
    table: HashTable<u32>,
    spare: Vec<Column>,
}

/// One value of a span, an event or a link: its column and its number there.
pub(super) type SlotValue = (u32, u32);

impl Columns {
    /// Numbers a value; `previous` is what the same span, event or link has before it.
    pub(super) fn slot(
        &mut self,
        previous: Option<SlotValue>,
        (level, field): (Level, Field),
        key: &str,
        value: RawValue<'_>,
    ) -> SlotValue {
        let kind = ColumnKind { level, field, value_type: type_of(value) };
        let guess = previous.map_or(0, |(column, _)| self.all[column as usize].next);
        let is_it = |column: &Column| column.kind == kind && column.key == key;
        let column = if self.all.get(guess as usize).is_some_and(is_it) {
            guess
        } else {
            let column = self.column(kind, key);
            if let Some((previous, _)) = previous {
                self.all[previous as usize].next = column;
            }
            column
        };
        (column, self.all[column as usize].number(value))
    }

    fn column(&mut self, kind: ColumnKind, key: &str) -> u32 {
        let Self { all: columns, table, spare } = self;
        let hash = hash_of(kind, key);
        let is_it = |number: &u32| columns[*number as usize].kind == kind && columns[*number as usize].key == key;
        if let Some(found) = table.find(hash, is_it) {
            return *found;
        }
        let number = columns.len() as u32;
        let mut column = spare.pop().unwrap_or_else(|| Column {
            kind,
            key: String::new(),
            occurrences: Vec::new(),
            texts: Interner::default(),
            ints: IntInterner::default(),
            next: 0,
        });
        column.kind = kind;
        column.key.push_str(key);
        columns.push(column);
        table.insert_unique(hash, number, |number| {
            let column = &columns[*number as usize];
            hash_of(column.kind, &column.key)
        });
        number
    }

    pub(super) fn add(&mut self, (column, value): SlotValue) {
        self.all[column as usize].occurrences.push(value);
    }

    pub(super) fn all(&self) -> &[Column] {
        &self.all
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        // What this block did not use the next one need not keep.
        self.spare.clear();
        self.all.truncate(KEPT_COLUMNS_MAX);
        for mut column in self.all.drain(..) {
            column.key.clear();
            column.occurrences.clear();
            column.texts.clear();
            column.ints.clear();
            column.next = 0;
            self.spare.push(column);
        }
        // The next block probably begins with the same columns: they get the memory that fits them.
        self.spare.reverse();
    }
}

fn type_of(value: RawValue<'_>) -> ValueType {
    match value {
        RawValue::Empty => ValueType::Empty,
        RawValue::Text(_) => ValueType::Text,
        RawValue::Bool(_) => ValueType::Bool,
        RawValue::Int(_) => ValueType::Int,
        RawValue::Double(_) => ValueType::Double,
        RawValue::Bytes(_) => ValueType::Bytes,
        RawValue::Nested(_) => ValueType::Nested,
    }
}

fn hash_of(kind: ColumnKind, key: &str) -> u64 {
    let [place, value_type] = kind.to_bytes();
    xxh3_64(key.as_bytes()) ^ (u64::from(place) << 8 | u64::from(value_type)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
