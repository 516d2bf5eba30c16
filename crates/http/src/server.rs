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
use http::{Extensions, HeaderMap, Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_http::timeout::TimeoutBody;

/// The other end of the connection a request came on.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub SocketAddr);

/// The most of an `X-Forwarded-For` header that is kept.
const FORWARDED_BYTES_MAX: usize = 128;

/// Where a request came from: the other end of its connection, and whom that end says it speaks for.
#[must_use]
pub fn remote_address(extensions: &Extensions, headers: &HeaderMap) -> String {
    let peer = extensions.get::<PeerAddress>().map_or(String::new(), |peer| peer.0.to_string());
    match headers.get("x-forwarded-for").map(|value| String::from_utf8_lossy(value.as_bytes())) {
        None => peer,
        Some(forwarded) => {
            let cut = forwarded.floor_char_boundary(FORWARDED_BYTES_MAX);
            format!("{peer}, X-Forwarded-For: {}", &forwarded[..cut])
        }
    }
}

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
    /// A client must send its request head within this time, counted from the connection for the first one.
    pub head_timeout: Duration,
    /// A body may pause this long between two pieces.
    pub body_pause_max: Duration,
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
            body_pause_max: Duration::from_secs(30),
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
        let permit = tokio::select! {
            () = stop.cancelled() => break,
            permit = Arc::clone(&permits).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { break };
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
        serve_connection(stream, peer, &router, &settings, &builder, &graceful, permit);
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
    settings: &ListenerSettings,
    builder: &Arc<Builder<TokioExecutor>>,
    graceful: &GracefulShutdown,
    permit: OwnedSemaphorePermit,
) {
    // Answers are written whole; waiting to fill packets would only add latency.
    let _ = stream.set_nodelay(true);
    let router = router.clone();
    let (head_timeout, body_pause_max) = (settings.head_timeout, settings.body_pause_max);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(|body| Body::new(TimeoutBody::new(body_pause_max, body)));
        request.extensions_mut().insert(PeerAddress(peer));
        router.clone().oneshot(request)
    });
    let (builder, watcher) = (Arc::clone(builder), graceful.watcher());
    #[expect(clippy::disallowed_methods, reason = "`graceful` waits for every connection it watches")]
    tokio::spawn(async move {
        if !matches!(tokio::time::timeout(head_timeout, tells_its_protocol(&stream)).await, Ok(Ok(()))) {
            return;
        }
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%peer, %error, "connection ended early");
        }
        drop(permit);
    });
}

/// Waits until a client has sent enough to tell HTTP/1 from HTTP/2: hyper waits for that without a timeout.
async fn tells_its_protocol(stream: &TcpStream) -> io::Result<()> {
    const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut seen = [0; HTTP2_PREFACE.len()];
    loop {
        let length = stream.peek(&mut seen).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if length == seen.len() || seen[..length] != HTTP2_PREFACE[..length] {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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

    /// A server whose clients must hurry, with a route that reads the body.
    async fn hasty_server() -> (SocketAddr, CancellationToken, tokio::task::JoinSet<()>) {
        let listener = bind("127.0.0.1:0", "test").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pause = Duration::from_millis(100);
        let settings = ListenerSettings {
            connections_max: 1,
            head_timeout: pause,
            body_pause_max: pause,
            ..ListenerSettings::default()
        };
        let router = Router::new().route(
            "/",
            axum::routing::post(|body: Result<bytes::Bytes, axum::extract::rejection::BytesRejection>| async move {
                if body.is_ok() { http::StatusCode::OK } else { http::StatusCode::REQUEST_TIMEOUT }
            }),
        );
        let stop = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(serve(listener, router, settings, stop.clone()));
        (address, stop, tasks)
    }

    #[tokio::test]
    async fn clients_that_say_nothing_or_not_enough_are_cut() {
        let (address, stop, mut tasks) = hasty_server().await;
        for said in ["", "PRI * HT", "POST / HTTP/1.1\r\nHos"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{said:?} is cut");
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_full_server_still_stops() {
        let (address, stop, mut tasks) = hasty_server().await;
        let _held = TcpStream::connect(address).await.unwrap();
        let _waiting = TcpStream::connect(address).await.unwrap();
        stop.cancel();
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
