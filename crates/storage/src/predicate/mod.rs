//! Predicates over one span, as a tree: what a search may ask beyond a list of tests that must all hold.
//!
//! The tree is Jaeger's structured filter. Constants carry what they are compared as; whoever builds a tree has read
//! durations and times, refused what has no meaning (an order of kinds, a pattern on a duration) and kept the tree below the
//! limits here. [`predicate_holds`] is the one definition of what it means.
//!
//! Rules
//! - F1 A comparison, a pattern or a membership of something that is absent does not hold, whether it is negated or not;
//!   only [`SpanPredicate::Not`] turns absence into a hit.
//! - F2 Where a reference has several values (a key on span and resource, all events), a positive test holds if it holds for
//!   any of them, a negated one (`Ne`, `NotIn`) if it holds for all.
//! - F3 Inside [`SpanPredicate::Some`] references to its collection mean the one element it is at.
//! - F4 Numbers compare with numbers, exactly and whatever their types, text with text by bytes; values of different sorts
//!   are neither equal nor in any order.
//! - F5 An untyped constant takes the sort of the value beside it; it equals every value that Jaeger shows as that text, and
//!   every number of the same size.
//!
//! Source: Jaeger RFC 0005, sections 5.1 to 5.5.

mod evaluate;
mod implied;
mod span_value;
mod value;

pub use evaluate::predicate_holds;
pub use span_value::SpanValue;

use pharos_model::SearchPattern;

/// Deepest nesting of predicates.
pub const PREDICATE_DEPTH_MAX: usize = 32;
/// Most predicates in one tree, each element of a list counted.
pub const PREDICATE_NODES_MAX: usize = 10_000;

/// A test on one span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanPredicate {
    /// All hold.
    And(Vec<SpanPredicate>),
    /// At least one holds.
    Or(Vec<SpanPredicate>),
    /// It does not hold.
    Not(Box<SpanPredicate>),
    /// There is a value, of whatever type.
    Exists(SpanReference),
    /// Two values compare so.
    Compare {
        /// The left side.
        left: SpanOperand,
        /// How.
        comparison: Comparison,
        /// The right side.
        right: SpanOperand,
    },
    /// The pattern occurs in the value as Jaeger shows it.
    Matches {
        /// What is searched.
        subject: SpanReference,
        /// What for.
        pattern: SearchPattern,
    },
    /// The value equals one of these.
    In {
        /// What is looked up.
        subject: SpanReference,
        /// The list.
        values: Vec<SpanConstant>,
    },
    /// There is a value, and it equals none of these.
    NotIn {
        /// What is looked up.
        subject: SpanReference,
        /// The list.
        values: Vec<SpanConstant>,
    },
    /// The predicate holds with the references to `of` bound to one and the same element.
    Some {
        /// Whose elements.
        of: SpanCollection,
        /// The test.
        predicate: Box<SpanPredicate>,
    },
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Eq,
    Ne,
    Gt,
    Lt,
    Gte,
    Lte,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanOperand {
    /// A value of the span.
    Reference(SpanReference),
    /// A given value.
    Constant(SpanConstant),
}

/// Where values of a span are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanReference {
    /// Attributes with this key.
    Attribute {
        /// Whose; without a level those of the span and of its resource.
        level: Option<AttributeLevel>,
        /// The key.
        key: String,
    },
    /// A part of the span that is no attribute.
    Field(SpanField),
}

/// Whose attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the words of OpenTelemetry")]
pub enum AttributeLevel {
    Span,
    Resource,
    Scope,
    Event,
    Link,
}

/// What [`SpanPredicate::Some`] goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of OpenTelemetry")]
pub enum SpanCollection {
    Events,
    Links,
}

/// A part of a span, its resource or scope, its events or links that is no attribute.
///
/// Ids are lower-case hexadecimal of full length, kinds and statuses lower-case words, times Unix nanoseconds, durations
/// nanoseconds. An empty text is absent, but for the names of spans and events; so is the parent of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of OpenTelemetry")]
pub enum SpanField {
    TraceId,
    SpanId,
    ParentSpanId,
    TraceState,
    Name,
    /// `unspecified`, `internal`, `server`, `client`, `producer`, `consumer`.
    Kind,
    Start,
    End,
    /// As in [`crate::TraceQuery::duration_min_ns`]: 0 where the end lies before the start.
    Duration,
    /// `unset`, `ok`, `error`.
    Status,
    StatusMessage,
    /// The resource's `service.name`, `unknown_service` where it has none.
    Service,
    ResourceSchemaUrl,
    ScopeName,
    ScopeVersion,
    ScopeSchemaUrl,
    EventName,
    EventTime,
    /// May be negative.
    EventTimeSinceStart,
    LinkTraceId,
    LinkSpanId,
    LinkTraceState,
}

/// A given value and what it is compared as.
#[derive(Debug, Clone)]
pub enum SpanConstant {
    /// As whatever stands beside it.
    Any(String),
    /// As text; equals no number.
    Text(String),
    /// As a number.
    Int(i64),
    /// As a number.
    Double(f64),
    /// As a truth value.
    Bool(bool),
    /// Beside a duration, nanoseconds.
    DurationNs(i64),
    /// Beside a time, Unix nanoseconds.
    TimeNs(u64),
}

impl PartialEq for SpanConstant {
    /// Doubles are compared by bits.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any(a), Self::Any(b)) | (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Int(a), Self::Int(b)) | (Self::DurationNs(a), Self::DurationNs(b)) => a == b,
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits(),
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::TimeNs(a), Self::TimeNs(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for SpanConstant {}
