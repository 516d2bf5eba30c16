//! What stands behind an operand: ranges, subqueries, `offset`, `@`, `anchored` and `smoothed`.

use super::{Context, Node, Parser};
use crate::ast::{AtModifier, DurationExpr, EdgeMode, Expr, MatrixSelector, Subquery};
use crate::error::ParseError;
use crate::position::Span;
use crate::token::{Keyword, TokenKind};

const AT: Context = Context::new("@", "timestamp");
const OFFSET: Context = Context::new("offset", "number, duration, step(), or range()");
const RANGE: Context = Context::new("subquery or range selector", "number, duration, step(), or range()");
const RANGE_END: Context = Context::new("subquery or range", "\":\" or \"]\"");
const STEP: Context = Context::new("subquery selector", "number, duration, step(), range(), or \"]\"");
const STEP_END: Context = Context::new("subquery selector", "\"]\"");

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
                    let offset = self.within(OFFSET, Self::offset_duration)?;
                    self.set_offset(&mut node.expr, offset)?;
                }
                TokenKind::At => {
                    self.advance()?;
                    let at = self.within(AT, |parser| parser.at_modifier(node.expr.span()))?;
                    self.set_at(&mut node.expr, at)?;
                }
                TokenKind::Keyword(Keyword::Anchored) => {
                    self.advance()?;
                    self.set_edge(&mut node.expr, EdgeMode::Anchored)?;
                }
                TokenKind::Keyword(Keyword::Smoothed) => {
                    self.advance()?;
                    self.set_edge(&mut node.expr, EdgeMode::Smoothed)?;
                }
                _ => return Ok(node),
            }
        }
    }

    /// `[range]` or `[range:step]`.
    fn bracket(&mut self, node: Node) -> Result<Node, ParseError> {
        let open = self.advance()?.span;
        let range = self.within(RANGE, Self::positive_duration)?;
        match self.peek_kind()? {
            TokenKind::Colon => {
                self.advance()?;
                return self.subquery(node, range);
            }
            TokenKind::RightBracket => self.advance()?,
            _ => return Err(self.unexpected_in(RANGE_END)),
        };
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
        let span = self.span_since(selector.span);
        Ok(Self::leaf(Expr::MatrixSelector(MatrixSelector { selector, range, span })))
    }

    fn subquery(&mut self, node: Node, range: DurationExpr) -> Result<Node, ParseError> {
        let mut step = None;
        if self.peek_kind()? != TokenKind::RightBracket {
            step = Some(self.within(STEP, Self::positive_duration)?);
        }
        if self.peek_kind()? != TokenKind::RightBracket {
            return Err(self.unexpected_in(STEP_END));
        }
        self.advance()?;
        let span = self.span_since(node.expr.span());
        let expr = node.expr;
        self.node(Expr::Subquery(Subquery { expr, range, step, offset: None, at: None, span }), node.depth)
    }

    /// What follows `@`, which stands behind the expression at `operand`.
    fn at_modifier(&mut self, operand: Span) -> Result<AtModifier, ParseError> {
        if let TokenKind::Keyword(keyword @ (Keyword::Start | Keyword::End)) = self.peek_kind()? {
            self.advance()?;
            self.expect(TokenKind::LeftParen)?;
            self.expect(TokenKind::RightParen)?;
            return Ok(if keyword == Keyword::Start { AtModifier::Start } else { AtModifier::End });
        }
        let seconds = self.signed_number()?.value;
        if seconds.is_nan() || seconds.abs() >= TIMESTAMP_SECONDS_MAX {
            let message = format!("timestamp out of bounds for @ modifier: {}", go_fixed(seconds));
            return Err(self.error(operand, message));
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
        // `offset 0` is none at all.
        *slot = Some(offset).filter(|offset| !offset.is_zero_literal());
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

    fn set_edge(&self, expr: &mut Expr, edge: EdgeMode) -> Result<(), ParseError> {
        let span = expr.span();
        if !self.options.extended_range_selectors {
            let message = format!("{} modifier is experimental and not enabled", edge.keyword());
            return Err(self.error(span, message));
        }
        let slot = match expr {
            Expr::VectorSelector(node) => &mut node.edge,
            Expr::MatrixSelector(node) => &mut node.selector.edge,
            Expr::Subquery(_) => {
                let message = format!("{} modifier is not supported for subqueries", edge.keyword());
                return Err(self.error(span, message));
            }
            _ => return Err(self.error(span, format!("{} modifier not implemented", edge.keyword()))),
        };
        if slot.is_some_and(|earlier| earlier != edge) {
            return Err(self.error(span, "anchored and smoothed modifiers cannot be used together"));
        }
        *slot = Some(edge);
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
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    format!("{value:.6}")
}
