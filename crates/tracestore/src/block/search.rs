//! What a search reads of a block: columns, values and times of all records of a level, without building spans.

use pharos_model::{SpanKind, StatusCode};
use pharos_storage::SpanValue;

use super::catalogue::Catalogue;
use super::open::{Block, STATUS_SHIFT};
use super::schema::{Field, Level, ValueType};
use crate::codec::{DecodeError, OriginHash, kind_of, status_of};

/// A column as a search sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnHead<'a> {
    pub(crate) number: usize,
    pub(crate) level: Level,
    pub(crate) field: Field,
    /// Of attributes.
    pub(crate) key: &'a str,
    pub(crate) value_type: ValueType,
    /// At least as many as there are distinct values.
    pub(crate) entry_count: usize,
}

impl Block {
    /// How many spans, events or links there are.
    pub(crate) fn record_count(&self, level: Level) -> Result<usize, DecodeError> {
        Ok(self.catalogue()?.tables[level as usize].class_of.len())
    }

    pub(crate) fn columns(&self) -> Result<impl Iterator<Item = ColumnHead<'_>>, DecodeError> {
        let catalogue = self.catalogue()?;
        Ok(catalogue.columns.iter().enumerate().map(|(number, column)| ColumnHead {
            number,
            level: column.kind.level,
            field: column.kind.field,
            key: catalogue.key(number),
            value_type: column.kind.value_type,
            entry_count: column.entry_count,
        }))
    }

    /// The numbers of the columns of a field, of attributes those of a key.
    pub(crate) fn columns_of<'s>(
        &'s self,
        level: Level,
        field: Field,
        key: &'s str,
    ) -> Result<impl Iterator<Item = usize> + 's, DecodeError> {
        Ok(self.catalogue()?.columns_of(level, field, key))
    }

    /// Hands over every value of a column with its number; equal ones perhaps more than once.
    pub(crate) fn visit_values(
        &self,
        column: usize,
        mut visit: impl FnMut(usize, &SpanValue<'_>),
    ) -> Result<(), DecodeError> {
        let catalogue = self.catalogue()?;
        (0..catalogue.columns[column].entry_count)
            .try_for_each(|entry| with_value(catalogue, column, entry, |value| visit(entry, value)))
    }

    /// Hands over, for each record of the column's level, the numbers of its values: (record, entry) in ascending order
    /// of records.
    pub(crate) fn visit_entries(&self, column: usize, mut visit: impl FnMut(usize, usize)) -> Result<(), DecodeError> {
        let catalogue = self.catalogue()?;
        let table = &catalogue.tables[catalogue.columns[column].kind.level as usize];
        let slots_of = |class| table.slots(class).iter().filter(|slot| slot.column as usize == column);
        let slots: Vec<Vec<Option<usize>>> =
            table.classes.iter().map(|class| slots_of(class).map(|slot| slot.constant()).collect()).collect();
        let mut next = 0;
        for (record, class) in table.class_of.iter().enumerate() {
            for slot in &slots[*class as usize] {
                let entry = if let Some(entry) = slot {
                    *entry
                } else {
                    next += 1;
                    catalogue.entry(column, next - 1)?
                };
                visit(record, entry);
            }
        }
        Ok(())
    }

    /// Tests every value of a column, each once, and hands over the records that have one that passes, ascending.
    pub(crate) fn visit_passing(
        &self,
        column: usize,
        mut passes: impl FnMut(&SpanValue<'_>) -> bool,
        hit: impl FnMut(usize),
    ) -> Result<(), DecodeError> {
        let catalogue = self.catalogue()?;
        let entry_count = catalogue.columns[column].entry_count;
        let mut verdicts = vec![false; entry_count];
        let mut is_any = false;
        for (entry, verdict) in verdicts.iter_mut().enumerate() {
            with_value(catalogue, column, entry, |value| *verdict = passes(value))?;
            is_any |= *verdict;
        }
        if !is_any {
            return Ok(());
        }
        catalogue.visit_verdicts(column, &verdicts, hit)
    }

    /// Hands over the spans whose kind and status pass, ascending.
    pub(crate) fn visit_kinds(
        &self,
        passes: impl Fn(SpanKind, StatusCode) -> bool,
        mut hit: impl FnMut(usize),
    ) -> Result<(), DecodeError> {
        let table = &self.catalogue()?.tables[Level::Span as usize];
        let verdict_of =
            |bits: u8| Ok(passes(kind_of(bits & ((1 << STATUS_SHIFT) - 1))?, status_of(bits >> STATUS_SHIFT)?));
        let verdicts: Vec<bool> =
            table.classes.iter().map(|class| verdict_of(class.bits)).collect::<Result<_, DecodeError>>()?;
        for (span, class) in table.class_of.iter().enumerate() {
            if verdicts[*class as usize] {
                hit(span);
            }
        }
        Ok(())
    }

    /// The kind and status of every span, in order.
    pub(crate) fn kinds(&self) -> Result<Vec<(SpanKind, StatusCode)>, DecodeError> {
        let table = &self.catalogue()?.tables[Level::Span as usize];
        let of_bits = |bits: u8| Ok((kind_of(bits & ((1 << STATUS_SHIFT) - 1))?, status_of(bits >> STATUS_SHIFT)?));
        let of_class: Vec<_> =
            table.classes.iter().map(|class| of_bits(class.bits)).collect::<Result<_, DecodeError>>()?;
        Ok(table.class_of.iter().map(|class| of_class[*class as usize]).collect())
    }

    /// How many origins there are.
    pub(crate) fn origin_count(&self) -> usize {
        self.core.origins.len()
    }

    pub(crate) fn origin_hash(&self, origin: usize) -> OriginHash {
        self.origin(origin)
    }

    /// The service of an origin.
    pub(crate) fn service(&self, origin: usize) -> Result<&str, DecodeError> {
        Ok(self.catalogue()?.service(origin))
    }

    /// The number of a span's origin.
    pub(crate) fn span_origin(&self, span: usize) -> Result<usize, DecodeError> {
        let origin = self.core.span_origins.checked(span).and_then(|origin| usize::try_from(origin).ok());
        origin.filter(|origin| *origin < self.origin_count()).ok_or(DecodeError::OutOfRange("origin"))
    }

    /// Hands over the number of the origin of every span, in order.
    pub(crate) fn visit_span_origins(&self, mut visit: impl FnMut(usize, usize)) -> Result<(), DecodeError> {
        let (origin_count, mut is_sound) = (self.origin_count(), true);
        self.core.span_origins.visit(|span, origin| {
            let origin = origin as usize;
            if origin < origin_count {
                visit(span, origin);
            } else {
                is_sound = false;
            }
        });
        if is_sound { Ok(()) } else { Err(DecodeError::OutOfRange("origin")) }
    }

    /// The number of the origin of every span, in order.
    pub(crate) fn span_origins(&self) -> Result<Vec<u32>, DecodeError> {
        let mut origins = Vec::with_capacity(self.core.span_count);
        self.visit_span_origins(|_, origin| origins.push(origin as u32))?;
        Ok(origins)
    }

    /// The span of each event or link, ascending.
    pub(crate) fn spans_of(&self, level: Level) -> Result<Vec<u32>, DecodeError> {
        let catalogue = self.catalogue()?;
        let record_count = catalogue.tables[level as usize].class_of.len();
        let field = match level {
            Level::Span => return Ok((0..record_count as u32).collect()),
            Level::Event => Field::EventCount,
            Level::Link => Field::LinkCount,
        };
        let damaged = DecodeError::OutOfRange("number of events or links");
        let mut owners = vec![0_usize; self.core.span_count];
        for column in (0..catalogue.columns.len()).filter(|column| catalogue.columns[*column].kind.field == field) {
            let mut is_sound = true;
            self.visit_entries(column, |span, entry| match usize::try_from(catalogue.number(column, entry)) {
                Ok(count) if count <= record_count => owners[span] += count,
                _ => is_sound = false,
            })?;
            if !is_sound {
                return Err(damaged);
            }
        }
        if owners.iter().try_fold(0_usize, |sum, count| sum.checked_add(*count)) != Some(record_count) {
            return Err(damaged);
        }
        Ok(owners.iter().enumerate().flat_map(|(span, count)| std::iter::repeat_n(span as u32, *count)).collect())
    }

    /// The time of each event from the start of its span; wraps.
    pub(crate) fn event_delays(&self) -> Result<impl Iterator<Item = u64> + '_, DecodeError> {
        Ok(self.catalogue()?.event_delays.iter().map(|delay| delay as u64))
    }

    /// Trace id and span id of each link.
    pub(crate) fn link_ids(&self) -> Result<&[[u8; 24]], DecodeError> {
        Ok(&self.catalogue()?.link_ids)
    }
}

fn with_value(
    catalogue: &Catalogue,
    column: usize,
    entry: usize,
    visit: impl FnOnce(&SpanValue<'_>),
) -> Result<(), DecodeError> {
    match catalogue.columns[column].kind.value_type {
        ValueType::Text => visit(&SpanValue::text(&catalogue.text(column, entry)?)),
        ValueType::Bool => visit(&SpanValue::truth(catalogue.number(column, entry) != 0)),
        ValueType::Int => visit(&SpanValue::whole(catalogue.number(column, entry))),
        ValueType::Double => visit(&SpanValue::double(f64::from_bits(catalogue.number(column, entry) as u64))),
        ValueType::Empty | ValueType::Bytes | ValueType::Nested => {
            visit(&SpanValue::of_attribute(&catalogue.value(column, entry)?.0));
        }
    }
    Ok(())
}
