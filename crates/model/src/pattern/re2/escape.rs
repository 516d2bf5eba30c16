//! What stands behind a backslash.

use regex_syntax::hir::{Hir, Look};

use super::{Parser, error};

impl<'a> Parser<'a> {
    /// Outside of brackets; the backslash was read, it stands at the beginning of `start`.
    pub(super) fn backslash(&mut self, start: &'a str) -> Result<(), String> {
        let mut after = self.rest.chars();
        let look = match after.next() {
            Some('A') => Look::Start,
            Some('z') => Look::End,
            Some('b') => Look::WordAscii,
            Some('B') => Look::WordAsciiNegate,
            Some('C') => return Err(error("invalid escape sequence", &start[..2])),
            Some('Q') => return self.quoted(after.as_str()),
            _ => {
                self.rest = start;
                if let Some(class) = self.escaped_class()? {
                    return self.push_class(class);
                }
                let code = self.escape()?;
                return self.push_literal(char::from_u32(code));
            }
        };
        self.rest = after.as_str();
        self.push(Hir::look(look));
        Ok(())
    }

    /// `\Q…\E`, or to the end of the pattern.
    fn quoted(&mut self, text: &'a str) -> Result<(), String> {
        let (literal, rest) = text.split_once("\\E").unwrap_or((text, ""));
        self.rest = rest;
        literal.chars().try_for_each(|c| self.push_literal(Some(c)))
    }

    /// The code point of an escape that stands for one character, within brackets or not; the backslash is next. It may be
    /// one that no text has.
    pub(super) fn escape(&mut self) -> Result<u32, String> {
        let start = self.rest;
        self.bump();
        let Some(c) = self.bump() else {
            return Err(error("trailing backslash at end of expression", ""));
        };
        let code = match c {
            '0' => Some(self.octal(0)),
            // A single digit would refer to a group, which RE2 cannot.
            '1'..='7' if self.rest.starts_with(|next: char| ('0'..='7').contains(&next)) => {
                Some(self.octal(u32::from(c) - u32::from('0')))
            }
            'x' => self.hexadecimal(),
            'a' => Some(0x07),
            'f' => Some(0x0c),
            'n' => Some(0x0a),
            'r' => Some(0x0d),
            't' => Some(0x09),
            'v' => Some(0x0b),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
            _ => None,
        };
        code.ok_or_else(|| error("invalid escape sequence", self.since(start)))
    }

    /// Up to two digits more.
    fn octal(&mut self, mut code: u32) -> u32 {
        for _ in 0..2 {
            let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else { break };
            code = code * 8 + digit;
            self.rest = &self.rest[1..];
        }
        code
    }

    /// Two digits, or any number of them in braces.
    fn hexadecimal(&mut self) -> Option<u32> {
        let digit = |c: Option<char>| c.and_then(|c| c.to_digit(16));
        let first = self.bump();
        if first != Some('{') {
            let second = self.bump();
            return Some(digit(first)? * 16 + digit(second)?);
        }
        let (mut code, mut digits) = (0, 0);
        loop {
            let c = self.bump();
            if c == Some('}') {
                return (digits > 0).then_some(code);
            }
            code = code * 16 + digit(c)?;
            digits += 1;
            if code > u32::from(char::MAX) {
                return None;
            }
        }
    }
}
