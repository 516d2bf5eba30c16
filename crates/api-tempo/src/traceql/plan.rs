//! A tree of TraceQL as tests that the store knows.
//!
//! Tests on the trace (its root, its duration) are no business of the store: a [`Filter`] keeps them in the tree. For a search it
//! gives a test on spans that passes whenever the filter may pass; once a trace is known, the exact one.
//!
//! What TraceQL says and the store's trees do not:
//! - Values of different sorts do not compare at all, not even as "not equal": `!=` of text and numbers is "less or greater".
//! - A pattern matches texts only, and the whole of them.
//! - Without a scope an attribute is the span's, and its resource's only where the span has none of that key.
//! - An empty text of a field is a text; the store calls it absent.

use pharos_model::{SearchPattern, SpanKind, StatusCode};
use pharos_storage::{
    AttributeLevel, Comparison, PREDICATE_DEPTH_MAX, PREDICATE_NODES_MAX, SpanCollection, SpanConstant, SpanField,
    SpanOperand, SpanPredicate, SpanReference, SpanValue, TraceSummary,
};

use super::ast::{Expr, Field, Intrinsic, Literal, Operator, Query, Scope};

/// A test on spans and their traces.
#[derive(Debug, Clone)]
pub(crate) enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Always(bool),
    Span(SpanPredicate),
    Trace(TraceTest),
}

/// A test on a trace.
#[derive(Debug, Clone)]
pub(crate) struct TraceTest {
    pub(crate) subject: Subject,
    pub(crate) check: Check,
}

/// What of a trace is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    RootName,
    RootService,
    Duration,
}

#[derive(Debug, Clone)]
pub(crate) enum Check {
    Compare(Comparison, SpanConstant),
    Matches { pattern: SearchPattern, is_wanted: bool },
    Exists(bool),
}

/// What is known of the traces of a filter.
#[derive(Clone, Copy)]
pub(crate) enum Known<'a> {
    /// Nothing: their tests count as passed.
    Nothing,
    /// This one.
    Trace(&'a TraceSummary),
}

/// A filter as the store takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Folded {
    Always(bool),
    If(SpanPredicate),
}

impl Filter {
    /// The filter of a query.
    ///
    /// # Errors
    /// If it is too large for the store; that patterns compile was checked when the query was read.
    pub(crate) fn of(query: &Query) -> Result<Self, String> {
        Self::of_expr(&query.filter)?.checked()
    }

    /// The filter, if the store takes its tree.
    pub(crate) fn checked(self) -> Result<Self, String> {
        let mut nodes = 0;
        let depth = match self.fold(Known::Nothing) {
            Folded::Always(_) => 0,
            Folded::If(predicate) => depth_of(&predicate, &mut nodes),
        };
        // Of a known trace fewer tests remain, so that this is the largest tree.
        if depth > PREDICATE_DEPTH_MAX || nodes > PREDICATE_NODES_MAX {
            return Err("the query is too complex: fewer tests, or less nesting".to_owned());
        }
        Ok(self)
    }

    fn of_expr(expr: &Expr) -> Result<Self, String> {
        let all = |parts: &[Expr]| parts.iter().map(Self::of_expr).collect::<Result<_, _>>();
        Ok(match expr {
            Expr::And(parts) => Self::And(all(parts)?),
            Expr::Or(parts) => Self::Or(all(parts)?),
            Expr::Not(part) => Self::Not(Box::new(Self::of_expr(part)?)),
            Expr::Always(truth) => Self::Always(*truth),
            Expr::Holds(field) => Self::comparison(field, Operator::Eq, &Literal::Bool(true))?,
            Expr::Compare { field, operator, literal } => Self::comparison(field, *operator, literal)?,
        })
    }

    fn comparison(field: &Field, operator: Operator, literal: &Literal) -> Result<Self, String> {
        let test = Test::of(operator, literal)?;
        let intrinsic = match field {
            Field::Attribute { scope, key } => return Ok(Self::Span(of_attribute(*scope, key, &test))),
            Field::Intrinsic(intrinsic) => *intrinsic,
        };
        let subject = match intrinsic {
            Intrinsic::RootName => Some(Subject::RootName),
            Intrinsic::RootService => Some(Subject::RootService),
            Intrinsic::TraceDuration => Some(Subject::Duration),
            _ => None,
        };
        if let Some(subject) = subject {
            return Ok(Self::Trace(TraceTest { subject, check: test.check() }));
        }
        Ok(Self::Span(of_intrinsic(intrinsic, &test)))
    }

    /// Whether tests on traces are in it.
    pub(crate) fn asks_of_trace(&self) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::asks_of_trace),
            Self::Not(part) => part.asks_of_trace(),
            Self::Trace(_) => true,
            Self::Always(_) | Self::Span(_) => false,
        }
    }

    /// As a test on spans. While nothing is known of the trace, whatever may pass does.
    pub(crate) fn fold(&self, known: Known<'_>) -> Folded {
        self.fold_as(known, true)
    }

    /// `is_wanted` is false below a `Not`: there what may pass is what may fail.
    fn fold_as(&self, known: Known<'_>, is_wanted: bool) -> Folded {
        match self {
            Self::Always(truth) => Folded::Always(*truth),
            Self::Span(predicate) => Folded::If(predicate.clone()),
            Self::Trace(test) => Folded::Always(match known {
                Known::Nothing => is_wanted,
                Known::Trace(summary) => test.holds(summary),
            }),
            Self::Not(part) => match part.fold_as(known, !is_wanted) {
                Folded::Always(truth) => Folded::Always(!truth),
                Folded::If(predicate) => Folded::If(SpanPredicate::Not(Box::new(predicate))),
            },
            Self::And(parts) => joined(parts, known, is_wanted, true),
            Self::Or(parts) => joined(parts, known, is_wanted, false),
        }
    }
}

/// `And` if `is_and`, otherwise `Or`: what decides alone decides, what changes nothing is left out.
fn joined(parts: &[Filter], known: Known<'_>, is_wanted: bool, is_and: bool) -> Folded {
    let mut left = Vec::with_capacity(parts.len());
    for part in parts {
        match part.fold_as(known, is_wanted) {
            Folded::Always(truth) if truth == is_and => {}
            Folded::Always(truth) => return Folded::Always(truth),
            Folded::If(predicate) => left.push(predicate),
        }
    }
    match left.len() {
        0 => Folded::Always(is_and),
        1 => Folded::If(left.remove(0)),
        _ if is_and => Folded::If(SpanPredicate::And(left)),
        _ => Folded::If(SpanPredicate::Or(left)),
    }
}

fn depth_of(predicate: &SpanPredicate, nodes: &mut usize) -> usize {
    *nodes += 1;
    1 + match predicate {
        SpanPredicate::And(parts) | SpanPredicate::Or(parts) => {
            parts.iter().map(|part| depth_of(part, nodes)).max().unwrap_or(0)
        }
        SpanPredicate::Not(part) | SpanPredicate::Some { predicate: part, .. } => depth_of(part, nodes),
        _ => 0,
    }
}

impl TraceTest {
    fn holds(&self, summary: &TraceSummary) -> bool {
        let value = match self.subject {
            Subject::RootName => SpanValue::text(&summary.root_operation),
            Subject::RootService => SpanValue::text(&summary.root_service),
            Subject::Duration => SpanValue::whole(summary.end_ns.saturating_sub(summary.start_ns)),
        };
        match &self.check {
            Check::Compare(comparison, constant) => value.compares(*comparison, constant),
            Check::Matches { pattern, is_wanted } => value.matches(pattern) == *is_wanted,
            // Without a root there is no name; both are empty then.
            Check::Exists(is_wanted) => value.is_shown_as("") != *is_wanted,
        }
    }
}

/// What is asked of one value.
enum Test {
    Compare(Comparison, SpanConstant),
    /// Not equal, and of the same sort.
    Differs(SpanConstant),
    Matches {
        pattern: SearchPattern,
        is_wanted: bool,
    },
    Exists(bool),
}

impl Test {
    fn of(operator: Operator, literal: &Literal) -> Result<Self, String> {
        let constant = match literal {
            Literal::Pattern { pattern, .. } => {
                return Ok(Self::Matches { pattern: pattern.clone(), is_wanted: operator == Operator::Matches });
            }
            Literal::Text(text) => SpanConstant::Text(text.clone()),
            Literal::Int(number) => SpanConstant::Int(*number),
            Literal::Float(number) => SpanConstant::Double(*number),
            // Numbers of every sort compare with one another.
            Literal::DurationNs(ns) => SpanConstant::DurationNs(*ns),
            Literal::Bool(truth) => SpanConstant::Bool(*truth),
            Literal::Status(status) => SpanConstant::Text(status_word(*status).to_owned()),
            Literal::Kind(kind) => SpanConstant::Text(kind_word(*kind).to_owned()),
            Literal::Nil => return Ok(Self::Exists(operator == Operator::Ne)),
        };
        let compare = |comparison, constant| Ok(Self::Compare(comparison, constant));
        match (operator, constant) {
            (Operator::Eq, constant) => compare(Comparison::Eq, constant),
            (Operator::Ne, SpanConstant::Bool(truth)) => compare(Comparison::Eq, SpanConstant::Bool(!truth)),
            (Operator::Ne, constant) => Ok(Self::Differs(constant)),
            (Operator::Lt, constant) => compare(Comparison::Lt, constant),
            (Operator::Lte, constant) => compare(Comparison::Lte, constant),
            (Operator::Gt, constant) => compare(Comparison::Gt, constant),
            (Operator::Gte, constant) => compare(Comparison::Gte, constant),
            (Operator::Matches | Operator::MatchesNot, _) => Err("a pattern is a text".to_owned()),
        }
    }

    /// Of a trace; what is tested there is always of the right sort.
    fn check(self) -> Check {
        match self {
            Self::Compare(comparison, constant) => Check::Compare(comparison, constant),
            Self::Differs(constant) => Check::Compare(Comparison::Ne, constant),
            Self::Matches { pattern, is_wanted } => Check::Matches { pattern, is_wanted },
            Self::Exists(is_wanted) => Check::Exists(is_wanted),
        }
    }

    /// Whether an empty text passes.
    fn passes_empty(&self) -> bool {
        let empty = SpanValue::text("");
        match self {
            Self::Compare(comparison, constant) => empty.compares(*comparison, constant),
            Self::Differs(constant) => empty.compares(Comparison::Ne, constant),
            Self::Matches { pattern, is_wanted } => empty.matches(pattern) == *is_wanted,
            Self::Exists(_) => false,
        }
    }

    /// As a test on what may have one value only.
    fn on_one(&self, subject: &SpanReference) -> SpanPredicate {
        let compare = |comparison, constant: &SpanConstant| SpanPredicate::Compare {
            left: SpanOperand::Reference(subject.clone()),
            comparison,
            right: SpanOperand::Constant(constant.clone()),
        };
        match self {
            Self::Compare(comparison, constant) => compare(*comparison, constant),
            Self::Differs(constant) => {
                SpanPredicate::Or(vec![compare(Comparison::Lt, constant), compare(Comparison::Gt, constant)])
            }
            Self::Matches { pattern, is_wanted } => {
                // Every text is at least the empty one, and nothing else is in order with it.
                let is_text = compare(Comparison::Gte, &SpanConstant::Text(String::new()));
                let matches = SpanPredicate::Matches { subject: subject.clone(), pattern: pattern.clone() };
                let matches = if *is_wanted { matches } else { SpanPredicate::Not(Box::new(matches)) };
                SpanPredicate::And(vec![is_text, matches])
            }
            Self::Exists(true) => SpanPredicate::Exists(subject.clone()),
            Self::Exists(false) => SpanPredicate::Not(Box::new(SpanPredicate::Exists(subject.clone()))),
        }
    }

    /// As a test on all events or links: it has to hold for one of them; nil is that none has a value.
    fn on_any(&self, of: SpanCollection, subject: &SpanReference) -> SpanPredicate {
        match self {
            Self::Exists(_) | Self::Compare(..) => self.on_one(subject),
            _ => SpanPredicate::Some { of, predicate: Box::new(self.on_one(subject)) },
        }
    }
}

fn of_attribute(scope: Option<Scope>, key: &str, test: &Test) -> SpanPredicate {
    let of_level = |level| SpanReference::Attribute { level, key: key.to_owned() };
    let level = match scope {
        Some(Scope::Resource) => {
            if key == SERVICE_NAME
                && let Test::Compare(Comparison::Eq, SpanConstant::Text(service)) = test
                && !["", UNKNOWN_SERVICE].contains(&service.as_str())
            {
                // By services stores search faster.
                return test.on_one(&SpanReference::Field(SpanField::Service));
            }
            AttributeLevel::Resource
        }
        Some(Scope::Span) => AttributeLevel::Span,
        Some(Scope::Instrumentation) => AttributeLevel::Scope,
        Some(Scope::Event) => return test.on_any(SpanCollection::Events, &of_level(Some(AttributeLevel::Event))),
        Some(Scope::Link) => return test.on_any(SpanCollection::Links, &of_level(Some(AttributeLevel::Link))),
        None => return unscoped(&of_level, test),
    };
    test.on_one(&of_level(Some(level)))
}

/// The resource attribute that [`SpanField::Service`] tells.
const SERVICE_NAME: &str = "service.name";
/// What that field says where there is no such attribute.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// The span's attribute, or its resource's where the span has none.
fn unscoped(of_level: &impl Fn(Option<AttributeLevel>) -> SpanReference, test: &Test) -> SpanPredicate {
    if let Test::Exists(_) = test {
        return test.on_one(&of_level(None));
    }
    let (span, resource) = (of_level(Some(AttributeLevel::Span)), of_level(Some(AttributeLevel::Resource)));
    let span_has_none = SpanPredicate::Not(Box::new(SpanPredicate::Exists(span.clone())));
    let resource = SpanPredicate::And(vec![span_has_none, test.on_one(&resource)]);
    SpanPredicate::Or(vec![test.on_one(&span), resource])
}

fn of_intrinsic(intrinsic: Intrinsic, test: &Test) -> SpanPredicate {
    let field = match intrinsic {
        Intrinsic::Status => SpanField::Status,
        Intrinsic::StatusMessage => SpanField::StatusMessage,
        Intrinsic::Kind => SpanField::Kind,
        Intrinsic::Duration => SpanField::Duration,
        Intrinsic::SpanId => SpanField::SpanId,
        Intrinsic::ParentId => SpanField::ParentSpanId,
        Intrinsic::NestedSetParent => {
            // Below zero: a root.
            let parent = SpanReference::Field(SpanField::ParentSpanId);
            return SpanPredicate::Not(Box::new(SpanPredicate::Exists(parent)));
        }
        Intrinsic::TraceId => SpanField::TraceId,
        Intrinsic::EventName => return on_field_of(SpanCollection::Events, SpanField::EventName, test),
        Intrinsic::EventTimeSinceStart => {
            return on_field_of(SpanCollection::Events, SpanField::EventTimeSinceStart, test);
        }
        Intrinsic::LinkSpanId => return on_field_of(SpanCollection::Links, SpanField::LinkSpanId, test),
        Intrinsic::LinkTraceId => return on_field_of(SpanCollection::Links, SpanField::LinkTraceId, test),
        Intrinsic::InstrumentationName => SpanField::ScopeName,
        Intrinsic::InstrumentationVersion => SpanField::ScopeVersion,
        // What is of the trace never comes here.
        Intrinsic::Name | Intrinsic::RootName | Intrinsic::RootService | Intrinsic::TraceDuration => SpanField::Name,
    };
    let subject = SpanReference::Field(field);
    let is_absent_if_empty = matches!(
        field,
        SpanField::StatusMessage | SpanField::ParentSpanId | SpanField::ScopeName | SpanField::ScopeVersion
    );
    let predicate = test.on_one(&subject);
    if is_absent_if_empty && test.passes_empty() {
        let absent = SpanPredicate::Not(Box::new(SpanPredicate::Exists(subject)));
        return SpanPredicate::Or(vec![predicate, absent]);
    }
    predicate
}

fn on_field_of(collection: SpanCollection, field: SpanField, test: &Test) -> SpanPredicate {
    test.on_any(collection, &SpanReference::Field(field))
}

/// The store's word, which is TraceQL's, too.
pub(crate) fn status_word(status: StatusCode) -> &'static str {
    Literal::Status(status).word().unwrap_or_default()
}

/// The store's word, which is TraceQL's, too.
pub(crate) fn kind_word(kind: SpanKind) -> &'static str {
    Literal::Kind(kind).word().unwrap_or_default()
}
