//! What a block adds to a list: keys and values of its spans, or of some of them.

use pharos_model::Attributes;
use pharos_storage::{AttributeLevel, ListedType, SpanField, render_attribute_value};

use super::bits::Bits;
use super::evaluate::{EvaluateError, OriginSource};
use super::listing::{Listing, Wanted, listed_type};
use crate::block::{Block, ColumnHead, Field, Level};
use crate::codec::{DecodeError, Origin};

/// Adds what the spans of a block have, or, where given, those `within`.
pub(crate) fn list_block(
    block: &Block,
    origins: &dyn OriginSource,
    within: Option<&Bits>,
    listing: &mut Listing<'_>,
) -> Result<(), EvaluateError> {
    for column in block.columns()? {
        let wanted = match (column.field, column.level) {
            (Field::Attribute, level) => listing.wanted.attribute(level_of(level), column.key),
            (Field::Name, Level::Span) => listing.wanted.field() == Some(SpanField::Name),
            (Field::Name, Level::Event) => listing.wanted.field() == Some(SpanField::EventName),
            (Field::StatusMessage, Level::Span) => listing.wanted.field() == Some(SpanField::StatusMessage),
            _ => false,
        };
        if wanted && !listing.is_full() {
            list_column(block, column, within, listing)?;
        }
    }
    list_origins(block, origins, within, listing)
}

fn level_of(level: Level) -> AttributeLevel {
    match level {
        Level::Span => AttributeLevel::Span,
        Level::Event => AttributeLevel::Event,
        Level::Link => AttributeLevel::Link,
    }
}

fn list_column(
    block: &Block,
    column: ColumnHead<'_>,
    within: Option<&Bits>,
    listing: &mut Listing<'_>,
) -> Result<(), DecodeError> {
    let is_of_keys = matches!(listing.wanted, Wanted::Keys(_));
    if is_of_keys && listing.knows_key(level_of(column.level), column.key) {
        return Ok(());
    }
    let mut is_used = vec![within.is_none(); column.entry_count];
    if let Some(within) = within {
        let mut mark = |span: usize, entry: usize| is_used[entry] |= within.contains(span);
        if column.level == Level::Span {
            block.visit_entries(column.number, mark)?;
        } else {
            let spans = block.spans_of(column.level)?;
            block.visit_entries(column.number, |record, entry| mark(spans[record] as usize, entry))?;
        }
    }
    if !is_used.contains(&true) {
        return Ok(());
    }
    if is_of_keys {
        listing.add_key(level_of(column.level), column.key);
        return Ok(());
    }
    let value_type = if column.field == Field::Attribute { listed_type(column.value_type) } else { ListedType::Text };
    block.visit_values(column.number, |entry, value| {
        if is_used[entry] {
            listing.add_value(value_type, &value.shown());
        }
    })
}

/// What resources and scopes add.
fn list_origins(
    block: &Block,
    source: &dyn OriginSource,
    within: Option<&Bits>,
    listing: &mut Listing<'_>,
) -> Result<(), EvaluateError> {
    if !listing.wanted.is_of_origins() {
        return Ok(());
    }
    let mut is_used = vec![within.is_none(); block.origin_count()];
    if let Some(within) = within {
        let origins = block.span_origins()?;
        within.iter().for_each(|span| is_used[origins[span] as usize] = true);
    }
    for number in (0..is_used.len()).filter(|number| is_used[*number]) {
        list_origin(&*source.origin(block.origin_hash(number))?, listing);
    }
    Ok(())
}

/// What one resource and scope add.
pub(crate) fn list_origin(Origin { resource, scope }: &Origin, listing: &mut Listing<'_>) {
    match listing.wanted.field() {
        Some(SpanField::Service) => listing.add_value(ListedType::Text, resource.service_name()),
        Some(SpanField::ScopeName) => listing.add_value(ListedType::Text, &scope.name),
        Some(SpanField::ScopeVersion) => listing.add_value(ListedType::Text, &scope.version),
        Some(_) => {}
        None => {
            list_attributes(AttributeLevel::Resource, &resource.attributes, listing);
            list_attributes(AttributeLevel::Scope, &scope.attributes, listing);
        }
    }
}

fn list_attributes(level: AttributeLevel, attributes: &Attributes, listing: &mut Listing<'_>) {
    for attribute in attributes {
        if !listing.wanted.attribute(level, &attribute.key) {
            continue;
        }
        match listing.wanted {
            Wanted::Keys(_) => listing.add_key(level, &attribute.key),
            Wanted::Values(_) => {
                listing.add_value(ListedType::of(&attribute.value), &render_attribute_value(&attribute.value));
            }
        }
    }
}
