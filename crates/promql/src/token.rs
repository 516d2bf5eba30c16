//! The tokens of PromQL and how error messages call them.

use crate::ast::{AggregateOp, BinaryOp};
use crate::position::Span;
use crate::quote::quote;

/// A piece of query text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    EndOfInput,
    /// A word that is no keyword.
    Identifier,
    /// The same with colons.
    MetricIdentifier,
    String,
    Number,
    Duration,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Assign,
    /// `=~`
    RegexMatch,
    /// `!~`
    RegexMismatch,
    At,
    Operator(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyword {
    Anchored,
    Bool,
    By,
    End,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    MaxOf,
    MinOf,
    Offset,
    On,
    Range,
    Smoothed,
    Start,
    Step,
    Without,
}

/// What a word means; keywords are the same in upper and lower case.
pub(crate) fn word_kind(word: &str) -> TokenKind {
    let keyword = match word.to_ascii_lowercase().as_str() {
        "inf" | "nan" => return TokenKind::Number,
        "and" => return TokenKind::Operator(BinaryOp::And),
        "or" => return TokenKind::Operator(BinaryOp::Or),
        "unless" => return TokenKind::Operator(BinaryOp::Unless),
        "atan2" => return TokenKind::Operator(BinaryOp::Atan2),
        "anchored" => Keyword::Anchored,
        "bool" => Keyword::Bool,
        "by" => Keyword::By,
        "end" => Keyword::End,
        "fill" => Keyword::Fill,
        "fill_left" => Keyword::FillLeft,
        "fill_right" => Keyword::FillRight,
        "group_left" => Keyword::GroupLeft,
        "group_right" => Keyword::GroupRight,
        "ignoring" => Keyword::Ignoring,
        "max_of" => Keyword::MaxOf,
        "min_of" => Keyword::MinOf,
        "offset" => Keyword::Offset,
        "on" => Keyword::On,
        "range" => Keyword::Range,
        "smoothed" => Keyword::Smoothed,
        "start" => Keyword::Start,
        "step" => Keyword::Step,
        "without" => Keyword::Without,
        lower => {
            return match AggregateOp::ALL.into_iter().find(|op| op.name() == lower) {
                Some(op) => TokenKind::Aggregate(op),
                None if word.contains(':') => TokenKind::MetricIdentifier,
                None => TokenKind::Identifier,
            };
        }
    };
    TokenKind::Keyword(keyword)
}

impl Token {
    /// Whether the word may be a metric name outside quotes.
    pub(crate) fn is_metric_name(self) -> bool {
        match self.kind {
            TokenKind::Identifier | TokenKind::MetricIdentifier | TokenKind::Aggregate(_) => true,
            TokenKind::Operator(op) => op.is_set(),
            TokenKind::Keyword(keyword) => !matches!(
                keyword,
                Keyword::Bool | Keyword::On | Keyword::Ignoring | Keyword::GroupLeft | Keyword::GroupRight
            ),
            _ => false,
        }
    }

    /// Whether an expression can begin with it.
    pub(crate) fn begins_expression(self) -> bool {
        matches!(
            self.kind,
            TokenKind::LeftParen
                | TokenKind::LeftBrace
                | TokenKind::Number
                | TokenKind::Duration
                | TokenKind::String
                | TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub)
        ) || self.is_metric_name()
    }

    /// Whether the word may be a label in the lists of `by`, `on` and their kin.
    pub(crate) fn is_label_name(self) -> bool {
        match self.kind {
            TokenKind::Identifier | TokenKind::MetricIdentifier | TokenKind::Aggregate(_) => true,
            TokenKind::Keyword(keyword) => keyword != Keyword::Without,
            TokenKind::Operator(op) => op.is_set() || op == BinaryOp::Atan2,
            _ => false,
        }
    }

    /// The token as error messages show it, for example `identifier "foo"` or `<op:+>`.
    pub(crate) fn describe(self, text: &str) -> String {
        let source = self.span.text(text);
        match self.kind {
            TokenKind::EndOfInput => "end of input".to_owned(),
            TokenKind::Identifier => format!("identifier {}", quote(source)),
            TokenKind::MetricIdentifier => format!("metric identifier {}", quote(source)),
            TokenKind::String => format!("string {}", shortened(source)),
            TokenKind::Number => format!("number {}", shortened(source)),
            TokenKind::Duration => format!("duration {}", shortened(source)),
            TokenKind::Operator(_) | TokenKind::At | TokenKind::RegexMatch | TokenKind::RegexMismatch => {
                format!("<op:{source}>")
            }
            TokenKind::Aggregate(_) => format!("<aggr:{source}>"),
            TokenKind::Keyword(
                Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range | Keyword::MinOf | Keyword::MaxOf,
            ) => quote(source),
            TokenKind::Keyword(_) => format!("<{source}>"),
            _ => quote(source),
        }
    }
}

/// Quoted; cut after ten characters.
fn shortened(source: &str) -> String {
    if source.len() <= 10 {
        return quote(source);
    }
    format!("{}...", quote(&source.chars().take(10).collect::<String>()))
}
