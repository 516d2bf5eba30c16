//! The client side: compression, plain HTTP/1.1 posts, unary gRPC over HTTP/2.

use bytes::Bytes;
use clap::ValueEnum;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::io::Write;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Encoding {
    Snappy,
    Zstd,
    Gzip,
    None,
}

impl Encoding {
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Encoding::Snappy => Some("snappy"),
            Encoding::Zstd => Some("zstd"),
            Encoding::Gzip => Some("gzip"),
            Encoding::None => None,
        }
    }
    pub(crate) fn pack(self, raw: &[u8]) -> Vec<u8> {
        match self {
            Encoding::Snappy => snap::raw::Encoder::new().compress_vec(raw).expect("under 4 GiB"),
            Encoding::Zstd => zstd::bulk::compress(raw, 1).expect("in memory"),
            Encoding::Gzip => {
                let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                w.write_all(raw).and_then(|()| w.finish()).expect("in memory")
            }
            Encoding::None => raw.to_vec(),
        }
    }
}

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// gRPC only; 0 is success.
    pub(crate) grpc_status: Option<u16>,
    pub(crate) grpc_message: String,
}

impl Reply {
    pub(crate) fn ok(&self) -> bool {
        (200..300).contains(&self.status) && self.grpc_status.unwrap_or(0) == 0
    }
    /// What to count an error under.
    pub(crate) fn code(&self) -> String {
        match self.grpc_status {
            Some(s) if self.status == 200 => format!("grpc-{s}"),
            _ => self.status.to_string(),
        }
    }
    pub(crate) fn text(&self) -> String {
        let t = if self.grpc_message.is_empty() {
            String::from_utf8_lossy(&self.body).into()
        } else {
            self.grpc_message.clone()
        };
        t.chars().take(300).collect()
    }
}

/// One connection's worth of client.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    token: Option<String>,
}

impl Http {
    pub(crate) fn new(token: Option<&str>, http2: bool) -> Http {
        let mut conn = HttpConnector::new();
        conn.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).http2_only(http2).build(conn);
        Http { client, token: token.map(|t| format!("Bearer {t}")) }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Reply, Error> {
        let mut r = Request::builder().method(method).uri(url);
        for (k, v) in headers {
            r = r.header(*k, *v);
        }
        if let Some(t) = &self.token {
            r = r.header("authorization", t);
        }
        let reply = self.client.request(r.body(Full::new(body))?).await?;
        let (parts, body) = reply.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let find = |k: &str| trailers.get(k).or(parts.headers.get(k)).and_then(|v| v.to_str().ok()).map(str::to_string);
        Ok(Reply {
            status: parts.status.as_u16(),
            grpc_status: find("grpc-status").and_then(|s| s.parse().ok()),
            grpc_message: find("grpc-message").unwrap_or_default(),
            headers: parts.headers,
            body: body.to_bytes(),
        })
    }

    pub(crate) async fn get(&self, url: &str) -> Result<Reply, Error> {
        self.send(Method::GET, url, &[], Bytes::new()).await
    }
}

/// A gRPC frame: one flag byte, four length bytes, the message.
pub(crate) fn grpc_frame(compressed: bool, msg: &[u8]) -> Bytes {
    let mut b = Vec::with_capacity(msg.len() + 5);
    b.push(u8::from(compressed));
    b.extend_from_slice(&(msg.len() as u32).to_be_bytes());
    b.extend_from_slice(msg);
    b.into()
}

/// Percent-encodes everything but unreserved characters.
pub(crate) fn escape(s: &str) -> String {
    use std::fmt::Write;
    let mut o = String::with_capacity(s.len() * 2);
    for b in s.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => o.push(b as char),
            _ => {
                let _ = write!(o, "%{b:02X}");
            }
        }
    }
    o
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn packs_round_trip() {
        let raw = b"hello hello hello hello".repeat(100);
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&Encoding::Snappy.pack(&raw)).unwrap(), raw);
        assert_eq!(zstd::bulk::decompress(&Encoding::Zstd.pack(&raw), 1 << 20).unwrap(), raw);
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(&Encoding::Gzip.pack(&raw)[..]).read_to_end(&mut out).unwrap();
        assert_eq!(out, raw);
    }

    /// A gRPC server that turns a compressed message away and accepts a plain one.
    async fn grpc_server(listener: tokio::net::TcpListener) {
        use hyper::{Response, body::Incoming, server::conn::http2::Builder, service::service_fn};
        let reply = |r: Request<Incoming>| async move {
            assert_eq!(r.headers()["te"], "trailers");
            assert_eq!(r.headers()["authorization"], "Bearer t");
            let body = r.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize, body.len() - 5);
            let mut t = HeaderMap::new();
            t.insert("grpc-status", if body[0] == 0 { "0" } else { "14" }.parse().unwrap());
            t.insert("grpc-message", "as told".parse().unwrap());
            let empty = Full::new(Bytes::from_static(&[0; 5]));
            Ok::<_, std::io::Error>(Response::new(empty.with_trailers(async { Some(Ok(t)) })))
        };
        let (io, _) = listener.accept().await.unwrap();
        let io = hyper_util::rt::TokioIo::new(io);
        let _ = Builder::new(TokioExecutor::new()).serve_connection(io, service_fn(reply)).await;
    }

    #[tokio::test]
    async fn grpc_status_comes_from_the_trailers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/Export", listener.local_addr().unwrap());
        tokio::spawn(grpc_server(listener));
        let http = Http::new(Some("t"), true);
        let go = |packed| http.send(Method::POST, &url, &[("te", "trailers")], grpc_frame(packed, b"abc"));
        assert!(go(false).await.unwrap().ok());
        let r = go(true).await.unwrap();
        assert!(!r.ok());
        assert_eq!((r.code(), r.text()), ("grpc-14".to_string(), "as told".to_string()));
    }

    #[test]
    fn escapes() {
        assert_eq!(escape("a{b=\"c\"}"), "a%7Bb%3D%22c%22%7D");
    }
}
