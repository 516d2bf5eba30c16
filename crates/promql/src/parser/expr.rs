//! Operators: precedence, binding, and the matching clause between them.

use super::{Node, Parser};
use crate::ast::{Binary, BinaryOp, Cardinality, Expr, Paren, Unary, UnaryOp, VectorMatching};
use crate::error::ParseError;
use crate::token::{Keyword, TokenKind};

/// Binding strength of `^`, the strongest.
const POW: u8 = 6;

fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Eql
        | BinaryOp::Neq
        | BinaryOp::Lss
        | BinaryOp::Lte
        | BinaryOp::Gtr
        | BinaryOp::Gte
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 5,
        BinaryOp::Pow => POW,
    }
}

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Result<Node, ParseError> {
        self.operators(1)
    }

    /// An expression of operators that bind at least as strongly as `strength`.
    fn operators(&mut self, strength: u8) -> Result<Node, ParseError> {
        self.enter()?;
        let mut lhs = self.operand()?;
        while let TokenKind::Operator(op) = self.peek_kind()? {
            if precedence(op) < strength {
                break;
            }
            lhs = self.binary(lhs, op)?;
        }
        self.leave();
        Ok(lhs)
    }

    fn binary(&mut self, lhs: Node, op: BinaryOp) -> Result<Node, ParseError> {
        self.advance()?;
        let (return_bool, matching) = self.binary_modifiers()?;
        // `^` binds to the right, all others to the left.
        let rhs = self.operators(if op == BinaryOp::Pow { POW } else { precedence(op) + 1 })?;
        let span = lhs.expr.span().to(rhs.expr.span());
        if !self.options.binop_fill_modifiers && (matching.fill_left.is_some() || matching.fill_right.is_some()) {
            return Err(self.error(span, "binop fill modifiers are experimental and not enabled"));
        }
        let depth = lhs.depth.max(rhs.depth);
        let (lhs, rhs) = (lhs.expr, rhs.expr);
        self.node(Expr::Binary(Binary { op, lhs, rhs, matching: Some(matching), return_bool, span }), depth)
    }

    /// `bool`, then `on` or `ignoring` with its `group_left` or `group_right`, then the fill modifiers.
    fn binary_modifiers(&mut self) -> Result<(bool, VectorMatching), ParseError> {
        let mut matching = VectorMatching::default();
        let return_bool = self.accept(TokenKind::Keyword(Keyword::Bool))?;
        if let TokenKind::Keyword(keyword @ (Keyword::On | Keyword::Ignoring)) = self.peek_kind()? {
            self.advance()?;
            matching.on = keyword == Keyword::On;
            matching.labels = self.grouping_labels()?;
            if let TokenKind::Keyword(keyword @ (Keyword::GroupLeft | Keyword::GroupRight)) = self.peek_kind()? {
                self.advance()?;
                let many_left = keyword == Keyword::GroupLeft;
                matching.cardinality = if many_left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                // A parenthesis begins the list, never the operand; neither begins with anything else.
                let next = self.peek()?;
                if next.kind == TokenKind::LeftParen || !next.begins_expression() {
                    matching.include = self.grouping_labels()?;
                }
            }
        }
        self.fill_modifiers(&mut matching)?;
        Ok((return_bool, matching))
    }

    /// `fill(x)`, or `fill_left(x)` and `fill_right(x)` in either order. A word more is a metric name, as it is wherever no
    /// parenthesis follows (the lexer's business).
    fn fill_modifiers(&mut self, matching: &mut VectorMatching) -> Result<(), ParseError> {
        let TokenKind::Keyword(first) = self.peek_kind()? else { return Ok(()) };
        let second = match first {
            Keyword::Fill => {
                matching.fill_left = Some(self.fill_value()?);
                matching.fill_right = matching.fill_left;
                return Ok(());
            }
            Keyword::FillLeft => {
                matching.fill_left = Some(self.fill_value()?);
                Keyword::FillRight
            }
            Keyword::FillRight => {
                matching.fill_right = Some(self.fill_value()?);
                Keyword::FillLeft
            }
            _ => return Ok(()),
        };
        if self.peek_kind()? == TokenKind::Keyword(second) {
            let value = self.fill_value()?;
            *(if second == Keyword::FillLeft { &mut matching.fill_left } else { &mut matching.fill_right }) =
                Some(value);
        }
        Ok(())
    }

    /// The number in parentheses behind the word, which the caller saw.
    fn fill_value(&mut self) -> Result<f64, ParseError> {
        self.advance()?;
        self.expect(TokenKind::LeftParen)?;
        let value = self.signed_number()?.value;
        self.expect(TokenKind::RightParen)?;
        Ok(value)
    }

    /// An operand with its signs before and its modifiers behind.
    fn operand(&mut self) -> Result<Node, ParseError> {
        match self.peek_kind()? {
            TokenKind::Operator(BinaryOp::Add) => self.signed(UnaryOp::Plus),
            TokenKind::Operator(BinaryOp::Sub) => self.signed(UnaryOp::Minus),
            _ => {
                let primary = self.primary()?;
                self.postfix(primary)
            }
        }
    }

    fn signed(&mut self, op: UnaryOp) -> Result<Node, ParseError> {
        let sign = self.advance()?.span;
        // A sign binds weaker than `^`: -2^2 is -(2^2).
        let Node { mut expr, depth } = self.operators(POW)?;
        let span = sign.to(expr.span());
        if let Expr::Number(number) = expr.as_mut() {
            number.value = if op == UnaryOp::Minus { -number.value } else { number.value };
            number.span = span;
            return Ok(Node { expr, depth });
        }
        self.node(Expr::Unary(Unary { op, expr, span }), depth)
    }

    fn primary(&mut self) -> Result<Node, ParseError> {
        let token = self.peek()?;
        match token.kind {
            TokenKind::LeftParen => self.parentheses(),
            TokenKind::Number | TokenKind::Duration => self.number().map(|node| Self::leaf(Expr::Number(node))),
            TokenKind::String => self.string_literal().map(|node| Self::leaf(Expr::String(node))),
            TokenKind::LeftBrace => self.selector_node(),
            TokenKind::Aggregate(op) if self.aggregation_follows() => self.aggregate(op),
            TokenKind::Identifier
            | TokenKind::Keyword(
                Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range | Keyword::MinOf | Keyword::MaxOf,
            ) if self.peek_second() == Some(TokenKind::LeftParen) => self.call(),
            _ if token.is_metric_name() => self.selector_node(),
            _ => Err(self.unexpected()),
        }
    }

    fn parentheses(&mut self) -> Result<Node, ParseError> {
        let open = self.advance()?.span;
        let Node { expr, depth } = self.expression()?;
        self.expect(TokenKind::RightParen)?;
        let span = self.span_since(open);
        self.node(Expr::Paren(Paren { expr, span }), depth)
    }

    fn selector_node(&mut self) -> Result<Node, ParseError> {
        self.selector().map(|node| Self::leaf(Expr::VectorSelector(node)))
    }

    fn aggregation_follows(&self) -> bool {
        matches!(self.peek_second(), Some(TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without)))
    }
}
