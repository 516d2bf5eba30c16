//! Any tree that the parser can make is printed as text that gives the same tree.

use pharos_promql::ast::{
    Aggregate, AggregateOp, AtModifier, Binary, BinaryOp, Call, Cardinality, DurationExpr, EdgeMode, Expr, Grouping,
    MatchOp, Matcher, MatrixSelector, NumberLiteral, Paren, StringLiteral, Subquery, Unary, UnaryOp, VectorMatching,
    VectorSelector,
};
use pharos_promql::functions::Function;
use pharos_promql::position::Span;
use pharos_promql::{ParserOptions, parse, pretty};
use proptest::prelude::*;
use proptest::sample::select;

use crate::spans::without_spans;

const NO_SPAN: Span = Span { start: 0, end: 0 };

fn arb_label() -> impl Strategy<Value = String> {
    select(vec!["job", "on", "sum", "le", "my label", "é", "x\"y", "bool"]).prop_map(str::to_owned)
}

fn arb_labels() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(arb_label(), 0..3)
}

fn number(value: f64) -> NumberLiteral {
    NumberLiteral { value, is_duration: false, span: NO_SPAN }
}

/// A whole number of milliseconds, of either sign; the parser takes such numbers for durations where they stand alone.
fn arb_duration_literal() -> impl Strategy<Value = DurationExpr> {
    let ms = prop_oneof![1_i64..100_000_000_000, -1_000_000_i64..0];
    ms.prop_map(|ms| {
        DurationExpr::Literal(NumberLiteral { value: ms as f64 / 1000.0, is_duration: true, span: NO_SPAN })
    })
}

fn arb_duration() -> impl Strategy<Value = DurationExpr> {
    let leaf = prop_oneof![
        3 => arb_duration_literal(),
        1 => (0.0_f64..1e9).prop_map(|value| DurationExpr::Binary(
            BinaryOp::Mul,
            Box::new(DurationExpr::Step(NO_SPAN)),
            Box::new(DurationExpr::Literal(number(value + 0.5))),
            NO_SPAN,
        )),
        1 => Just(DurationExpr::Step(NO_SPAN)),
        1 => Just(DurationExpr::Range(NO_SPAN)),
    ];
    leaf.prop_recursive(3, 10, 2, |inner| {
        let ops =
            select(vec![BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div, BinaryOp::Mod, BinaryOp::Pow]);
        prop_oneof![
            (ops, inner.clone(), inner.clone()).prop_map(|(op, lhs, rhs)| {
                DurationExpr::Binary(op, Box::new(duration_operand(lhs)), Box::new(duration_operand(rhs)), NO_SPAN)
            }),
            inner.clone().prop_map(negated),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| DurationExpr::MaxOf(Box::new(a), Box::new(b), NO_SPAN)),
            (inner.clone(), inner).prop_map(|(a, b)| DurationExpr::MinOf(Box::new(a), Box::new(b), NO_SPAN)),
        ]
    })
}

/// A sign before a literal belongs to it, and binds weaker than `^`.
fn negated(expr: DurationExpr) -> DurationExpr {
    match duration_operand(expr) {
        DurationExpr::Literal(literal) => DurationExpr::Literal(NumberLiteral { value: -literal.value, ..literal }),
        other => DurationExpr::Unary(UnaryOp::Minus, Box::new(other), NO_SPAN),
    }
}

fn duration_operand(expr: DurationExpr) -> DurationExpr {
    match expr {
        DurationExpr::Binary(..) | DurationExpr::Unary(..) => DurationExpr::Paren(Box::new(expr), NO_SPAN),
        other => other,
    }
}

/// Of ranges and steps, which are positive.
fn arb_range() -> impl Strategy<Value = DurationExpr> {
    arb_duration().prop_map(|expr| match expr {
        DurationExpr::Literal(literal) => {
            DurationExpr::Literal(NumberLiteral { value: literal.value.abs(), ..literal })
        }
        other => other,
    })
}

fn arb_offset() -> impl Strategy<Value = Option<DurationExpr>> {
    prop::option::of(prop_oneof![arb_duration().prop_map(duration_operand), arb_duration().prop_map(negated)])
}

fn arb_at() -> impl Strategy<Value = Option<AtModifier>> {
    prop_oneof![
        Just(None),
        Just(Some(AtModifier::Start)),
        Just(Some(AtModifier::End)),
        (-1_000_000_000_000_i64..1_000_000_000_000).prop_map(|ms| Some(AtModifier::TimestampMs(ms))),
    ]
}

fn arb_matcher() -> impl Strategy<Value = Matcher> {
    let ops = select(vec![MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex]);
    let values = select(vec!["", "a", "a|b", "a.*", "\\d+", "\"q\"\n", "\u{1f600}\u{0}"]);
    (ops, arb_label(), values).prop_map(|(op, name, value)| Matcher::new(op, name, value).unwrap())
}

fn arb_selector() -> impl Strategy<Value = VectorSelector> {
    let before_braces = select(vec!["up", "a:b", "sum", "offset", "step", "fill", "min_of", "and", "anchored"]);
    let in_braces = select(vec!["my.metric", "bool", "inf", "5xx", "é", "up", "\"\\"]);
    let name = prop_oneof![before_braces.prop_map(|name| (true, name)), in_braces.prop_map(|name| (false, name))];
    let edges = select(vec![None, None, Some(EdgeMode::Anchored), Some(EdgeMode::Smoothed)]);
    (name, prop::collection::vec(arb_matcher(), 0..3), arb_offset(), arb_at(), edges).prop_map(
        |((has_name, name), mut matchers, offset, at, edge)| {
            matchers.push(Matcher::equal("__name__", name));
            VectorSelector { name: has_name.then(|| name.to_owned()), matchers, offset, at, edge, span: NO_SPAN }
        },
    )
}

fn arb_matrix() -> impl Strategy<Value = Expr> {
    (arb_selector(), arb_range())
        .prop_map(|(selector, range)| Expr::MatrixSelector(MatrixSelector { selector, range, span: NO_SPAN }))
}

/// As an operand, what binds weaker needs parentheses.
fn operand(expr: Expr) -> Box<Expr> {
    let weak = match &expr {
        Expr::Binary(_) | Expr::Unary(_) => true,
        Expr::Number(number) => number.value.is_sign_negative(),
        // An operator behind it would go on with the offset.
        Expr::VectorSelector(selector) => matches!(selector.offset, Some(DurationExpr::Paren(..))),
        _ => false,
    };
    Box::new(if weak { Expr::Paren(Paren { expr: Box::new(expr), span: NO_SPAN }) } else { expr })
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    Expr::Call(Call { function: Function::find(name).unwrap(), args, span: NO_SPAN })
}

fn arb_matching(set: bool) -> impl Strategy<Value = VectorMatching> {
    let cardinality = if set {
        select(vec![Cardinality::ManyToMany])
    } else {
        select(vec![Cardinality::OneToOne, Cardinality::ManyToOne, Cardinality::OneToMany])
    };
    let fill = || prop::option::of(any::<f64>());
    (cardinality, any::<bool>(), arb_labels(), arb_labels(), fill(), fill()).prop_map(
        move |(cardinality, on, labels, include, left, right)| {
            let grouped = matches!(cardinality, Cardinality::ManyToOne | Cardinality::OneToMany);
            let include = if grouped { include } else { Vec::new() };
            let include = include.into_iter().filter(|label| !on || !labels.contains(label)).collect();
            let (fill_left, fill_right) = (left.filter(|_| !set), right.filter(|_| !set));
            VectorMatching { cardinality, on, labels, include, fill_left, fill_right }
        },
    )
}

fn arb_vector() -> impl Strategy<Value = Expr> {
    let leaf = arb_selector().prop_map(Expr::VectorSelector);
    leaf.prop_recursive(4, 24, 2, |inner| {
        let comparisons = select(vec![BinaryOp::Eql, BinaryOp::Lss, BinaryOp::Gte]);
        let arithmetic =
            select(vec![BinaryOp::Add, BinaryOp::Pow, BinaryOp::Mod, BinaryOp::Atan2, BinaryOp::TrimLower]);
        let sets = select(vec![BinaryOp::And, BinaryOp::Or, BinaryOp::Unless]);
        prop_oneof![
            arb_matrix().prop_map(|matrix| call("rate", vec![matrix])),
            (inner.clone(), any::<String>().prop_filter("lossless", |text| !text.contains('\u{fffd}'))).prop_map(
                |(expr, text)| {
                    let text = Expr::String(StringLiteral { value: text, span: NO_SPAN });
                    call("sort_by_label", vec![expr, text])
                }
            ),
            (inner.clone(), arb_range(), prop::option::of(arb_range()), arb_offset(), arb_at()).prop_map(
                |(expr, range, step, offset, at)| {
                    // The lexer wants to see a number before the colon.
                    let minute = NumberLiteral { is_duration: true, ..number(60.0) };
                    let (lhs, rhs) = (Box::new(DurationExpr::Literal(minute)), Box::new(duration_operand(range)));
                    let range = DurationExpr::Binary(BinaryOp::Add, lhs, rhs, NO_SPAN);
                    let subquery = Subquery { expr: operand(expr), range, step, offset, at, span: NO_SPAN };
                    call("max_over_time", vec![Expr::Subquery(subquery)])
                }
            ),
            (inner.clone(), arb_labels(), 0..3).prop_map(|(expr, labels, kind)| {
                let grouping = match kind {
                    1 if !labels.is_empty() => Grouping::By(labels),
                    0 | 1 => Grouping::None,
                    _ => Grouping::Without(labels),
                };
                Expr::Aggregate(Aggregate {
                    op: AggregateOp::Sum,
                    expr: Box::new(expr),
                    param: None,
                    grouping,
                    span: NO_SPAN,
                })
            }),
            (inner.clone(), any::<f64>()).prop_map(|(expr, k)| {
                let param = Some(Box::new(Expr::Number(number(k))));
                let (op, expr, grouping) = (AggregateOp::Topk, Box::new(expr), Grouping::None);
                Expr::Aggregate(Aggregate { op, expr, param, grouping, span: NO_SPAN })
            }),
            (inner.clone(), any::<f64>(), any::<bool>()).prop_map(|(rhs, value, is_duration)| {
                let value = if is_duration { (value.abs() % 1e9).floor() } else { value };
                let is_duration = is_duration && value.is_finite();
                let lhs = Expr::Number(NumberLiteral { is_duration, ..number(value) });
                let (op, lhs, rhs) = (BinaryOp::Pow, operand(lhs), operand(rhs));
                Expr::Binary(Binary { op, lhs, rhs, matching: None, return_bool: false, span: NO_SPAN })
            }),
            (comparisons, inner.clone(), inner.clone(), arb_matching(false), any::<bool>()).prop_map(binary),
            (arithmetic, inner.clone(), inner.clone(), arb_matching(false), Just(false)).prop_map(binary),
            (sets, inner.clone(), inner.clone(), arb_matching(true), Just(false)).prop_map(binary),
            inner.prop_map(|expr| Expr::Unary(Unary { op: UnaryOp::Minus, expr: operand(expr), span: NO_SPAN })),
        ]
    })
}

fn binary((op, lhs, rhs, matching, return_bool): (BinaryOp, Expr, Expr, VectorMatching, bool)) -> Expr {
    let (lhs, rhs) = (operand(lhs), operand(rhs));
    Expr::Binary(Binary { op, lhs, rhs, matching: Some(matching), return_bool, span: NO_SPAN })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Both in one line and in many.
    #[test]
    fn printed_trees_parse_to_themselves(expr in arb_vector()) {
        for text in [expr.to_string(), pretty(&expr)] {
            let again = parse(&text, ParserOptions::all());
            prop_assert!(again.is_ok(), "{text}: {again:?}");
            // As text, in which NaN equals NaN.
            let print = |expr: Expr| format!("{:?}", without_spans(expr));
            prop_assert_eq!(print(again.unwrap()), print(expr.clone()), "{}", text);
        }
    }
}
