//! What spans in memory add to lists.

use pharos_model::{AttributeValue, SpanId, TraceId};
use pharos_storage::{
    AttributeLevel, ListedType, SpanField, SpanReference, render_attribute_value, span_passes, visit_attribute_keys,
    visit_listed_values,
};

use super::Chunk;
use crate::TraceStoreError;
use crate::codec::{
    DecodeError, DetailField, DetailsVisitor, Origin, RawValue, RowReader, decode_nested, visit_details,
};
use crate::record::Day;
use crate::search::{Listing, OriginSource, Search, Wanted, list_origin};

impl Chunk {
    /// Adds what its spans have, or, with a search, those that pass; but for traces that are `hidden`.
    pub(in crate::partition) fn list(
        &self,
        day: Day,
        search: Option<&Search<'_>>,
        source: &dyn OriginSource,
        hidden: &dyn Fn(TraceId) -> bool,
        listing: &mut Listing<'_>,
    ) -> Result<(), TraceStoreError> {
        let corrupt = |error| TraceStoreError::corrupt("row", day)(error);
        match search {
            None => {
                for hash in &self.origins {
                    list_origin(&*source.origin(*hash)?, listing);
                }
                self.visit_rows(hidden, |_, row| list_details(row, listing)).map_err(corrupt)
            }
            Some(search) => {
                let mut origin_failed = None;
                let visited = self.visit_rows(hidden, |trace_id, row| {
                    for whole in row.whole_spans(trace_id) {
                        let (hash, span) = whole?;
                        match source.origin(hash) {
                            Ok(origin) => {
                                let Origin { resource, scope } = &*origin;
                                if span_passes(search.query, resource, scope, &span) {
                                    list_span((resource, scope, &span), listing);
                                }
                            }
                            Err(error) => origin_failed = Some(error),
                        }
                    }
                    Ok(())
                });
                origin_failed.map_or(visited.map_err(corrupt), Err)
            }
        }
    }

    fn visit_rows(
        &self,
        hidden: &dyn Fn(TraceId) -> bool,
        mut visit: impl FnMut(TraceId, &RowReader<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        for (trace_id, row) in &self.rows {
            if let Some(row) = row.as_ref().filter(|_| !hidden(*trace_id)) {
                visit(*trace_id, &RowReader::new(&row.value, row.min_start_ns)?)?;
            }
        }
        Ok(())
    }
}

fn list_span(whole: (&pharos_model::Resource, &pharos_model::Scope, &pharos_model::Span), listing: &mut Listing<'_>) {
    match listing.wanted {
        Wanted::Keys(level) => visit_attribute_keys(level, whole, |level, key| listing.add_key(level, key)),
        Wanted::Values(of) => {
            visit_listed_values(of, whole, |value_type, text| listing.add_value(value_type, text));
        }
    }
}

/// Adds what spans have themselves, their events and links, without building spans.
fn list_details(row: &RowReader<'_>, listing: &mut Listing<'_>) -> Result<(), DecodeError> {
    for raw in row.spans_with_details() {
        if listing.is_full() {
            break;
        }
        let (_, details) = raw?;
        let mut lister = Lister { listing, at: AttributeLevel::Span, damage: None };
        // Times are not listed.
        visit_details(details, 0, &mut lister)?;
        if let Some(damage) = lister.damage {
            return Err(damage);
        }
    }
    Ok(())
}

struct Lister<'a, 'q> {
    listing: &'a mut Listing<'q>,
    /// Whose pieces come.
    at: AttributeLevel,
    damage: Option<DecodeError>,
}

impl DetailsVisitor for Lister<'_, '_> {
    fn field(&mut self, field: DetailField, value: RawValue<'_>) {
        let wanted = match (field, self.at) {
            (DetailField::Name, AttributeLevel::Span) => SpanField::Name,
            (DetailField::Name, AttributeLevel::Event) => SpanField::EventName,
            (DetailField::StatusMessage, _) => SpanField::StatusMessage,
            _ => return,
        };
        if let (Wanted::Values(SpanReference::Field(field)), RawValue::Text(text)) = (self.listing.wanted, value)
            && *field == wanted
        {
            self.listing.add_value(ListedType::Text, text);
        }
    }

    fn attribute(&mut self, key: &str, value: RawValue<'_>) {
        if !self.listing.wanted.attribute(self.at, key) {
            return;
        }
        if let Wanted::Keys(_) = self.listing.wanted {
            self.listing.add_key(self.at, key);
            return;
        }
        let value = match value {
            RawValue::Text(text) => return self.listing.add_value(ListedType::Text, text),
            RawValue::Empty => AttributeValue::Empty,
            RawValue::Bool(truth) => AttributeValue::Bool(truth),
            RawValue::Int(number) => AttributeValue::Int(number),
            RawValue::Double(bits) => AttributeValue::Double(f64::from_bits(bits)),
            RawValue::Bytes(bytes) => AttributeValue::Bytes(bytes.to_vec()),
            RawValue::Nested(bytes) => match decode_nested(bytes) {
                Ok(value) => value,
                Err(damage) => return self.damage = Some(damage),
            },
        };
        self.listing.add_value(ListedType::of(&value), &render_attribute_value(&value));
    }

    fn event(&mut self, _time_ns: u64) {
        self.at = AttributeLevel::Event;
    }

    fn link(&mut self, _trace_id: TraceId, _span_id: SpanId) {
        self.at = AttributeLevel::Link;
    }
}
