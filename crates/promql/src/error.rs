//! The error of parsing and checking: what is wrong, and where.

use crate::position::{LineColumn, Span};

/// A query text is not valid PromQL. Displays as `line:column: parse error: message`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: parse error: {message}")]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// The text at fault, in bytes.
    pub span: Span,
    /// The start of `span` for people.
    pub place: LineColumn,
}

impl ParseError {
    pub(crate) fn new(text: &str, span: Span, message: impl Into<String>) -> Self {
        Self { message: message.into(), span, place: LineColumn::of(text, span.start) }
    }
}
