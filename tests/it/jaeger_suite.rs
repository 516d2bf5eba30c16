//! Jaeger's own storage integration suite, unmodified, against the real binary: `tests/jaeger-suite`. Needs Go, and its module proxy once.

use std::path::Path;

use pharos_testkit::Pharos;
use tokio::process::Command;

/// More than the suite has tests: each gets a tenant of its own instead of a store that was wiped.
const TENANTS: usize = 20;

#[tokio::test]
async fn jaegers_storage_suite_passes() {
    let data = tempfile::tempdir().unwrap();
    let token =
        |number: usize| Pharos::new_token_in(data.path(), &format!("suite-{number}"), "all", &number.to_string());
    let tokens: Vec<_> = (1..=TENANTS).map(token).collect();
    let pharos = Pharos::builder().data_dir(data.path()).start().await;
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("jaeger-suite");
    let mut command = Command::new("go");
    command.args(["test", "-count=1", "-v", "./..."]).current_dir(suite).kill_on_drop(true);
    command.env("PHAROS_TOKENS", tokens.join(" "));
    command.env("PHAROS_READ", pharos.jaeger_grpc_address().to_string());
    command.env("PHAROS_WRITE", pharos.otlp_grpc_address().to_string());
    let output = command.output().await.expect("go can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("--- SKIP"), "{said}");
    assert!(said.matches("--- PASS: TestStorage/FindTraces/").count() >= 22, "{said}");
}
