//! What a search asks of a span, in one form: the plain tests of a query and its predicate become one tree, made for
//! evaluation value by value.
//!
//! It borrows from the query and means what `span_passes` means.

use pharos_model::{SearchPattern, SpanKind, StatusCode, TimeRangeNs};
use pharos_storage::{
    AttributeLevel, Comparison, SpanCollection, SpanConstant, SpanField, SpanFilter, SpanOperand, SpanPredicate,
    SpanReference, SpanValue, TraceQuery,
};

/// A test on one span or, inside [`Test::Bound`], on one of its events or links.
#[derive(Debug, Clone)]
pub(crate) enum Test<'q> {
    All(Vec<Test<'q>>),
    Any(Vec<Test<'q>>),
    Not(Box<Test<'q>>),
    /// One of the values passes.
    Value {
        of: Subject<'q>,
        passes: ValueTest<'q>,
    },
    Kind(SpanKind),
    Status(StatusCode),
    StartsIn(TimeRangeNs),
    /// Nanoseconds, both ends inside.
    Lasts {
        min_ns: u64,
        max_ns: u64,
    },
    /// The test holds for one of the events or links.
    Bound {
        of: SpanCollection,
        test: Box<Test<'q>>,
    },
    /// What only a whole span can answer: two of its values compared, bound elements within bound elements.
    Whole(&'q SpanPredicate),
}

/// Whose values are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject<'q> {
    Attribute { levels: Levels, key: &'q str },
    Field(SpanField),
}

/// Whose attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Levels(u8);

impl Levels {
    pub(crate) const SPAN: Self = Self(1);
    pub(crate) const RESOURCE: Self = Self(1 << 1);
    pub(crate) const SCOPE: Self = Self(1 << 2);
    pub(crate) const EVENT: Self = Self(1 << 3);
    pub(crate) const LINK: Self = Self(1 << 4);
    const ALL: Self = Self((1 << 5) - 1);

    pub(crate) fn has(self, level: Self) -> bool {
        self.0 & level.0 != 0
    }

    fn of(level: Option<AttributeLevel>) -> Self {
        match level {
            None => Self(Self::SPAN.0 | Self::RESOURCE.0),
            Some(AttributeLevel::Span) => Self::SPAN,
            Some(AttributeLevel::Resource) => Self::RESOURCE,
            Some(AttributeLevel::Scope) => Self::SCOPE,
            Some(AttributeLevel::Event) => Self::EVENT,
            Some(AttributeLevel::Link) => Self::LINK,
        }
    }
}

/// A test on one value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ValueTest<'q> {
    Exists,
    /// Jaeger shows it so.
    Shown(&'q str),
    /// Value on the left, constant on the right; never `Ne`.
    Compares(Comparison, &'q SpanConstant),
    /// Constant on the left, value on the right; never `Ne`.
    Compared(&'q SpanConstant, Comparison),
    Matches(&'q SearchPattern),
    Among(&'q [SpanConstant]),
}

impl ValueTest<'_> {
    pub(crate) fn holds(self, value: &SpanValue<'_>) -> bool {
        match self {
            Self::Exists => true,
            Self::Shown(text) => value.is_shown_as(text),
            Self::Compares(comparison, constant) => value.compares(comparison, constant),
            Self::Compared(constant, comparison) => value.is_compared_by(constant, comparison),
            Self::Matches(pattern) => value.matches(pattern),
            Self::Among(constants) => constants.iter().any(|constant| value.compares(Comparison::Eq, constant)),
        }
    }
}

impl<'q> Test<'q> {
    /// Everything that `query` asks of a span.
    pub(crate) fn of(query: &'q TraceQuery) -> Self {
        let mut all = Vec::new();
        let field = |field, text| Self::Value { of: Subject::Field(field), passes: ValueTest::Shown(text) };
        all.extend(query.service.as_deref().map(|service| field(SpanField::Service, service)));
        all.extend(query.operation.as_deref().map(|operation| field(SpanField::Name, operation)));
        all.push(Self::StartsIn(query.start));
        if query.duration_min_ns.is_some() || query.duration_max_ns.is_some() {
            let (min_ns, max_ns) = (query.duration_min_ns.unwrap_or(0), query.duration_max_ns.unwrap_or(u64::MAX));
            all.push(Self::Lasts { min_ns, max_ns });
        }
        all.extend(query.filters.iter().map(Self::of_filter));
        all.extend(query.predicate.as_ref().map(Self::of_predicate));
        Self::All(all)
    }

    fn of_filter(filter: &'q SpanFilter) -> Self {
        let attribute = |levels, key, value| Self::Value {
            of: Subject::Attribute { levels, key },
            passes: ValueTest::Shown(value),
        };
        match filter {
            SpanFilter::Attribute { key, value } => attribute(Levels::ALL, key, value),
            SpanFilter::ResourceAttribute { key, value } => attribute(Levels::RESOURCE, key, value),
            SpanFilter::Kind(kind) => Self::Kind(*kind),
            SpanFilter::Status(status) => Self::Status(*status),
            SpanFilter::NotStatus(status) => Self::Not(Box::new(Self::Status(*status))),
            // Unlike in predicates an empty name is a name.
            SpanFilter::ScopeName(name) => Self::shown_or_empty(SpanField::ScopeName, name),
            SpanFilter::ScopeVersion(version) => Self::shown_or_empty(SpanField::ScopeVersion, version),
        }
    }

    fn shown_or_empty(field: SpanField, text: &'q str) -> Self {
        let value = |passes| Self::Value { of: Subject::Field(field), passes };
        if text.is_empty() { Self::Not(Box::new(value(ValueTest::Exists))) } else { value(ValueTest::Shown(text)) }
    }

    fn of_predicate(predicate: &'q SpanPredicate) -> Self {
        let value = |of: &'q SpanReference, passes| Self::Value { of: Subject::of(of), passes };
        // F1: what is absent is not unequal.
        let unlike = |of: &'q SpanReference, passes| {
            Self::All(vec![value(of, ValueTest::Exists), Self::Not(Box::new(value(of, passes)))])
        };
        match predicate {
            SpanPredicate::And(all) => Self::All(all.iter().map(Self::of_predicate).collect()),
            SpanPredicate::Or(any) => Self::Any(any.iter().map(Self::of_predicate).collect()),
            SpanPredicate::Not(predicate) => Self::Not(Box::new(Self::of_predicate(predicate))),
            SpanPredicate::Exists(of) => value(of, ValueTest::Exists),
            SpanPredicate::Matches { subject, pattern } => value(subject, ValueTest::Matches(pattern)),
            SpanPredicate::In { subject, values } => value(subject, ValueTest::Among(values)),
            SpanPredicate::NotIn { subject, values } => unlike(subject, ValueTest::Among(values)),
            SpanPredicate::Compare { left, comparison, right } => match (left, right) {
                (SpanOperand::Reference(of), SpanOperand::Constant(constant)) => match comparison {
                    Comparison::Ne => unlike(of, ValueTest::Compares(Comparison::Eq, constant)),
                    _ => value(of, ValueTest::Compares(*comparison, constant)),
                },
                (SpanOperand::Constant(constant), SpanOperand::Reference(of)) => match comparison {
                    Comparison::Ne => unlike(of, ValueTest::Compared(constant, Comparison::Eq)),
                    _ => value(of, ValueTest::Compared(constant, *comparison)),
                },
                _ => Self::Whole(predicate),
            },
            SpanPredicate::Some { predicate: inner, .. } if has_bound(inner) => Self::Whole(predicate),
            SpanPredicate::Some { of, predicate } => {
                Self::Bound { of: *of, test: Box::new(Self::of_predicate(predicate)) }
            }
        }
    }

    /// Whether values are tested by patterns. Whole spans are, where a predicate within has some.
    pub(crate) fn has_patterns(&self) -> bool {
        match self {
            Self::All(tests) | Self::Any(tests) => tests.iter().any(Self::has_patterns),
            Self::Not(test) | Self::Bound { test, .. } => test.has_patterns(),
            Self::Whole(predicate) => has_pattern(predicate),
            Self::Value { passes, .. } => matches!(passes, ValueTest::Matches(_)),
            Self::Kind(_) | Self::Status(_) | Self::StartsIn(_) | Self::Lasts { .. } => false,
        }
    }

    /// Whether it reads whole spans, which is dear.
    pub(crate) fn needs_whole(&self) -> bool {
        match self {
            Self::All(tests) | Self::Any(tests) => tests.iter().any(Self::needs_whole),
            Self::Not(test) | Self::Bound { test, .. } => test.needs_whole(),
            Self::Whole(_) => true,
            Self::Value { .. } | Self::Kind(_) | Self::Status(_) | Self::StartsIn(_) | Self::Lasts { .. } => false,
        }
    }
}

impl<'q> Subject<'q> {
    fn of(reference: &'q SpanReference) -> Self {
        match reference {
            SpanReference::Attribute { level, key } => Self::Attribute { levels: Levels::of(*level), key },
            SpanReference::Field(field) => Self::Field(*field),
        }
    }
}

fn has_pattern(predicate: &SpanPredicate) -> bool {
    match predicate {
        SpanPredicate::And(tests) | SpanPredicate::Or(tests) => tests.iter().any(has_pattern),
        SpanPredicate::Not(test) | SpanPredicate::Some { predicate: test, .. } => has_pattern(test),
        SpanPredicate::Matches { .. } => true,
        _ => false,
    }
}

fn has_bound(predicate: &SpanPredicate) -> bool {
    match predicate {
        SpanPredicate::And(tests) | SpanPredicate::Or(tests) => tests.iter().any(has_bound),
        SpanPredicate::Not(test) => has_bound(test),
        SpanPredicate::Some { .. } => true,
        _ => false,
    }
}
