//! What stands behind an operand: ranges, subqueries, `offset`, `@`, `anchored` and `smoothed`.

use super::{Node, Parser};
use crate::ast::{AtModifier, DurationExpr, EdgeMode, Expr, MatrixSelector, Subquery};
use crate::error::ParseError;
use crate::position::Span;
use crate::token::{Keyword, TokenKind};

/// Instants beyond these cannot be told in milliseconds.
const TIMESTAMP_SECONDS_MAX: f64 = i64::MAX as f64 / 1000.0;

impl Parser<'_> {
    /// Adds the modifiers that follow `node`.
    pub(super) fn postfix(&mut self, mut node: Node) -> Result<Node, ParseError> {
        loop {
            let token = self.peek()?;
            match token.kind {
                TokenKind::LeftBracket => node = self.bracket(node)?,
                TokenKind::Keyword(Keyword::Offset) => {
                    self.advance()?;
                    let offset = self.offset_duration()?;
                    self.set_offset(&mut node.expr, offset)?;
                }
                TokenKind::At => {
                    self.advance()?;
                    let at = self.at_modifier()?;
                    self.set_at(&mut node.expr, at)?;
                }
                TokenKind::Keyword(Keyword::Anchored) => {
                    self.advance()?;
                    self.set_edge(&mut node.expr, EdgeMode::Anchored, token.span)?;
                }
                TokenKind::Keyword(Keyword::Smoothed) => {
                    self.advance()?;
                    self.set_edge(&mut node.expr, EdgeMode::Smoothed, token.span)?;
                }
                _ => return Ok(node),
            }
        }
    }

    /// `[range]` or `[range:step]`.
    fn bracket(&mut self, node: Node) -> Result<Node, ParseError> {
        let open = self.advance()?.span;
        let range = self.positive_duration("subquery or range selector", "number, duration, step(), or range()")?;
        if self.peek_kind()? == TokenKind::Colon {
            self.advance()?;
            return self.subquery(node, range);
        }
        self.expect(TokenKind::RightBracket, "subquery or range selector", "\":\" or \"]\"")?;
        let bracket = self.span_since(open);
        let Expr::VectorSelector(selector) = *node.expr else {
            return Err(self.error(bracket, "ranges only allowed for vector selectors"));
        };
        if selector.offset.is_some() {
            return Err(self.error(bracket, "no offset modifiers allowed before range"));
        }
        if selector.at.is_some() {
            return Err(self.error(bracket, "no @ modifiers allowed before range"));
        }
        if let Some(edge) = selector.edge {
            return Err(self.error(bracket, format!("no {} modifiers allowed before range", edge.keyword())));
        }
        let span = self.span_since(selector.span);
        Ok(Self::leaf(Expr::MatrixSelector(MatrixSelector { selector, range, span })))
    }

    fn subquery(&mut self, node: Node, range: DurationExpr) -> Result<Node, ParseError> {
        let mut step = None;
        if self.peek_kind()? != TokenKind::RightBracket {
            step = Some(self.positive_duration("subquery selector", "number, duration, step(), range(), or \"]\"")?);
        }
        self.expect(TokenKind::RightBracket, "subquery selector", "\"]\"")?;
        let span = self.span_since(node.expr.span());
        let expr = node.expr;
        self.node(Expr::Subquery(Subquery { expr, range, step, offset: None, at: None, span }), node.depth)
    }

    fn at_modifier(&mut self) -> Result<AtModifier, ParseError> {
        let token = self.peek()?;
        if let TokenKind::Keyword(keyword @ (Keyword::Start | Keyword::End)) = token.kind {
            self.advance()?;
            self.expect(TokenKind::LeftParen, "@", "timestamp")?;
            self.expect(TokenKind::RightParen, "@", "timestamp")?;
            return Ok(if keyword == Keyword::Start { AtModifier::Start } else { AtModifier::End });
        }
        let seconds = self.signed_number("@", "timestamp")?.value;
        if seconds.is_nan() || seconds.abs() >= TIMESTAMP_SECONDS_MAX {
            let shown = if seconds == f64::INFINITY { "+Inf".to_owned() } else { go_fixed(seconds) };
            let message = format!("timestamp out of bounds for @ modifier: {shown}");
            return Err(self.error(self.span_since(token.span), message));
        }
        Ok(AtModifier::TimestampMs((seconds * 1000.0).round() as i64))
    }

    fn set_offset(&self, expr: &mut Expr, offset: DurationExpr) -> Result<(), ParseError> {
        let (slot, span) = match expr {
            Expr::VectorSelector(node) => (&mut node.offset, &mut node.span),
            Expr::MatrixSelector(node) => (&mut node.selector.offset, &mut node.span),
            Expr::Subquery(node) => (&mut node.offset, &mut node.span),
            other => return Err(self.misplaced("offset", other.span())),
        };
        if slot.is_some() {
            return Err(self.error(*span, "offset may not be set multiple times"));
        }
        *slot = Some(offset);
        span.end = self.consumed_end;
        Ok(())
    }

    fn set_at(&self, expr: &mut Expr, at: AtModifier) -> Result<(), ParseError> {
        let (slot, span) = match expr {
            Expr::VectorSelector(node) => (&mut node.at, &mut node.span),
            Expr::MatrixSelector(node) => (&mut node.selector.at, &mut node.span),
            Expr::Subquery(node) => (&mut node.at, &mut node.span),
            other => return Err(self.misplaced("@", other.span())),
        };
        if slot.is_some() {
            return Err(self.error(*span, "@ <timestamp> may not be set multiple times"));
        }
        *slot = Some(at);
        span.end = self.consumed_end;
        Ok(())
    }

    fn set_edge(&self, expr: &mut Expr, edge: EdgeMode, keyword: Span) -> Result<(), ParseError> {
        if !self.options.extended_range_selectors {
            let message = format!("{} modifier is experimental and not enabled", edge.keyword());
            return Err(self.error(keyword, message));
        }
        let (slot, span) = match expr {
            Expr::VectorSelector(node) => (&mut node.edge, &mut node.span),
            Expr::MatrixSelector(node) => (&mut node.selector.edge, &mut node.span),
            Expr::Subquery(node) => {
                let message = format!("{} modifier is not supported for subqueries", edge.keyword());
                return Err(self.error(node.span, message));
            }
            other => {
                let message =
                    format!("{} modifier must be preceded by an instant or range vector selector", edge.keyword());
                return Err(self.error(other.span(), message));
            }
        };
        match slot {
            None => *slot = Some(edge),
            Some(previous) if *previous == edge => {
                return Err(self.error(*span, format!("{} may not be set multiple times", edge.keyword())));
            }
            Some(_) => return Err(self.error(*span, "anchored and smoothed modifiers cannot be used together")),
        }
        span.end = self.consumed_end;
        Ok(())
    }

    fn misplaced(&self, modifier: &str, span: Span) -> ParseError {
        let message = format!(
            "{modifier} modifier must be preceded by an instant vector selector or range vector selector or a subquery"
        );
        self.error(span, message)
    }
}

/// Six decimals, as Go's `%f`.
fn go_fixed(value: f64) -> String {
    if value == f64::NEG_INFINITY {
        return "-Inf".to_owned();
    }
    format!("{value:.6}")
}
