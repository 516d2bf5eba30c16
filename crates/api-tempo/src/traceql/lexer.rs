//! Tokens of a query, with their places. One token at a time: what is not looked at is not judged.

use super::ast::{Literal, Operator, Scope};

/// A piece of a query.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    End,
    /// `{`, `}`, `(`, `)`, `,`.
    Mark(char),
    And,
    Or,
    Not,
    Minus,
    /// `|`.
    Pipe,
    Compare(Operator),
    /// A sign of the language that is not understood here: structural operators, arithmetic.
    Foreign(String),
    Literal(Literal),
    Attribute {
        scope: Option<Scope>,
        key: String,
    },
    /// A word that is no literal, with what follows a colon.
    Word(String),
}

/// Signs that begin with others; the longest first.
const FOREIGN: [&str; 19] =
    ["&>>", "&<<", "!>>", "!<<", "&>", "&<", "&~", "!>", "!<", ">>", "<<", "+", "*", "/", "%", "^", "~", "[", "]"];

/// Whether an unquoted key may have this character.
pub(super) fn is_attribute_char(c: char) -> bool {
    !c.is_whitespace() && !"{}()=~!<>&|^,".contains(c)
}

/// Whether a word may begin so.
pub(super) fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Reads tokens.
#[derive(Clone, Copy)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

/// Where, and what.
type Problem = (usize, String);

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes what passes.
    fn take_while(&mut self, test: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !test(c)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn eat(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.at += prefix.len();
        }
        found
    }

    /// The next token and where it begins.
    pub(super) fn next(&mut self) -> Result<(usize, Token), Problem> {
        loop {
            self.take_while(char::is_whitespace);
            if !self.eat("//") {
                break;
            }
            self.take_while(|c| c != '\n');
        }
        let at = self.at;
        let Some(first) = self.peek() else { return Ok((at, Token::End)) };
        let token = match first {
            '{' | '}' | '(' | ')' | ',' => {
                self.at += 1;
                Token::Mark(first)
            }
            '"' => Token::Literal(Literal::Text(self.quoted()?)),
            '`' => Token::Literal(Literal::Text(self.raw()?)),
            '0'..='9' => Token::Literal(self.number()?),
            '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => Token::Literal(self.number()?),
            '.' => {
                self.at += 1;
                Token::Attribute { scope: None, key: self.key()? }
            }
            c if is_word_start(c) => self.word()?,
            _ => self.sign()?,
        };
        Ok((at, token))
    }

    fn sign(&mut self) -> Result<Token, Problem> {
        if self.eat("&&") {
            return Ok(Token::And);
        }
        if self.eat("||") {
            return Ok(Token::Or);
        }
        if let Some(sign) = FOREIGN.iter().find(|sign| self.rest().starts_with(**sign)) {
            self.at += sign.len();
            return Ok(Token::Foreign((*sign).to_owned()));
        }
        if let Some((sign, operator)) = Operator::ALL.iter().find(|(sign, _)| self.rest().starts_with(sign)) {
            self.at += sign.len();
            return Ok(Token::Compare(*operator));
        }
        for (sign, token) in [("!", Token::Not), ("-", Token::Minus), ("|", Token::Pipe)] {
            if self.eat(sign) {
                return Ok(token);
            }
        }
        Err((self.at, format!("unexpected character {:?}", self.peek().unwrap_or_default())))
    }

    fn word(&mut self) -> Result<Token, Problem> {
        let at = self.at;
        let word = self.take_while(is_word_char);
        match self.peek() {
            Some('.') => {
                if word == "parent" {
                    return Err((at, "attributes of the parent (`parent.`) are not supported".to_owned()));
                }
                let scope = Scope::of(word).ok_or_else(|| {
                    (at, format!("unknown scope {word:?}: a span's attributes are `.key` or `span.key`"))
                })?;
                self.at += 1;
                Ok(Token::Attribute { scope: Some(scope), key: self.key()? })
            }
            Some(':') => {
                self.at += 1;
                self.take_while(is_word_char);
                Ok(Token::Word(self.text[at..self.at].to_owned()))
            }
            _ => Ok(Literal::WORDS
                .iter()
                .find(|(known, _)| *known == word)
                .map_or_else(|| Token::Word(word.to_owned()), |(_, literal)| Token::Literal(literal.clone()))),
        }
    }

    /// The key of an attribute: plain and quoted parts in a row.
    fn key(&mut self) -> Result<String, Problem> {
        let (at, mut key) = (self.at, String::new());
        let mut is_quoted = false;
        loop {
            if self.peek() == Some('"') {
                is_quoted = true;
                self.quoted_key_part(&mut key)?;
            } else {
                let plain = self.take_while(|c| is_attribute_char(c) && c != '"');
                if plain.is_empty() {
                    break;
                }
                key.push_str(plain);
            }
        }
        if key.is_empty() && !is_quoted {
            return Err((at, "the name of an attribute is missing".to_owned()));
        }
        Ok(key)
    }

    fn quoted_key_part(&mut self, key: &mut String) -> Result<(), Problem> {
        let at = self.at;
        self.at += 1;
        loop {
            key.push_str(self.take_while(|c| c != '"' && c != '\\'));
            if self.eat("\"") {
                return Ok(());
            }
            let escape_at = self.at;
            if !self.eat("\\") {
                return Err((at, "the quotes around the name of an attribute are not closed".to_owned()));
            }
            match self.peek() {
                Some(c @ ('"' | '\\')) => {
                    key.push(c);
                    self.at += 1;
                }
                _ => return Err((escape_at, "invalid escape sequence: names know \\\" and \\\\".to_owned())),
            }
        }
    }

    fn raw(&mut self) -> Result<String, Problem> {
        let at = self.at;
        self.at += 1;
        let text = self.take_while(|c| c != '`');
        if self.eat("`") { Ok(text.to_owned()) } else { Err((at, "a text is not closed".to_owned())) }
    }

    /// A text as Go writes it.
    fn quoted(&mut self) -> Result<String, Problem> {
        let (at, mut text) = (self.at, String::new());
        self.at += 1;
        loop {
            text.push_str(self.take_while(|c| !matches!(c, '"' | '\\' | '\n')));
            if self.eat("\"") {
                return Ok(text);
            }
            let escape_at = self.at;
            if !self.eat("\\") {
                return Err((at, "a text is not closed".to_owned()));
            }
            let escaped = self.escape();
            text.push(escaped.ok_or_else(|| (escape_at, "invalid escape sequence in a text".to_owned()))?);
        }
    }

    fn escape(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += letter.len_utf8();
        let digits = match letter {
            'a' => return Some('\u{7}'),
            'b' => return Some('\u{8}'),
            'f' => return Some('\u{c}'),
            'n' => return Some('\n'),
            'r' => return Some('\r'),
            't' => return Some('\t'),
            'v' => return Some('\u{b}'),
            '"' | '\\' | '\'' => return Some(letter),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return None,
        };
        let code = self.rest().get(..digits)?;
        let number =
            u32::from_str_radix(code, 16).ok().filter(|_| code.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        self.at += digits;
        // Single bytes beyond ASCII are no text.
        if letter == 'x' && number > 0x7f { None } else { char::from_u32(number) }
    }

    /// A whole number, another number, or a duration.
    fn number(&mut self) -> Result<Literal, Problem> {
        let at = self.at;
        self.take_while(|c| c.is_ascii_digit() || c == '.');
        let is_exponent = |rest: &str| {
            let behind = rest.strip_prefix(['e', 'E']).unwrap_or_default();
            behind.strip_prefix(['+', '-']).unwrap_or(behind).starts_with(|c: char| c.is_ascii_digit())
        };
        if is_exponent(self.rest()) {
            self.at += 2;
            self.take_while(|c| c.is_ascii_digit());
        }
        self.take_while(|c| c.is_alphanumeric() || c == '.' || c == '_');
        let text = &self.text[at..self.at];
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Literal::Int).map_err(|_| (at, format!("{text} is too large a number")));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte)) {
            let number = text.parse().ok().filter(|number: &f64| number.is_finite());
            return number.map(Literal::Float).ok_or_else(|| (at, format!("{text} is no number")));
        }
        duration_ns(text).map(Literal::DurationNs).ok_or_else(|| (at, format!("{text} is neither number nor duration")))
    }
}

const UNITS: [(&str, i64); 11] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
    ("y", 31_536_000_000_000_000),
];

/// Nanoseconds of a duration such as `1h2.5s`; none if it is not one.
pub(crate) fn duration_ns(text: &str) -> Option<i64> {
    let (mut rest, mut total_ns) = (text, 0_i64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len()));
        let unit_ns = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let ns = if number.contains('.') {
            let ns = number.parse::<f64>().ok()? * unit_ns as f64;
            (ns < i64::MAX as f64).then_some(ns as i64)?
        } else {
            number.parse::<i64>().ok()?.checked_mul(unit_ns)?
        };
        total_ns = total_ns.checked_add(ns)?;
        rest = after;
    }
    Some(total_ns)
}
