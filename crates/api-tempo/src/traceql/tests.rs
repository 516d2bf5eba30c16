//! What is read, what is refused and where, and that printed queries are what they were.

use proptest::prelude::*;

use pharos_model::SearchPattern;

use super::*;

fn printed(text: &str) -> String {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
}

#[test]
fn every_form_is_read() {
    for (text, expected) in [
        ("{}", "{ true }"),
        ("{ }", "{ true }"),
        ("{false}", "{ false }"),
        ("{ .a = \"x\" }", "{ .a = \"x\" }"),
        ("{.a=`x\"y`}", "{ .a = \"x\\\"y\" }"),
        ("{ span.http.status_code >= 500 }", "{ span.http.status_code >= 500 }"),
        ("{ resource.service.name =~ \"a|b\" }", "{ resource.service.name =~ \"a|b\" }"),
        ("{ event.exception.message !~ \"x.*\" }", "{ event.exception.message !~ \"x.*\" }"),
        ("{ link.\"a b\" != -1.5e3 }", "{ link.\"a b\" != -1500.0 }"),
        ("{ instrumentation.a = nil }", "{ instrumentation.a = nil }"),
        ("{ .\"a\\\"b\".c = true }", "{ .\"a\\\"b.c\" = true }"),
        ("{ .a }", "{ .a }"),
        ("{ !.a }", "{ !(.a) }"),
        ("{ 5 < .a }", "{ .a > 5 }"),
        ("{ duration > 1m30s }", "{ duration > 90000000000ns }"),
        ("{ duration > 1.5ms }", "{ duration > 1500000ns }"),
        ("{ span:duration > 100 }", "{ duration > 100 }"),
        ("{ status = error && kind != client }", "{ status = error && kind != client }"),
        ("{ rootName = \"a\" && trace:rootService = \"b\" }", "{ rootName = \"a\" && rootServiceName = \"b\" }"),
        ("{ nestedSetParent < 0 }", "{ nestedSetParent < 0 }"),
        ("{ span:parentID = \"\" }", "{ span:parentID = \"\" }"),
        // As in Tempo both bind alike, from the left.
        ("{ .a || .b && .c || .d }", "{ ((.a || .b) && .c) || .d }"),
        ("{ .a || (.b && .c) }", "{ .a || (.b && .c) }"),
        ("{ !(.a = 1 || .b = 2) }", "{ !(.a = 1 || .b = 2) }"),
        ("{ .a } || ({ .b })", "{ .a || .b }"),
        ("{ .a } | select(name, span.b)", "{ .a } | select(name, span.b)"),
        ("{ .a } with (most_recent=true)", "{ .a }"),
        ("{ .a // a remark\n }", "{ .a }"),
        ("{ .a = \"\\u00e9\\x41\\n\" }", "{ .a = \"\u{e9}A\\n\" }"),
    ] {
        assert_eq!(printed(text), expected, "{text}");
        assert_eq!(printed(expected), expected, "{text}");
    }
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    for (text, column, words) in [
        ("", 1, "expected \"{\", found the end"),
        ("{", 2, "expected a field or a value, found the end"),
        ("{ .a = }", 8, "expected a field or a value"),
        ("{ .a == 1 }", 7, "expected a field or a value"),
        ("{ . = 1 }", 4, "name of an attribute is missing"),
        ("{ foo = 1 }", 3, "unknown name \"foo\": attributes are written with a dot"),
        ("{ foo.bar = 1 }", 3, "unknown scope \"foo\""),
        ("{ parent.a = 1 }", 3, "attributes of the parent"),
        ("{ .a = 1 + 2 }", 10, "not supported"),
        ("{ .a = .b }", 3, "two fields"),
        ("{ name }", 8, "expected a comparison behind name"),
        ("{ name = 5 }", 8, "name cannot be compared with 5"),
        ("{ duration = \"5\" }", 12, "duration cannot be compared"),
        ("{ status = server }", 10, "status cannot be compared with server"),
        ("{ .a = error }", 6, "no value of an attribute"),
        ("{ .a > true }", 6, "no order"),
        ("{ .a =~ 5 }", 6, "takes a text"),
        ("{ .a =~ \"a)(b\" }", 6, "unexpected )"),
        ("{ .a =~ \"(\" }", 6, "missing closing )"),
        ("{ childCount > 1 }", 3, "childCount is not supported"),
        ("{ nestedSetParent > 5 }", 19, "only `nestedSetParent < 0`"),
        ("{ .a } && { .b }", 8, "between sets of spans"),
        ("{ .a } >> { .b }", 8, "between sets of spans"),
        ("{ .a } > { .b }", 8, "between sets of spans"),
        ("{ .a } &>> { .b }", 8, "between sets of spans"),
        ("{ .a } | count() > 2", 10, "only select(...)"),
        ("{ .a } | rate()", 10, "only select(...)"),
        ("{ .a } with (sample=true)", 14, "most_recent"),
        ("{ .a = \"x }", 8, "not closed"),
        ("{ .a = \"\\q\" }", 9, "invalid escape"),
        ("{ .\"a = 1 }", 4, "not closed"),
        ("{ .a = 99999999999999999999 }", 8, "too large"),
        ("{ .a = 5x }", 8, "neither number nor duration"),
        ("{ .a = 1.2.3 }", 8, "is no number"),
        ("{ !.a = true }", 7, "put parentheses"),
        ("{ .a } x", 8, "expected the end"),
        ("{ .a # }", 6, "unexpected"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.message.contains(words), "{text}: {error}");
        assert_eq!((error.line, error.column), (1, column), "{text}: {error}");
    }
    assert_eq!(
        parse("{\n  \u{e9}\u{e9} = 1 }").unwrap_err().to_string().split(':').next(),
        Some("parse error at line 2, col 3")
    );
}

#[test]
fn length_and_depth_have_limits() {
    let long = format!("{{ .a = \"{}\" }}", "x".repeat(QUERY_BYTES_MAX));
    assert!(parse(&long).unwrap_err().message.contains("at most"));
    for (open, close) in [("(", ")"), ("!(", ")"), ("!", "")] {
        let nested = |depth: usize| format!("{{ {}.a{} }}", open.repeat(depth), close.repeat(depth));
        assert!(parse(&nested(5)).is_ok(), "{open}");
        assert!(parse(&nested(5_000)).unwrap_err().message.contains("deeper"), "{open}");
    }
    let mixed = format!("{{ .a {} }}", "&& .b || .c ".repeat(1_000));
    assert!(parse(&mixed).unwrap_err().message.contains("deeper"));
    let flat = format!("{{ .a {} }}", "|| .b = 1 ".repeat(1_000));
    assert!(Filter::of(&parse(&flat).unwrap()).is_ok());
    let sets = format!("{}{{}}{}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(parse(&sets).unwrap_err().message.contains("deeper"));
}

/// The deepest query that is read is one that stores take.
#[test]
fn whatever_is_read_fits_the_store() {
    let mut text = ".a != 1".to_owned();
    let mut deepest = String::new();
    for round in 0..DEPTH_MAX {
        text = format!("({text}) {} .b != 1", if round % 2 == 0 { "&&" } else { "||" });
        let whole = format!("{{ {text} }}");
        if parse(&whole).is_ok() {
            deepest = whole;
        }
    }
    Filter::of(&parse(&deepest).unwrap()).unwrap();
}

fn field() -> impl Strategy<Value = Field> {
    let scope = proptest::option::of(proptest::sample::select(Scope::ALL.map(|(_, scope)| scope).to_vec()));
    let key = prop_oneof!["[a-z][a-z0-9._-]{0,8}", "\\PC{0,6}", any::<String>()];
    (scope, key).prop_map(|(scope, key)| Field::Attribute { scope, key })
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        any::<String>().prop_map(Literal::Text),
        (-i64::MAX..=i64::MAX).prop_map(Literal::Int),
        proptest::num::f64::NORMAL.prop_map(Literal::Float),
        (-i64::MAX..=i64::MAX).prop_map(Literal::DurationNs),
        any::<bool>().prop_map(Literal::Bool),
        Just(Literal::Nil),
    ]
}

fn comparison() -> impl Strategy<Value = Expr> {
    let intrinsic = proptest::sample::select(vec![Intrinsic::Name, Intrinsic::RootName, Intrinsic::StatusMessage]);
    prop_oneof![
        (field(), literal(), any::<bool>()).prop_map(|(field, literal, is_equal)| {
            let operator = if is_equal { Operator::Eq } else { Operator::Ne };
            Expr::Compare { field, operator, literal }
        }),
        (field(), any::<i64>()).prop_map(|(field, number)| {
            let literal = Literal::Int(number.max(-i64::MAX));
            Expr::Compare { field, operator: Operator::Gte, literal }
        }),
        (intrinsic, "[a-z.*]{0,5}x").prop_filter_map("a pattern", |(intrinsic, pattern)| {
            let field = Field::Intrinsic(intrinsic);
            let compiled = SearchPattern::whole(&pattern).ok()?;
            let literal = Literal::Pattern { text: pattern, pattern: compiled };
            Some(Expr::Compare { field, operator: Operator::Matches, literal })
        }),
        field().prop_map(Expr::Holds),
        any::<bool>().prop_map(Expr::Always),
    ]
}

/// Trees as the parser makes them: the first part of a list is no list of its kind.
fn tree() -> impl Strategy<Value = Expr> {
    comparison().prop_recursive(4, 24, 4, |inner| {
        let list = proptest::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            list.clone().prop_filter("flat", |parts| !matches!(parts[0], Expr::And(_))).prop_map(Expr::And),
            list.prop_filter("flat", |parts| !matches!(parts[0], Expr::Or(_))).prop_map(Expr::Or),
            inner.prop_map(|part| Expr::Not(Box::new(part))),
        ]
    })
}

proptest! {
    #[test]
    fn a_printed_query_is_the_same_query(filter in tree(), selected in proptest::collection::vec(field(), 0..3)) {
        let query = Query { filter, selected };
        let text = query.to_string();
        let again = parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        prop_assert_eq!(again, query, "{}", text);
    }

    #[test]
    fn any_text_is_answered(text in any::<String>(), tail in "[{}()!.&|=~<>\"a-z0-9 ]{0,40}") {
        for text in [&text, &format!("{{ .a{tail}"), &tail] {
            if let Ok(query) = parse(text) {
                prop_assert_eq!(parse(&query.to_string()).unwrap(), query);
            }
        }
    }
}
