//! Function calls and aggregations.

use super::{Node, Parser};
use crate::ast::{Aggregate, AggregateOp, Call, Expr, Grouping};
use crate::error::ParseError;
use crate::functions::Function;
use crate::quote::quote;
use crate::token::{Keyword, TokenKind};

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
        self.expect(TokenKind::LeftParen, "", "")?;
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
                    if self.peek_kind()? == TokenKind::RightParen {
                        return Err(self.error(separator.span, "trailing commas not allowed in function call args"));
                    }
                }
                _ => return Err(self.unexpected("", "")),
            }
        }
    }

    /// `op by (…) (…)` or `op (…) by (…)`; the caller saw what follows the operator.
    pub(super) fn aggregate(&mut self, op: AggregateOp) -> Result<Node, ParseError> {
        let start = self.advance()?.span;
        let mut grouping = self.grouping()?;
        if self.peek_kind()? != TokenKind::LeftParen {
            return Err(self.unexpected("aggregation", ""));
        }
        let mut args = self.arguments()?;
        if grouping == Grouping::None {
            grouping = self.grouping()?;
        }
        let span = self.span_since(start);
        if op.is_experimental() && !self.options.experimental_functions {
            let message = format!(
                "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                op.name()
            );
            return Err(self.error(span, message));
        }
        let wanted = 1 + usize::from(op.param_type().is_some());
        if args.len() != wanted {
            let message = if args.is_empty() {
                "no arguments for aggregate expression provided".to_owned()
            } else {
                let found = args.len();
                format!("wrong number of arguments for aggregate expression provided, expected {wanted}, got {found}")
            };
            return Err(self.error(span, message));
        }
        let depth = args.iter().map(|arg| arg.depth).max().unwrap_or(0);
        let Some(Node { expr, .. }) = args.pop() else { return Err(self.unexpected("aggregation", "")) };
        let param = args.pop().map(|param| param.expr);
        self.node(Expr::Aggregate(Aggregate { op, expr, param, grouping, span }), depth)
    }

    fn grouping(&mut self) -> Result<Grouping, ParseError> {
        match self.peek_kind()? {
            TokenKind::Keyword(Keyword::By) => {
                self.advance()?;
                Ok(Grouping::By(self.grouping_labels()?))
            }
            TokenKind::Keyword(Keyword::Without) => {
                self.advance()?;
                Ok(Grouping::Without(self.grouping_labels()?))
            }
            _ => Ok(Grouping::None),
        }
    }

    /// `(label, "label", …)`; may be empty and may end in a comma.
    pub(super) fn grouping_labels(&mut self) -> Result<Vec<String>, ParseError> {
        const CONTEXT: &str = "grouping opts";
        self.expect(TokenKind::LeftParen, CONTEXT, "\"(\"")?;
        let mut labels = Vec::new();
        loop {
            let token = self.peek()?;
            match token.kind {
                // After a comma the list may end, but not begin with one.
                TokenKind::RightParen => break,
                TokenKind::String => {
                    let label = self.label_text(token)?;
                    if label.is_empty() {
                        return Err(self.unexpected(CONTEXT, "label"));
                    }
                    labels.push(label);
                }
                _ if token.is_label_name() => labels.push(self.source(token).to_owned()),
                _ => return Err(self.unexpected(CONTEXT, "label")),
            }
            self.advance()?;
            if self.peek_kind()? == TokenKind::RightParen {
                break;
            }
            self.expect(TokenKind::Comma, CONTEXT, "\",\" or \")\"")?;
        }
        self.advance()?;
        Ok(labels)
    }
}
