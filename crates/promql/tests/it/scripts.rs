//! Our own promqltest scripts: every one passes in full.

use std::fs;
use std::path::PathBuf;

use pharos_promql::script::{MemoryScriptStore, ScriptRunner};

#[test]
fn our_scripts_pass() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/ours");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut failed = Vec::new();
    for file in files {
        let report = ScriptRunner::new(MemoryScriptStore).run(&fs::read_to_string(&file).unwrap());
        println!("{}: {} passed, {} failed", file.display(), report.passed, report.failures.len());
        if report.passed == 0 || !report.failures.is_empty() {
            failed.push(format!("{}\n{report}", file.display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// A runner that believes everything would pass every script above: it must find each of these wrong.
#[test]
fn wrong_expectations_fail() {
    for wrong in [
        "a 1",
        "a 2\n b 1",
        "",
        "7",
        "expect fail",
        "expect string \"x\"",
        "expect warn\n a 7",
        "{} 7",
        "a {{count:7}}",
    ] {
        let script = format!("load 1m\n  a 7\n\neval instant at 0 a\n  {wrong}\n");
        let report = ScriptRunner::new(MemoryScriptStore).run(&script);
        assert_eq!((report.passed, report.failures.len()), (0, 1), "{wrong}");
        assert_eq!(report.failures[0].line, 4);
    }
    let right = "load 1m\n  a 7\n\neval instant at 0 a\n  expect no_warn\n  a 7\n";
    let report = ScriptRunner::new(MemoryScriptStore).run(right);
    assert_eq!((report.passed, report.failures), (1, Vec::new()));
}
