//! Lists for completion as they grow: keys of attributes, or values of one of them or of a field.
//!
//! What is found comes from words of the index, from columns of blocks and from spans in memory, perhaps many times; a
//! listing keeps each entry once, within its limit and the budget of the read.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use pharos_base::Reservation;
use pharos_storage::{
    AttributeKey, AttributeLevel, LISTED_KEY_BYTES_MAX, LISTED_VALUE_BYTES_MAX, Listed, ListedType, ListedValue,
    ReadContext, SpanField, SpanReference, StorageError, is_meant,
};

use super::terms::{KeyLevel, TermSubject};
use crate::block::ValueType;

/// What an entry takes beside its text.
const ENTRY_BYTES: u64 = 64;

/// What is listed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted<'q> {
    /// Keys of attributes at a level, or of all.
    Keys(Option<AttributeLevel>),
    /// Values.
    Values(&'q SpanReference),
}

impl<'q> Wanted<'q> {
    /// Whether attributes at this level with this key count.
    pub(crate) fn attribute(self, at: AttributeLevel, key: &str) -> bool {
        match self {
            Self::Keys(level) => level.is_none_or(|level| level == at),
            Self::Values(SpanReference::Attribute { level, key: wanted }) => is_meant(*level, at) && wanted == key,
            Self::Values(SpanReference::Field(_)) => false,
        }
    }

    /// The field whose values count.
    pub(crate) fn field(self) -> Option<SpanField> {
        match self {
            Self::Values(SpanReference::Field(field)) => Some(*field),
            _ => None,
        }
    }

    /// Whether resources or scopes have it.
    pub(crate) fn is_of_origins(self) -> bool {
        let origins = [AttributeLevel::Resource, AttributeLevel::Scope];
        match self {
            Self::Keys(level) => level.is_none_or(|level| origins.contains(&level)),
            Self::Values(SpanReference::Attribute { level, .. }) => origins.iter().any(|at| is_meant(*level, *at)),
            Self::Values(SpanReference::Field(field)) => {
                matches!(field, SpanField::Service | SpanField::ScopeName | SpanField::ScopeVersion)
            }
        }
    }

    /// What words tell of it; none of the messages of statuses.
    pub(crate) fn term_subject(self) -> Option<TermSubject<'q>> {
        match self {
            Self::Keys(_) => None,
            Self::Values(SpanReference::Attribute { key, .. }) => Some(TermSubject::Attribute(key)),
            Self::Values(SpanReference::Field(field)) => match field {
                SpanField::Service => Some(TermSubject::Service),
                SpanField::Name => Some(TermSubject::Name),
                SpanField::EventName => Some(TermSubject::EventName),
                SpanField::ScopeName => Some(TermSubject::ScopeName),
                SpanField::ScopeVersion => Some(TermSubject::ScopeVersion),
                _ => None,
            },
        }
    }
}

/// A list that grows.
pub(crate) struct Listing<'q> {
    pub(crate) wanted: Wanted<'q>,
    limit: usize,
    /// By text: one bit for each level or type.
    found: HashMap<String, u8>,
    count: usize,
    /// More was found than the limit allows, or the search was ended.
    pub(crate) is_cut: bool,
    /// Blocks that may still be read.
    pub(crate) blocks_left: usize,
    reserved: Reservation,
    failed: Option<StorageError>,
}

impl<'q> Listing<'q> {
    pub(crate) fn new(
        wanted: Wanted<'q>,
        limit: usize,
        blocks_max: usize,
        context: &ReadContext,
    ) -> Result<Self, StorageError> {
        Ok(Self {
            wanted,
            limit,
            found: HashMap::new(),
            count: 0,
            is_cut: false,
            blocks_left: blocks_max,
            reserved: context.memory.reserve(0)?,
            failed: None,
        })
    }

    /// Whether nothing more can change the answer.
    pub(crate) fn is_full(&self) -> bool {
        self.is_cut || self.failed.is_some()
    }

    pub(crate) fn knows_key(&self, level: AttributeLevel, key: &str) -> bool {
        self.knows(level as u8, key)
    }

    pub(crate) fn knows_value(&self, value_type: ListedType, text: &str) -> bool {
        self.knows(value_type as u8, text)
    }

    pub(crate) fn add_key(&mut self, level: AttributeLevel, key: &str) {
        if key.len() <= LISTED_KEY_BYTES_MAX {
            self.add(level as u8, key);
        }
    }

    pub(crate) fn add_value(&mut self, value_type: ListedType, text: &str) {
        if text.len() <= LISTED_VALUE_BYTES_MAX && !(text.is_empty() && self.wants_present_texts()) {
            self.add(value_type as u8, text);
        }
    }

    /// Empty texts of these fields are absent.
    fn wants_present_texts(&self) -> bool {
        matches!(self.wanted.field(), Some(SpanField::ScopeName | SpanField::ScopeVersion | SpanField::StatusMessage))
    }

    fn knows(&self, bit: u8, text: &str) -> bool {
        self.found.get(text).is_some_and(|bits| bits & 1 << bit != 0)
    }

    fn add(&mut self, bit: u8, text: &str) {
        if self.is_full() || self.knows(bit, text) {
            return;
        }
        if self.count == self.limit {
            self.is_cut = true;
            return;
        }
        if let Err(error) = self.reserved.grow(text.len() as u64 + ENTRY_BYTES) {
            self.failed = Some(error.into());
            return;
        }
        self.count += 1;
        *self.found.entry_ref(text).or_default() |= 1 << bit;
    }

    /// The failure that ended the list, if one did.
    pub(crate) fn check(&mut self) -> Result<(), StorageError> {
        self.failed.take().map_or(Ok(()), Err)
    }

    pub(crate) fn into_keys(self) -> Listed<AttributeKey> {
        const LEVELS: [AttributeLevel; 5] = [
            AttributeLevel::Span,
            AttributeLevel::Resource,
            AttributeLevel::Scope,
            AttributeLevel::Event,
            AttributeLevel::Link,
        ];
        self.into_list(&LEVELS, |level| level as u8, |level, key| AttributeKey { level, key })
    }

    pub(crate) fn into_values(self) -> Listed<ListedValue> {
        const TYPES: [ListedType; 5] =
            [ListedType::Text, ListedType::Bool, ListedType::Int, ListedType::Double, ListedType::Other];
        self.into_list(&TYPES, |value_type| value_type as u8, |value_type, text| ListedValue { text, value_type })
    }

    fn into_list<K: Copy, T: Ord>(self, all: &[K], bit: fn(K) -> u8, entry: fn(K, String) -> T) -> Listed<T> {
        let mut entries = BTreeSet::new();
        for (text, bits) in self.found {
            let set = all.iter().filter(|of| bits & 1 << bit(**of) != 0);
            entries.extend(set.map(|of| entry(*of, text.clone())));
        }
        Listed { entries: entries.into_iter().collect(), is_complete: !self.is_cut }
    }
}

/// The type of the values of a column, as lists have it.
pub(crate) fn listed_type(value_type: ValueType) -> ListedType {
    match value_type {
        ValueType::Text => ListedType::Text,
        ValueType::Bool => ListedType::Bool,
        ValueType::Int => ListedType::Int,
        ValueType::Double => ListedType::Double,
        ValueType::Empty | ValueType::Bytes | ValueType::Nested => ListedType::Other,
    }
}

impl KeyLevel {
    pub(crate) fn of_byte(byte: u8) -> Option<Self> {
        [Self::Span, Self::Event, Self::Link, Self::Resource, Self::Scope]
            .into_iter()
            .find(|level| *level as u8 == byte)
    }

    pub(crate) fn level(self) -> AttributeLevel {
        match self {
            Self::Span => AttributeLevel::Span,
            Self::Event => AttributeLevel::Event,
            Self::Link => AttributeLevel::Link,
            Self::Resource => AttributeLevel::Resource,
            Self::Scope => AttributeLevel::Scope,
        }
    }
}
