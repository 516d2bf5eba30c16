//! Function calls and aggregations.

use super::{Context, Node, Parser};
use crate::ast::{Aggregate, AggregateOp, Call, Expr, Grouping};
use crate::error::ParseError;
use crate::functions::Function;
use crate::quote::quote;
use crate::token::{Keyword, Token, TokenKind};

const AGGREGATION: Context = Context::new("aggregation", "");
const GROUPING: Context = Context::new("grouping opts", "\"(\"");
const GROUPING_LABEL: Context = Context::new("grouping opts", "label");
const GROUPING_NEXT: Context = Context::new("grouping opts", "\",\" or \")\"");

impl Parser<'_> {
    /// `name(arguments)`; the caller saw the name and the parenthesis.
    pub(super) fn call(&mut self) -> Result<Node, ParseError> {
        let name_token = self.advance()?;
        let args = self.arguments()?;
        let name = self.source(name_token);
        let Some(function) = Function::find(name) else {
            return Err(self.error(name_token.span, format!("unknown function with name {}", quote(name))));
        };
        if function.experimental && !self.options.experimental_functions {
            let message = format!("function {} is not enabled", quote(name));
            return Err(self.error(name_token.span, message));
        }
        let depth = args.iter().map(|arg| arg.depth).max().unwrap_or(0);
        let args = args.into_iter().map(|arg| *arg.expr).collect();
        let span = self.span_since(name_token.span);
        self.node(Expr::Call(Call { function, args, span }), depth)
    }

    fn arguments(&mut self) -> Result<Vec<Node>, ParseError> {
        self.expect(TokenKind::LeftParen)?;
        let mut args = Vec::new();
        if self.accept(TokenKind::RightParen)? {
            return Ok(args);
        }
        loop {
            args.push(self.expression()?);
            let separator = self.peek()?;
            match separator.kind {
                TokenKind::RightParen => {
                    self.advance()?;
                    return Ok(args);
                }
                TokenKind::Comma => {
                    self.advance()?;
                    if !self.peek()?.begins_expression() {
                        return Err(self.error(separator.span, "trailing commas not allowed in function call args"));
                    }
                }
                _ => return Err(self.unexpected()),
            }
        }
    }

    /// `op by (…) (…)` or `op (…) by (…)`; the caller saw what follows the operator.
    pub(super) fn aggregate(&mut self, op: AggregateOp) -> Result<Node, ParseError> {
        let start = self.advance()?.span;
        let (grouping, mut args, span) = self.within(AGGREGATION, |parser| {
            let grouping = parser.grouping()?;
            let args = parser.arguments()?;
            let span = parser.span_since(start);
            Ok((grouping, args, span))
        })?;
        let (grouping, span) = match grouping {
            Some(grouping) => (grouping, span),
            None => (self.grouping()?.unwrap_or(Grouping::None), self.span_since(start)),
        };
        if args.is_empty() {
            return Err(self.error(span, "no arguments for aggregate expression provided"));
        }
        if op.is_experimental() && !self.options.experimental_functions {
            let message = format!(
                "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                op.name()
            );
            return Err(self.error(span, message));
        }
        let (wanted, found) = (1 + usize::from(op.param_type().is_some()), args.len());
        if found != wanted {
            let message =
                format!("wrong number of arguments for aggregate expression provided, expected {wanted}, got {found}");
            return Err(self.error(span, message));
        }
        let depth = args.iter().map(|arg| arg.depth).max().unwrap_or(0);
        let Some(Node { expr, .. }) = args.pop() else { return Err(self.unexpected()) };
        let param = args.pop().map(|param| param.expr);
        self.node(Expr::Aggregate(Aggregate { op, expr, param, grouping, span }), depth)
    }

    /// The clause, if one follows; `by ()` means as little as none.
    fn grouping(&mut self) -> Result<Option<Grouping>, ParseError> {
        let TokenKind::Keyword(keyword @ (Keyword::By | Keyword::Without)) = self.peek_kind()? else {
            return Ok(None);
        };
        self.advance()?;
        let labels = self.grouping_labels()?;
        Ok(Some(match keyword {
            Keyword::Without => Grouping::Without(labels),
            _ if labels.is_empty() => Grouping::None,
            _ => Grouping::By(labels),
        }))
    }

    /// `(label, "label", …)`; may be empty and may end in a comma.
    pub(super) fn grouping_labels(&mut self) -> Result<Vec<String>, ParseError> {
        if self.peek_kind()? != TokenKind::LeftParen {
            return Err(self.unexpected_in(GROUPING));
        }
        self.advance()?;
        let mut labels = Vec::new();
        loop {
            let token = self.peek()?;
            match token.kind {
                // After a comma the list may end, but not begin with one.
                TokenKind::RightParen => break,
                TokenKind::String => {
                    self.advance()?;
                    labels.push(self.quoted_label(token)?);
                }
                _ if token.is_label_name() => {
                    self.advance()?;
                    labels.push(self.source(token).to_owned());
                }
                _ => return Err(self.unexpected_in(GROUPING_LABEL)),
            }
            match self.peek_kind()? {
                TokenKind::RightParen => break,
                TokenKind::Comma => self.advance()?,
                _ => return Err(self.unexpected_in(GROUPING_NEXT)),
            };
        }
        self.advance()?;
        Ok(labels)
    }

    fn quoted_label(&self, token: Token) -> Result<String, ParseError> {
        let label = self.label_text(token)?;
        if label.is_empty() {
            return Err(self.error(token.span, format!("invalid label name for grouping: {}", quote(&label))));
        }
        Ok(label)
    }
}
