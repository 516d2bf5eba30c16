//! Upstream's promqltest scripts.

use std::fs;

use pharos_promql::script::{MemoryScriptStore, ScriptRunner};
use pharos_promql::{ParserOptions, parse};

use crate::conformance_files::find;
use crate::spans::without_spans;

fn scripts() -> Vec<(String, String)> {
    let Some(folder) = find("promqltest") else { return Vec::new() };
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut scripts: Vec<(String, String)> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    scripts.sort();
    scripts
}

/// The queries of a script, by the words before them.
fn queries(script: &str) -> impl Iterator<Item = &str> {
    script.lines().map(str::trim).filter(|line| line.starts_with("eval")).filter_map(|line| {
        let words_before = if line.split_whitespace().nth(1) == Some("range") { 8 } else { 4 };
        let mut rest = line;
        for _ in 0..words_before {
            rest = rest.split_once(char::is_whitespace)?.1.trim_start();
        }
        Some(rest)
    })
}

#[test]
fn every_query_parses_and_survives_printing() {
    for (name, script) in scripts() {
        for query in queries(&script) {
            let expr = parse(query, ParserOptions::all()).unwrap_or_else(|error| panic!("{name}: {query}: {error}"));
            let printed = expr.to_string();
            let again =
                parse(&printed, ParserOptions::all()).unwrap_or_else(|error| panic!("{name}: {printed}: {error}"));
            assert_eq!(format!("{:?}", without_spans(again)), format!("{:?}", without_spans(expr)), "{name}: {query}");
        }
    }
}

#[test]
fn scripts_pass() {
    let (mut passed, mut failed) = (0, 0);
    let mut faulty = Vec::new();
    for (name, script) in scripts() {
        let report = ScriptRunner::new(MemoryScriptStore).run(&script);
        println!("{name}: {} passed, {} failed", report.passed, report.failures.len());
        passed += report.passed;
        failed += report.failures.len();
        if !report.failures.is_empty() {
            faulty.push(format!("{name}\n{report}"));
        }
    }
    println!("total: {passed} passed, {failed} failed");
    assert!(faulty.is_empty(), "{}", faulty.join("\n\n"));
}
