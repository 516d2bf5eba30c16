//! What the index says of a block: its words, and hashes of the values that are too many to be words.
//!
//! Derived from the block alone, at a seal, a merge or a rebuild.

use hashbrown::HashMap;
use pharos_model::{AttributeValue, Attributes, SpanKind, StatusCode};
use pharos_storage::render_attribute_value;

use super::evaluate::{EvaluateError, OriginSource};
use super::terms::{self, KeyLevel, TermSubject, WORD_TEXT_BYTES_MAX, Word};
use crate::block::{Block, ColumnHead, Field, Level, ValueType};

/// With more distinct values in a block a column has no words but value postings.
const WORD_VALUES_MAX: usize = 48;
/// With more distinct values in a block attributes are in no pairs with services.
const PAIR_VALUES_MAX: usize = 16;

/// Words and hashes of one block; words may come twice.
#[derive(Debug, Default)]
pub(crate) struct BlockTerms {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// For value postings.
    pub(crate) hashes: Vec<u64>,
}

impl BlockTerms {
    pub(crate) fn of(block: &Block, origins: &dyn OriginSource) -> Result<Self, EvaluateError> {
        let mut collector = Collector::new(block)?;
        collector.columns()?;
        collector.kinds()?;
        collector.durations();
        collector.origins(origins)?;
        Ok(collector.terms)
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start as usize..*end as usize])
    }

    fn push(&mut self, word: &[u8]) {
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len() as u32);
    }
}

/// The distinct values of a subject in one place.
#[derive(Default)]
struct Values {
    /// Numbers of the words by hash.
    numbers: HashMap<u64, u32>,
    /// As long as they are few and short.
    words: Vec<Word>,
    is_long: bool,
}

impl Values {
    /// The number of a value among the distinct ones.
    fn number(&mut self, word: &[u8], text_len: usize) -> u32 {
        let next = self.numbers.len() as u32;
        let Self { numbers, words, is_long } = self;
        *numbers.entry(terms::word_hash(word)).or_insert_with(|| {
            *is_long |= text_len > WORD_TEXT_BYTES_MAX;
            if words.len() <= WORD_VALUES_MAX {
                words.push(word.to_vec());
            }
            next
        })
    }

    fn have_words(&self) -> bool {
        !self.is_long && self.numbers.len() <= WORD_VALUES_MAX
    }
}

struct Collector<'a> {
    block: &'a Block,
    terms: BlockTerms,
    /// Distinct services, and which of them each span has.
    services: Vec<&'a str>,
    span_services: Vec<u32>,
    /// Operations as words know them, if they do, and which of them each span has.
    operations: Option<(Vec<String>, Vec<u32>)>,
}

impl<'a> Collector<'a> {
    fn new(block: &'a Block) -> Result<Self, EvaluateError> {
        let mut services: Vec<&str> = Vec::new();
        let mut of_origin = Vec::with_capacity(block.origin_count());
        for origin in 0..block.origin_count() {
            let service = block.service(origin)?;
            let known = services.iter().position(|known| *known == service);
            of_origin.push(known.unwrap_or(services.len()) as u32);
            if known.is_none() {
                services.push(service);
            }
        }
        let span_services = block.span_origins()?.into_iter().map(|origin| of_origin[origin as usize]).collect();
        let mut collector = Self { block, terms: BlockTerms::default(), services, span_services, operations: None };
        collector.terms.push(&terms::everything());
        collector.plain_values(TermSubject::Service, &collector.services.clone());
        Ok(collector)
    }

    /// Values that no pair tells of.
    fn plain_values(&mut self, subject: TermSubject<'_>, texts: &[&str]) {
        let mut values = Values::default();
        for text in texts {
            values.number(&terms::value(subject, text), text.len());
        }
        self.put_values(subject, &values);
        self.terms.push(&terms::unpaired(subject));
    }

    fn put_values(&mut self, subject: TermSubject<'_>, values: &Values) {
        if values.have_words() {
            values.words.iter().for_each(|word| self.terms.push(word));
        } else {
            self.terms.hashes.extend(values.numbers.keys());
            self.terms.push(&terms::many(subject));
        }
    }

    fn columns(&mut self) -> Result<(), EvaluateError> {
        let block = self.block;
        for column in block.columns()? {
            let subject = match (column.field, column.level) {
                (Field::Attribute, _) => TermSubject::Attribute(column.key),
                (Field::Name, Level::Span) => TermSubject::Name,
                (Field::Name, Level::Event) => TermSubject::EventName,
                _ => continue,
            };
            self.column(column, subject)?;
        }
        Ok(())
    }

    fn column(&mut self, column: ColumnHead<'_>, subject: TermSubject<'_>) -> Result<(), EvaluateError> {
        let (mut values, mut numbers) = (Values::default(), Vec::with_capacity(column.entry_count));
        let mut names = Vec::new();
        let mut word = terms::value_prefix(subject);
        let prefix_len = word.len();
        self.block.visit_values(column.number, |_, value| {
            let text = value.shown();
            word.truncate(prefix_len);
            word.extend_from_slice(text.as_bytes());
            let number = values.number(&word, text.len());
            if subject == TermSubject::Name && number as usize == names.len() && names.len() <= WORD_VALUES_MAX {
                names.push(text.into_owned());
            }
            numbers.push(number);
        })?;
        let level = match column.level {
            Level::Span => KeyLevel::Span,
            Level::Event => KeyLevel::Event,
            Level::Link => KeyLevel::Link,
        };
        self.terms.push(&terms::has(subject, level, column.value_type));
        self.put_values(subject, &values);
        let is_name = subject == TermSubject::Name;
        let is_paired =
            column.level == Level::Span && values.have_words() && (is_name || values.numbers.len() <= PAIR_VALUES_MAX);
        if !is_paired {
            self.terms.push(&terms::unpaired(subject));
            return Ok(());
        }
        let mut seen = vec![false; self.services.len() * values.words.len()];
        let mut operations = vec![0; if is_name { self.span_services.len() } else { 0 }];
        self.block.visit_entries(column.number, |span, entry| {
            let number = numbers[entry];
            seen[self.span_services[span] as usize * values.words.len() + number as usize] = true;
            if is_name {
                operations[span] = number;
            }
        })?;
        if is_name {
            self.operations = Some((names, operations));
        }
        for (pair, _) in seen.iter().enumerate().filter(|(_, seen)| **seen) {
            let (service, number) = (pair / values.words.len(), pair % values.words.len());
            self.terms.push(&terms::pair(self.services[service], &values.words[number]));
        }
        Ok(())
    }

    fn kinds(&mut self) -> Result<(), EvaluateError> {
        let kinds = self.block.kinds()?;
        let mut of_service: Vec<(u32, SpanKind, StatusCode)> =
            self.span_services.iter().zip(kinds).map(|(service, (kind, status))| (*service, kind, status)).collect();
        let order =
            |of: &(u32, SpanKind, StatusCode)| (of.0, crate::codec::kind_code(of.1), crate::codec::status_code(of.2));
        of_service.sort_unstable_by_key(order);
        of_service.dedup();
        let mut words: Vec<Word> = Vec::new();
        for (service, kind, status) in of_service {
            for word in [terms::kind(kind), terms::status(status)] {
                words.push(terms::pair(self.services[service as usize], &word));
                words.push(word);
            }
        }
        words.sort_unstable();
        words.dedup();
        for word in &words {
            self.terms.push(word);
        }
        Ok(())
    }

    /// The longest of all, of each service and of each operation.
    fn durations(&mut self) {
        let mut of_service = vec![0; self.services.len()];
        let mut of_operation: HashMap<(u32, u32), u8> = HashMap::new();
        for (span, (start_ns, end_ns)) in self.block.times().enumerate() {
            let bucket = terms::duration_bucket(end_ns.saturating_sub(start_ns));
            let service = self.span_services[span];
            let longest = &mut of_service[service as usize];
            *longest = bucket.max(*longest);
            if let Some((_, operations)) = &self.operations {
                let longest = of_operation.entry((service, operations[span])).or_default();
                *longest = bucket.max(*longest);
            }
        }
        self.terms.push(&terms::duration(of_service.iter().copied().max().unwrap_or(0)));
        for (service, bucket) in self.services.iter().zip(of_service) {
            self.terms.push(&terms::pair(service, &terms::duration(bucket)));
        }
        if let Some((names, _)) = &self.operations {
            for ((service, operation), bucket) in of_operation {
                let (service, operation) = (self.services[service as usize], &names[operation as usize]);
                let mut word = terms::operation_duration_prefix(service, operation);
                word.push(bucket);
                self.terms.push(&word);
            }
        }
    }

    /// What resources and scopes have.
    fn origins(&mut self, source: &dyn OriginSource) -> Result<(), EvaluateError> {
        let block = self.block;
        let origins = (0..block.origin_count()).map(|origin| source.origin(block.origin_hash(origin)));
        let origins: Vec<_> = origins.collect::<Result<_, _>>()?;
        let mut attributes = Vec::new();
        for origin in &origins {
            let mut add = |level, of: &'_ Attributes| {
                for attribute in of {
                    let text = render_attribute_value(&attribute.value).into_owned();
                    attributes.push((attribute.key.clone(), text, level, type_of(&attribute.value)));
                }
            };
            add(KeyLevel::Resource, &origin.resource.attributes);
            add(KeyLevel::Scope, &origin.scope.attributes);
        }
        attributes.sort_unstable();
        attributes.dedup();
        for of_key in attributes.chunk_by(|one, other| one.0 == other.0) {
            let subject = TermSubject::Attribute(&of_key[0].0);
            let mut places: Vec<_> = of_key.iter().map(|(_, _, level, value_type)| (*level, *value_type)).collect();
            places.sort_unstable();
            places.dedup();
            for (level, value_type) in places {
                self.terms.push(&terms::has(subject, level, value_type));
            }
            self.plain_values(subject, &of_key.iter().map(|(_, text, ..)| text.as_str()).collect::<Vec<_>>());
        }
        let names: Vec<&str> = origins.iter().map(|origin| origin.scope.name.as_str()).collect();
        self.plain_values(TermSubject::ScopeName, &names);
        let versions: Vec<&str> = origins.iter().map(|origin| origin.scope.version.as_str()).collect();
        self.plain_values(TermSubject::ScopeVersion, &versions);
        Ok(())
    }
}

fn type_of(value: &AttributeValue) -> ValueType {
    match value {
        AttributeValue::Empty => ValueType::Empty,
        AttributeValue::String(_) => ValueType::Text,
        AttributeValue::Bool(_) => ValueType::Bool,
        AttributeValue::Int(_) => ValueType::Int,
        AttributeValue::Double(_) => ValueType::Double,
        AttributeValue::Bytes(_) => ValueType::Bytes,
        AttributeValue::Array(_) | AttributeValue::Map(_) => ValueType::Nested,
    }
}
