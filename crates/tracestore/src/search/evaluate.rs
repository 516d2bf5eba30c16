//! Which spans of a block pass, exactly: column by column, each value tested once.
//!
//! Tests become sets of spans, or inside bound tests of events or links, and sets are joined as the tests are. Only what
//! compares two values of one span is answered by whole spans, of those that passed everything else.
//!
//! Invariant E1: a set is right within the records it was asked for; others are never in it.

use std::cell::OnceCell;
use std::sync::Arc;

use pharos_model::{Attributes, Span};
use pharos_storage::{SpanCollection, SpanField, SpanPredicate, SpanValue, predicate_holds};

use super::bits::Bits;
use super::test::{Levels, Subject, Test, ValueTest};
use crate::TraceStoreError;
use crate::block::{Block, Field, Level};
use crate::codec::{DecodeError, Origin, OriginHash, SpanSkeleton};

/// Gives resources and scopes by their hash.
pub(crate) trait OriginSource {
    fn origin(&self, hash: OriginHash) -> Result<Arc<Origin>, TraceStoreError>;
}

/// Of so many spans one: those few are looked at one by one, otherwise a column is read from its beginning.
const FEW_OF: usize = 8;

#[derive(Debug, thiserror::Error)]
pub(crate) enum EvaluateError {
    #[error("a block cannot be read")]
    Block(#[from] DecodeError),
    #[error(transparent)]
    Origin(#[from] TraceStoreError),
}

/// The spans of `block` that pass.
pub(crate) fn passing_spans(test: &Test<'_>, block: &Block, origins: &dyn OriginSource) -> Result<Bits, EvaluateError> {
    let evaluation = Evaluation::new(block, origins);
    evaluation.passing(test, Level::Span, &Bits::all(block.span_count() as usize))
}

/// In which order tests are made that must all hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// Times: they cost least, and a long duration leaves little.
    Times,
    Values,
    /// Every span has a service: of the few that are left it costs next to nothing.
    Service,
    /// Whole spans are built.
    Whole,
}

impl Rank {
    const ALL: [Self; 4] = [Self::Times, Self::Values, Self::Service, Self::Whole];

    fn of(test: &Test<'_>) -> Self {
        match test {
            Test::StartsIn(_) | Test::Lasts { .. } => Self::Times,
            Test::Value { of: Subject::Field(SpanField::Service), .. } => Self::Service,
            _ if test.needs_whole() => Self::Whole,
            _ => Self::Values,
        }
    }
}

struct Evaluation<'a> {
    block: &'a Block,
    source: &'a dyn OriginSource,
    origins: OnceCell<Vec<Arc<Origin>>>,
    /// The span of each event and of each link.
    event_spans: OnceCell<Vec<u32>>,
    link_spans: OnceCell<Vec<u32>>,
}

impl<'a> Evaluation<'a> {
    fn new(block: &'a Block, source: &'a dyn OriginSource) -> Self {
        let (event_spans, link_spans) = (OnceCell::new(), OnceCell::new());
        Self { block, source, origins: OnceCell::new(), event_spans, link_spans }
    }

    /// The records of `level` among `within` that pass.
    fn passing(&self, test: &Test<'_>, level: Level, within: &Bits) -> Result<Bits, EvaluateError> {
        let mut found = match test {
            Test::All(tests) => {
                let mut left = within.clone();
                for rank in Rank::ALL {
                    for test in tests.iter().filter(|test| Rank::of(test) == rank) {
                        if left.is_empty() {
                            return Ok(left);
                        }
                        left = self.passing(test, level, &left)?;
                    }
                }
                left
            }
            Test::Any(tests) => {
                let mut found = Bits::none(within.len());
                for test in tests {
                    found.add(&self.passing(test, level, within)?);
                }
                found
            }
            Test::Not(test) => {
                let mut left = within.clone();
                left.remove(&self.passing(test, level, within)?);
                left
            }
            Test::Bound { of, test } => {
                let inner = match of {
                    SpanCollection::Events => Level::Event,
                    SpanCollection::Links => Level::Link,
                };
                // Bound tests stand at spans alone: see `Test::Whole`.
                let elements = self.converted(within.clone(), Level::Span, inner)?;
                self.converted(self.passing(test, inner, &elements)?, inner, level)?
            }
            Test::Whole(predicate) => return self.by_whole_spans(predicate, level, within),
            Test::Value { of: Subject::Attribute { levels, key }, passes } => {
                self.attributes((*levels, key), *passes, level, within)?
            }
            Test::Value { of: Subject::Field(field), passes } => self.field(*field, *passes, level, within)?,
            Test::Kind(kind) => self.spans(level, |hit| self.block.visit_kinds(|of, _| of == *kind, hit))?,
            Test::Status(status) => self.spans(level, |hit| self.block.visit_kinds(|_, of| of == *status, hit))?,
            Test::StartsIn(range) => {
                let (first_ns, last_ns) = self.block.starts();
                if range.contains(first_ns) && range.contains(last_ns) {
                    return Ok(within.clone());
                }
                self.times(level, |start_ns, _| range.contains(start_ns))?
            }
            Test::Lasts { min_ns, max_ns } => self.spans(level, |hit| {
                self.block.visit_lasting(*min_ns..=*max_ns, hit);
                Ok(())
            })?,
        };
        found.keep(within);
        Ok(found)
    }

    fn empty(&self, level: Level) -> Result<Bits, DecodeError> {
        let count =
            if level == Level::Span { self.block.span_count() as usize } else { self.block.record_count(level)? };
        Ok(Bits::none(count))
    }

    /// Spans that `visit` names, or their events or links.
    fn spans(
        &self,
        level: Level,
        visit: impl FnOnce(&mut dyn FnMut(usize)) -> Result<(), DecodeError>,
    ) -> Result<Bits, EvaluateError> {
        let mut found = self.empty(Level::Span)?;
        visit(&mut |span| found.insert(span))?;
        self.converted(found, Level::Span, level)
    }

    fn times(&self, level: Level, passes: impl Fn(u64, u64) -> bool) -> Result<Bits, EvaluateError> {
        self.spans(level, |hit| {
            let times = self.block.times().enumerate();
            times.filter(|(_, (start_ns, end_ns))| passes(*start_ns, *end_ns)).for_each(|(span, _)| hit(span));
            Ok(())
        })
    }

    fn skeletons(&self, level: Level, passes: impl Fn(&SpanSkeleton) -> bool) -> Result<Bits, EvaluateError> {
        self.spans(level, |hit| {
            for (span, skeleton) in self.block.skeletons(0..self.block.span_count())?.enumerate() {
                if passes(&skeleton?.2) {
                    hit(span);
                }
            }
            Ok(())
        })
    }

    /// Spans of the origins whose verdict is true, or their events or links.
    fn of_origins(&self, level: Level, within: &Bits, verdicts: &[bool]) -> Result<Bits, EvaluateError> {
        if !verdicts.contains(&true) {
            return Ok(self.empty(level)?);
        }
        if level == Level::Span && within.count() <= within.len() / FEW_OF {
            let mut found = self.empty(level)?;
            for span in within.iter() {
                if verdicts[self.block.span_origin(span)?] {
                    found.insert(span);
                }
            }
            return Ok(found);
        }
        self.spans(level, |hit| {
            self.block.visit_span_origins(|span, origin| {
                if verdicts[origin] {
                    hit(span);
                }
            })
        })
    }

    fn by_origin(&self, level: Level, within: &Bits, passes: impl Fn(&Origin) -> bool) -> Result<Bits, EvaluateError> {
        let verdicts: Vec<bool> = self.origins()?.iter().map(|origin| passes(origin)).collect();
        self.of_origins(level, within, &verdicts)
    }

    fn origins(&self) -> Result<&[Arc<Origin>], EvaluateError> {
        if let Some(origins) = self.origins.get() {
            return Ok(origins);
        }
        let all = 0..self.block.origin_count();
        let origins = all.map(|origin| self.source.origin(self.block.origin_hash(origin))).collect::<Result<_, _>>()?;
        Ok(self.origins.get_or_init(|| origins))
    }

    /// Records of `native` that have a passing value of the field (of attributes, of the key), as records of `level`.
    fn columns(
        &self,
        native: Level,
        level: Level,
        (field, key): (Field, &str),
        passes: ValueTest<'_>,
    ) -> Result<Bits, EvaluateError> {
        let mut found = self.empty(native)?;
        for column in self.block.columns_of(native, field, key)? {
            let hit = |record| found.insert(record);
            match passes {
                ValueTest::Shown(text) => self.block.visit_shown(column, text, hit)?,
                _ => self.block.visit_passing(column, |value| passes.holds(value), hit)?,
            }
        }
        self.converted(found, native, level)
    }

    fn attributes(
        &self,
        (levels, key): (Levels, &str),
        passes: ValueTest<'_>,
        level: Level,
        within: &Bits,
    ) -> Result<Bits, EvaluateError> {
        let mut found = self.empty(level)?;
        let native = [(Levels::SPAN, Level::Span), (Levels::EVENT, Level::Event), (Levels::LINK, Level::Link)];
        for (_, native) in native.into_iter().filter(|(of, _)| levels.has(*of)) {
            found.add(&self.columns(native, level, (Field::Attribute, key), passes)?);
        }
        if levels.has(Levels::RESOURCE) || levels.has(Levels::SCOPE) {
            let any_of = |attributes: &Attributes| {
                let mut values = attributes.iter().filter(|attribute| attribute.key == key);
                values.any(|attribute| passes.holds(&SpanValue::of_attribute(&attribute.value)))
            };
            found.add(&self.by_origin(level, within, |Origin { resource, scope }| {
                levels.has(Levels::RESOURCE) && any_of(&resource.attributes)
                    || levels.has(Levels::SCOPE) && any_of(&scope.attributes)
            })?);
        }
        Ok(found)
    }

    fn field(
        &self,
        field: SpanField,
        passes: ValueTest<'_>,
        level: Level,
        within: &Bits,
    ) -> Result<Bits, EvaluateError> {
        let text = |text: &str| passes.holds(&SpanValue::text(text));
        let present = |value: &str| !value.is_empty() && text(value);
        let whole = |number: i128| passes.holds(&SpanValue::whole(number));
        let column = |native, wanted: Field| self.columns(native, level, (wanted, ""), passes);
        match field {
            SpanField::TraceId => self.spans(level, |hit| {
                for trace in self.block.traces().iter().filter(|trace| text(&trace.trace_id.to_string())) {
                    trace.spans.clone().for_each(|span| hit(span as usize));
                }
                Ok(())
            }),
            SpanField::SpanId => self.skeletons(level, |span| text(&span.span_id.to_string())),
            SpanField::ParentSpanId => {
                self.skeletons(level, |span| !span.parent_span_id.is_zero() && text(&span.parent_span_id.to_string()))
            }
            SpanField::TraceState => column(Level::Span, Field::TraceState),
            SpanField::Name => column(Level::Span, Field::Name),
            SpanField::StatusMessage => column(Level::Span, Field::StatusMessage),
            SpanField::EventName => column(Level::Event, Field::Name),
            SpanField::LinkTraceState => column(Level::Link, Field::TraceState),
            SpanField::Kind => {
                self.spans(level, |hit| self.block.visit_kinds(|kind, _| passes.holds(&SpanValue::of_kind(kind)), hit))
            }
            SpanField::Status => self.spans(level, |hit| {
                self.block.visit_kinds(|_, status| passes.holds(&SpanValue::of_status(status)), hit)
            }),
            SpanField::Start => self.times(level, |start_ns, _| whole(start_ns.into())),
            SpanField::End => self.times(level, |_, end_ns| whole(end_ns.into())),
            SpanField::Duration => self.times(level, |start_ns, end_ns| whole(end_ns.saturating_sub(start_ns).into())),
            SpanField::Service => {
                let services = (0..self.block.origin_count()).map(|origin| self.block.service(origin));
                let verdicts: Vec<bool> = services.map(|service| service.map(text)).collect::<Result<_, _>>()?;
                self.of_origins(level, within, &verdicts)
            }
            SpanField::ResourceSchemaUrl => {
                self.by_origin(level, within, |origin| present(&origin.resource.schema_url))
            }
            SpanField::ScopeName => self.by_origin(level, within, |origin| present(&origin.scope.name)),
            SpanField::ScopeVersion => self.by_origin(level, within, |origin| present(&origin.scope.version)),
            SpanField::ScopeSchemaUrl => self.by_origin(level, within, |origin| present(&origin.scope.schema_url)),
            SpanField::EventTime => self.event_times(level, |_, time_ns| whole(time_ns.into())),
            SpanField::EventTimeSinceStart => {
                self.event_times(level, |start_ns, time_ns| whole(i128::from(time_ns) - i128::from(start_ns)))
            }
            SpanField::LinkTraceId => self.links(level, |ids| text(&hex(&ids[..16]))),
            SpanField::LinkSpanId => self.links(level, |ids| text(&hex(&ids[16..]))),
        }
    }

    /// Events by the start of their span and their time.
    fn event_times(&self, level: Level, passes: impl Fn(u64, u64) -> bool) -> Result<Bits, EvaluateError> {
        let mut found = self.empty(Level::Event)?;
        let starts: Vec<u64> = self.block.times().map(|(start_ns, _)| start_ns).collect();
        let spans = self.spans_of(Level::Event)?;
        for (event, (delay_ns, span)) in self.block.event_delays()?.zip(spans).enumerate() {
            let start_ns = starts[*span as usize];
            if passes(start_ns, start_ns.wrapping_add(delay_ns)) {
                found.insert(event);
            }
        }
        self.converted(found, Level::Event, level)
    }

    fn links(&self, level: Level, passes: impl Fn(&[u8; 24]) -> bool) -> Result<Bits, EvaluateError> {
        let mut found = self.empty(Level::Link)?;
        let ids = self.block.link_ids()?.iter().enumerate();
        ids.filter(|(_, ids)| passes(ids)).for_each(|(link, _)| found.insert(link));
        self.converted(found, Level::Link, level)
    }

    fn spans_of(&self, level: Level) -> Result<&[u32], DecodeError> {
        let cell = if level == Level::Event { &self.event_spans } else { &self.link_spans };
        if let Some(spans) = cell.get() {
            return Ok(spans);
        }
        let spans = self.block.spans_of(level)?;
        Ok(cell.get_or_init(|| spans))
    }

    /// Spans that have one of the events or links; events or links of one of the spans.
    fn converted(&self, records: Bits, from: Level, to: Level) -> Result<Bits, EvaluateError> {
        if from == to {
            return Ok(records);
        }
        let mut found = self.empty(to)?;
        if records.is_empty() {
            return Ok(found);
        }
        match (from, to) {
            (Level::Span, _) => {
                let spans = self.spans_of(to)?.iter().enumerate();
                spans.filter(|(_, span)| records.contains(**span as usize)).for_each(|(child, _)| found.insert(child));
            }
            (_, Level::Span) => {
                let spans = self.spans_of(from)?;
                records.iter().for_each(|child| found.insert(spans[child] as usize));
            }
            _ => {
                let spans = self.converted(records, from, Level::Span)?;
                found = self.converted(spans, Level::Span, to)?;
            }
        }
        Ok(found)
    }

    /// What whole spans say; of an event or link, what its span says with no other than it.
    fn by_whole_spans(&self, predicate: &SpanPredicate, level: Level, within: &Bits) -> Result<Bits, EvaluateError> {
        let spans = self.converted(within.clone(), level, Level::Span)?;
        let mut found = self.empty(level)?;
        let mut children =
            if level == Level::Span { [].iter() } else { self.spans_of(level)?.iter() }.enumerate().peekable();
        let origins = self.origins()?;
        let by_hash = |hash: OriginHash| {
            let place = (0..origins.len()).find(|origin| self.block.origin_hash(*origin) == hash);
            place.map(|origin| &origins[origin]).ok_or(DecodeError::OutOfRange("origin"))
        };
        for trace in self.block.traces() {
            if !trace.spans.clone().any(|span| spans.contains(span as usize)) {
                continue;
            }
            for (number, whole) in trace.spans.clone().zip(self.block.spans(trace.trace_id, trace.spans.clone())?) {
                let (hash, span) = whole?;
                if !spans.contains(number as usize) {
                    continue;
                }
                let origin = by_hash(hash)?;
                let holds = |span: &Span| predicate_holds(predicate, &origin.resource, &origin.scope, span);
                if level == Level::Span {
                    if holds(&span) {
                        found.insert(number as usize);
                    }
                    continue;
                }
                while children.next_if(|(_, owner)| **owner < number).is_some() {}
                let mut place = 0;
                while let Some((child, _)) = children.next_if(|(_, owner)| **owner == number) {
                    let mut alone = span.clone();
                    match level {
                        Level::Event => alone.events = vec![span.events[place].clone()],
                        _ => alone.links = vec![span.links[place].clone()],
                    }
                    place += 1;
                    if within.contains(child) && holds(&alone) {
                        found.insert(child);
                    }
                }
            }
        }
        Ok(found)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
