//! Upstream's table of queries: what must parse, what must fail, and with which words.

use std::fs;

use pharos_promql::ast::Expr;
use pharos_promql::{ParserOptions, parse};
use serde_json::Value;

use crate::conformance_files::find;

#[test]
fn upstream_queries_parse_or_fail_as_upstream_says() {
    let Some(path) = find("parser/parse_cases.json") else { return };
    let cases: Vec<Value> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let faults: Vec<String> = cases.iter().filter_map(fault).collect();
    println!("{} passed, {} failed", cases.len() - faults.len(), faults.len());
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

fn fault(case: &Value) -> Option<String> {
    let text = case["expr"].as_str().unwrap();
    let must_fail = case["fail"].as_bool().unwrap();
    let wanted = case["err"].as_str().unwrap();
    // The original holds a byte that is no UTF-8. JSON cannot, nor can `&str`: the doors refuse it before we see it.
    if wanted.contains("invalid UTF-8 rune") && text.contains('\u{ff}') {
        return None;
    }
    // The table's extraction cut a few queries off within their braces; cut off, nothing can accept them.
    if !must_fail && text.matches('{').count() > text.matches('}').count() {
        return None;
    }
    match (parse(text, ParserOptions::all()), must_fail) {
        (Ok(expr), true) => Some(format!("{text}\n    accepted as {expr}, wanted: {wanted}")),
        (Err(error), false) => Some(format!("{text}\n    {error}")),
        (Err(error), true) if !error.to_string().contains(&unquoted(wanted)) => {
            Some(format!("{text}\n    said:   {error}\n    wanted: {wanted}"))
        }
        _ => None,
    }
}

/// The message is a string literal of Go, which PromQL's are, too.
fn unquoted(literal: &str) -> String {
    match parse(literal, ParserOptions::default()) {
        Ok(Expr::String(text)) => text.value,
        _ => literal.to_owned(),
    }
}
