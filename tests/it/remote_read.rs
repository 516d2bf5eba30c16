//! Remote read with Debian's `prometheus` as the client: what it answers about series that only Pharos has is what Pharos
//! answers. It asks for samples and knows no histograms there; chunks and histograms are read back by the tests of
//! `pharos-api-prometheus`.

use std::path::Path;
use std::process::Command;

use pharos_testkit::{Peer, Pharos, find_program, free_address};
use serde_json::Value;

use crate::peers::compare::Server;

/// Behind the last sample of the imported data, Unix seconds.
const END_S: i64 = 1_700_100_000;

/// A `prometheus` that scrapes nothing and reads everything from `pharos`.
async fn reader(pharos: &Pharos) -> (Server, Peer) {
    let (address, folder) = (free_address(), pharos.folder());
    let config = folder.join("remote-read.yml");
    let text = format!(
        "remote_read:\n- url: {}\n  read_recent: true\n  authorization: {{type: Bearer, credentials: {}}}\n",
        pharos.url("/api/v1/read"),
        pharos.token()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(find_program(&["prometheus"]));
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("remote-read-data").display()))
        .arg(format!("--web.listen-address={address}"));
    let mut peer = Peer::spawn("remote-read", command, folder);
    peer.wait_until_ready(&format!("http://{address}/-/ready")).await;
    (Server::new(&format!("http://{address}"), None), peer)
}

/// The result of an instant query, series in the order of their labels.
async fn result(server: &Server, query: &str) -> Vec<Value> {
    let parameters = [("query", query.to_owned()), ("time", END_S.to_string())];
    let reply = server.ask("/api/v1/query", &parameters).await;
    assert_eq!(reply.status, 200, "{query}: {}", reply.body);
    let mut series = reply.body["data"]["result"].as_array().cloned().unwrap_or_default();
    series.sort_by_key(|series| series["metric"].to_string());
    series
}

#[tokio::test]
async fn prometheus_reads_from_pharos_what_it_does_not_have() {
    let pharos = Pharos::builder().option("--retention-metrics", "36500d").start().await;
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/prometheus-data/testdata/fixtures/modern");
    crate::import::done(&pharos, &["import", "prometheus", &fixture.to_string_lossy()]).await;
    let (theirs, _peer) = reader(&pharos).await;
    let ours = Server::new(&pharos.url(""), Some(pharos.token()));
    for query in [
        // Every sample as it is, and through functions of windows that begin before the data.
        "requests_total[2d]",
        "constant[2d]",
        "count_over_time(requests_total[2d])",
        "sum(last_over_time(requests_total[2d]))",
    ] {
        let (found, expected) = (result(&theirs, query).await, result(&ours, query).await);
        assert!(!expected.is_empty(), "{query} finds nothing");
        assert!(found == expected, "{query}:\n{found:?}\nis not\n{expected:?}");
    }
    let nothing = result(&theirs, "requests_total{job=\"nobody\"}[2d]").await;
    assert!(nothing.is_empty(), "{nothing:?}");
}
