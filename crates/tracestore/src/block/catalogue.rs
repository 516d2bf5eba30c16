//! The catalogue of a block: services, columns with their values, shapes and classes.

use std::borrow::Cow;
use std::ops::Range;

use pharos_model::AttributeValue;

use super::body::{Body, Ids};
use super::ints::Ints;
use super::schema::{ColumnKind, Field, LEVELS, Level, ValueType};
use super::texts::Texts;
use crate::codec::{DecodeError, Reader, decode_nested};

/// What a slot of a class says instead of an entry where its members differ.
const VARIES: u32 = u32::MAX;

/// A catalogue, read. Everything in it is checked: numbers of columns, classes and entries are those of some.
pub(super) struct Catalogue {
    pub(super) raw: Vec<u8>,
    services: Vec<Box<str>>,
    pub(super) columns: Vec<ColumnData>,
    /// By level.
    pub(super) tables: [Table; 3],
    pub(super) event_delays: Ints,
    /// Trace id and span id of each link.
    pub(super) link_ids: Ids<24>,
    memory_bytes: usize,
}

/// One column.
pub(super) struct ColumnData {
    pub(super) kind: ColumnKind,
    /// Of attributes; a text of its own, as it stands in every span that is read.
    key: Box<str>,
    /// Values that are no constants of classes.
    pub(super) varying_count: usize,
    pub(super) entry_count: usize,
    /// Of a dictionary: the entry of each varying value. Without it they are the last entries.
    pub(super) ids: Option<Ints>,
    pub(super) values: Values,
}

pub(super) enum Values {
    Empty,
    Ints(Ints),
    Texts(Texts),
}

/// Spans, events or links: which class each is of.
#[derive(Default)]
pub(super) struct Table {
    pub(super) class_of: Vec<u32>,
    pub(super) classes: Vec<Class>,
    pub(super) slots: Vec<Slot>,
    #[cfg(feature = "internals")]
    bits_len: usize,
}

/// Records with the same columns in the same order.
#[derive(Debug, Clone)]
pub(super) struct Class {
    /// Kind and status of spans.
    pub(super) bits: u8,
    slots: Range<usize>,
    /// How many records are of it.
    pub(super) record_count: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) column: u32,
    entry: u32,
}

impl Slot {
    /// The entry that all members of the class have, if they have one.
    pub(super) fn constant(self) -> Option<usize> {
        (self.entry != VARIES).then_some(self.entry as usize)
    }
}

impl Table {
    fn memory_bytes(&self) -> usize {
        self.class_of.len() * size_of::<u32>()
            + self.classes.len() * size_of::<Class>()
            + self.slots.len() * size_of::<Slot>()
    }

    pub(super) fn class_of(&self, record: usize) -> &Class {
        &self.classes[self.class_of[record] as usize]
    }

    pub(super) fn slots(&self, class: &Class) -> &[Slot] {
        &self.slots[class.slots.clone()]
    }
}

impl Catalogue {
    /// Reads the catalogue `raw`; bits of its lists come from `bits`, all of them.
    pub(super) fn read(
        raw: Vec<u8>,
        mut bits: Body,
        span_count: usize,
        origin_count: usize,
    ) -> Result<Self, DecodeError> {
        u32::try_from(raw.len()).map_err(|_| DecodeError::OutOfRange("catalogue length"))?;
        let mut reader = Reader::new(&raw);
        let services = (0..origin_count).map(|_| read_text(&mut reader, "service")).collect::<Result<_, _>>()?;
        let column_count = reader.count("column count")?;
        // Values that differ take bits, or every 32 of them the byte of a step's width.
        let mut values_left = (raw.len() + bits.remaining()).saturating_mul(32);
        let columns: Vec<_> = (0..column_count)
            .map(|_| ColumnData::read(&raw, &mut reader, &mut bits, &mut values_left))
            .collect::<Result<_, _>>()?;
        let mut tables = [Table::default(), Table::default(), Table::default()];
        let mut event_delays = None;
        let mut link_ids = Ids::empty();
        for level in LEVELS {
            let record_count = match level {
                Level::Span => span_count,
                Level::Event => {
                    // Each takes a byte at least: see the width of delays.
                    let count = reader.varint("event count")?;
                    let count = usize::try_from(count).ok().filter(|count| *count <= bits.remaining());
                    let count = count.ok_or(DecodeError::Truncated("events"))?;
                    event_delays = Some(Ints::read(&mut reader, &mut bits, count)?);
                    count
                }
                Level::Link => {
                    link_ids = bits.take_ids(reader.varint("link count")?, "links")?;
                    link_ids.len()
                }
            };
            tables[level as usize] = Table::read(&mut reader, &mut bits, record_count, level, &columns)?;
        }
        if !reader.is_empty() || !bits.is_empty() {
            return Err(DecodeError::OutOfRange("length of the catalogue"));
        }
        let event_delays = event_delays.expect("events are one of the levels");
        let mut catalogue = Self { raw, services, columns, tables, event_delays, link_ids, memory_bytes: 0 };
        catalogue.check_occurrences()?;
        catalogue.memory_bytes = catalogue.count_memory();
        Ok(catalogue)
    }

    /// Each column has as many varying values as there are slots for them.
    fn check_occurrences(&self) -> Result<(), DecodeError> {
        let mut expected = vec![0_usize; self.columns.len()];
        for table in &self.tables {
            for class in &table.classes {
                for slot in table.slots(class).iter().filter(|slot| slot.constant().is_none()) {
                    let count = &mut expected[slot.column as usize];
                    *count = count.saturating_add(class.record_count);
                }
            }
        }
        let is_right = self.columns.iter().zip(&expected).all(|(column, expected)| column.varying_count == *expected);
        if is_right { Ok(()) } else { Err(DecodeError::OutOfRange("occurrences of a column")) }
    }

    /// What it takes in memory beside the block's bytes, once all frames are inflated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    fn count_memory(&self) -> usize {
        let of_columns: usize = self.columns.iter().map(ColumnData::memory_bytes).sum();
        let of_tables: usize = self.tables.iter().map(Table::memory_bytes).sum();
        let of_services: usize = self.services.iter().map(|service| size_of_val(service) + service.len()).sum();
        self.raw.len() + of_services + of_columns + of_tables + self.event_delays.memory_bytes()
    }

    #[cfg(feature = "internals")]
    pub(super) fn raw_len(&self) -> usize {
        self.raw.len()
    }

    /// Bytes of each column's bits and of those of events and links.
    #[cfg(feature = "internals")]
    pub(super) fn sizes(&self) -> Vec<(String, usize)> {
        let columns = self.columns.iter().enumerate().map(|(number, column)| {
            let ids = column.ids.as_ref().map_or(0, Ints::byte_len);
            let values = match &column.values {
                Values::Ints(ints) => ints.byte_len(),
                Values::Texts(texts) => texts.byte_len(),
                Values::Empty => 0,
            };
            (format!("{:?} {:?} {}", column.kind.level, column.kind.field, self.key(number)), ids + values)
        });
        let classes = self.tables.iter().map(|table| ("classes".to_owned(), table.bits_len));
        let events = ("event times".to_owned(), self.event_delays.byte_len());
        columns.chain(classes).chain([events]).collect()
    }

    pub(super) fn service(&self, origin: usize) -> &str {
        &self.services[origin]
    }

    pub(super) fn key(&self, column: usize) -> &str {
        &self.columns[column].key
    }

    /// The entry of occurrence number `index` among those of a column that vary.
    pub(super) fn entry(&self, column: usize, index: usize) -> Result<usize, DecodeError> {
        let column = &self.columns[column];
        match &column.ids {
            None => Ok(column.entry_count - column.varying_count + index),
            Some(ids) => {
                let entry = usize::try_from(ids.get(index)).ok().filter(|entry| *entry < column.entry_count);
                entry.ok_or(DecodeError::OutOfRange("number of a value"))
            }
        }
    }

    /// Columns of a field, of attributes those of a key.
    pub(super) fn columns_of(&self, level: Level, field: Field, key: &str) -> impl Iterator<Item = usize> {
        let is_it =
            move |column: &ColumnData| (column.kind.level, column.kind.field) == (level, field) && *column.key == *key;
        (0..self.columns.len()).filter(move |number| is_it(&self.columns[*number]))
    }

    /// The text of an entry of a column of names, states or messages.
    pub(super) fn text(&self, column: usize, entry: usize) -> Result<Cow<'_, str>, DecodeError> {
        match &self.columns[column].values {
            Values::Texts(texts) => text_of(texts.get(&self.raw, entry)?),
            Values::Empty | Values::Ints(_) => Ok(Cow::Borrowed("")),
        }
    }

    /// The number of an entry of a column of counts or flags.
    pub(super) fn number(&self, column: usize, entry: usize) -> i64 {
        match &self.columns[column].values {
            Values::Ints(ints) => ints.get(entry),
            Values::Empty | Values::Texts(_) => 0,
        }
    }

    /// An attribute's value, and how many bytes it takes in a row, at most one for each of its own.
    pub(super) fn value(&self, column: usize, entry: usize) -> Result<(AttributeValue, usize), DecodeError> {
        let column = &self.columns[column];
        let value = match (&column.values, column.kind.value_type) {
            (Values::Ints(ints), ValueType::Bool) => AttributeValue::Bool(ints.get(entry) != 0),
            (Values::Ints(ints), ValueType::Double) => AttributeValue::Double(f64::from_bits(ints.get(entry) as u64)),
            (Values::Ints(ints), _) => AttributeValue::Int(ints.get(entry)),
            (Values::Texts(texts), value_type) => {
                let bytes = texts.get(&self.raw, entry)?;
                let len = bytes.len();
                let value = match value_type {
                    ValueType::Bytes => AttributeValue::Bytes(bytes.into_owned()),
                    ValueType::Nested => decode_nested(&bytes)?,
                    _ => AttributeValue::String(text_of(bytes)?.into_owned()),
                };
                return Ok((value, len));
            }
            (Values::Empty, _) => AttributeValue::Empty,
        };
        Ok((value, 0))
    }
}

fn text_of(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, str>, DecodeError> {
    let damaged = DecodeError::NotText("value");
    Ok(match bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).map_err(|_| damaged)?),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).map_err(|_| damaged)?),
    })
}

impl ColumnData {
    /// Reads a column of no more than `values_left` values, from which they are taken.
    fn read(
        raw: &[u8],
        reader: &mut Reader<'_>,
        bits: &mut Body,
        values_left: &mut usize,
    ) -> Result<Self, DecodeError> {
        let kind = ColumnKind::from_bytes(reader.array("kind of column")?)?;
        let key = if kind.field == Field::Attribute { read_text(reader, "attribute key")? } else { Box::default() };
        let mut take = |count: usize| {
            *values_left = values_left.checked_sub(count).ok_or(DecodeError::Truncated("values of a column"))?;
            Ok(count)
        };
        let varying_count = reader.varint_u32("values of a column")? as usize;
        let entry_count = take(reader.varint_u32("values of a column")? as usize)?;
        let ids = match reader.byte("form of a column")? {
            0 if varying_count <= entry_count => None,
            1 => Some(Ints::read(reader, bits, take(varying_count)?)?),
            _ => return Err(DecodeError::OutOfRange("form of a column")),
        };
        let values = match kind.value_type {
            ValueType::Empty => Values::Empty,
            ValueType::Bool | ValueType::Int | ValueType::Double => {
                Values::Ints(Ints::read(reader, bits, entry_count)?)
            }
            ValueType::Text | ValueType::Bytes | ValueType::Nested => {
                Values::Texts(Texts::read(raw, reader, bits, entry_count, kind.value_type == ValueType::Text)?)
            }
        };
        Ok(Self { kind, key, varying_count, entry_count, ids, values })
    }

    fn memory_bytes(&self) -> usize {
        let of_values = match &self.values {
            Values::Empty => 0,
            Values::Ints(ints) => ints.memory_bytes(),
            Values::Texts(texts) => texts.memory_bytes(),
        };
        size_of::<Self>() + self.key.len() + self.ids.as_ref().map_or(0, Ints::memory_bytes) + of_values
    }
}

impl Table {
    fn read(
        reader: &mut Reader<'_>,
        bits: &mut Body,
        record_count: usize,
        level: Level,
        columns: &[ColumnData],
    ) -> Result<Self, DecodeError> {
        let ids = Ints::read(reader, bits, record_count)?;
        let shapes = read_shapes(reader, level, columns)?;
        let class_count = reader.count("class count")?;
        let (mut classes, mut slots) = (Vec::with_capacity(class_count), Vec::new());
        for _ in 0..class_count {
            let (bits, shape) =
                shapes.get(reader.varint_u32("shape")? as usize).ok_or(DecodeError::OutOfRange("shape"))?;
            let first = slots.len();
            for column in shape {
                let entry = match reader.varint_u32("constant")? {
                    0 => VARIES,
                    entry if (entry - 1) as usize >= columns[*column as usize].entry_count => {
                        return Err(DecodeError::OutOfRange("constant"));
                    }
                    entry => entry - 1,
                };
                slots.push(Slot { column: *column, entry });
            }
            classes.push(Class { bits: *bits, slots: first..slots.len(), record_count: 0 });
        }
        let mut class_of = Vec::with_capacity(record_count);
        for id in ids.iter() {
            let id = u32::try_from(id).map_err(|_| DecodeError::OutOfRange("class"))?;
            classes.get_mut(id as usize).ok_or(DecodeError::OutOfRange("class"))?.record_count += 1;
            class_of.push(id);
        }
        Ok(Self {
            class_of,
            classes,
            slots,
            #[cfg(feature = "internals")]
            bits_len: ids.byte_len(),
        })
    }
}

/// Bits of kind and status, and columns.
type Shape = (u8, Vec<u32>);

fn read_shapes(reader: &mut Reader<'_>, level: Level, columns: &[ColumnData]) -> Result<Vec<Shape>, DecodeError> {
    let shape_count = reader.count("shape count")?;
    let mut shapes = Vec::with_capacity(shape_count);
    for _ in 0..shape_count {
        let bits = reader.byte("bits of a shape")?;
        let slot_count = reader.count("slot count")?;
        let mut slots = Vec::with_capacity(slot_count);
        for _ in 0..slot_count {
            let column = reader.varint_u32("column")?;
            if columns.get(column as usize).is_none_or(|column| column.kind.level != level) {
                return Err(DecodeError::OutOfRange("column"));
            }
            slots.push(column);
        }
        shapes.push((bits, slots));
    }
    Ok(shapes)
}

fn read_text(reader: &mut Reader<'_>, what: &'static str) -> Result<Box<str>, DecodeError> {
    reader.text(what).map(Box::from)
}
