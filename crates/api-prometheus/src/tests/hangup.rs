//! A client that hangs up, over a real connection.

use std::sync::Arc;

use parking_lot::Mutex;
use pharos_gateway::Principal;
use pharos_http::{ListenerSettings, serve};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::testing::{StallingStore, router_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_cancels_what_the_store_reads_for_it() {
    for path in
        ["/api/v1/query?query=x", "/api/v1/query_range?query=sum(x)&start=1&end=9&step=1", "/federate?match[]=x"]
    {
        let ((begun, on_begin), (cancelled, on_cancel)) = (oneshot::channel(), oneshot::channel());
        let store = StallingStore { begun: Mutex::new(Some(begun)), cancelled: Mutex::new(Some(cancelled)) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (router, stop) = (router_for(Arc::new(store), Principal::anonymous()), CancellationToken::new());
        let mut server = JoinSet::new();
        server.spawn(serve(listener, router, ListenerSettings::default(), stop.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        on_begin.await.unwrap();
        drop(client);
        on_cancel.await.expect("the read is cancelled");
        stop.cancel();
        server.join_next().await;
    }
}
