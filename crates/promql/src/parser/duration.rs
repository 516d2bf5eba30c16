//! Duration expressions: arithmetic in ranges, steps and offsets.

use super::Parser;
use crate::ast::{BinaryOp, DurationExpr, NumberLiteral, UnaryOp};
use crate::duration::DURATION_SECONDS_MAX;
use crate::error::ParseError;
use crate::limits::DURATION_OPERATORS_MAX;
use crate::position::Span;
use crate::token::{Keyword, TokenKind};

/// Binding strength of `^`, the strongest.
const POW: u8 = 3;

fn precedence(op: BinaryOp) -> Option<u8> {
    match op {
        BinaryOp::Add | BinaryOp::Sub => Some(1),
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => Some(2),
        BinaryOp::Pow => Some(POW),
        _ => None,
    }
}

impl Parser<'_> {
    /// The duration of a range or a step.
    pub(super) fn positive_duration(&mut self) -> Result<DurationExpr, ParseError> {
        self.duration_operators = 0;
        let duration = self.duration(1)?;
        if let DurationExpr::Literal(number) = &duration
            && number.value <= 0.0
        {
            return Err(self.error(number.span, "duration must be greater than 0"));
        }
        Ok(as_duration(duration))
    }

    /// The duration of an offset: one operand, signs allowed. Only what begins with a parenthesis or with two signs goes on
    /// with operators, as upstream's grammar has it: `a offset (1m) + 2m` is an offset of three minutes.
    pub(super) fn offset_duration(&mut self) -> Result<DurationExpr, ParseError> {
        self.duration_operators = 0;
        let first = self.peek()?;
        let goes_on = match first.kind {
            TokenKind::LeftParen => true,
            TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub) => {
                matches!(self.peek_second(), Some(TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub)))
            }
            _ => false,
        };
        let duration = if goes_on { self.duration(1)? } else { self.offset_operand()? };
        Ok(match as_duration(duration) {
            // In parentheses, they print as they are meant.
            sum @ DurationExpr::Binary(..) => wrapped(sum),
            DurationExpr::Unary(op, operand, span) if matches!(*operand, DurationExpr::Binary(..)) => {
                DurationExpr::Unary(op, Box::new(wrapped(*operand)), span)
            }
            other => other,
        })
    }

    /// A literal, a call or parentheses, with at most one sign.
    fn offset_operand(&mut self) -> Result<DurationExpr, ParseError> {
        let Some(op) = self.sign()? else { return self.duration_operand() };
        let sign = self.advance()?.span;
        match self.peek_kind()? {
            TokenKind::LeftParen => {
                self.advance()?;
                let inner = self.duration(1)?;
                self.expect(TokenKind::RightParen)?;
                self.apply_sign(op, sign, wrapped(inner))
            }
            TokenKind::Number | TokenKind::Duration => {
                let operand = self.number().map(DurationExpr::Literal)?;
                self.apply_sign(op, sign, operand)
            }
            _ => {
                let operand = self.duration_operand()?;
                self.apply_sign(op, sign, operand)
            }
        }
    }

    fn duration(&mut self, strength: u8) -> Result<DurationExpr, ParseError> {
        self.enter()?;
        let mut lhs = self.signed_operand()?;
        while let TokenKind::Operator(op) = self.peek_kind()? {
            let Some(own_strength) = precedence(op).filter(|own| *own >= strength) else { break };
            self.count_duration_operator()?;
            let operator = self.advance()?.span;
            let rhs = self.duration(if op == BinaryOp::Pow { POW } else { own_strength + 1 })?;
            self.refuse_unless_enabled(&lhs)?;
            self.check_divisor(op, operator, &rhs)?;
            let span = lhs.span().to(rhs.span());
            lhs = DurationExpr::Binary(op, Box::new(lhs), Box::new(rhs), span);
        }
        self.leave();
        Ok(lhs)
    }

    fn check_divisor(&self, op: BinaryOp, operator: Span, divisor: &DurationExpr) -> Result<(), ParseError> {
        if !divisor.is_zero_literal() {
            return Ok(());
        }
        match op {
            BinaryOp::Div => Err(self.error(operator, "division by zero")),
            BinaryOp::Mod => Err(self.error(operator, "modulo by zero")),
            _ => Ok(()),
        }
    }

    /// An operand with any number of signs, which bind weaker than `^`.
    fn signed_operand(&mut self) -> Result<DurationExpr, ParseError> {
        let Some(op) = self.sign()? else { return self.duration_operand() };
        let sign = self.advance()?.span;
        let operand = self.duration(POW)?;
        self.apply_sign(op, sign, operand)
    }

    fn sign(&self) -> Result<Option<UnaryOp>, ParseError> {
        Ok(match self.peek_kind()? {
            TokenKind::Operator(BinaryOp::Add) => Some(UnaryOp::Plus),
            TokenKind::Operator(BinaryOp::Sub) => Some(UnaryOp::Minus),
            _ => None,
        })
    }

    /// The sign of a literal belongs to it; a plus before anything else means nothing.
    fn apply_sign(&self, op: UnaryOp, sign: Span, operand: DurationExpr) -> Result<DurationExpr, ParseError> {
        let span = sign.to(operand.span());
        match (operand, op) {
            (DurationExpr::Literal(number), _) => {
                let value = if op == UnaryOp::Minus { -number.value } else { number.value };
                if out_of_range(value) {
                    return Err(self.error(sign, "duration out of range"));
                }
                Ok(DurationExpr::Literal(NumberLiteral { value, span, ..number }))
            }
            (operand, UnaryOp::Plus) => Ok(operand),
            (operand, UnaryOp::Minus) => Ok(DurationExpr::Unary(op, Box::new(operand), span)),
        }
    }

    /// A literal, `step()`, `range()`, `min_of(a, b)`, `max_of(a, b)` or parentheses.
    fn duration_operand(&mut self) -> Result<DurationExpr, ParseError> {
        let token = self.peek()?;
        match token.kind {
            TokenKind::Number | TokenKind::Duration => {
                let number = self.number()?;
                if out_of_range(number.value) {
                    return Err(self.error(number.span, "duration out of range"));
                }
                Ok(DurationExpr::Literal(number))
            }
            TokenKind::LeftParen => {
                self.advance()?;
                let inner = self.duration(1)?;
                self.expect(TokenKind::RightParen)?;
                self.refuse_unless_enabled(&inner)?;
                Ok(wrapped(inner))
            }
            TokenKind::Keyword(keyword @ (Keyword::Step | Keyword::Range | Keyword::MinOf | Keyword::MaxOf)) => {
                let call = self.duration_call(keyword)?;
                self.refuse_unless_enabled(&call)?;
                Ok(call)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn duration_call(&mut self, keyword: Keyword) -> Result<DurationExpr, ParseError> {
        let name = self.advance()?.span;
        self.expect(TokenKind::LeftParen)?;
        if let Keyword::Step | Keyword::Range = keyword {
            self.expect(TokenKind::RightParen)?;
            let span = self.span_since(name);
            return Ok(if keyword == Keyword::Step { DurationExpr::Step(span) } else { DurationExpr::Range(span) });
        }
        let lhs = Box::new(self.duration(1)?);
        self.expect(TokenKind::Comma)?;
        let rhs = Box::new(self.duration(1)?);
        self.expect(TokenKind::RightParen)?;
        let span = self.span_since(name);
        Ok(if keyword == Keyword::MinOf {
            DurationExpr::MinOf(lhs, rhs, span)
        } else {
            DurationExpr::MaxOf(lhs, rhs, span)
        })
    }

    /// Anything but a literal with signs is an expression, which can be switched off.
    fn refuse_unless_enabled(&self, part: &DurationExpr) -> Result<(), ParseError> {
        if self.options.duration_expressions {
            return Ok(());
        }
        Err(self.error(part.span(), "experimental duration expression is not enabled"))
    }

    /// Bounds the size, and with it the depth, of one duration.
    fn count_duration_operator(&mut self) -> Result<(), ParseError> {
        self.duration_operators += 1;
        if self.duration_operators > DURATION_OPERATORS_MAX {
            let message = format!("duration expression is too long: at most {DURATION_OPERATORS_MAX} operators");
            return Err(self.error(self.peek()?.span, message));
        }
        Ok(())
    }
}

/// A lone number means the same as its duration: `[300]` is `[5m]`.
fn as_duration(duration: DurationExpr) -> DurationExpr {
    match duration {
        DurationExpr::Literal(number) => {
            let is_duration = number.is_duration || (number.value * 1000.0).round() / 1000.0 == number.value;
            DurationExpr::Literal(NumberLiteral { is_duration, ..number })
        }
        other => other,
    }
}

/// The expression in parentheses. They mean nothing around a literal, and as much as one pair around another pair.
fn wrapped(inner: DurationExpr) -> DurationExpr {
    match inner {
        literal @ DurationExpr::Literal(_) => literal,
        pair @ DurationExpr::Paren(..) => pair,
        other => {
            let span = other.span();
            DurationExpr::Paren(Box::new(other), span)
        }
    }
}

fn out_of_range(seconds: f64) -> bool {
    seconds.is_nan() || seconds.abs() > DURATION_SECONDS_MAX
}
