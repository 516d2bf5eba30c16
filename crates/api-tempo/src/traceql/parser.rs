//! Tokens to a checked tree: one token of look-ahead, no recursion beyond [`DEPTH_MAX`].

use pharos_model::{SearchPattern, SearchPatterns};

use super::ast::{Expr, Field, Holding, Intrinsic, Literal, Operator, Query};
use super::lexer::{Lexer, Token};
use super::{DEPTH_MAX, QUERY_BYTES_MAX, QueryError};

/// Fields that `select` may name.
const SELECTED_MAX: usize = 100;

/// Reads a query.
///
/// # Errors
/// What is wrong, or not supported, and where.
pub fn parse(text: &str) -> Result<Query, QueryError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(QueryError::at(text, 0, format!("a query has at most {QUERY_BYTES_MAX} bytes")));
    }
    let located = |(at, message): Problem| QueryError::at(text, at, message);
    let mut parser = Parser::new(text).map_err(located)?;
    parser.query().map_err(located)
}

/// Where, and what.
type Problem = (usize, String);

/// A tree and how deep it is.
type Deep = (Expr, usize);

struct Parser<'a> {
    lexer: Lexer<'a>,
    at: usize,
    token: Token,
    patterns: SearchPatterns,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, Problem> {
        let mut lexer = Lexer::new(text);
        let (at, token) = lexer.next()?;
        Ok(Self { lexer, at, token, patterns: SearchPatterns::default() })
    }

    fn advance(&mut self) -> Result<Token, Problem> {
        let (at, token) = self.lexer.next()?;
        self.at = at;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn take(&mut self, token: &Token) -> Result<bool, Problem> {
        let found = self.token == *token;
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, mark: char) -> Result<(), Problem> {
        if self.take(&Token::Mark(mark))? { Ok(()) } else { Err(self.unexpected(&format!("{mark:?}"))) }
    }

    /// The token is not what has to stand here.
    fn unexpected(&self, expected: &str) -> Problem {
        let found = match &self.token {
            Token::End => "the end".to_owned(),
            Token::Mark(mark) => format!("{mark:?}"),
            Token::And => "\"&&\"".to_owned(),
            Token::Or => "\"||\"".to_owned(),
            Token::Not => "\"!\"".to_owned(),
            Token::Minus => "\"-\"".to_owned(),
            Token::Pipe => "\"|\"".to_owned(),
            Token::Compare(operator) => format!("{:?}", operator.sign()),
            Token::Foreign(sign) => format!("{sign:?}, an operator that is not supported"),
            Token::Literal(literal) => literal.to_string(),
            Token::Attribute { scope, key } => Field::Attribute { scope: *scope, key: key.clone() }.to_string(),
            Token::Word(word) => word.clone(),
        };
        (self.at, format!("expected {expected}, found {found}"))
    }

    fn query(&mut self) -> Result<Query, Problem> {
        let (filter, _) = self.span_sets(1)?;
        let mut selected = Vec::new();
        while self.take(&Token::Pipe)? {
            match &self.token {
                Token::Word(word) if word == "select" => self.select(&mut selected)?,
                _ => {
                    let message = "behind \"|\" only select(...) is supported: no aggregates, groups or metrics";
                    return Err((self.at, message.to_owned()));
                }
            }
        }
        if self.token == Token::Word("with".to_owned()) {
            self.hints()?;
        }
        if self.token == Token::End { Ok(Query { filter, selected }) } else { Err(self.between_span_sets()) }
    }

    fn between_span_sets(&self) -> Problem {
        let sign = match &self.token {
            Token::And => "&&",
            Token::Compare(operator) => operator.sign(),
            Token::Foreign(sign) => sign,
            _ => return self.unexpected("the end, \"||\" or \"|\""),
        };
        (self.at, format!("{sign:?} between sets of spans is not supported: tests are of one span, `{{ a && b }}`"))
    }

    /// Sets of spans, united.
    fn span_sets(&mut self, depth: usize) -> Result<Deep, Problem> {
        let mut all = self.span_set(depth)?;
        while self.token == Token::Or {
            let at = self.at;
            self.advance()?;
            let next = self.span_set(depth)?;
            all = Self::joined(at, all, next, false)?;
        }
        Ok(all)
    }

    fn span_set(&mut self, depth: usize) -> Result<Deep, Problem> {
        check_depth(self.at, depth)?;
        if self.take(&Token::Mark('('))? {
            let inner = self.span_sets(depth + 1)?;
            return if self.take(&Token::Mark(')'))? { Ok(inner) } else { Err(self.between_span_sets()) };
        }
        if !self.take(&Token::Mark('{'))? {
            return Err(self.unexpected("\"{\""));
        }
        if self.take(&Token::Mark('}'))? {
            return Ok((Expr::Always(true), 1));
        }
        let inner = self.tests(depth + 1)?;
        self.expect('}')?;
        Ok(inner)
    }

    /// Joins two tests; those of one kind in a row become one.
    fn joined(at: usize, (left, left_depth): Deep, (right, right_depth): Deep, is_and: bool) -> Result<Deep, Problem> {
        let mut depth = left_depth;
        let mut parts = match left {
            Expr::And(parts) if is_and => parts,
            Expr::Or(parts) if !is_and => parts,
            other => {
                depth += 1;
                vec![other]
            }
        };
        parts.push(right);
        let depth = depth.max(right_depth + 1);
        check_depth(at, depth)?;
        Ok((if is_and { Expr::And(parts) } else { Expr::Or(parts) }, depth))
    }

    /// Tests joined with `&&` and `||`, from the left.
    fn tests(&mut self, depth: usize) -> Result<Deep, Problem> {
        let mut all = self.test(depth)?;
        loop {
            let is_and = match &self.token {
                Token::And => true,
                Token::Or => false,
                _ => return Ok(all),
            };
            let at = self.at;
            self.advance()?;
            let next = self.test(depth)?;
            all = Self::joined(at, all, next, is_and)?;
        }
    }

    fn test(&mut self, depth: usize) -> Result<Deep, Problem> {
        let at = self.at;
        check_depth(at, depth)?;
        match self.token {
            Token::Mark('(') => {
                self.advance()?;
                let inner = self.tests(depth + 1)?;
                self.expect(')')?;
                self.no_comparison()?;
                Ok(inner)
            }
            Token::Not => {
                self.advance()?;
                let (inner, inner_depth) = match self.token {
                    Token::Attribute { .. } => (self.attribute_alone()?, 1),
                    _ => self.test(depth + 1)?,
                };
                self.no_comparison()?;
                check_depth(at, inner_depth + 1)?;
                Ok((Expr::Not(Box::new(inner)), inner_depth + 1))
            }
            _ => Ok((self.comparison()?, 1)),
        }
    }

    /// What was read is a truth value, of which nothing can be compared here.
    fn no_comparison(&self) -> Result<(), Problem> {
        match self.token {
            Token::Compare(operator) => {
                let message = format!(
                    "{:?} of a condition is not supported; `!` binds stronger: put parentheses",
                    operator.sign()
                );
                Err((self.at, message))
            }
            _ => Ok(()),
        }
    }

    fn attribute_alone(&mut self) -> Result<Expr, Problem> {
        match self.operand()? {
            Operand::Field(field @ Field::Attribute { .. }) => Ok(Expr::Holds(field)),
            _ => Err(self.unexpected("an attribute")),
        }
    }

    fn comparison(&mut self) -> Result<Expr, Problem> {
        let at = self.at;
        let left = self.operand()?;
        let Token::Compare(operator) = self.token else {
            return match left {
                Operand::Literal(Literal::Bool(truth)) => Ok(Expr::Always(truth)),
                Operand::Field(field @ Field::Attribute { .. }) => Ok(Expr::Holds(field)),
                Operand::Field(field) => Err(self.unexpected(&format!("a comparison behind {field}"))),
                Operand::Literal(literal) => Err(self.unexpected(&format!("a comparison behind {literal}"))),
            };
        };
        let operator_at = self.at;
        self.advance()?;
        let right = self.operand()?;
        let (field, operator, literal) = match (left, right) {
            (Operand::Field(field), Operand::Literal(literal)) => (field, operator, literal),
            (Operand::Literal(literal), Operand::Field(field)) => match operator.turned() {
                Some(operator) => (field, operator, literal),
                None => return Err((operator_at, "a pattern stands on the right".to_owned())),
            },
            (Operand::Field(_), Operand::Field(_)) => {
                return Err((at, "comparisons of two fields are not supported".to_owned()));
            }
            (Operand::Literal(_), Operand::Literal(_)) => {
                return Err((at, "a comparison needs a field on one side".to_owned()));
            }
        };
        let literal = self.pattern(operator, literal).map_err(|message| (operator_at, message))?;
        check(&field, operator, &literal).map_err(|message| (operator_at, message))?;
        Ok(Expr::Compare { field, operator, literal })
    }

    /// The literal as the operator takes it.
    fn pattern(&mut self, operator: Operator, literal: Literal) -> Result<Literal, String> {
        if !matches!(operator, Operator::Matches | Operator::MatchesNot) {
            return Ok(literal);
        }
        let Literal::Text(text) = literal else {
            return Err(format!("{:?} takes a text, found {literal}", operator.sign()));
        };
        let pattern = self.patterns.compile(|| SearchPattern::whole(&text)).map_err(|error| error.to_string())?;
        Ok(Literal::Pattern { text, pattern })
    }

    fn operand(&mut self) -> Result<Operand, Problem> {
        let at = self.at;
        match self.advance()? {
            Token::Literal(literal) => Ok(Operand::Literal(literal)),
            Token::Attribute { scope, key } => Ok(Operand::Field(Field::Attribute { scope, key })),
            Token::Minus => match self.advance()? {
                Token::Literal(Literal::Int(number)) => Ok(Operand::Literal(Literal::Int(-number))),
                Token::Literal(Literal::Float(number)) => Ok(Operand::Literal(Literal::Float(-number))),
                Token::Literal(Literal::DurationNs(ns)) => Ok(Operand::Literal(Literal::DurationNs(-ns))),
                _ => Err((at, "\"-\" stands before a number only: arithmetic is not supported".to_owned())),
            },
            Token::Word(word) => match Intrinsic::of(&word) {
                Some(intrinsic) => Ok(Operand::Field(Field::Intrinsic(intrinsic))),
                None if ["childCount", "span:childCount", "parent", "nestedSetLeft", "nestedSetRight"]
                    .contains(&&*word) =>
                {
                    Err((at, format!("{word} is not supported")))
                }
                None => Err((at, format!("unknown name {word:?}: attributes are written with a dot, `.{word}`"))),
            },
            token => {
                self.token = token;
                self.at = at;
                Err(self.unexpected("a field or a value"))
            }
        }
    }

    fn select(&mut self, selected: &mut Vec<Field>) -> Result<(), Problem> {
        self.advance()?;
        self.expect('(')?;
        loop {
            let at = self.at;
            match self.operand()? {
                Operand::Field(_) if selected.len() == SELECTED_MAX => {
                    return Err((at, format!("at most {SELECTED_MAX} fields can be selected")));
                }
                Operand::Field(field) => selected.push(field),
                Operand::Literal(_) => return Err((at, "select takes fields".to_owned())),
            }
            if !self.take(&Token::Mark(','))? {
                return self.expect(')');
            }
        }
    }

    /// `with (most_recent=true)`, which is what happens anyhow.
    fn hints(&mut self) -> Result<(), Problem> {
        self.advance()?;
        self.expect('(')?;
        loop {
            if self.token != Token::Word("most_recent".to_owned()) {
                return Err((self.at, "the only hint known is most_recent".to_owned()));
            }
            self.advance()?;
            if !self.take(&Token::Compare(Operator::Eq))? {
                return Err(self.unexpected("\"=\""));
            }
            if !matches!(self.token, Token::Literal(Literal::Bool(_))) {
                return Err(self.unexpected("true or false"));
            }
            self.advance()?;
            if !self.take(&Token::Mark(','))? {
                return self.expect(')');
            }
        }
    }
}

fn check_depth(at: usize, depth: usize) -> Result<(), Problem> {
    if depth > DEPTH_MAX { Err((at, format!("nested deeper than {DEPTH_MAX}"))) } else { Ok(()) }
}

enum Operand {
    Field(Field),
    Literal(Literal),
}

/// Whether a comparison has a meaning.
fn check(field: &Field, operator: Operator, literal: &Literal) -> Result<(), String> {
    let is_ordered = matches!(operator, Operator::Lt | Operator::Lte | Operator::Gt | Operator::Gte);
    let sign = operator.sign();
    if is_ordered && matches!(literal, Literal::Bool(_) | Literal::Nil | Literal::Status(_) | Literal::Kind(_)) {
        return Err(format!("{literal} has no order, {sign:?} cannot compare it"));
    }
    let intrinsic = match field {
        Field::Intrinsic(intrinsic) => *intrinsic,
        Field::Attribute { .. } if matches!(literal, Literal::Status(_) | Literal::Kind(_)) => {
            return Err(format!("{literal} is no value of an attribute: compare status or kind, or put quotes"));
        }
        Field::Attribute { .. } => return Ok(()),
    };
    let is_number = matches!(literal, Literal::Int(_) | Literal::Float(_) | Literal::DurationNs(_));
    let fits = match intrinsic.holding() {
        Holding::Text => matches!(literal, Literal::Text(_) | Literal::Pattern { .. } | Literal::Nil),
        Holding::Duration => is_number,
        Holding::Status => matches!(literal, Literal::Status(_)),
        Holding::Kind => matches!(literal, Literal::Kind(_)),
        Holding::Root => operator == Operator::Lt && *literal == Literal::Int(0),
    };
    let name = intrinsic.name();
    if !fits && intrinsic == Intrinsic::NestedSetParent {
        return Err("of nestedSetParent only `nestedSetParent < 0` is supported: spans without a parent".to_owned());
    }
    if fits { Ok(()) } else { Err(format!("{name} cannot be compared with {literal}")) }
}
