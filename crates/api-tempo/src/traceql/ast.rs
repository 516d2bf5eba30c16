//! The tree of a query. Trees are checked when they are made: what is here has a meaning.

use pharos_model::{SearchPattern, SpanKind, StatusCode};

/// A query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What a span has to pass.
    pub filter: Expr,
    /// What is shown of the spans beside what the filter names.
    pub selected: Vec<Field>,
}

/// A test.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// All hold; at least two, the first is no `And`.
    And(Vec<Expr>),
    /// At least one holds; at least two, the first is no `Or`.
    Or(Vec<Expr>),
    /// It does not hold.
    Not(Box<Expr>),
    /// A value compares so.
    Compare {
        /// Which value.
        field: Field,
        /// How.
        operator: Operator,
        /// With what.
        literal: Literal,
    },
    /// The attribute is `true`.
    Holds(Field),
    /// Always or never.
    Always(bool),
}

/// A value of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// An attribute.
    Attribute {
        /// Whose; without a scope the span's, or its resource's where the span has none.
        scope: Option<Scope>,
        /// Its key.
        key: String,
    },
    /// What is no attribute.
    Intrinsic(Intrinsic),
}

/// Whose attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of TraceQL")]
pub enum Scope {
    Span,
    Resource,
    Event,
    Link,
    Instrumentation,
}

impl Scope {
    /// All, as lists of tags name them.
    pub const ALL: [(&str, Self); 5] = [
        ("resource", Self::Resource),
        ("span", Self::Span),
        ("event", Self::Event),
        ("link", Self::Link),
        ("instrumentation", Self::Instrumentation),
    ];

    /// The scope of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, scope)| *scope)
    }

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, scope)| *scope == self).map_or("", |(word, _)| word)
    }
}

/// A value that is no attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of TraceQL")]
pub enum Intrinsic {
    Name,
    Status,
    StatusMessage,
    Kind,
    Duration,
    SpanId,
    ParentId,
    /// Below zero for spans without a parent; nothing else is asked of it.
    NestedSetParent,
    TraceId,
    TraceDuration,
    RootName,
    RootService,
    EventName,
    EventTimeSinceStart,
    LinkSpanId,
    LinkTraceId,
    InstrumentationName,
    InstrumentationVersion,
}

/// Every name of an intrinsic; of several the first is shown.
const INTRINSICS: [(&str, Intrinsic); 26] = [
    ("name", Intrinsic::Name),
    ("span:name", Intrinsic::Name),
    ("status", Intrinsic::Status),
    ("span:status", Intrinsic::Status),
    ("statusMessage", Intrinsic::StatusMessage),
    ("span:statusMessage", Intrinsic::StatusMessage),
    ("kind", Intrinsic::Kind),
    ("span:kind", Intrinsic::Kind),
    ("duration", Intrinsic::Duration),
    ("span:duration", Intrinsic::Duration),
    ("span:id", Intrinsic::SpanId),
    ("span:parentID", Intrinsic::ParentId),
    ("nestedSetParent", Intrinsic::NestedSetParent),
    ("trace:id", Intrinsic::TraceId),
    ("traceDuration", Intrinsic::TraceDuration),
    ("trace:duration", Intrinsic::TraceDuration),
    ("rootName", Intrinsic::RootName),
    ("trace:rootName", Intrinsic::RootName),
    ("rootServiceName", Intrinsic::RootService),
    ("trace:rootService", Intrinsic::RootService),
    ("event:name", Intrinsic::EventName),
    ("event:timeSinceStart", Intrinsic::EventTimeSinceStart),
    ("link:spanID", Intrinsic::LinkSpanId),
    ("link:traceID", Intrinsic::LinkTraceId),
    ("instrumentation:name", Intrinsic::InstrumentationName),
    ("instrumentation:version", Intrinsic::InstrumentationVersion),
];

/// What an intrinsic holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holding {
    Text,
    Duration,
    Status,
    Kind,
    Root,
}

impl Intrinsic {
    /// The intrinsic of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        INTRINSICS.iter().find(|(known, _)| *known == name).map(|(_, intrinsic)| *intrinsic)
    }

    /// The name it is shown by.
    #[must_use]
    pub fn name(self) -> &'static str {
        INTRINSICS.iter().find(|(_, intrinsic)| *intrinsic == self).map_or("", |(name, _)| name)
    }

    /// All names, for completion.
    pub fn names() -> impl Iterator<Item = &'static str> {
        INTRINSICS.iter().map(|(name, _)| *name)
    }

    pub(crate) fn holding(self) -> Holding {
        match self {
            Self::Status => Holding::Status,
            Self::Kind => Holding::Kind,
            Self::Duration | Self::TraceDuration | Self::EventTimeSinceStart => Holding::Duration,
            Self::NestedSetParent => Holding::Root,
            _ => Holding::Text,
        }
    }
}

/// How values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operator {
    Eq,
    Ne,
    Matches,
    MatchesNot,
    Lt,
    Lte,
    Gt,
    Gte,
}

impl Operator {
    /// All, as they are written; longer ones before those they begin with.
    pub(crate) const ALL: [(&str, Self); 8] = [
        ("=~", Self::Matches),
        ("!~", Self::MatchesNot),
        ("!=", Self::Ne),
        ("<=", Self::Lte),
        (">=", Self::Gte),
        ("=", Self::Eq),
        ("<", Self::Lt),
        (">", Self::Gt),
    ];

    /// As it is written.
    #[must_use]
    pub fn sign(self) -> &'static str {
        Self::ALL.iter().find(|(_, operator)| *operator == self).map_or("", |(sign, _)| sign)
    }

    /// The same with its sides exchanged; none of a pattern.
    pub(crate) fn turned(self) -> Option<Self> {
        Some(match self {
            Self::Lt => Self::Gt,
            Self::Lte => Self::Gte,
            Self::Gt => Self::Lt,
            Self::Gte => Self::Lte,
            Self::Eq | Self::Ne => self,
            Self::Matches | Self::MatchesNot => return None,
        })
    }
}

/// A given value.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// A text.
    Text(String),
    /// What `=~` and `!~` compare with.
    Pattern {
        /// As it was written.
        text: String,
        /// Matches the whole of a text.
        pattern: SearchPattern,
    },
    /// A whole number.
    Int(i64),
    /// Another number, finite.
    Float(f64),
    /// A duration, nanoseconds.
    DurationNs(i64),
    /// A truth value.
    Bool(bool),
    /// How a span ended.
    Status(StatusCode),
    /// A span's role.
    Kind(SpanKind),
    /// Absence.
    Nil,
}

impl Literal {
    /// The literals that are words.
    pub(crate) const WORDS: [(&str, Self); 12] = [
        ("true", Self::Bool(true)),
        ("false", Self::Bool(false)),
        ("nil", Self::Nil),
        ("ok", Self::Status(StatusCode::Ok)),
        ("error", Self::Status(StatusCode::Error)),
        ("unset", Self::Status(StatusCode::Unset)),
        ("unspecified", Self::Kind(SpanKind::Unspecified)),
        ("internal", Self::Kind(SpanKind::Internal)),
        ("server", Self::Kind(SpanKind::Server)),
        ("client", Self::Kind(SpanKind::Client)),
        ("producer", Self::Kind(SpanKind::Producer)),
        ("consumer", Self::Kind(SpanKind::Consumer)),
    ];

    /// The word it is, if it is one.
    pub(crate) fn word(&self) -> Option<&'static str> {
        Self::WORDS.iter().find(|(_, literal)| literal == self).map(|(word, _)| *word)
    }
}
