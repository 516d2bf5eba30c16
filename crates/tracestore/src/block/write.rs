//! Writes a block: `docs/blocks.md` has the layout.

use hashbrown::HashMap;
use pharos_model::SpanId;
use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::Compressor;

use super::VERSION;
use super::builder::Content;
use super::classes::Classes;
use super::columns::Column;
use super::frame::put_frame;
use super::intern::clear_buffer;
use super::ints::{put_ints, put_ints_of, width_of_range};
use super::parents::ParentCodes;
use super::schema::{Field, LEVELS, Level, ValueType};
use super::texts::TextPlan;
use crate::codec::Writer;

/// Of catalogues, which are small, and of what has no other form.
const ZSTD_LEVEL: i32 = 3;
/// Bits of an event's delay at least, so that the number of events is bounded by the bytes that there are.
const EVENT_DELAY_BITS_MIN: u8 = 8;

/// What encoding needs besides the content, kept from block to block.
#[derive(Default)]
pub(super) struct Encoder {
    compressor: Option<Compressor<'static>>,
    parents: ParentCodes,
    ints: Vec<i64>,
    head: Vec<u8>,
    catalogue: Vec<u8>,
    /// Bits of lists whose heads are in the catalogue.
    column_bits: Vec<u8>,
    texts: TextPlan,
    /// What varies, by column.
    varying: Vec<Vec<u32>>,
}

fn compressor_of<'a>(compressor: &'a mut Option<Compressor<'static>>) -> &'a mut Compressor<'static> {
    compressor.get_or_insert_with(|| Compressor::new(ZSTD_LEVEL).expect("a compressor needs nothing but memory"))
}

pub(super) fn encode(content: &Content, encoder: &mut Encoder) -> Vec<u8> {
    clear_buffer(&mut encoder.head);
    clear_buffer(&mut encoder.catalogue);
    clear_buffer(&mut encoder.column_bits);
    put_catalogue(content, encoder);
    let mut core_bits = Vec::new();
    put_core(content, encoder, &mut core_bits);
    let mut stored = Vec::new();
    let catalogue = std::mem::take(&mut encoder.catalogue);
    put_frame(&mut stored, &catalogue, compressor_of(&mut encoder.compressor));
    encoder.head.put_varint(catalogue.len() as u64);
    encoder.head.put_varint(stored.len() as u64);
    encoder.catalogue = catalogue;

    let mut out =
        Vec::with_capacity(16 + encoder.head.len() + core_bits.len() + stored.len() + encoder.column_bits.len());
    out.push(VERSION);
    out.put_bytes(&encoder.head);
    out.extend_from_slice(&core_bits);
    out.extend_from_slice(&stored);
    out.extend_from_slice(&encoder.column_bits);
    out.extend_from_slice(&xxh3_64(&out).to_le_bytes());
    out
}

/// What every reader needs: ids, times, parents and origins.
fn put_core(content: &Content, encoder: &mut Encoder, body: &mut Vec<u8>) {
    let Encoder { head, ints, parents, .. } = encoder;
    let skeletons = &content.skeletons;
    // A last trace without spans is left out.
    let with_spans = |(_, first): &&(_, u32)| (*first as usize) < skeletons.len();
    let traces: Vec<_> = content.traces.iter().filter(with_spans).collect();
    let ranges: Vec<_> = traces
        .iter()
        .enumerate()
        .map(|(index, (_, first))| {
            *first as usize..traces.get(index + 1).map_or(skeletons.len(), |(_, next)| *next as usize)
        })
        .collect();
    parents.clear();
    for range in &ranges {
        parents.push_trace(&skeletons[range.clone()]);
    }

    let starts = || skeletons.iter().map(|skeleton| skeleton.start_ns);
    let (min_start, max_start) = (starts().min().unwrap_or(0), starts().max().unwrap_or(0));
    for count in [skeletons.len(), traces.len(), content.origins.len(), parents.strangers().len()] {
        head.put_varint(count as u64);
    }
    head.extend_from_slice(&min_start.to_le_bytes());
    head.put_varint(max_start - min_start);

    body.extend(traces.iter().flat_map(|(id, _)| id.0));
    body.extend(skeletons.iter().flat_map(|skeleton| skeleton.span_id.0));
    (0..content.origins.len()).for_each(|origin| body.extend_from_slice(&content.origins.get(origin)[..16]));
    parents.strangers().iter().for_each(|SpanId(id)| body.extend_from_slice(id));

    let mut put = |values: &mut dyn Iterator<Item = i64>| {
        ints.clear();
        ints.extend(values);
        put_ints(head, body, ints);
    };
    let trace_starts: Vec<u64> =
        ranges.iter().map(|range| skeletons[range.clone()].iter().map(|s| s.start_ns).min().unwrap_or(0)).collect();
    put(&mut ranges.iter().map(|range| range.len() as i64));
    put(&mut trace_starts.iter().map(|start| (start - min_start) as i64));
    put(&mut ranges.iter().zip(&trace_starts).flat_map(|(range, trace_start)| {
        let mut previous = *trace_start;
        skeletons[range.clone()].iter().map(move |skeleton| {
            skeleton.start_ns.wrapping_sub(std::mem::replace(&mut previous, skeleton.start_ns)) as i64
        })
    }));
    put(&mut skeletons.iter().map(|skeleton| skeleton.end_ns.wrapping_sub(skeleton.start_ns) as i64));
    put(&mut parents.codes().iter().copied());
    put(&mut content.span_origins.iter().copied());
}

/// Everything that repeats: services, columns with their values, shapes and classes.
fn put_catalogue(content: &Content, encoder: &mut Encoder) {
    let columns = content.columns.all();
    let mut varying = std::mem::take(&mut encoder.varying);
    varying.iter_mut().for_each(Vec::clear);
    varying.resize_with(columns.len(), Vec::new);
    let classes = content.tables.each_ref().map(|table| table.classify(&content.columns, &mut varying));

    let Encoder { catalogue, .. } = encoder;
    for origin in 0..content.origins.len() {
        catalogue.put_bytes(&content.origins.get(origin)[16..]);
    }
    catalogue.put_varint(columns.len() as u64);
    let mut constants = constants_of(content, &classes);
    for ((column, varying), constants) in columns.iter().zip(&varying).zip(&mut constants) {
        put_column(encoder, column, varying, constants);
    }
    let Encoder { catalogue, column_bits, ints, .. } = encoder;
    for level in LEVELS {
        let table = &content.tables[level as usize];
        let classes = &classes[level as usize];
        if level != Level::Span {
            catalogue.put_varint(table.len() as u64);
        }
        match level {
            Level::Span => {}
            Level::Event => put_ints_of(catalogue, column_bits, &content.event_delays, EVENT_DELAY_BITS_MIN),
            Level::Link => column_bits.extend_from_slice(&content.link_ids),
        }
        ints.clear();
        ints.extend(classes.of_record.iter().map(|class| i64::from(*class)));
        put_ints(catalogue, column_bits, ints);
        catalogue.put_varint(table.shape_count() as u64);
        for shape in 0..table.shape_count() {
            let (bits, slots) = table.shape(shape);
            catalogue.push(bits);
            catalogue.put_varint(slots.len() as u64);
            slots.for_each(|column| catalogue.put_varint(u64::from(column)));
        }
        catalogue.put_varint(classes.list.len() as u64);
        for class in &classes.list {
            catalogue.put_varint(u64::from(class.shape));
            let values = &classes.slots[class.first_slot..class.first_slot + class.slot_count];
            for (column, value) in table.shape(class.shape as usize).1.zip(values) {
                let entry = value.map_or(0, |value| 1 + u64::from(constants[column as usize].entry(value)));
                catalogue.put_varint(entry);
            }
        }
    }
    encoder.varying = varying;
}

/// Which entry of a column each constant of a class is.
#[derive(Default)]
struct Constants {
    /// Distinct, in the order of the classes.
    values: Vec<u32>,
    places: HashMap<u32, u32>,
    /// Whether entries are the distinct values themselves.
    is_dictionary: bool,
}

impl Constants {
    fn add(&mut self, value: u32) {
        let place = self.values.len() as u32;
        if self.places.try_insert(value, place).is_ok() {
            self.values.push(value);
        }
    }

    fn entry(&self, value: u32) -> u32 {
        if self.is_dictionary { value } else { self.places[&value] }
    }
}

fn constants_of(content: &Content, classes: &[Classes; 3]) -> Vec<Constants> {
    let mut constants: Vec<Constants> = content.columns.all().iter().map(|_| Constants::default()).collect();
    for (table, classes) in content.tables.iter().zip(classes) {
        for class in &classes.list {
            let values = &classes.slots[class.first_slot..];
            for (column, value) in table.shape(class.shape as usize).1.zip(values) {
                if let Some(value) = value {
                    constants[column as usize].add(*value);
                }
            }
        }
    }
    constants
}

/// A column is a *dictionary* of its distinct values and the number of one for each occurrence, or it is *direct*:
/// constants of classes, then the value of each occurrence.
fn put_column(encoder: &mut Encoder, column: &Column, varying: &[u32], constants: &mut Constants) {
    let Encoder { catalogue, column_bits: bits, ints, texts, compressor, .. } = encoder;
    catalogue.extend_from_slice(&column.kind.to_bytes());
    if column.kind.field == Field::Attribute {
        catalogue.put_bytes(column.key.as_bytes());
    }
    let value_count = column.value_count();
    let value_type = column.kind.value_type;
    let value_bits = match value_type {
        ValueType::Empty => 0,
        ValueType::Bool | ValueType::Int | ValueType::Double => width_of_range(column.ints.values().iter().copied()),
        ValueType::Text | ValueType::Bytes | ValueType::Nested => {
            texts.make(&column.texts, value_type == ValueType::Text);
            texts.bits_per_value()
        }
    };
    let id_bits = width_of_range([0, value_count as i64 - 1].into_iter());
    let direct_count = constants.values.len() + varying.len();
    constants.is_dictionary =
        varying.is_empty() || value_count * value_bits + varying.len() * id_bits <= direct_count * value_bits;
    let entries: Vec<u32> = if constants.is_dictionary {
        (0..value_count as u32).collect()
    } else {
        constants.values.iter().chain(varying).copied().collect()
    };
    catalogue.put_varint(varying.len() as u64);
    catalogue.put_varint(entries.len() as u64);
    catalogue.push(u8::from(constants.is_dictionary));
    if constants.is_dictionary {
        ints.clear();
        ints.extend(varying.iter().map(|value| i64::from(*value)));
        put_ints(catalogue, bits, ints);
    }
    match value_type {
        ValueType::Empty => {}
        ValueType::Bool | ValueType::Int | ValueType::Double => {
            ints.clear();
            ints.extend(entries.iter().map(|value| column.ints.values()[*value as usize]));
            put_ints(catalogue, bits, ints);
        }
        ValueType::Text | ValueType::Bytes | ValueType::Nested => {
            texts.put(catalogue, bits, compressor_of(compressor), &column.texts, &entries);
        }
    }
}
