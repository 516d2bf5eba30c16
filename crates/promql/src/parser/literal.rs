//! Numbers, durations and strings as values.

use super::Parser;
use crate::ast::{BinaryOp, NumberLiteral, StringLiteral};
use crate::duration::parse_duration_ms;
use crate::error::ParseError;
use crate::quote::{quote, unquote};
use crate::token::{Token, TokenKind};

impl Parser<'_> {
    /// A number or a duration, without sign. The caller saw that one follows.
    pub(super) fn number(&mut self) -> Result<NumberLiteral, ParseError> {
        let token = self.advance()?;
        let source = self.source(token);
        let is_duration = token.kind == TokenKind::Duration;
        let value = if is_duration {
            parse_duration_ms(source).map(|ms| ms as f64 / 1000.0).map_err(|error| error.to_string())
        } else {
            number_value(source).map_err(|reason| {
                format!("error parsing number: strconv.ParseFloat: parsing {}: {reason}", quote(source))
            })
        };
        let value = value.map_err(|message| self.error(token.span, message))?;
        Ok(NumberLiteral { value, is_duration, span: token.span })
    }

    /// A number or a duration, with at most one sign.
    pub(super) fn signed_number(&mut self) -> Result<NumberLiteral, ParseError> {
        let first = self.peek()?;
        let negative = match first.kind {
            TokenKind::Operator(BinaryOp::Add) => false,
            TokenKind::Operator(BinaryOp::Sub) => true,
            TokenKind::Number | TokenKind::Duration => return self.number(),
            _ => return Err(self.unexpected()),
        };
        self.advance()?;
        if !matches!(self.peek_kind()?, TokenKind::Number | TokenKind::Duration) {
            return Err(self.unexpected());
        }
        let number = self.number()?;
        let value = if negative { -number.value } else { number.value };
        Ok(NumberLiteral { value, span: first.span.to(number.span), ..number })
    }

    /// A string expression. Bytes that are no UTF-8, which only escapes can make, become U+FFFD, as they would in
    /// any JSON answer.
    pub(super) fn string_literal(&mut self) -> Result<StringLiteral, ParseError> {
        let token = self.advance()?;
        let value = String::from_utf8_lossy(&unquote(self.source(token))).into_owned();
        Ok(StringLiteral { value, span: token.span })
    }

    /// The text of a string token that names or matches a label, where everything is UTF-8.
    pub(super) fn label_text(&self, token: Token) -> Result<String, ParseError> {
        String::from_utf8(unquote(self.source(token)))
            .map_err(|_| self.error(token.span, "label names and values must be valid UTF-8"))
    }
}

/// Go's reading of a number: integers with base prefixes (a leading 0 means octal, if it can), then decimals. The error is
/// in Go's words.
fn number_value(source: &str) -> Result<f64, &'static str> {
    const SYNTAX: &str = "invalid syntax";
    if !underscores_separate_digits(source) {
        return Err(SYNTAX);
    }
    let plain: String = source.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect();
    match plain.as_str() {
        "inf" => return Ok(f64::INFINITY),
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    if let Some(hex) = plain.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).map(|value| value as f64).map_err(|_| SYNTAX);
    }
    if let Some(octal) = plain.strip_prefix('0').filter(|rest| !rest.is_empty())
        && let Ok(value) = i64::from_str_radix(octal, 8)
    {
        return Ok(value as f64);
    }
    match plain.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err("value out of range"),
        Err(_) => Err(SYNTAX),
    }
}

/// Each underscore has a digit before it, or the prefix of a base, and a digit behind it.
fn underscores_separate_digits(source: &str) -> bool {
    let hex = source.len() > 1 && source.is_char_boundary(2) && source[..2].eq_ignore_ascii_case("0x");
    let is_digit = |byte: &u8| if hex { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() };
    let bytes = source.as_bytes();
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_').all(|(at, _)| {
        let (before, behind) = (at.checked_sub(1).and_then(|at| bytes.get(at)), bytes.get(at + 1));
        (before.is_some_and(is_digit) || (hex && at == 2)) && behind.is_some_and(is_digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (source, value) in [
            ("0", Ok(0.0)),
            ("1_000_000", Ok(1e6)),
            (".123_456", Ok(0.123_456)),
            ("5.", Ok(5.0)),
            ("5e-3", Ok(0.005)),
            ("0x1F", Ok(31.0)),
            ("0x_1", Ok(1.0)),
            ("0755", Ok(493.0)),
            ("089", Ok(89.0)),
            ("0755.5", Ok(755.5)),
            ("INF", Ok(f64::INFINITY)),
            ("1e400", Err("value out of range")),
            ("0x", Err("invalid syntax")),
            ("0x1_", Err("invalid syntax")),
            ("1_.5", Err("invalid syntax")),
            ("0xffffffffffffffff", Err("invalid syntax")),
            ("0_7", Ok(7.0)),
            ("9999999999999999999", Ok(1e19)),
            ("9223372036854775807", Ok(9_223_372_036_854_775_807.0)),
        ] {
            assert_eq!(number_value(source), value, "{source}");
        }
    }
}
