//! From query text to tokens.
//!
//! Owns the place in the text and the three modes of the language: statements, label matchers inside braces,
//! and durations inside brackets, where words and characters mean different things. Tokens are made on demand,
//! so an error that stands later in the text is told only if the parser comes that far.
//!
//! Modes, in upstream's words since its errors show them: a bracket opens in the strict mode of durations; its first
//! number leads back to statements, with the bracket still open.

mod number;
mod string;

use crate::ast::BinaryOp;
use crate::error::ParseError;
use crate::position::Span;
use crate::quote::quote_char;
use crate::token::{Keyword, Token, TokenKind, word_kind};

/// Cheap to copy: the parser looks ahead on a copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lexer<'a> {
    text: &'a str,
    /// Start of the token being read.
    start: usize,
    /// Next byte to read.
    at: usize,
    paren_depth: usize,
    brace_open: bool,
    bracket: Option<Bracket>,
    /// Whether any bracket so far had a number; only then may a colon follow.
    has_number: bool,
}

/// What was seen since `[`.
#[derive(Debug, Clone, Copy)]
struct Bracket {
    /// Whether its first number is still to come.
    strict: bool,
    has_colon: bool,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, start: 0, at: 0, paren_depth: 0, brace_open: false, bracket: None, has_number: false }
    }

    /// The next token; at the end always [`TokenKind::EndOfInput`].
    pub(crate) fn next_token(&mut self) -> Result<Token, ParseError> {
        self.skip_spaces_and_comments();
        self.start = self.at;
        let kind = if self.brace_open {
            self.inside_braces()
        } else if self.is_strict() {
            self.duration()
        } else {
            self.statement()
        }?;
        Ok(Token { kind, span: Span::new(self.start, self.at) })
    }

    fn skip_spaces_and_comments(&mut self) {
        loop {
            self.take_while(is_space);
            if (self.is_strict() && !self.brace_open) || self.peek() != Some('#') {
                return;
            }
            self.take_while(|c| c != '\n' && c != '\r');
        }
    }

    /// Within a bracket whose first number is still to come.
    fn is_strict(&self) -> bool {
        self.bracket.is_some_and(|bracket| bracket.strict)
    }

    fn statement(&mut self) -> Result<TokenKind, ParseError> {
        let Some(c) = self.bump() else {
            return match (self.paren_depth, self.bracket) {
                (0, None) => Ok(TokenKind::EndOfInput),
                (0, Some(_)) => Err(self.error("unclosed left bracket")),
                _ => Err(self.error("unclosed left parenthesis")),
            };
        };
        let kind = match c {
            '=' => match self.peek() {
                Some('=') => self.second(BinaryOp::Eql),
                Some('~') => return Err(self.error("unexpected character after '=': '~'")),
                _ => TokenKind::Assign,
            },
            '!' => match self.bump() {
                Some('=') => TokenKind::Operator(BinaryOp::Neq),
                other => return Err(self.error(format!("unexpected character after '!': {}", quote_or_end(other)))),
            },
            '<' => match self.peek() {
                Some('=') => self.second(BinaryOp::Lte),
                Some('/') => self.second(BinaryOp::TrimUpper),
                _ => TokenKind::Operator(BinaryOp::Lss),
            },
            '>' => match self.peek() {
                Some('=') => self.second(BinaryOp::Gte),
                Some('/') => self.second(BinaryOp::TrimLower),
                _ => TokenKind::Operator(BinaryOp::Gtr),
            },
            '@' => TokenKind::At,
            '{' => {
                self.brace_open = true;
                TokenKind::LeftBrace
            }
            '[' if self.bracket.is_some() => return Err(self.error("unexpected left bracket '['")),
            '[' => {
                self.bracket = Some(Bracket { strict: true, has_colon: false });
                TokenKind::LeftBracket
            }
            ']' if self.bracket.is_none() => return Err(self.error("unexpected right bracket ']'")),
            ']' => {
                self.bracket = None;
                TokenKind::RightBracket
            }
            '"' | '\'' | '`' => self.string(c)?,
            c if let Some(bracket) = self.bracket.filter(|_| c == ':' || is_word_start(c)) => {
                return self.word_in_bracket(c, bracket);
            }
            c if is_word_start(c) || c == ':' => {
                self.take_while(|c| is_word(c) || c == ':');
                self.word()
            }
            c => return self.common(c).unwrap_or_else(|| Err(self.unexpected("unexpected character: ", c))),
        };
        Ok(kind)
    }

    /// Behind the first number of a bracket there is one colon, and no word but those of durations.
    fn word_in_bracket(&mut self, c: char, bracket: Bracket) -> Result<TokenKind, ParseError> {
        match c {
            ':' if bracket.has_colon => Err(self.error("unexpected colon ':'")),
            ':' => {
                self.bracket = Some(Bracket { has_colon: true, ..bracket });
                Ok(TokenKind::Colon)
            }
            c => self
                .duration_keyword()
                .ok_or_else(|| self.error(format!("unexpected character: {}, expected ':'", quote_char(c)))),
        }
    }

    /// A keyword or an identifier. The fill modifiers are such only before a parenthesis, so that they can be names.
    fn word(&self) -> TokenKind {
        let is_fill = |kind| matches!(kind, TokenKind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight));
        match word_kind(&self.text[self.start..self.at]) {
            kind if is_fill(kind) && !self.text[self.at..].trim_start_matches(is_space).starts_with('(') => {
                TokenKind::Identifier
            }
            kind => kind,
        }
    }

    /// What statements and durations share: arithmetic, parentheses, numbers.
    fn common(&mut self, c: char) -> Option<Result<TokenKind, ParseError>> {
        let kind = match c {
            '+' => TokenKind::Operator(BinaryOp::Add),
            '-' => TokenKind::Operator(BinaryOp::Sub),
            '*' => TokenKind::Operator(BinaryOp::Mul),
            '/' => TokenKind::Operator(BinaryOp::Div),
            '%' => TokenKind::Operator(BinaryOp::Mod),
            '^' => TokenKind::Operator(BinaryOp::Pow),
            ',' => TokenKind::Comma,
            '(' => {
                self.paren_depth += 1;
                TokenKind::LeftParen
            }
            ')' if self.paren_depth == 0 => return Some(Err(self.error_behind("unexpected right parenthesis ')'"))),
            ')' => {
                self.paren_depth -= 1;
                TokenKind::RightParen
            }
            c if c.is_ascii_digit() || (c == '.' && self.peek().is_some_and(|next| next.is_ascii_digit())) => {
                return Some(self.number_or_duration());
            }
            _ => return None,
        };
        Some(Ok(kind))
    }

    fn inside_braces(&mut self) -> Result<TokenKind, ParseError> {
        let Some(c) = self.bump() else {
            return Err(self.error("unexpected end of input inside braces"));
        };
        match c {
            ',' => Ok(TokenKind::Comma),
            '=' if self.peek() == Some('~') => {
                self.bump();
                Ok(TokenKind::RegexMatch)
            }
            '=' => Ok(TokenKind::Assign),
            '!' => match self.bump() {
                Some('~') => Ok(TokenKind::RegexMismatch),
                Some('=') => Ok(TokenKind::Operator(BinaryOp::Neq)),
                other => {
                    Err(self.error(format!("unexpected character after '!' inside braces: {}", quote_or_end(other))))
                }
            },
            '"' | '\'' | '`' => self.string(c),
            '{' => Err(self.error("unexpected left brace '{'")),
            '}' => {
                self.brace_open = false;
                Ok(TokenKind::RightBrace)
            }
            c if is_word_start(c) => {
                self.take_while(is_word);
                Ok(TokenKind::Identifier)
            }
            c => Err(self.unexpected("unexpected character inside braces: ", c)),
        }
    }

    /// The strict mode: behind an opening bracket until a number comes.
    fn duration(&mut self) -> Result<TokenKind, ParseError> {
        let Some(c) = self.bump() else {
            return Err(self.error("unexpected end of input in duration expression"));
        };
        match c {
            ']' => {
                self.bracket = None;
                Ok(TokenKind::RightBracket)
            }
            ':' if !self.has_number => {
                Err(self.error_behind("unexpected colon before duration in duration expression"))
            }
            ':' if self.bracket.is_some_and(|bracket| bracket.has_colon) => {
                Err(self.error_behind("unexpected repeated colon in duration expression"))
            }
            ':' => {
                self.bracket = Some(Bracket { strict: true, has_colon: true });
                Ok(TokenKind::Colon)
            }
            c if is_word_start(c) => self
                .duration_keyword()
                .ok_or_else(|| self.unexpected("unexpected character in duration expression: ", c)),
            c => match self.common(c) {
                Some(Ok(kind @ (TokenKind::Number | TokenKind::Duration))) => {
                    self.has_number = true;
                    self.bracket = self.bracket.map(|bracket| Bracket { strict: false, ..bracket });
                    Ok(kind)
                }
                Some(result) => result,
                None => Err(self.unexpected("unexpected character in duration expression: ", c)),
            },
        }
    }

    /// `step`, `range`, `min_of`, `max_of`; the first letter was read. A digit ends the word.
    fn duration_keyword(&mut self) -> Option<TokenKind> {
        self.take_while(is_word_start);
        match word_kind(&self.text[self.start..self.at]) {
            kind @ TokenKind::Keyword(Keyword::Step | Keyword::Range | Keyword::MinOf | Keyword::MaxOf) => Some(kind),
            _ => None,
        }
    }

    fn second(&mut self, op: BinaryOp) -> TokenKind {
        self.bump();
        TokenKind::Operator(op)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&accept) {
            self.bump();
        }
    }

    /// An error from the start of the current token to the end of the text.
    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::new(self.text, Span::new(self.start, self.text.len()), message)
    }

    /// The same, but from behind the token, which was read already.
    fn error_behind(&self, message: &str) -> ParseError {
        ParseError::new(self.text, Span::new(self.at, self.text.len()), message)
    }

    fn unexpected(&self, message: &str, c: char) -> ParseError {
        self.error(format!("{message}{}", quote_char(c)))
    }
}

/// The end of the text shows as upstream shows it: a rune that is none.
fn quote_or_end(c: Option<char>) -> String {
    c.map_or_else(|| "'\u{fffd}'".to_owned(), quote_char)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_word_start(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}
