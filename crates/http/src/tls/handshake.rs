//! From a socket to a stream that carries HTTP: the handshake, and one clear line to those who speak no TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::{ClientCertificate, TlsSource};

/// What every TLS connection begins with: a record of type handshake.
const HANDSHAKE_RECORD: u8 = 0x16;
/// Of a client that speaks no TLS, so much is read and dropped, for so long: closing at once would cost it the answer.
const STRAY_BYTES_MAX: u64 = 64 << 10;
const STRAY_TIMEOUT: Duration = Duration::from_secs(1);

/// A client that is through the handshake.
pub(crate) struct Arrived {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    /// How long its certificate is good for.
    pub(crate) lifetime_max: Option<Duration>,
    pub(crate) speaks_http2: bool,
    /// Cancelled when clients are checked against other files.
    pub(crate) retire: CancellationToken,
}

/// Shakes hands. The caller limits how long that may take.
///
/// # Errors
/// The client speaks no TLS, or none that we do; its certificate is not believed; it went away.
pub(crate) async fn arrive(mut stream: TcpStream, source: &TlsSource) -> io::Result<Arrived> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if first[0] != HANDSHAKE_RECORD {
        tell_stray(&mut stream).await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client speaks no TLS"));
    }
    let in_use = source.current();
    let stream = TlsAcceptor::from(Arc::clone(&in_use.config)).accept(stream).await?;
    let (_, connection) = stream.get_ref();
    // A session that is taken up again keeps the certificate that it began with.
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    let certificate = leaf.map(|leaf| ClientCertificate::parse(leaf)).transpose().map_err(invalid)?;
    let lifetime_max = match &certificate {
        None => None,
        Some(certificate) => {
            let left_ms = certificate.not_after_s.saturating_mul(1_000).saturating_sub(source.clock().unix_ms());
            let left_ms = u64::try_from(left_ms).map_err(|_| invalid("the client's certificate has expired"))?;
            Some(Duration::from_millis(left_ms))
        }
    };
    let speaks_http2 = connection.alpn_protocol() == Some(b"h2");
    let retire = in_use.retire.clone();
    Ok(Arrived { stream, certificate: certificate.map(Arc::new), lifetime_max, speaks_http2, retire })
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// One line, as HTTP/1.1, which clients of all kinds show.
async fn tell_stray(stream: &mut TcpStream) -> io::Result<()> {
    const LINE: &str = "this port speaks TLS: use https\n";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{LINE}",
        LINE.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(STRAY_BYTES_MAX);
    let _ = tokio::time::timeout(STRAY_TIMEOUT, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    Ok(())
}
