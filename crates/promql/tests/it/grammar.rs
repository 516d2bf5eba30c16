//! What is PromQL, what is not, and how the difference is told.

use pharos_promql::ast::{AtModifier, BinaryOp, Cardinality, EdgeMode, Expr, Grouping, MatchOp, ValueType};
use pharos_promql::duration::{DurationContext, DurationError};
use pharos_promql::{ParserOptions, parse, parse_selector};

fn parsed(text: &str) -> Expr {
    parse(text, ParserOptions::all()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The shape of an expression: operators with everything in parentheses.
fn shape(expr: &Expr) -> String {
    match expr {
        Expr::Binary(node) => format!("({} {} {})", shape(&node.lhs), node.op.symbol(), shape(&node.rhs)),
        Expr::Unary(node) => format!("({}{})", node.op.symbol(), shape(&node.expr)),
        other => other.to_string(),
    }
}

fn check_shape(text: &str, wanted: &str) {
    assert_eq!(shape(&parsed(text)), wanted, "{text}");
}

fn check_error(text: &str, wanted: &str) {
    match parse(text, ParserOptions::all()) {
        Ok(expr) => panic!("{text} is accepted as {expr}"),
        Err(error) => assert_eq!(error.to_string(), wanted, "{text}"),
    }
}

#[test]
fn operators_bind_by_precedence() {
    check_shape("a + b * c", "(a + (b * c))");
    check_shape("a * b + c", "((a * b) + c)");
    check_shape("a - b - c", "((a - b) - c)");
    check_shape("a ^ b ^ c", "(a ^ (b ^ c))");
    check_shape("-a ^ b", "(-(a ^ b))");
    check_shape("-a * b", "((-a) * b)");
    check_shape("-2 ^ 2", "(-(2 ^ 2))");
    check_shape("2 ^ -1 * 3", "((2 ^ -1) * 3)");
    check_shape("a or b and c unless d", "(a or ((b and c) unless d))");
    check_shape("a > b + c == d", "((a > (b + c)) == d)");
    check_shape("a atan2 b % c", "((a atan2 b) % c)");
    check_shape("h </ 4 >/ 2", "((h </ 4) >/ 2)");
    check_shape("a + b offset 5m", "(a + b offset 5m)");
}

#[test]
fn spans_cover_each_node() {
    let text = "  sum(foo{a=\"b\"} offset 5m) + \n rate(bar[5m] @ end())";
    let Expr::Binary(sum) = parsed(text) else { panic!("an addition") };
    assert_eq!(sum.lhs.span().text(text), "sum(foo{a=\"b\"} offset 5m)");
    assert_eq!(sum.rhs.span().text(text), "rate(bar[5m] @ end())");
    let mut children = Vec::new();
    sum.lhs.for_each_child(|child| children.push(child.span().text(text)));
    sum.rhs.for_each_child(|child| children.push(child.span().text(text)));
    assert_eq!(children, ["foo{a=\"b\"} offset 5m", "bar[5m] @ end()"]);
}

#[test]
fn selectors_carry_everything_that_was_written() {
    let Expr::VectorSelector(found) = parsed(r#"{"my.metric", a=~"b|c", "d e"!="f"} @ -1.5 offset -5m smoothed"#)
    else {
        panic!("a selector")
    };
    assert_eq!(found.name, None);
    let matchers: Vec<_> = found.matchers.iter().map(|m| (m.name(), m.op(), m.value())).collect();
    let name = ("__name__", MatchOp::Equal, "my.metric");
    assert_eq!(matchers, [name, ("a", MatchOp::Regex, "b|c"), ("d e", MatchOp::NotEqual, "f")]);
    assert_eq!((found.at, found.edge), (Some(AtModifier::TimestampMs(-1500)), Some(EdgeMode::Smoothed)));
    assert_eq!(found.offset.and_then(|offset| offset.literal_ms()), Some(-300_000));
}

#[test]
fn keywords_are_names_where_they_can_be() {
    for text in [
        "sum",
        "by{by=\"on\"}",
        "offset offset 1m",
        "and and and",
        "start",
        "step + range",
        "smoothed smoothed",
        "sum by (on, bool, group_left, atan2, sum, by, min_of, a:b) (avg)",
        "a + fill",
        "a + on(x) group_left fill_left",
        "topk(1, topk)",
        "NaN{a=\"b\"}",
    ] {
        let result = parse(text, ParserOptions::all());
        assert_eq!(result.is_ok(), text != "NaN{a=\"b\"}", "{text}: {result:?}");
    }
    check_error("bool", "1:1: parse error: unexpected <bool>");
    check_error("a + on b", "1:8: parse error: unexpected identifier \"b\" in grouping opts, expected \"(\"");
}

#[test]
fn matching_clauses_are_kept() {
    let Expr::Binary(node) = parsed("a / on(x, \"y z\") group_right(k) fill_right(-1) fill_left(5m) b") else {
        panic!("a division")
    };
    let matching = node.matching.unwrap();
    assert_eq!((node.op, matching.cardinality, matching.on), (BinaryOp::Div, Cardinality::OneToMany, true));
    assert_eq!((matching.labels, matching.include), (vec!["x".to_owned(), "y z".to_owned()], vec!["k".to_owned()]));
    assert_eq!((matching.fill_left, matching.fill_right), (Some(300.0), Some(-1.0)));
    let Expr::Binary(set) = parsed("a and ignoring(x) b") else { panic!("a set operator") };
    assert_eq!(set.matching.map(|matching| matching.cardinality), Some(Cardinality::ManyToMany));
    let Expr::Binary(scalar) = parsed("a > bool 1") else { panic!("a comparison") };
    assert!(scalar.matching.is_none() && scalar.return_bool);
}

#[test]
fn aggregations_know_their_grouping() {
    let grouping = |text| match parsed(text) {
        Expr::Aggregate(node) => node.grouping,
        other => panic!("{other}"),
    };
    assert_eq!(grouping("sum(a)"), Grouping::None);
    assert_eq!(grouping("sum(a) by ()"), Grouping::None);
    assert_eq!(grouping("sum without (x,) (a)"), Grouping::Without(vec!["x".to_owned()]));
    assert_eq!(parsed("scalar(a) + 1").value_type(), ValueType::Scalar);
    assert_eq!(parsed("a[5m:]").value_type(), ValueType::Matrix);
}

#[test]
fn durations_are_computed_when_the_query_is_known() {
    let context = DurationContext { step_ms: 15_000, range_ms: 3_600_000 };
    let range_ms = |text: &str| match parsed(text) {
        Expr::MatrixSelector(node) => node.range.resolve_positive_ms(context),
        other => panic!("{other}"),
    };
    for (text, wanted) in [
        ("a[300]", 300_000),
        ("a[1h30m]", 5_400_000),
        ("a[4s180ms+0s]", 4180),
        ("a[step()*4]", 60_000),
        ("a[range()/2]", 1_800_000),
        ("a[max_of(step(), 1m)]", 60_000),
        ("a[MIN_OF(step(), 1m)]", 15_000),
        ("a[10s + 2 * 5 ^ 2]", 60_000),
        ("a[-5s - -15]", 10_000),
        ("a[1m % 40s]", 20_000),
        ("a[0.0015 + 0]", 1),
    ] {
        assert_eq!(range_ms(text), Ok(wanted), "{text}");
    }
    assert!(matches!(range_ms("a[5s-5s]"), Err(DurationError::NotPositive { .. })));
    assert!(matches!(range_ms("a[-2^2]"), Err(DurationError::NotPositive { .. })));
    assert!(matches!(range_ms("a[1/(1-1)]"), Err(DurationError::DivisionByZero { .. })));
    assert!(matches!(range_ms("a[1%(1-1)]"), Err(DurationError::ModuloByZero { .. })));
    assert!(matches!(range_ms("a[10^10^2]"), Err(DurationError::OutOfRange { .. })));
    assert!(matches!(range_ms("a[(0-1)^0.5]"), Err(DurationError::OutOfRange { .. })));
}

#[test]
fn faults_are_told_with_their_place() {
    for (text, wanted) in [
        ("# nothing", "1:1: parse error: no expression found in input"),
        ("a b", "1:3: parse error: unexpected identifier \"b\""),
        ("a +", "1:4: parse error: unexpected end of input"),
        ("sum(\na\n", "3:1: parse error: unclosed left parenthesis"),
        ("a)", "1:3: parse error: unexpected right parenthesis ')'"),
        ("a{b=\"c\"", "1:8: parse error: unexpected end of input inside braces"),
        ("a{b~\"c\"}", "1:4: parse error: unexpected character inside braces: '~'"),
        (
            "a{b \"c\"}",
            "1:5: parse error: unexpected string \"\\\"c\\\"\" in label matching, expected label matching operator",
        ),
        ("{a!=\"x\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("a{\"b\"}", "1:1: parse error: metric name must not be set twice: \"a\" or \"b\""),
        ("a{__name__=~\"b\"}", "1:1: parse error: metric name must not be set twice: \"a\" or \"b\""),
        ("a[5m] b", "1:7: parse error: unexpected identifier \"b\""),
        ("a[5m", "1:5: parse error: unclosed left bracket"),
        ("a[:5m]", "1:4: parse error: unexpected colon before duration in duration expression"),
        ("a[5m:1m:]", "1:8: parse error: unexpected colon ':'"),
        ("a[0]", "1:3: parse error: duration must be greater than 0"),
        ("a offset 1m+", "1:13: parse error: unexpected end of input"),
        (
            "a offset",
            "1:9: parse error: unexpected end of input in offset, expected number, duration, step(), or range()",
        ),
        ("a @ 1 @ 2", "1:1: parse error: @ <timestamp> may not be set multiple times"),
        ("a @ start", "1:10: parse error: unexpected end of input in @, expected timestamp"),
        (
            "(a) offset 1m",
            "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("a anchored smoothed", "1:1: parse error: anchored and smoothed modifiers cannot be used together"),
        ("a[5m:] smoothed", "1:1: parse error: smoothed modifier is not supported for subqueries"),
        ("rate(a)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector"),
        ("abs(a, b)", "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 2"),
        ("label_join(a)", "1:1: parse error: expected at least 3 argument(s) in call to \"label_join\", got 1"),
        ("round(a, 1, 2)", "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3"),
        ("abs(a,)", "1:6: parse error: trailing commas not allowed in function call args"),
        ("info(a, b)", "1:9: parse error: expected label selectors only, got vector selector instead"),
        ("info(a, 1)", "1:1: parse error: expected type instant vector in call to function \"info\", got scalar"),
        ("sum()", "1:1: parse error: no arguments for aggregate expression provided"),
        ("quantile(a, b)", "1:10: parse error: expected type scalar in aggregation parameter, got instant vector"),
        ("sum by x (a)", "1:8: parse error: unexpected identifier \"x\" in grouping opts, expected \"(\""),
        ("\"a\" + 1", "1:1: parse error: binary expression must contain only scalar and instant vector types"),
        ("1 <  2", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ("a and fill(0) b", "1:1: parse error: filling in missing series not allowed for set operators"),
        ("a + fill(0) 1", "1:1: parse error: filling in missing series only allowed between instant vectors"),
        ("a + fill(0) fill_left(1) b", "1:22: parse error: unexpected \"(\""),
        ("0b11", "1:1: parse error: bad number or duration syntax: \"0\""),
        ("1__0", "1:1: parse error: bad number or duration syntax: \"1__\""),
        ("\"\\u12\"", "1:1: parse error: illegal character U+0022 '\"' in escape sequence"),
        ("\"\\ud800\"", "1:1: parse error: escape sequence is an invalid Unicode code point"),
        ("a{b=\"\\xff\"}", "1:5: parse error: label names and values must be valid UTF-8"),
        ("§", "1:1: parse error: unexpected character: '§'"),
    ] {
        check_error(text, wanted);
    }
    assert!(parse("a{b=~\"[\"}", ParserOptions::all()).unwrap_err().to_string().starts_with("1:3: parse error: "));
}

/// An unexpected token is told with the innermost construct that knows what it wants.
#[test]
fn unexpected_tokens_are_told_with_their_surroundings() {
    let range = "in subquery or range selector, expected number, duration, step(), or range()";
    let range_end = "in subquery or range, expected \":\" or \"]\"";
    let step = "in subquery selector, expected number, duration, step(), range(), or \"]\"";
    let offset = "in offset, expected number, duration, step(), or range()";
    let labels = "in label matching, expected";
    for (text, wanted) in [
        ("sum(*)", "1:5: parse error: unexpected <op:*> in aggregation"),
        ("sum by (a) b", "1:12: parse error: unexpected identifier \"b\" in aggregation"),
        ("sum(abs((a b)))", "1:12: parse error: unexpected identifier \"b\" in aggregation"),
        ("sum(a) b", "1:8: parse error: unexpected identifier \"b\""),
        ("sum(a[5m x])", "1:10: parse error: unexpected character: 'x', expected ':'"),
        ("a[5m @]", &format!("1:6: parse error: unexpected <op:@> {range_end}")),
        ("a[(5m 1)]", &format!("1:7: parse error: unexpected number \"1\" {range}")),
        ("a[5m+]", &format!("1:6: parse error: unexpected \"]\" {range}")),
        ("a[5m:+]", &format!("1:7: parse error: unexpected \"]\" {step}")),
        ("a[5m:1m 1]", "1:9: parse error: unexpected number \"1\" in subquery selector, expected \"]\""),
        ("a[step(5)]", &format!("1:8: parse error: unexpected number \"5\" {range}")),
        ("a[5m] + a[:5m]", &format!("1:11: parse error: unexpected \":\" {range}")),
        ("a[step():]", "1:10: parse error: unexpected colon before duration in duration expression"),
        ("a[#b\n5m]", "1:3: parse error: unexpected character in duration expression: '#'"),
        ("a offset min_of(1, @)", &format!("1:20: parse error: unexpected <op:@> {offset}")),
        ("a offset (1m) + b", &format!("1:17: parse error: unexpected identifier \"b\" {offset}")),
        ("a @ b", "1:5: parse error: unexpected identifier \"b\" in @, expected timestamp"),
        ("a{\"b\"c}", &format!("1:6: parse error: unexpected identifier \"c\" {labels} \",\" or \"}}\"")),
        ("a{b,}", &format!("1:4: parse error: unexpected \",\" {labels} label matching operator")),
        ("a{,}", &format!("1:3: parse error: unexpected \",\" {labels} identifier or \"}}\"")),
        ("a{b=c}", &format!("1:5: parse error: unexpected identifier \"c\" {labels} string")),
        ("a + on(b) group_left % c", "1:22: parse error: unexpected <op:%> in grouping opts, expected \"(\""),
        ("a + on(,) b", "1:8: parse error: unexpected \",\" in grouping opts, expected label"),
        ("a + on(without) b", "1:8: parse error: unexpected <without> in grouping opts, expected label"),
        ("a + on(b c) d", "1:10: parse error: unexpected identifier \"c\" in grouping opts, expected \",\" or \")\""),
        ("a + on('') b", "1:8: parse error: invalid label name for grouping: \"\""),
        ("min_of(1, 2) max_of", "1:14: parse error: unexpected \"max_of\""),
        ("a !", "1:3: parse error: unexpected character after '!': '\u{fffd}'"),
        ("", "unknown position: parse error: no expression found in input"),
    ] {
        check_error(text, wanted);
    }
}

/// Of several faults, the one is told that stands first in the text or, at the end of a construct, the one that needs no
/// look at the next token; faults of types come last.
#[test]
fn the_first_fault_is_told() {
    for (text, wanted) in [
        ("abs(nosuch(a)) b b", "1:5: parse error: unknown function with name \"nosuch\""),
        ("MIN_OF(1, 2)", "1:1: parse error: unknown function with name \"MIN_OF\""),
        ("abs(a, *)", "1:6: parse error: trailing commas not allowed in function call args"),
        ("abs(a, $)", "1:8: parse error: unexpected character: '$'"),
        ("sum() b", "1:1: parse error: no arguments for aggregate expression provided"),
        ("sum() $", "1:7: parse error: unexpected character: '$'"),
        ("a offset 5m offset 5m $", "1:1: parse error: offset may not be set multiple times"),
        ("a @ Inf b", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf"),
        ("a @ 1e20", "1:1: parse error: timestamp out of bounds for @ modifier: 100000000000000000000.000000"),
        ("a{b=~\"[\"} $", "1:3: parse error: error parsing regexp: missing closing ]: `[`"),
        ("a{__name__=\"b\"} b", "1:17: parse error: unexpected identifier \"b\""),
        ("a[1m/0] b", "1:5: parse error: division by zero"),
        ("a[1m%(-0)]", "1:5: parse error: modulo by zero"),
        ("a[300y]", "1:3: parse error: duration out of range"),
        ("a offset -1e10", "1:10: parse error: duration out of range"),
        ("1e400", "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range"),
        ("1.2_.3", "1:1: parse error: bad number or duration syntax: \"1.2_.\""),
        ("info(sum, (a))", "1:11: parse error: expected label selectors only"),
        ("info(1, b)", "1:9: parse error: expected label selectors only, got vector selector instead"),
        ("a offset step()[5m]", "1:16: parse error: no offset modifiers allowed before range"),
        ("a @ end()[5m]", "1:10: parse error: no @ modifiers allowed before range"),
        ("1 anchored", "1:1: parse error: anchored modifier not implemented"),
        ("é", "1:1: parse error: unexpected character: 'é'"),
        ("{\"é\"}\n+ ,", "2:3: parse error: unexpected \",\""),
    ] {
        check_error(text, wanted);
    }
}

#[test]
fn repetitions_that_say_nothing_new_are_accepted() {
    for (text, same) in [
        ("a offset 0 offset 5m", "a offset 5m"),
        ("a anchored anchored", "a anchored"),
        ("{\"a\", \"b\"}", "{__name__=\"a\", __name__=\"b\"}"),
        ("a # b\r + c", "a + c"),
        ("0x1F + 0_7 + 1_0", "31 + 7 + 10"),
    ] {
        assert_eq!(parsed(text).to_string(), parsed(same).to_string(), "{text}");
    }
}

#[test]
fn experimental_parts_need_their_switch() {
    let check = |text: &str, change: fn(&mut ParserOptions)| {
        let mut off = ParserOptions::all();
        change(&mut off);
        assert!(parse(text, off).unwrap_err().to_string().contains("enabled"), "{text}");
        assert!(parse(text, ParserOptions::all()).is_ok(), "{text}");
    };
    check("mad_over_time(a[5m])", |options| options.experimental_functions = false);
    check("limitk(1, a)", |options| options.experimental_functions = false);
    check("a[step()]", |options| options.duration_expressions = false);
    check("a offset (1m)", |options| options.duration_expressions = false);
    check("a[5m] anchored", |options| options.extended_range_selectors = false);
    check("a + fill(0) b", |options| options.binop_fill_modifiers = false);
    let off =
        |text| parse(text, ParserOptions { duration_expressions: false, ..ParserOptions::default() }).unwrap_err();
    assert_eq!(off("a[1m+(5m)]").to_string(), "1:7: parse error: experimental duration expression is not enabled");
    assert_eq!(
        off("b + a anchored").to_string(),
        "1:5: parse error: anchored modifier is experimental and not enabled"
    );
    let fill = "1:5: parse error: binop fill modifiers are experimental and not enabled";
    assert_eq!(off("c + a * fill(0) b").to_string(), fill);
    assert!(parse("a[300] offset -5m", ParserOptions { duration_expressions: false, ..ParserOptions::all() }).is_ok());
}

#[test]
fn info_may_select_by_matchers_that_match_nothing() {
    assert!(matches!(parsed("info(a, {data=~\".*\"})"), Expr::Call(_)));
    assert!(matches!(parsed("info(a, {__name__!=\"x\"})"), Expr::Call(_)));
}

#[test]
fn series_selectors_stand_alone() {
    let matchers = parse_selector("up{job=\"a\"}").unwrap();
    assert_eq!(matchers.iter().map(pharos_promql::ast::Matcher::name).collect::<Vec<_>>(), ["job", "__name__"]);
    for (text, fault) in [
        ("up offset 5m", "1:4: parse error: unexpected <offset>"),
        ("up[5m]", "1:3: parse error: unexpected \"[\""),
        ("sum(up)", "1:4: parse error: unexpected \"(\""),
        ("up{", "1:4: parse error: unexpected end of input inside braces"),
        ("", "unknown position: parse error: unexpected end of input"),
    ] {
        assert_eq!(parse_selector(text).unwrap_err().to_string(), fault, "{text}");
    }
    assert!(parse_selector("{}").unwrap().is_empty(), "callers decide whether everything may be selected");
}
