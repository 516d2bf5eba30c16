//! Series selectors: the metric name and the matchers in braces.

use super::Parser;
use crate::ast::{BinaryOp, MatchOp, Matcher, VectorSelector};
use crate::error::ParseError;
use crate::position::Span;
use crate::quote::quote;
use crate::token::TokenKind;

const CONTEXT: &str = "label matching";
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
            self.matchers(&mut name, &mut matchers, first.span)?;
        }
        let span = self.span_since(first.span);
        if let Some(name) = &name {
            if let Some(second) = matchers.iter().find(|matcher| matcher.name() == METRIC_NAME) {
                return Err(self.name_set_twice(span, name, second.value()));
            }
            matchers.push(Matcher::equal(METRIC_NAME, name.as_str()));
        }
        Ok(VectorSelector { name, matchers, offset: None, at: None, edge: None, span })
    }

    fn matchers(
        &mut self,
        name: &mut Option<String>,
        matchers: &mut Vec<Matcher>,
        start: Span,
    ) -> Result<(), ParseError> {
        while self.peek_kind()? != TokenKind::RightBrace {
            let label = self.peek()?;
            match label.kind {
                TokenKind::Identifier => {
                    self.advance()?;
                    let label_name = self.source(label).to_owned();
                    matchers.push(self.matcher(label.span, label_name)?);
                }
                TokenKind::String => {
                    self.advance()?;
                    let text = self.label_text(label)?;
                    if !matches!(self.peek_kind()?, TokenKind::Comma | TokenKind::RightBrace) {
                        matchers.push(self.matcher(label.span, text)?);
                    } else if let Some(first) = name {
                        return Err(self.name_set_twice(self.span_since(start), first, &text));
                    } else {
                        *name = Some(text);
                    }
                }
                _ => return Err(self.unexpected(CONTEXT, "identifier or \"}\"")),
            }
            if self.peek_kind()? != TokenKind::RightBrace {
                self.expect(TokenKind::Comma, CONTEXT, "\",\" or \"}\"")?;
            }
        }
        self.advance()?;
        Ok(())
    }

    fn matcher(&mut self, label: Span, name: String) -> Result<Matcher, ParseError> {
        let op = match self.peek_kind()? {
            TokenKind::Assign => MatchOp::Equal,
            TokenKind::Operator(BinaryOp::Neq) => MatchOp::NotEqual,
            TokenKind::RegexMatch => MatchOp::Regex,
            TokenKind::RegexMismatch => MatchOp::NotRegex,
            _ => return Err(self.unexpected(CONTEXT, "label matching operator")),
        };
        self.advance()?;
        let value = self.expect(TokenKind::String, CONTEXT, "string")?;
        let text = self.label_text(value)?;
        Matcher::new(op, name, text).map_err(|error| self.error(label.to(value.span), error.to_string()))
    }

    fn name_set_twice(&self, span: Span, first: &str, second: &str) -> ParseError {
        let message = format!("metric name must not be set twice: {} or {}", quote(first), quote(second));
        self.error(span, message)
    }
}
