//! Duration expressions: arithmetic in ranges, steps and offsets.

use super::Parser;
use crate::ast::{BinaryOp, DurationExpr, NumberLiteral, UnaryOp};
use crate::duration::DURATION_SECONDS_MAX;
use crate::error::ParseError;
use crate::limits::DURATION_OPERATORS_MAX;
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
    pub(super) fn positive_duration(&mut self, context: &str, expected: &str) -> Result<DurationExpr, ParseError> {
        self.duration_operators = 0;
        let duration = self.duration(1, context, expected)?;
        if let DurationExpr::Literal(number) = &duration
            && number.value <= 0.0
        {
            return Err(self.error(number.span, "duration must be greater than 0"));
        }
        self.finish(duration)
    }

    /// The duration of an offset: one operand, signs allowed; anything longer stands in parentheses.
    pub(super) fn offset_duration(&mut self) -> Result<DurationExpr, ParseError> {
        self.duration_operators = 0;
        let duration = self.duration_operand("offset", "number, duration, step(), or range()", false)?;
        self.finish(duration)
    }

    /// Refuses expressions where they are off. A lone number means the same as its duration: `[300]` is `[5m]`.
    fn finish(&self, duration: DurationExpr) -> Result<DurationExpr, ParseError> {
        match duration {
            DurationExpr::Literal(number) => {
                let is_duration = number.is_duration || (number.value * 1000.0).round() / 1000.0 == number.value;
                Ok(DurationExpr::Literal(NumberLiteral { is_duration, ..number }))
            }
            other if self.options.duration_expressions => Ok(other),
            other => Err(self.error(other.span(), "experimental duration expression is not enabled")),
        }
    }

    fn duration(&mut self, strength: u8, context: &str, expected: &str) -> Result<DurationExpr, ParseError> {
        self.enter()?;
        let mut lhs = self.duration_operand(context, expected, true)?;
        while let TokenKind::Operator(op) = self.peek_kind()? {
            let Some(own_strength) = precedence(op).filter(|own| *own >= strength) else { break };
            self.count_duration_operator()?;
            self.advance()?;
            let rhs_strength = if op == BinaryOp::Pow { POW } else { own_strength + 1 };
            let rhs = self.duration(rhs_strength, context, expected)?;
            self.check_divisor(op, &rhs)?;
            let span = lhs.span().to(rhs.span());
            lhs = DurationExpr::Binary(op, Box::new(lhs), Box::new(rhs), span);
        }
        self.leave();
        Ok(lhs)
    }

    fn check_divisor(&self, op: BinaryOp, divisor: &DurationExpr) -> Result<(), ParseError> {
        let DurationExpr::Literal(number) = divisor else { return Ok(()) };
        match op {
            BinaryOp::Div if number.value == 0.0 => Err(self.error(number.span, "division by zero")),
            BinaryOp::Mod if number.value == 0.0 => Err(self.error(number.span, "modulo by zero")),
            _ => Ok(()),
        }
    }

    /// A literal, `step()`, `range()`, `min_of(a, b)`, `max_of(a, b)` or parentheses, with signs before it. In brackets
    /// a sign binds weaker than `^`.
    fn duration_operand(
        &mut self,
        context: &str,
        expected: &str,
        in_brackets: bool,
    ) -> Result<DurationExpr, ParseError> {
        let token = self.peek()?;
        match token.kind {
            TokenKind::Operator(BinaryOp::Add) => self.signed_duration(UnaryOp::Plus, context, expected, in_brackets),
            TokenKind::Operator(BinaryOp::Sub) => self.signed_duration(UnaryOp::Minus, context, expected, in_brackets),
            TokenKind::Number | TokenKind::Duration => {
                let number = self.number()?;
                if number.value.is_nan() || number.value > DURATION_SECONDS_MAX {
                    return Err(self.error(number.span, "duration out of range"));
                }
                Ok(DurationExpr::Literal(number))
            }
            TokenKind::LeftParen => {
                self.advance()?;
                let inner = self.duration(1, context, expected)?;
                self.expect(TokenKind::RightParen, context, "\")\"")?;
                Ok(DurationExpr::Paren(Box::new(inner), self.span_since(token.span)))
            }
            TokenKind::Keyword(keyword @ (Keyword::Step | Keyword::Range))
                if self.peek_second() == Some(TokenKind::LeftParen) =>
            {
                self.advance()?;
                self.advance()?;
                self.expect(TokenKind::RightParen, context, "\")\"")?;
                let span = self.span_since(token.span);
                Ok(if keyword == Keyword::Step { DurationExpr::Step(span) } else { DurationExpr::Range(span) })
            }
            TokenKind::Keyword(Keyword::Step | Keyword::Range) => {
                self.advance()?;
                Err(self.unexpected(context, expected))
            }
            TokenKind::Identifier if matches!(self.word(token).as_str(), "min_of" | "max_of") => {
                self.advance()?;
                self.expect(TokenKind::LeftParen, context, "\"(\"")?;
                let lhs = Box::new(self.duration(1, context, expected)?);
                self.expect(TokenKind::Comma, context, "\",\"")?;
                let rhs = Box::new(self.duration(1, context, expected)?);
                self.expect(TokenKind::RightParen, context, "\")\"")?;
                let span = self.span_since(token.span);
                let is_min = self.word(token) == "min_of";
                Ok(if is_min { DurationExpr::MinOf(lhs, rhs, span) } else { DurationExpr::MaxOf(lhs, rhs, span) })
            }
            _ => Err(self.unexpected(context, expected)),
        }
    }

    fn signed_duration(
        &mut self,
        op: UnaryOp,
        context: &str,
        expected: &str,
        in_brackets: bool,
    ) -> Result<DurationExpr, ParseError> {
        let sign = self.advance()?.span;
        let operand = if in_brackets {
            self.duration(POW, context, expected)?
        } else {
            self.enter()?;
            let operand = self.duration_operand(context, expected, false)?;
            self.leave();
            operand
        };
        let span = sign.to(operand.span());
        Ok(match operand {
            DurationExpr::Literal(number) => {
                let value = if op == UnaryOp::Minus { -number.value } else { number.value };
                DurationExpr::Literal(NumberLiteral { value, span, ..number })
            }
            other => DurationExpr::Unary(op, Box::new(other), span),
        })
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

    fn word(&self, token: crate::token::Token) -> String {
        self.source(token).to_ascii_lowercase()
    }
}
