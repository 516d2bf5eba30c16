//! A stream that tells [`Vitals`] what passes: bytes of heads, the preface of HTTP/2, writes that get no further.
//!
//! It gives less than 8 KiB at a time: hyper begins with a buffer of 8 KiB for each connection, doubles it whenever a read fills it, and
//! keeps that size. A large body costs more reads, each far less than what is then done with its bytes; connections are many.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

use super::Vitals;

/// The most that is read at a time, bytes: it fills no buffer of 8 KiB.
const READ_BYTES_MAX: u64 = (8 << 10) - 1;
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// See the file's header.
#[derive(Debug)]
pub(crate) struct WatchedIo<S> {
    stream: Take<S>,
    vitals: Arc<Vitals>,
    /// What is still to come of the preface; `None` once it came, or cannot any more.
    preface_left: Option<&'static [u8]>,
}

impl<S: AsyncRead> WatchedIo<S> {
    pub(crate) fn new(stream: S, vitals: Arc<Vitals>) -> Self {
        Self { stream: stream.take(READ_BYTES_MAX), vitals, preface_left: Some(HTTP2_PREFACE) }
    }

    fn came(&mut self, bytes: &[u8]) {
        self.vitals.bytes_came();
        let Some(left) = self.preface_left else { return };
        let compared = left.len().min(bytes.len());
        self.preface_left = (left[..compared] == bytes[..compared]).then_some(&left[compared..]);
        if self.preface_left.is_some_and(<[u8]>::is_empty) {
            self.preface_left = None;
            self.vitals.speaks_http2();
        }
    }

    fn wrote<T>(&self, outcome: &Poll<io::Result<T>>) {
        self.vitals.write_is_blocked(outcome.is_pending());
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        self.stream.set_limit(READ_BYTES_MAX);
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.came(&buffer.filled()[before..]);
        }
        outcome
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(self.stream.get_mut()).poll_write(cx, bytes);
        self.wrote(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(self.stream.get_mut()).poll_write_vectored(cx, slices);
        self.wrote(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(self.stream.get_mut()).poll_flush(cx);
        self.wrote(&outcome);
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(self.stream.get_mut()).poll_shutdown(cx);
        self.wrote(&outcome);
        outcome
    }
}
