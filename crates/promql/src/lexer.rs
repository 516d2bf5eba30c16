//! From query text to tokens.
//!
//! Owns the place in the text and the three modes of the language: statements, label matchers inside braces,
//! and durations inside brackets, where words and characters mean different things. Tokens are made on demand,
//! so an error that stands later in the text is told only if the parser comes that far.

mod number;
mod string;

use crate::ast::BinaryOp;
use crate::error::ParseError;
use crate::position::Span;
use crate::quote::quote_char;
use crate::token::{Token, TokenKind, word_kind};

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
}

/// What was seen since `[`.
#[derive(Debug, Clone, Copy, Default)]
struct Bracket {
    has_operand: bool,
    has_colon: bool,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, start: 0, at: 0, paren_depth: 0, brace_open: false, bracket: None }
    }

    /// The next token; at the end always [`TokenKind::EndOfInput`].
    pub(crate) fn next_token(&mut self) -> Result<Token, ParseError> {
        self.skip_spaces_and_comments();
        self.start = self.at;
        let kind = if self.brace_open {
            self.inside_braces()
        } else if self.bracket.is_some() {
            self.inside_brackets()
        } else {
            self.statement()
        }?;
        Ok(Token { kind, span: Span::new(self.start, self.at) })
    }

    fn skip_spaces_and_comments(&mut self) {
        loop {
            self.take_while(is_space);
            if self.peek() != Some('#') {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn statement(&mut self) -> Result<TokenKind, ParseError> {
        let Some(c) = self.bump() else {
            if self.paren_depth > 0 {
                return Err(self.error("unclosed left parenthesis"));
            }
            return Ok(TokenKind::EndOfInput);
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
            '[' => {
                self.bracket = Some(Bracket::default());
                TokenKind::LeftBracket
            }
            ']' => return Err(self.error("unexpected right bracket ']'")),
            '"' | '\'' | '`' => self.string(c)?,
            c if is_word_start(c) || c == ':' => {
                self.take_while(|c| is_word(c) || c == ':');
                word_kind(&self.text[self.start..self.at])
            }
            c => return self.common(c).unwrap_or_else(|| Err(self.unexpected("unexpected character: ", c))),
        };
        Ok(kind)
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
            ')' if self.paren_depth == 0 => return Some(Err(self.error("unexpected right parenthesis ')'"))),
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

    fn inside_brackets(&mut self) -> Result<TokenKind, ParseError> {
        let bracket = self.bracket.unwrap_or_default();
        let Some(c) = self.bump() else {
            return Err(self.error(if bracket.has_operand {
                "unclosed left bracket"
            } else {
                "unexpected end of input in duration expression"
            }));
        };
        match c {
            ']' => {
                self.bracket = None;
                Ok(TokenKind::RightBracket)
            }
            ':' if !bracket.has_operand => Err(self.error("unexpected colon before duration in duration expression")),
            ':' if bracket.has_colon => Err(self.error("unexpected repeated colon in duration expression")),
            ':' => {
                self.bracket = Some(Bracket { has_colon: true, ..bracket });
                Ok(TokenKind::Colon)
            }
            '[' => Err(self.error("unexpected left bracket '['")),
            c if is_word_start(c) => {
                self.take_while(is_word);
                let word = self.text[self.start..self.at].to_ascii_lowercase();
                if !matches!(word.as_str(), "step" | "range" | "min_of" | "max_of") {
                    return Err(self.unexpected_in_brackets(c));
                }
                self.bracket = Some(Bracket { has_operand: true, ..bracket });
                Ok(word_kind(&word))
            }
            c => {
                let kind = self.common(c).unwrap_or_else(|| Err(self.unexpected_in_brackets(c)))?;
                if matches!(kind, TokenKind::Number | TokenKind::Duration) {
                    self.bracket = Some(Bracket { has_operand: true, ..bracket });
                }
                Ok(kind)
            }
        }
    }

    fn unexpected_in_brackets(&self, c: char) -> ParseError {
        let has_operand = self.bracket.is_some_and(|bracket| bracket.has_operand);
        if has_operand && is_word_start(c) {
            return self.error(format!("unexpected character: {}, expected ':'", quote_char(c)));
        }
        self.unexpected("unexpected character in duration expression: ", c)
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

    fn unexpected(&self, message: &str, c: char) -> ParseError {
        self.error(format!("{message}{}", quote_char(c)))
    }
}

fn quote_or_end(c: Option<char>) -> String {
    c.map_or_else(|| "end of input".to_owned(), quote_char)
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
