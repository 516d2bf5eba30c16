//! Series selectors: the metric name and the matchers in braces.

use super::{Context, Parser};
use crate::ast::{BinaryOp, MatchOp, Matcher, VectorSelector};
use crate::error::ParseError;
use crate::limits::PATTERNS_BYTES_MAX;
use crate::position::Span;
use crate::token::TokenKind;

const LABEL: Context = Context::new("label matching", "identifier or \"}\"");
const OPERATOR: Context = Context::new("label matching", "label matching operator");
const VALUE: Context = Context::new("label matching", "string");
const NEXT: Context = Context::new("label matching", "\",\" or \"}\"");
const METRIC_NAME: &str = "__name__";

impl Parser<'_> {
    /// `name`, `name{…}` or `{…}`; the caller saw that one of these follows.
    pub(super) fn selector(&mut self) -> Result<VectorSelector, ParseError> {
        let first = self.peek()?;
        let mut name = None;
        if first.kind != TokenKind::LeftBrace {
            self.advance()?;
            name = Some(self.source(first).to_owned());
        }
        let mut matchers = Vec::new();
        if self.accept(TokenKind::LeftBrace)? {
            self.matchers(&mut matchers)?;
        }
        let span = self.span_since(first.span);
        if let Some(name) = &name {
            matchers.push(Matcher::equal(METRIC_NAME, name.as_str()));
        }
        Ok(VectorSelector { name, matchers, offset: None, at: None, edge: None, span })
    }

    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Result<(), ParseError> {
        while self.peek_kind()? != TokenKind::RightBrace {
            let label = self.peek()?;
            match label.kind {
                TokenKind::Identifier => {
                    self.advance()?;
                    let Some(op) = self.match_op()? else { return Err(self.unexpected_in(OPERATOR)) };
                    matchers.push(self.matcher(label.span, self.source(label).to_owned(), op)?);
                }
                TokenKind::String => {
                    self.advance()?;
                    let text = self.label_text(label)?;
                    matchers.push(match self.match_op()? {
                        Some(op) => self.matcher(label.span, text, op)?,
                        None => Matcher::equal(METRIC_NAME, text),
                    });
                }
                _ => return Err(self.unexpected_in(LABEL)),
            }
            match self.peek_kind()? {
                TokenKind::RightBrace => {}
                TokenKind::Comma => {
                    self.advance()?;
                }
                _ => return Err(self.unexpected_in(NEXT)),
            }
        }
        self.advance()?;
        Ok(())
    }

    /// Consumes the operator if one follows.
    fn match_op(&mut self) -> Result<Option<MatchOp>, ParseError> {
        let op = match self.peek_kind()? {
            TokenKind::Assign => MatchOp::Equal,
            TokenKind::Operator(BinaryOp::Neq) => MatchOp::NotEqual,
            TokenKind::RegexMatch => MatchOp::Regex,
            TokenKind::RegexMismatch => MatchOp::NotRegex,
            _ => return Ok(None),
        };
        self.advance()?;
        Ok(Some(op))
    }

    fn matcher(&mut self, label: Span, name: String, op: MatchOp) -> Result<Matcher, ParseError> {
        let value = self.peek()?;
        if value.kind != TokenKind::String {
            return Err(self.unexpected_in(VALUE));
        }
        self.advance()?;
        let text = self.label_text(value)?;
        let span = label.to(value.span);
        let matcher = Matcher::new(op, name, text).map_err(|error| self.error(span, error.to_string()))?;
        self.pattern_bytes += matcher.pattern_bytes();
        if self.pattern_bytes > PATTERNS_BYTES_MAX {
            let message = format!("patterns of the query are too large: at most {PATTERNS_BYTES_MAX} bytes compiled");
            return Err(self.error(span, message));
        }
        Ok(matcher)
    }
}
