//! Listeners: accept, shake hands, serve HTTP/1.1, HTTP/2 and gRPC on one port, drain, stop.
//!
//! Each connection is its own task inside the group that [`serve`] waits for, and holds a place of the
//! [`ConnectionGate`]; one that waits for a place waits in the kernel's queue, so overload costs no memory here.
//! On a port with TLS, clients choose HTTP/2 or HTTP/1.1 by ALPN; without either, and without TLS, by how they begin.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Extensions, HeaderMap, Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::conn::{
    Connection, ConnectionGate, ConnectionMetrics, ConnectionSettings, Ends, Limits, PacedBody, Place, Seldom,
    ServedBody, Vitals, WatchedIo, Why, drive,
};
use crate::tls::{Arrived, ClientCertificate, TlsSource, arrive};

/// The other end of the connection a request came on.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub SocketAddr);

/// The most of an `X-Forwarded-For` header that is kept.
const FORWARDED_BYTES_MAX: usize = 128;
/// The most that is buffered of an HTTP/1 connection, hence the largest head, bytes.
const HTTP1_BUFFER_BYTES_MAX: usize = 32 << 10;
/// The largest head over HTTP/2, bytes.
const HTTP2_HEAD_BYTES_MAX: u32 = 64 << 10;
/// The most that one HTTP/2 request may send ahead, bytes; its connection may allow less.
const HTTP2_STREAM_WINDOW_MAX: u32 = 1 << 20;
/// Of an answer over HTTP/2, so much waits for a client to take it, bytes.
const HTTP2_SEND_BUFFER_BYTES_MAX: usize = 256 << 10;

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

/// What one listener has besides its socket.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// Its name in metrics.
    pub port: &'static str,
    /// `None` speaks plain HTTP.
    pub tls: Option<Arc<TlsSource>>,
    /// Limits and places of connections, shared by all listeners.
    pub gate: Arc<ConnectionGate>,
}

impl Default for ListenerSettings {
    /// Plain HTTP, with the default limits and no other listener.
    fn default() -> Self {
        let gate = ConnectionGate::new(ConnectionSettings::default(), ConnectionMetrics::default());
        Self { port: "listen", tls: None, gate }
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
    let drain_max = settings.gate.settings().drain_max.0;
    let told = (Seldom::default(), Seldom::default());
    let port = Arc::new(OpenPort { router, settings, stop, abort: CancellationToken::new(), told });
    let connections = TaskTracker::new();
    while let Some((stream, peer)) = port.accept(&listener).await {
        let place = tokio::select! {
            () = port.stop.cancelled() => break,
            place = port.settings.gate.enter(port.settings.port, peer.ip()) => place,
        };
        match place {
            Some(place) => drop(connections.spawn(Arc::clone(&port).receive(stream, peer, place))),
            None => port.tell_crowd(peer),
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(drain_max, connections.wait()).await.is_err() {
        tracing::warn!("requests still under way at the end of the grace period were cut");
        port.abort.cancel();
        connections.wait().await;
    }
}

/// A listener while it serves.
struct OpenPort {
    router: Router,
    settings: ListenerSettings,
    stop: CancellationToken,
    /// Cuts what is left of its connections.
    abort: CancellationToken,
    /// When to tell of handshakes that fail, and of addresses with too many strangers.
    told: (Seldom, Seldom),
}

/// What is known of a connection before its first request.
struct Secured {
    over_tls: bool,
    certificate: Option<Arc<ClientCertificate>>,
    lifetime_max: Option<Duration>,
    speaks_http2: bool,
    retire: CancellationToken,
}

impl OpenPort {
    /// The next connection; `None` at the stop.
    async fn accept(&self, listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return None,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => return Some(accepted),
                Err(error) => {
                    // Out of file descriptors, mostly: wait for connections to close instead of spinning.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// From an accepted socket to the connection's end. What takes much memory is boxed: who only opens connections shall have none.
    async fn receive(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, place: Place) {
        // Answers are written whole; waiting to fill packets would only add latency.
        let _ = stream.set_nodelay(true);
        if let Some(tls) = &self.settings.tls {
            return Box::pin(self.receive_tls(tls, stream, peer, place)).await;
        }
        let vitals = Vitals::new();
        if self.hears(&stream, &place).await {
            let retire = CancellationToken::new();
            let plain = Secured { over_tls: false, certificate: None, lifetime_max: None, speaks_http2: false, retire };
            Box::pin(self.run(stream, peer, place, plain, vitals)).await;
        }
    }

    /// As [`OpenPort::receive`], on a port with TLS.
    async fn receive_tls(&self, tls: &TlsSource, stream: TcpStream, peer: SocketAddr, place: Place) {
        let timeout = self.settings.gate.settings().handshake_timeout.0;
        let arrived = tokio::select! {
            () = self.stop.cancelled() => return,
            () = place.evict().cancelled() => return self.count_cut("place_taken"),
            arrived = tokio::time::timeout(timeout, Box::pin(arrive(stream, tls))) => arrived,
        };
        match arrived {
            Ok(Ok(Arrived { stream, certificate, lifetime_max, speaks_http2, retire })) => {
                let secured = Secured { over_tls: true, certificate, lifetime_max, speaks_http2, retire };
                Box::pin(self.run(stream, peer, place, secured, Vitals::new())).await;
            }
            Ok(Err(error)) => {
                self.tell_handshake(peer, &error);
                self.count_cut("handshake");
            }
            Err(_) => self.count_cut("handshake_timeout"),
        }
    }

    /// Waits for the first bytes of a connection. Whoever only opens connections takes little memory: what serves one is
    /// made when it says something.
    async fn hears(&self, stream: &TcpStream, place: &Place) -> bool {
        let head_timeout = self.settings.gate.settings().head_timeout.0;
        let mut first = [0];
        let cut_for = tokio::select! {
            () = self.stop.cancelled() => return false,
            () = place.evict().cancelled() => Why::Place,
            // A new connection is said to be readable before anybody has looked: this looks.
            heard = tokio::time::timeout(head_timeout, stream.peek(&mut first)) => match heard {
                // A peer that is gone is met by who reads.
                Ok(_) => return true,
                Err(_) => Why::Head,
            },
        };
        self.count_cut(cut_for.as_str());
        false
    }

    /// Agents with a wrong certificate must be found without a debug log, and scanners must not fill the log.
    fn tell_handshake(&self, peer: SocketAddr, error: &io::Error) {
        if self.told.0.is_due() {
            let port = self.settings.port;
            tracing::info!(%peer, port, %error, "no TLS handshake; more like it are counted, and told in ten seconds");
        } else {
            tracing::debug!(%peer, %error, "no TLS handshake");
        }
    }

    fn tell_crowd(&self, peer: SocketAddr) {
        if self.told.1.is_due() {
            let (address, port) = (peer.ip(), self.settings.port);
            tracing::warn!(%address, port, "turned away: connections.per_address_max is reached without a valid credential");
        }
    }

    fn count_cut(&self, reason: &'static str) {
        self.settings.gate.metrics().cut(self.settings.port, reason);
    }

    /// Serves requests of one connection until it ends; `vitals` began with it, or when its handshake was done.
    async fn run<S>(&self, stream: S, peer: SocketAddr, place: Place, secured: Secured, vitals: Arc<Vitals>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let settings = self.settings.gate.settings();
        let builder = builder(settings.streams_max, place.window(), secured.speaks_http2);
        let limits = Limits::new(settings, u64::from(peer.port()), secured.lifetime_max);
        let (pause_max, rate_min) = (settings.body_pause_max.0, settings.body_rate_min.0);
        let (place, router) = (Arc::new(place), self.router.clone());
        let Secured { over_tls, certificate, retire, .. } = secured;
        let connection = Connection { peer, over_tls, certificate, place: Arc::clone(&place) };
        let requests = Arc::clone(&vitals);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let in_flight = requests.begin_request();
            let mut request = request.map(|body| Body::new(PacedBody::new(body, pause_max, rate_min)));
            let extensions = request.extensions_mut();
            extensions.insert(PeerAddress(peer));
            if let Some(certificate) = &connection.certificate {
                extensions.insert(Arc::clone(certificate));
            }
            extensions.insert(connection.clone());
            let (answer, vitals) = (router.clone().oneshot(request), Arc::clone(&requests));
            async move {
                let answer = answer.await?;
                Ok::<_, Infallible>(answer.map(|body| ServedBody::new(body, vitals, in_flight)))
            }
        });
        let io = TokioIo::new(WatchedIo::new(stream, Arc::clone(&vitals)));
        let served = pin!(builder.serve_connection(io, service));
        let ends = Ends { stop: &self.stop, retire: &retire, evict: place.evict(), abort: &self.abort };
        match drive(served, &vitals, &limits, ends).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%peer, %error, "connection ended early"),
            Err(why) => {
                tracing::debug!(%peer, limit = why.as_str(), "connection cut");
                self.count_cut(why.as_str());
            }
        }
    }
}

/// How HTTP is spoken. Times are watched by [`drive`], for both versions alike.
fn builder(streams_max: u32, window: u32, http2_only: bool) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HTTP1_BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams_max)
        .keep_alive_interval(Duration::from_mins(1))
        .keep_alive_timeout(Duration::from_secs(20))
        .initial_stream_window_size(window.min(HTTP2_STREAM_WINDOW_MAX))
        .initial_connection_window_size(window)
        .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES_MAX)
        .max_header_list_size(HTTP2_HEAD_BYTES_MAX);
    if http2_only { builder.http2_only() } else { builder }
}

#[cfg(test)]
mod tests;
