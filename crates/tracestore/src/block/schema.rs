//! What columns there are: one for each level, part of a span and type of value, and for attributes each key.

use crate::codec::{DecodeError, DetailField};

/// Whose values a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Level {
    Span,
    Event,
    Link,
}

pub(super) const LEVELS: [Level; 3] = [Level::Span, Level::Event, Level::Link];

/// Which part of a span, an event or a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Field {
    Attribute,
    Name,
    TraceState,
    Flags,
    DroppedAttributes,
    DroppedEvents,
    DroppedLinks,
    StatusMessage,
    EventCount,
    LinkCount,
}

const FIELDS: [Field; 10] = [
    Field::Attribute,
    Field::Name,
    Field::TraceState,
    Field::Flags,
    Field::DroppedAttributes,
    Field::DroppedEvents,
    Field::DroppedLinks,
    Field::StatusMessage,
    Field::EventCount,
    Field::LinkCount,
];

/// Of which type the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ValueType {
    Empty,
    Text,
    Bool,
    Int,
    Double,
    Bytes,
    /// Arrays and maps.
    Nested,
}

const VALUE_TYPES: [ValueType; 7] = [
    ValueType::Empty,
    ValueType::Text,
    ValueType::Bool,
    ValueType::Int,
    ValueType::Double,
    ValueType::Bytes,
    ValueType::Nested,
];

impl ValueType {
    pub(crate) fn of_byte(byte: u8) -> Option<Self> {
        VALUE_TYPES.get(usize::from(byte)).copied()
    }
}

/// A column without its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ColumnKind {
    pub(super) level: Level,
    pub(super) field: Field,
    pub(super) value_type: ValueType,
}

impl ColumnKind {
    pub(super) fn to_bytes(self) -> [u8; 2] {
        [self.level as u8 | (self.field as u8) << 2, self.value_type as u8]
    }

    pub(super) fn from_bytes(bytes: [u8; 2]) -> Result<Self, DecodeError> {
        let unknown = DecodeError::OutOfRange("kind of column");
        let kind = Self {
            level: *LEVELS.get(usize::from(bytes[0] & 3)).ok_or(unknown)?,
            field: *FIELDS.get(usize::from(bytes[0] >> 2)).ok_or(unknown)?,
            value_type: *VALUE_TYPES.get(usize::from(bytes[1])).ok_or(unknown)?,
        };
        let expected = match kind.field {
            Field::Attribute => kind.value_type,
            Field::Name | Field::TraceState | Field::StatusMessage => ValueType::Text,
            _ => ValueType::Int,
        };
        if kind.value_type == expected { Ok(kind) } else { Err(unknown) }
    }
}

impl From<DetailField> for Field {
    fn from(field: DetailField) -> Self {
        match field {
            DetailField::Name => Self::Name,
            DetailField::TraceState => Self::TraceState,
            DetailField::Flags => Self::Flags,
            DetailField::DroppedAttributes => Self::DroppedAttributes,
            DetailField::DroppedEvents => Self::DroppedEvents,
            DetailField::DroppedLinks => Self::DroppedLinks,
            DetailField::StatusMessage => Self::StatusMessage,
        }
    }
}
