//! The load generator of `benches/loadgen` as a client.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, Command};

/// A run of loadgen under way.
pub(crate) struct Run(Child);

fn program() -> PathBuf {
    std::env::var_os("LOADGEN_BIN")
        .map_or_else(|| pharos_testkit::Pharos::program().with_file_name("loadgen"), PathBuf::from)
}

/// Starts loadgen.
pub(crate) fn start(arguments: &[&str]) -> Run {
    let child = Command::new(program())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}; set LOADGEN_BIN", program().display()));
    Run(child)
}

impl Run {
    /// Waits for its end and reads its report; fails unless it ended well.
    pub(crate) async fn report(self) -> Value {
        let output = self.0.wait_with_output().await.expect("loadgen can be waited for");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "loadgen ended with {}:\n{out}\n{err}", output.status);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in {out}"))
    }
}
