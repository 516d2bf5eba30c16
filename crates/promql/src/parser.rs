//! From tokens to a syntax tree: recursive descent, operators by precedence.
//!
//! Owns the grammar. The first error ends the parse. Types are a matter of [`crate::check`], which runs on the tree
//! afterwards; only what the shape of the text alone decides is refused here.
//!
//! A token in the wrong place is told with the innermost construct that knows what it wants ([`Context`]); what stands in
//! parentheses or operands within it inherits that. Whether an error of the next token or one of the construct just read
//! comes first is as upstream's tables have it: a construct that may go on asks for the next token before it is complete.
//!
//! Invariant: recursion is bounded by [`NESTING_MAX`], the depth of the tree by [`EXPRESSION_DEPTH_MAX`]; so neither
//! the parser nor any walk over its trees can exhaust the stack.

mod call;
mod duration;
mod expr;
mod literal;
mod modifier;
mod selector;

use crate::ast::{Expr, Matcher};
use crate::check::check;
use crate::error::ParseError;
use crate::lexer::Lexer;
use crate::limits::{EXPRESSION_DEPTH_MAX, NESTING_MAX, QUERY_BYTES_MAX};
use crate::options::ParserOptions;
use crate::position::Span;
use crate::token::{Token, TokenKind};

/// Parses and checks a query.
///
/// # Errors
/// [`ParseError`]: the text is no valid PromQL, uses a part of the language that `options` leaves off, or exceeds
/// [`crate::limits`].
pub fn parse(text: &str, options: ParserOptions) -> Result<Expr, ParseError> {
    let mut expr = unchecked(text, options)?;
    check(&mut expr, text)?;
    Ok(expr)
}

/// What the grammar makes of a text.
fn unchecked(text: &str, options: ParserOptions) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text, options)?;
    if parser.peek()?.kind == TokenKind::EndOfInput {
        return Err(parser.error(Span::default(), "no expression found in input"));
    }
    let Node { expr, .. } = parser.expression()?;
    if parser.peek()?.kind != TokenKind::EndOfInput {
        return Err(parser.unexpected());
    }
    Ok(*expr)
}

/// Parses the matchers of one series selector, as `match[]` parameters carry them: `name{label="value"}`. Whether it may
/// select everything is up to the caller.
///
/// # Errors
/// [`ParseError`]: the text is no instant vector selector, or it has modifiers.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(text, ParserOptions::default())?;
    let first = parser.peek()?;
    if first.kind != TokenKind::LeftBrace && !first.is_metric_name() {
        return Err(parser.unexpected());
    }
    let selector = parser.selector()?;
    if parser.peek()?.kind != TokenKind::EndOfInput {
        return Err(parser.unexpected());
    }
    Ok(selector.matchers)
}

/// An expression and how many nodes deep it is. Boxed, to keep the frames of the recursion small.
struct Node {
    expr: Box<Expr>,
    depth: usize,
}

/// What a message about an unexpected token says of the place: "in …" and "expected …", each only if not empty.
#[derive(Debug, Clone, Copy, Default)]
struct Context {
    within: &'static str,
    expected: &'static str,
}

impl Context {
    const fn new(within: &'static str, expected: &'static str) -> Self {
        Self { within, expected }
    }
}

struct Parser<'a> {
    text: &'a str,
    options: ParserOptions,
    lexer: Lexer<'a>,
    /// The next token, read but not consumed.
    next: Result<Token, ParseError>,
    /// Where the last consumed token ended.
    consumed_end: u32,
    nesting: usize,
    duration_operators: usize,
    /// Memory of the patterns so far.
    pattern_bytes: usize,
    /// Of the construct being read.
    context: Context,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, options: ParserOptions) -> Result<Self, ParseError> {
        if text.len() > QUERY_BYTES_MAX {
            let message = format!("query is too long: {} bytes, at most {QUERY_BYTES_MAX}", text.len());
            return Err(ParseError::new(text, Span::default(), message));
        }
        let mut lexer = Lexer::new(text);
        let next = lexer.next_token();
        Ok(Self {
            text,
            options,
            lexer,
            next,
            consumed_end: 0,
            nesting: 0,
            duration_operators: 0,
            pattern_bytes: 0,
            context: Context::default(),
        })
    }

    /// The next token, left in place.
    fn peek(&self) -> Result<Token, ParseError> {
        self.next.clone()
    }

    fn peek_kind(&self) -> Result<TokenKind, ParseError> {
        Ok(self.peek()?.kind)
    }

    /// The kind of the token after the next one; an error there is told when it is reached.
    fn peek_second(&self) -> Option<TokenKind> {
        let mut ahead = self.lexer;
        ahead.next_token().ok().map(|token| token.kind)
    }

    fn advance(&mut self) -> Result<Token, ParseError> {
        let token = self.peek()?;
        self.consumed_end = token.span.end;
        self.next = self.lexer.next_token();
        Ok(token)
    }

    /// Consumes the next token if it is `kind`.
    fn accept(&mut self, kind: TokenKind) -> Result<bool, ParseError> {
        let found = self.peek_kind()? == kind;
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, kind: TokenKind) -> Result<Token, ParseError> {
        if self.peek_kind()? != kind {
            return Err(self.unexpected());
        }
        self.advance()
    }

    /// Reads something under a context of its own. Nobody comes back from an error, so only success restores the old one.
    fn within<T>(
        &mut self,
        context: Context,
        read: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        let outer = std::mem::replace(&mut self.context, context);
        let found = read(self)?;
        self.context = outer;
        Ok(found)
    }

    fn source(&self, token: Token) -> &'a str {
        token.span.text(self.text)
    }

    /// From the start of `span` to the end of what was consumed.
    fn span_since(&self, span: Span) -> Span {
        Span { start: span.start, end: self.consumed_end }
    }

    fn error(&self, span: Span, message: impl Into<String>) -> ParseError {
        ParseError::new(self.text, span, message)
    }

    /// The next token does not belong here; if it is no token at all, what the lexer says.
    fn unexpected(&self) -> ParseError {
        self.unexpected_in(self.context)
    }

    fn unexpected_in(&self, context: Context) -> ParseError {
        let token = match &self.next {
            Ok(token) => *token,
            Err(error) => return error.clone(),
        };
        let mut message = format!("unexpected {}", token.describe(self.text));
        if !context.within.is_empty() {
            message.push_str(" in ");
            message.push_str(context.within);
        }
        if !context.expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(context.expected);
        }
        self.error(token.span, message)
    }

    /// Goes one level deeper. Nobody comes back up from an error, so only success has to [`Self::leave`].
    fn enter(&mut self) -> Result<(), ParseError> {
        if self.nesting >= NESTING_MAX {
            let message = format!("expression is nested too deeply: at most {NESTING_MAX} levels");
            return Err(self.error(self.peek()?.span, message));
        }
        self.nesting += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.nesting -= 1;
    }

    fn node(&self, expr: Expr, children_depth: usize) -> Result<Node, ParseError> {
        let depth = children_depth + 1;
        if depth > EXPRESSION_DEPTH_MAX {
            let message = format!("expression is too deep: at most {EXPRESSION_DEPTH_MAX} operators on one path");
            return Err(self.error(expr.span(), message));
        }
        Ok(Node { expr: Box::new(expr), depth })
    }

    fn leaf(expr: Expr) -> Node {
        Node { expr: Box::new(expr), depth: 1 }
    }
}
