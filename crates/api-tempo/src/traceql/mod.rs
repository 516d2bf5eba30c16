//! TraceQL, as far as one test on spans goes: `{ resource.service.name = "shop" && duration > 1s }`, several of them united
//! with `||`, and `| select(...)`.
//!
//! Text becomes tokens ([`lexer`]), tokens a checked tree ([`parser`], [`ast`]), the tree tests of the store ([`plan`]). What
//! the language has beyond that is refused with the place where it begins: aggregates, grouping, structural operators,
//! arithmetic, metrics.
//!
//! Source: the documentation of TraceQL and the grammar of Tempo. As there, `&&` and `||` bind alike, from the left.

mod ast;
mod lexer;
mod parser;
mod plan;
mod print;
#[cfg(test)]
mod tests;

pub use ast::{Expr, Field, Intrinsic, Literal, Operator, Query, Scope};
pub(crate) use lexer::duration_ns;
pub use parser::parse;
pub(crate) use plan::{Filter, Folded, Known, kind_word, status_word};

/// Longest text of a query.
pub const QUERY_BYTES_MAX: usize = 16 << 10;
/// Deepest nesting of a query: parentheses, `!`, and changes between `&&` and `||`.
pub const DEPTH_MAX: usize = 20;

/// What is wrong with a query, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parse error at line {line}, col {column}: {message}")]
pub struct QueryError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What.
    pub message: String,
}

impl QueryError {
    /// An error at the byte `at` of `text`.
    fn at(text: &str, at: usize, message: impl Into<String>) -> Self {
        let before = &text[..text.floor_char_boundary(at)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }
}
