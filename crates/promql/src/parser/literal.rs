//! Numbers, durations and strings as values.

use super::Parser;
use crate::ast::{BinaryOp, NumberLiteral, StringLiteral};
use crate::duration::parse_duration_ms;
use crate::error::ParseError;
use crate::quote::unquote;
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
            number_value(source).ok_or_else(|| format!("error parsing number: {source:?} is out of range or malformed"))
        };
        let value = value.map_err(|message| self.error(token.span, message))?;
        Ok(NumberLiteral { value, is_duration, span: token.span })
    }

    /// A number or a duration with any number of signs.
    pub(super) fn signed_number(&mut self, context: &str, expected: &str) -> Result<NumberLiteral, ParseError> {
        let first = self.peek()?;
        let negative = match first.kind {
            TokenKind::Operator(BinaryOp::Add) => false,
            TokenKind::Operator(BinaryOp::Sub) => true,
            TokenKind::Number | TokenKind::Duration => return self.number(),
            _ => return Err(self.unexpected(context, expected)),
        };
        self.advance()?;
        if !matches!(self.peek_kind()?, TokenKind::Number | TokenKind::Duration) {
            return Err(self.unexpected(context, expected));
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

/// Go's reading of a number: integers with base prefixes (a leading 0 means octal, if it can), then decimals.
fn number_value(source: &str) -> Option<f64> {
    match source.to_ascii_lowercase().as_str() {
        "inf" => return Some(f64::INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    let plain: String = source.chars().filter(|c| *c != '_').collect();
    if let Some(hex) = plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16).ok().map(|value| value as f64);
    }
    if let Some(octal) = plain.strip_prefix('0').filter(|rest| !rest.is_empty())
        && let Ok(value) = i64::from_str_radix(octal, 8)
    {
        return Some(value as f64);
    }
    plain.parse::<f64>().ok().filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (source, value) in [
            ("0", Some(0.0)),
            ("1_000_000", Some(1e6)),
            (".123_456", Some(0.123_456)),
            ("5.", Some(5.0)),
            ("5e-3", Some(0.005)),
            ("0x1F", Some(31.0)),
            ("0x_1", Some(1.0)),
            ("0755", Some(493.0)),
            ("089", Some(89.0)),
            ("0755.5", Some(755.5)),
            ("INF", Some(f64::INFINITY)),
            ("1e400", None),
            ("0x", None),
            ("9223372036854775807", Some(9_223_372_036_854_775_807.0)),
        ] {
            assert_eq!(number_value(source), value, "{source}");
        }
    }
}
