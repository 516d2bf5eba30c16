//! `pharos doctor` by the real binary: what is damaged is named, what can be read of it is stored again, and served.

use std::fs;
use std::path::Path;

use pharos_testkit::Pharos;

use crate::backup::{files, text, traces};
use crate::loadgen;

const TRACES: u64 = 1_000;
const SPANS_PER_TRACE: u64 = 10;

/// Runs the command on a folder; answers its exit code and what it said.
fn doctor(data: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let output = Pharos::run(&[&["doctor", "--data-dir", text(data)], flags].concat());
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!err.contains("panicked"), "{err}");
    (output.status.code(), format!("{out}{err}"))
}

#[tokio::test]
async fn a_damaged_day_is_named_repaired_and_served_again() {
    let mut pharos = Pharos::builder().start().await;
    let url = pharos.url("/v1/traces");
    let (count, spans) = (TRACES.to_string(), SPANS_PER_TRACE.to_string());
    let push = ["traces", "--url", &url, "--token", pharos.token(), "--traces", &count, "--spans-per-trace", &spans];
    let report = loadgen::start(&[&push[..], &["--start", "-20m", "--span-of-time", "10m"]].concat()).report().await;
    assert_eq!(report["accepted"], report["sent"], "{report}");
    assert_eq!(traces(&pharos).await, (TRACES as usize, TRACES * SPANS_PER_TRACE));
    let data = pharos.data_dir();
    let (code, told) = doctor(&data, &[]);
    assert!(code == Some(2) && told.contains("in use by another pharos"), "{code:?} {told}");
    assert!(pharos.stop().await.success());

    let (code, told) = doctor(&data, &[]);
    assert!(code == Some(0) && told.contains(" 10000 spans; ") && told.contains("; 0 damaged;"), "{code:?} {told}");
    let tables = files(&data).into_iter().filter(|(path, _)| path.extension().is_some_and(|found| found == "sst"));
    let (path, mut bytes) = tables.max_by_key(|(_, bytes)| bytes.len()).expect("spans are in tables of RocksDB");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(data.join(path), bytes).unwrap();
    let (code, told) = doctor(&data, &[]);
    assert!(code == Some(1) && told.contains("damaged: "), "{code:?} {told}");

    let (code, told) = doctor(&data, &["--repair"]);
    assert!(code == Some(0) && told.contains("lost: ") && told.contains("kept for inspection"), "{code:?} {told}");
    let stored: u64 = told
        .lines()
        .find_map(|line| line.strip_prefix("repair: ")?.split(", ").nth(1)?.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("it says how many spans were stored again: {told}"));
    assert!((1..TRACES * SPANS_PER_TRACE).contains(&stored), "one block of several is lost: {told}");
    let (code, told) = doctor(&data, &[]);
    assert!(code == Some(0) && told.contains("; 0 damaged;"), "{code:?} {told}");

    pharos.restart().await;
    let (found, spans) = traces(&pharos).await;
    assert!(found > 0 && spans == stored, "{found} traces, {spans} of {stored} spans");
}
