//! What the index says of a block: its words, and hashes of the values that are too many to be words.
//!
//! Derived from the block alone, at a seal, a merge or a rebuild.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use pharos_model::{AttributeValue, Attributes, SpanKind, StatusCode};
use pharos_storage::render_attribute_value;

use super::Bits;
use super::evaluate::{EvaluateError, OriginSource};
use super::terms::{self, KeyLevel, TermSubject, WORD_TEXT_BYTES_MAX, Word};
use crate::block::{Block, ColumnHead, Field, Level, ValueType};

/// With more distinct values in a block a column has no words but value postings.
const WORD_VALUES_MAX: usize = 48;
/// With more distinct values in a block attributes are in no pairs with services.
const PAIR_VALUES_MAX: usize = 16;
/// Services times values that pairs may tell of in a block; columns beyond are in none.
const PAIRS_MAX: usize = 1 << 18;
/// Words of a block, and distinct attributes of its resources and scopes. With more it is told of no values at all, and each
/// search looks at it.
const WORDS_MAX: usize = 16_384;

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
        match Collector::collect(block, origins) {
            Ok(terms) => Ok(terms),
            Err(Incomplete::TooMany) => Ok(Self::untold()),
            Err(Incomplete::Failed(error)) => Err(error),
        }
    }

    /// Of a block that every search looks at.
    pub(crate) fn untold() -> Self {
        let mut terms = Self::default();
        for word in [terms::everything(), terms::untold()] {
            terms.put(&word);
        }
        terms
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start as usize..*end as usize])
    }

    fn put(&mut self, word: &[u8]) {
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len() as u32);
    }

    fn push(&mut self, word: &[u8]) -> Result<(), Incomplete> {
        if self.ends.len() >= WORDS_MAX {
            return Err(Incomplete::TooMany);
        }
        self.put(word);
        Ok(())
    }
}

/// Why there are no words of a block.
enum Incomplete {
    /// They are more than [`WORDS_MAX`].
    TooMany,
    Failed(EvaluateError),
}

impl<E: Into<EvaluateError>> From<E> for Incomplete {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The distinct values of a subject in one place.
#[derive(Default)]
struct Values {
    /// Numbers of the words by hash.
    numbers: HashMap<u64, u32>,
    /// As long as they are few and short.
    words: Vec<Word>,
    /// Whether words cannot tell of them: one is long, or two share a hash.
    is_unworded: bool,
}

impl Values {
    /// The number of a value among the distinct ones.
    fn number(&mut self, word: &[u8], text_len: usize) -> u32 {
        self.number_of_hash(terms::word_hash(word), word, text_len)
    }

    fn number_of_hash(&mut self, hash: u64, word: &[u8], text_len: usize) -> u32 {
        let next = self.numbers.len() as u32;
        let Self { numbers, words, is_unworded } = self;
        let number = *numbers.entry(hash).or_insert(next);
        if number == next {
            *is_unworded |= text_len > WORD_TEXT_BYTES_MAX;
            if words.len() <= WORD_VALUES_MAX {
                words.push(word.to_vec());
            }
        } else {
            // Value postings know both by the one hash.
            *is_unworded |= words.get(number as usize).is_some_and(|known| known != word);
        }
        number
    }

    fn have_words(&self) -> bool {
        !self.is_unworded && self.numbers.len() <= WORD_VALUES_MAX
    }
}

/// A column whose values stand in pairs with services.
struct Paired {
    column: usize,
    /// By entry, the number of the value among the distinct ones.
    numbers: Vec<u32>,
    words: Vec<Word>,
    /// Its first bit: as many follow as services times words.
    first: usize,
    is_name: bool,
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
    fn collect(block: &'a Block, origins: &dyn OriginSource) -> Result<BlockTerms, Incomplete> {
        // A column has three words at least.
        if block.column_count()? > WORDS_MAX / 3 {
            return Err(Incomplete::TooMany);
        }
        let mut collector = Self::new(block)?;
        let (paired, bit_count) = collector.columns()?;
        collector.pairs(&paired, bit_count)?;
        collector.kinds()?;
        collector.durations()?;
        collector.origins(origins)?;
        Ok(collector.terms)
    }

    fn new(block: &'a Block) -> Result<Self, Incomplete> {
        let mut services: Vec<&str> = Vec::new();
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let mut of_origin = Vec::with_capacity(block.origin_count());
        for origin in 0..block.origin_count() {
            let service = block.service(origin)?;
            of_origin.push(*numbers.entry(service).or_insert_with(|| {
                services.push(service);
                services.len() as u32 - 1
            }));
        }
        let span_services = block.span_origins()?.into_iter().map(|origin| of_origin[origin as usize]).collect();
        let mut collector = Self { block, terms: BlockTerms::default(), services, span_services, operations: None };
        collector.terms.push(&terms::everything())?;
        collector.plain_values(TermSubject::Service, &collector.services.clone())?;
        Ok(collector)
    }

    /// Values that no pair tells of.
    fn plain_values(&mut self, subject: TermSubject<'_>, texts: &[&str]) -> Result<(), Incomplete> {
        let mut values = Values::default();
        for text in texts {
            values.number(&terms::value(subject, text), text.len());
        }
        self.put_values(subject, &values)?;
        self.terms.push(&terms::unpaired(subject))
    }

    fn put_values(&mut self, subject: TermSubject<'_>, values: &Values) -> Result<(), Incomplete> {
        if values.have_words() {
            return values.words.iter().try_for_each(|word| self.terms.push(word));
        }
        self.terms.hashes.extend(values.numbers.keys());
        self.terms.push(&terms::many(subject))
    }

    /// What columns have; answers those that stand in pairs, and how many bits these take.
    fn columns(&mut self) -> Result<(Vec<Paired>, usize), Incomplete> {
        let block = self.block;
        let (mut paired, mut bit_count) = (Vec::new(), 0);
        for column in block.columns()? {
            let subject = match (column.field, column.level) {
                (Field::Attribute, _) => TermSubject::Attribute(column.key),
                (Field::Name, Level::Span) => TermSubject::Name,
                (Field::Name, Level::Event) => TermSubject::EventName,
                _ => continue,
            };
            if let Some(column) = self.column(column, subject, bit_count)? {
                bit_count += self.services.len() * column.words.len();
                paired.push(column);
            }
        }
        Ok((paired, bit_count))
    }

    fn column(
        &mut self,
        column: ColumnHead<'_>,
        subject: TermSubject<'_>,
        first: usize,
    ) -> Result<Option<Paired>, Incomplete> {
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
        self.terms.push(&terms::has(subject, level, column.value_type))?;
        self.put_values(subject, &values)?;
        let is_name = subject == TermSubject::Name;
        // A sound block has one column of names.
        let is_known_name = is_name && self.operations.is_some();
        let is_paired = column.level == Level::Span
            && values.have_words()
            && !is_known_name
            && (is_name || values.words.len() <= PAIR_VALUES_MAX)
            && first + self.services.len() * values.words.len() <= PAIRS_MAX;
        if !is_paired {
            self.terms.push(&terms::unpaired(subject))?;
            return Ok(None);
        }
        if is_name {
            self.operations = Some((names, vec![0; self.span_services.len()]));
        }
        Ok(Some(Paired { column: column.number, numbers, words: values.words, first, is_name }))
    }

    /// Which values the spans of each service have, all columns in one pass.
    fn pairs(&mut self, paired: &[Paired], bit_count: usize) -> Result<(), Incomplete> {
        let Self { block, services, span_services, operations, .. } = self;
        let mut of_column = vec![None; block.column_count()?];
        for one in paired {
            of_column[one.column] = Some(one);
        }
        let mut seen = Bits::none(bit_count);
        let mut see = |service: u32, of: &Paired, entry: usize| {
            let number = of.numbers[entry];
            seen.insert(of.first + service as usize * of.words.len() + number as usize);
            number
        };
        let mut operations = operations.as_mut().map(|(_, operations)| operations);
        block.visit_varying(
            Level::Span,
            |column| of_column[column].is_some(),
            |span, column, entry| {
                let Some(of) = of_column[column] else { return };
                let number = see(span_services[span], of, entry);
                if let Some(operations) = operations.as_mut().filter(|_| of.is_name) {
                    operations[span] = number;
                }
            },
        )?;
        // What a class has, the services of its spans have.
        let classes = block.classes(Level::Span)?;
        let mut members: Vec<_> = classes.iter().copied().zip(span_services.iter().copied()).collect();
        members.sort_unstable();
        members.dedup();
        let mut class_operations: HashMap<u32, u32> = HashMap::new();
        block.visit_constants(Level::Span, |class, column, entry| {
            let Some(of) = of_column[column] else { return };
            let first = members.partition_point(|(of, _)| *of < class);
            for (_, service) in members[first..].iter().take_while(|(of, _)| *of == class) {
                let number = see(*service, of, entry);
                if of.is_name {
                    class_operations.insert(class, number);
                }
            }
        })?;
        if let Some(operations) = operations {
            for (operation, class) in operations.iter_mut().zip(classes) {
                *operation = class_operations.get(class).copied().unwrap_or(*operation);
            }
        }
        for of in paired {
            for (service, name) in services.iter().enumerate() {
                for (number, word) in of.words.iter().enumerate() {
                    if seen.contains(of.first + service * of.words.len() + number) {
                        self.terms.push(&terms::pair(name, word))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn kinds(&mut self) -> Result<(), Incomplete> {
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
        words.iter().try_for_each(|word| self.terms.push(word))
    }

    /// The longest of all, of each service and of each operation.
    fn durations(&mut self) -> Result<(), Incomplete> {
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
        self.terms.push(&terms::duration(of_service.iter().copied().max().unwrap_or(0)))?;
        for (service, bucket) in self.services.iter().zip(of_service) {
            self.terms.push(&terms::pair(service, &terms::duration(bucket)))?;
        }
        if let Some((names, _)) = &self.operations {
            for ((service, operation), bucket) in of_operation {
                let (service, operation) = (self.services[service as usize], &names[operation as usize]);
                let mut word = terms::operation_duration_prefix(service, operation);
                word.push(bucket);
                self.terms.push(&word)?;
            }
        }
        Ok(())
    }

    /// What resources and scopes have.
    fn origins(&mut self, source: &dyn OriginSource) -> Result<(), Incomplete> {
        let block = self.block;
        let mut attributes = BTreeSet::new();
        let (mut names, mut versions) = (BTreeSet::new(), BTreeSet::new());
        for number in 0..block.origin_count() {
            let origin = source.origin(block.origin_hash(number))?;
            let mut add = |level, of: &Attributes| {
                for attribute in of {
                    let text = render_attribute_value(&attribute.value).into_owned();
                    attributes.insert((attribute.key.clone(), text, level, type_of(&attribute.value)));
                }
            };
            add(KeyLevel::Resource, &origin.resource.attributes);
            add(KeyLevel::Scope, &origin.scope.attributes);
            if attributes.len() > WORDS_MAX {
                return Err(Incomplete::TooMany);
            }
            names.insert(origin.scope.name.clone());
            versions.insert(origin.scope.version.clone());
        }
        let attributes: Vec<_> = attributes.into_iter().collect();
        for of_key in attributes.chunk_by(|one, other| one.0 == other.0) {
            let subject = TermSubject::Attribute(&of_key[0].0);
            let mut places: Vec<_> = of_key.iter().map(|(_, _, level, value_type)| (*level, *value_type)).collect();
            places.sort_unstable();
            places.dedup();
            for (level, value_type) in places {
                self.terms.push(&terms::has(subject, level, value_type))?;
            }
            self.plain_values(subject, &of_key.iter().map(|(_, text, ..)| text.as_str()).collect::<Vec<_>>())?;
        }
        self.plain_values(TermSubject::ScopeName, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
        self.plain_values(TermSubject::ScopeVersion, &versions.iter().map(String::as_str).collect::<Vec<_>>())
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

#[cfg(test)]
mod tests {
    use pharos_model::TraceId;

    use super::*;
    use crate::block::BlockBuilder;
    use crate::codec::{Origin, SpanSkeleton, encode_origin, put_details};
    use crate::search::testing::Origins;
    use pharos_model::{Attribute, Resource, Scope, Span};

    fn attribute(key: &str, value: &str) -> Attribute {
        Attribute { key: key.to_owned(), value: AttributeValue::String(value.to_owned()) }
    }

    /// The words of a block with these spans: service, name, attributes.
    fn words(spans: &[(&str, &str, Vec<Attribute>)]) -> Vec<Vec<u8>> {
        let mut origins = std::collections::HashMap::new();
        let mut builder = BlockBuilder::new();
        builder.begin_trace(TraceId([1; 16]));
        for (number, (service, name, attributes)) in spans.iter().enumerate() {
            let resource = Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() };
            let (hash, _) = encode_origin(&resource, &Scope::default());
            let origin = Origin { resource: resource.into(), scope: Scope::default().into() };
            origins.insert(hash, std::sync::Arc::new(origin));
            let span = Span { name: (*name).to_owned(), attributes: attributes.clone(), ..Span::default() };
            let mut details = Vec::new();
            put_details(&mut details, &span);
            let skeleton = SpanSkeleton {
                span_id: pharos_model::SpanId((number as u64 + 1).to_be_bytes()),
                parent_span_id: span.parent_span_id,
                kind: span.kind,
                status: span.status.code,
                start_ns: 7,
                end_ns: 9,
            };
            builder.push(hash, service, &skeleton, &details).unwrap();
        }
        let bytes = builder.finish().into();
        let terms = BlockTerms::of(&Block::open(&bytes).unwrap(), &Origins(origins)).unwrap();
        terms.words().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn pairs_say_which_service_has_which_value() {
        // The kind of a name is a constant of its class, the number of a span varies within one.
        let span = |service, name, number: u32| {
            (service, name, vec![attribute("of", name), attribute("nr", &number.to_string())])
        };
        let spans = [span("web", "get", 1), span("web", "get", 2), span("shop", "buy", 2), span("shop", "buy", 3)];
        let words = words(&spans);
        for service in ["web", "shop"] {
            let of = TermSubject::Attribute("of");
            let nr = TermSubject::Attribute("nr");
            for (subject, text) in [
                (TermSubject::Name, "get"),
                (TermSubject::Name, "buy"),
                (of, "get"),
                (of, "buy"),
                (nr, "1"),
                (nr, "2"),
                (nr, "3"),
            ] {
                let has = spans.iter().any(|(of, name, attributes)| {
                    *of == service
                        && match subject {
                            TermSubject::Attribute(key) => attributes.contains(&attribute(key, text)),
                            _ => *name == text,
                        }
                });
                let word = terms::pair(service, &terms::value(subject, text));
                assert_eq!(words.contains(&word), has, "{service} {subject:?} {text}");
            }
        }
        let longest = |service, name| {
            let prefix = terms::operation_duration_prefix(service, name);
            words.iter().filter(|word| word.starts_with(&prefix)).count()
        };
        assert_eq!((longest("web", "get"), longest("web", "buy"), longest("shop", "buy")), (1, 0, 1));
    }

    #[test]
    fn a_block_with_more_than_words_can_tell_is_looked_at_by_all() {
        let keys = |count: u32| (0..count).map(|key| attribute(&format!("k{key}"), "v")).collect::<Vec<_>>();
        let few = words(&[("web", "get", keys(2000))]);
        assert!(few.len() > 6000 && !few.contains(&terms::untold()));
        let untold = [terms::everything(), terms::untold()];
        assert!(words(&[("web", "get", keys(6000))]) == untold, "of columns alone");
        let own = |number: u32| (0..5000).map(|key| attribute(&format!("k{key}"), &number.to_string())).collect();
        assert!(words(&[("web", "get", own(1)), ("web", "get", own(2))]) == untold, "of values");
    }

    #[test]
    fn values_that_share_a_hash_have_no_words() {
        let mut values = Values::default();
        assert_eq!((values.number_of_hash(7, b"a", 1), values.number_of_hash(8, b"b", 1)), (0, 1));
        assert_eq!(values.number_of_hash(7, b"a", 1), 0);
        assert!(values.have_words());
        assert_eq!(values.number_of_hash(7, b"c", 1), 0);
        assert!(!values.have_words() && values.numbers.contains_key(&7));
    }
}
