//! Strings: where they end, and that their escapes are sound.

use super::Lexer;
use crate::error::ParseError;
use crate::quote::quote_char;
use crate::token::TokenKind;

impl Lexer<'_> {
    /// Reads a string whose opening `quote` was read already.
    pub(super) fn string(&mut self, quote: char) -> Result<TokenKind, ParseError> {
        loop {
            match self.bump() {
                None if quote == '`' => return Err(self.error("unterminated raw string")),
                Some('\n') if quote != '`' => return Err(self.error("unterminated quoted string")),
                None => return Err(self.error("unterminated quoted string")),
                Some(char::REPLACEMENT_CHARACTER) => return Err(self.error("invalid UTF-8 rune")),
                Some('\\') if quote != '`' => self.escape(quote)?,
                Some(c) if c == quote => return Ok(TokenKind::String),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, quote: char) -> Result<(), ParseError> {
        let unterminated = "escape sequence not terminated";
        match self.peek() {
            None => Err(self.error(unterminated)),
            Some(c @ ('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\')) => self.skip(c),
            Some(c) if c == quote => self.skip(c),
            Some('0'..='7') => self.digits(3, 8, u32::from(u8::MAX)),
            Some('x') => {
                self.bump();
                self.digits(2, 16, u32::from(u8::MAX))
            }
            Some('u') => {
                self.bump();
                self.digits(4, 16, u32::from(char::MAX))
            }
            Some('U') => {
                self.bump();
                self.digits(8, 16, u32::from(char::MAX))
            }
            Some(c) => Err(self.error(format!("unknown escape sequence {}", code_point(c)))),
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "one arm of a match whose other arms can fail")]
    fn skip(&mut self, c: char) -> Result<(), ParseError> {
        self.at += c.len_utf8();
        Ok(())
    }

    fn digits(&mut self, count: usize, radix: u32, value_max: u32) -> Result<(), ParseError> {
        let mut value = 0_u32;
        for _ in 0..count {
            let Some(c) = self.bump() else {
                return Err(self.error("escape sequence not terminated"));
            };
            let Some(digit) = c.to_digit(radix) else {
                return Err(self.error(format!("illegal character {} in escape sequence", code_point(c))));
            };
            value = value.wrapping_mul(radix).wrapping_add(digit); // at most 8 hexadecimal digits
        }
        if value > value_max || (0xd800..0xe000).contains(&value) {
            return Err(self.error("escape sequence is an invalid Unicode code point"));
        }
        Ok(())
    }
}

fn code_point(c: char) -> String {
    format!("U+{:04X} {}", u32::from(c), quote_char(c))
}
