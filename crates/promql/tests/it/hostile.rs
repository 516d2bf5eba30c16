//! Texts that mean harm: every one is answered, none costs the stack.

use pharos_promql::limits::{EXPRESSION_DEPTH_MAX, NESTING_MAX, QUERY_BYTES_MAX};
use pharos_promql::{ParserOptions, parse, pretty};
use proptest::prelude::*;

fn message(text: &str) -> String {
    parse(text, ParserOptions::all()).unwrap_err().to_string()
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| format!("{}1{}", "(".repeat(levels), ")".repeat(levels));
    assert!(parse(&nested(NESTING_MAX - 1), ParserOptions::default()).is_ok());
    assert!(message(&nested(100_000)).contains(&format!("nested too deeply: at most {NESTING_MAX} levels")));
    assert!(message(&"-".repeat(100_000)).contains("nested too deeply"));
    assert!(message(&"2^".repeat(100_000)).contains("nested too deeply"));
    assert!(message(&format!("a[{}", "(".repeat(100_000))).contains("nested too deeply"));
    assert!(message(&format!("a offset {}", "-".repeat(100_000))).contains("nested too deeply"));
    assert!(message(&"abs(".repeat(100_000)).contains("nested too deeply"));
}

#[test]
fn chains_are_bounded() {
    let chain = |operands: usize| vec!["a"; operands].join(" or ");
    assert!(parse(&chain(EXPRESSION_DEPTH_MAX), ParserOptions::default()).is_ok());
    assert!(message(&chain(10_000)).contains("too deep: at most 500"));
    let subqueries = format!("a{}", "[1m:]".repeat(10_000));
    assert!(message(&subqueries).contains("too deep"));
    let duration = format!("a[{}1s]", "1s+".repeat(10_000));
    assert!(message(&duration).contains("too long: at most 200 operators"));
}

#[test]
fn length_is_bounded() {
    assert!(message(&" ".repeat(QUERY_BYTES_MAX + 1)).contains("query is too long"));
    assert!(message(&" ".repeat(QUERY_BYTES_MAX)).contains("no expression found in input"));
}

#[test]
fn patterns_are_bounded_together() {
    let matchers = vec![r#"b=~"x(\\pL{20}){10}""#; 2_000].join(",");
    assert!(
        message(&format!("a{{{matchers}}}")).contains("patterns of the query are too large: at most 67108864 bytes")
    );
}

#[test]
fn the_deepest_trees_print_quickly_and_drop() {
    let text = vec!["a"; EXPRESSION_DEPTH_MAX].join(" or ");
    let expr = parse(&text, ParserOptions::default()).unwrap();
    assert_eq!(expr.to_string(), text);
    let lines = pretty(&expr);
    assert_eq!(parse(&lines, ParserOptions::default()).unwrap().to_string(), text);
}

/// Pieces of the language, to be thrown together.
fn arb_soup() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "a",
        "sum",
        "rate",
        "by",
        "on",
        "bool",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "=",
        "=~",
        "!=",
        "\"",
        "'",
        "`",
        "\\x",
        "5m",
        "1.5e3",
        "0x",
        "@",
        "offset",
        "start",
        "step",
        "()",
        "+",
        "-",
        "*",
        "^",
        "</",
        "group_left",
        "fill",
        "#",
        "\n",
        " ",
        "é",
        "\u{0}",
        "anchored",
        "min_of",
        "\"a\"",
        "a=\"b\"",
        "Inf",
        "9999999999999999999",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Whatever comes in is answered; what is accepted survives printing.
    #[test]
    fn any_text_is_answered(text in prop_oneof![arb_soup(), any::<String>()]) {
        if let Ok(expr) = parse(&text, ParserOptions::all()) {
            let printed = expr.to_string();
            let again = parse(&printed, ParserOptions::all());
            prop_assert!(again.is_ok(), "{text:?} printed as {printed:?}: {again:?}");
            prop_assert_eq!(again.unwrap().to_string(), printed);
        }
    }

    /// So are scripts.
    #[test]
    fn any_script_is_answered(line in any::<String>(), values in "[0-9x+_ .{}:-]{0,20}") {
        let script = format!("load 1m\n  a {values}\n  {line}\n\neval instant at 1m {line}\n  {line}\n");
        let mut runner = pharos_promql::script::ScriptRunner::new(pharos_promql::script::MemoryScriptStore);
        let _ = runner.run(&script);
    }
}
