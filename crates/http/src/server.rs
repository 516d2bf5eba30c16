//! Listeners: accept, limit, serve HTTP/1.1, h2c and gRPC on one port, drain, stop.
//!
//! Each connection is its own task inside the group that [`serve`] waits for. A connection over the
//! limit waits in the kernel's queue, so overload costs no memory here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// The other end of the connection a request came on.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub SocketAddr);

/// A port that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {purpose}")]
pub struct BindError {
    address: String,
    purpose: &'static str,
    source: io::Error,
}

/// Bounds of one listener.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// Connections served at a time; more wait.
    pub connections_max: usize,
    /// A client must send its request head within this time.
    pub head_timeout: Duration,
    /// Streams one HTTP/2 connection may have open.
    pub streams_max: u32,
    /// After a stop was asked for, requests under way may take this long.
    pub drain_timeout: Duration,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            head_timeout: Duration::from_secs(30),
            streams_max: 256,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// Opens a port.
///
/// # Errors
/// [`BindError`], which names address and purpose.
pub async fn bind(address: &str, purpose: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address: address.to_owned(), purpose, source })
}

/// Serves `router` until `stop` is cancelled, then lets requests under way finish.
pub async fn serve(listener: TcpListener, router: Router, settings: ListenerSettings, stop: CancellationToken) {
    let builder = Arc::new(connection_builder(&settings));
    let permits = Arc::new(Semaphore::new(settings.connections_max));
    let graceful = GracefulShutdown::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: wait for connections to close instead of spinning.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        serve_connection(stream, peer, &router, &builder, &graceful, permit);
    }
    drop(listener);
    if tokio::time::timeout(settings.drain_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests still under way at the end of the grace period were cut");
    }
}

fn connection_builder(settings: &ListenerSettings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(settings.head_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.streams_max)
        .keep_alive_interval(Duration::from_mins(1))
        .keep_alive_timeout(Duration::from_secs(20))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_header_list_size(64 << 10);
    builder
}

fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: &Router,
    builder: &Arc<Builder<TokioExecutor>>,
    graceful: &GracefulShutdown,
    permit: OwnedSemaphorePermit,
) {
    // Answers are written whole; waiting to fill packets would only add latency.
    let _ = stream.set_nodelay(true);
    let router = router.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(PeerAddress(peer));
        router.clone().oneshot(request)
    });
    let (builder, watcher) = (Arc::clone(builder), graceful.watcher());
    #[expect(clippy::disallowed_methods, reason = "`graceful` waits for every connection it watches")]
    tokio::spawn(async move {
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%peer, %error, "connection ended early");
        }
        drop(permit);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_stop_lets_the_request_under_way_finish() {
        let listener = bind("127.0.0.1:0", "test").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, started) = (CancellationToken::new(), CancellationToken::new());
        let (stop_seen, begun) = (stop.clone(), started.clone());
        let router = Router::new().route(
            "/slow",
            get(move || async move {
                begun.cancel();
                stop_seen.cancelled().await;
                "done"
            }),
        );
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(serve(listener, router, ListenerSettings::default(), stop.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        started.cancelled().await;
        stop.cancel();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
        tasks.join_next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = bind("127.0.0.1:0", "queries").await.unwrap();
        let address = first.local_addr().unwrap().to_string();
        let error = bind(&address, "queries").await.unwrap_err().to_string();
        assert_eq!(error, format!("cannot listen on {address} for queries"));
    }
}
