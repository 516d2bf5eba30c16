//! A client that hangs up, over a real connection: what was read or answered for it ends, and leaves nothing behind.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use parking_lot::Mutex;
use pharos_gateway::Principal;
use pharos_http::{ListenerSettings, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::testing::{NOW_MS, StallingStore, api, many_series, settled};
use crate::{PrometheusApi, router};

/// Serves `api` until the set is dropped.
async fn served(api: &PrometheusApi) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(api.clone()).layer(Extension(Principal::anonymous()));
    let mut server = JoinSet::new();
    server.spawn(serve(listener, router, ListenerSettings::default(), CancellationToken::new()));
    (address, server)
}

async fn asked(address: SocketAddr, path: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_cancels_what_the_store_reads_for_it() {
    for path in
        ["/api/v1/query?query=x", "/api/v1/query_range?query=sum(x)&start=1&end=9&step=1", "/federate?match[]=x"]
    {
        let ((begun, on_begin), (cancelled, on_cancel)) = (oneshot::channel(), oneshot::channel());
        let store = StallingStore { begun: Mutex::new(Some(begun)), cancelled: Mutex::new(Some(cancelled)) };
        let api = api(Arc::new(store));
        let (address, _server) = served(&api).await;
        let client = asked(address, path).await;
        on_begin.await.unwrap();
        assert_eq!(api.pool.queries().running(None).len(), 1, "{path}");
        drop(client);
        on_cancel.await.expect("the read is cancelled");
        settled(&api).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_amid_its_answer_leaves_nothing_behind() {
    let api = api(many_series());
    let (address, _server) = served(&api).await;
    let (start, end) = (NOW_MS / 1_000, NOW_MS / 1_000 + 1_500);
    let path = format!("/api/v1/query_range?query=up&start={start}&end={end}&step=1&lookback_delta=30m&nocache=1");
    let mut client = asked(address, &path).await;
    let mut begin = [0; 4_096];
    client.read_exact(&mut begin).await.unwrap();
    assert!(begin.starts_with(b"HTTP/1.1 200 OK"));
    // A million and a half points, of which no more left than fits into sockets.
    assert!(api.engine.memory_used_bytes() > 20 << 20, "{}", api.engine.memory_used_bytes());
    drop(client);
    settled(&api).await;
}
