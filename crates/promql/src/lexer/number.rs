//! Numbers and durations: where they end, and what is no number.

use super::{Lexer, is_word};
use crate::error::ParseError;
use crate::quote::quote;
use crate::token::TokenKind;

impl Lexer<'_> {
    /// Reads a number or a duration; the first character was read already and is read again.
    pub(super) fn number_or_duration(&mut self) -> Result<TokenKind, ParseError> {
        self.at = self.start;
        if self.scan_number() {
            return Ok(TokenKind::Number);
        }
        if self.scan_units() {
            return Ok(TokenKind::Duration);
        }
        Err(self.error(format!("bad number or duration syntax: {}", quote(&self.text[self.start..self.at]))))
    }

    /// `1`, `1_000`, `.5`, `1e-3`, `0x1f`; false leaves the place where the number broke off. What is accepted need not be
    /// a number yet: the first dot is not counted if the text begins with it, or with it behind a zero.
    fn scan_number(&mut self) -> bool {
        let hex = self.accept("0") && self.accept("xX");
        if hex {
            self.accept("_");
        }
        let is_digit = |c: char| if hex { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
        self.accept(".");
        if self.peek().is_some_and(is_digit) {
            self.bump();
        }
        let (mut has_dot, mut has_exponent) = (false, false);
        loop {
            match self.peek() {
                Some('.') => {
                    self.bump();
                    if has_dot || self.accept("_.") || hex {
                        return false;
                    }
                    has_dot = true;
                }
                // Where no run of digits leads up to it, even an `e` of a hexadecimal number.
                Some('e' | 'E') => {
                    self.bump();
                    if has_exponent {
                        return false;
                    }
                    has_exponent = true;
                    self.accept("+-");
                    if self.accept("._eE") || self.peek().is_none() {
                        return false;
                    }
                }
                Some('_') => {
                    self.bump();
                    if self.accept("._eE") || self.peek().is_none() {
                        return false;
                    }
                }
                Some(c) if is_digit(c) => self.take_while(is_digit),
                next => return self.at > self.start && !next.is_some_and(is_word),
            }
        }
    }

    /// The rest of a duration after its first digits: a unit, then more digits and units.
    fn scan_units(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        self.accept("s");
        while self.accept("0123456789") {
            self.take_while(|c| c.is_ascii_digit());
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        if self.peek().is_some_and(is_word) {
            self.bump();
            return false;
        }
        true
    }

    fn accept(&mut self, set: &str) -> bool {
        let accepted = self.peek().is_some_and(|c| set.contains(c));
        if accepted {
            self.bump();
        }
        accepted
    }
}
