//! Reading a request's body, bounded while it arrives.

use axum::body::Body;
use bytes::Buf;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use pharos_base::{ByteSize, ErrorClass};
use pharos_http::{BodyShare, HeldBody, Leftover, Refusal, hold_body};
use pharos_ingest::IngestError;

use crate::refuse::refusal;

/// Reads the whole body, as it is encoded; its share of the budget grows while it arrives.
///
/// The head goes before the body comes: many bodies may be waited for, and heads lie in buffers of 8 KiB.
pub(crate) fn read(
    parts: Parts,
    body: Body,
    bytes_max: usize,
    share: BodyShare,
) -> impl Future<Output = Result<HeldBody, Refusal>> {
    let declared: Option<u64> = text(&parts.headers, CONTENT_LENGTH).and_then(|value| value.parse().ok());
    let reading = Reading { bytes_max, declared: declared.map(length_of), framed: false };
    let gathering = gather(Leftover::of(&parts), body, reading, share);
    drop(parts);
    gathering
}

/// A gRPC message as it came.
#[derive(Debug)]
pub(crate) struct GrpcMessage {
    /// Whether it is compressed by what `grpc-encoding` names.
    pub compressed: bool,
    pub body: HeldBody,
}

/// Reads the one message of a unary call. What its prefix declares is checked before the message is read, and takes no
/// memory before it has come.
pub(crate) fn read_grpc(
    parts: Parts,
    body: Body,
    bytes_max: usize,
    share: BodyShare,
) -> impl Future<Output = Result<GrpcMessage, Refusal>> {
    let reading = Reading { bytes_max, declared: None, framed: true };
    let gathering = gather(Leftover::of(&parts), body, reading, share);
    drop(parts);
    async move { unframe(gathering.await?) }
}

/// Takes the message out of a call's body.
fn unframe(mut body: HeldBody) -> Result<GrpcMessage, Refusal> {
    if body.bytes.len() < GRPC_PREFIX_BYTES {
        return Err(Refusal::new(ErrorClass::Invalid, "the call ended before its message"));
    }
    let (compressed, length) = grpc_prefix(&body.bytes)?;
    body.bytes.advance(GRPC_PREFIX_BYTES);
    if (body.bytes.len() as u64) < length {
        return Err(Refusal::new(ErrorClass::Invalid, "the call ended in the midst of its message"));
    }
    Ok(GrpcMessage { compressed, body })
}

/// A flag and the length of the message, big-endian.
const GRPC_PREFIX_BYTES: usize = 5;

/// Reads the prefix of a message that has at least [`GRPC_PREFIX_BYTES`].
fn grpc_prefix(bytes: &[u8]) -> Result<(bool, u64), Refusal> {
    let (flag, length) = (bytes[0], u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]));
    if flag > 1 {
        let message = format!("protocol error: the flag before a message is 0 or 1, not {flag}");
        return Err(Refusal::new(ErrorClass::Invalid, message));
    }
    Ok((flag == 1, u64::from(length)))
}

fn length_of(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// What is known of a body while it is read.
struct Reading {
    bytes_max: usize,
    /// How long it will be.
    declared: Option<usize>,
    /// Whether it is a gRPC message with its prefix.
    framed: bool,
}

impl Reading {
    /// Looks at what has come so far.
    fn check(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let too_large = |limit: usize| Err(refusal(&IngestError::BodyTooLarge { limit: ByteSize(limit as u64) }));
        if !self.framed {
            let length = self.declared.unwrap_or(0).max(bytes.len());
            return if length > self.bytes_max { too_large(self.bytes_max) } else { Ok(()) };
        }
        if self.declared.is_none() && bytes.len() >= GRPC_PREFIX_BYTES {
            let (_, length) = grpc_prefix(bytes)?;
            if length > self.bytes_max as u64 {
                return too_large(self.bytes_max);
            }
            self.declared = Some(GRPC_PREFIX_BYTES + length_of(length));
        }
        if self.declared.is_some_and(|declared| bytes.len() > declared) {
            return Err(Refusal::new(ErrorClass::Invalid, "protocol error: a unary call has one message"));
        }
        Ok(())
    }
}

async fn gather(leftover: Leftover, body: Body, mut reading: Reading, share: BodyShare) -> Result<HeldBody, Refusal> {
    let check = move |bytes: &[u8]| reading.check(bytes).map(|()| reading.declared);
    hold_body(leftover, body, share, check).await
}

/// The request's content encoding; `None` where it names none.
pub(crate) fn content_encoding(headers: &HeaderMap) -> Option<&str> {
    text(headers, CONTENT_ENCODING).map(str::trim).filter(|value| !value.is_empty())
}

/// The request's media type without parameters, and the parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> (&str, &str) {
    let value = text(headers, CONTENT_TYPE).unwrap_or("");
    let (media, parameters) = value.split_once(';').unwrap_or((value, ""));
    (media.trim(), parameters)
}

fn text(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    // Bytes that are no text are no value that is known, either.
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures::StreamExt;
    use pharos_http::BodyBudget;
    use pharos_model::TenantId;

    use super::*;

    const UNIT_BYTES: usize = 64 << 10;
    const RETRY_AFTER: Duration = Duration::from_secs(1);

    fn parts() -> Parts {
        http::Request::new(()).into_parts().0
    }

    fn budget(bytes_max: usize) -> BodyBudget {
        BodyBudget::new("ingest.limits.bodies_max", bytes_max as u64)
    }

    fn share(budget: &BodyBudget) -> BodyShare {
        budget.share(&TenantId::default())
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_put_together() {
        let pieces = ["ab", "", "cde"].map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())));
        let body = Body::from_stream(futures::stream::iter(pieces));
        let read = read(parts(), body, 5, share(&budget(1))).await.unwrap();
        assert_eq!(read.bytes, "abcde");
    }

    fn framed(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &length.to_be_bytes(), message].concat()
    }

    async fn grpc(pieces: Vec<Vec<u8>>, bytes_max: usize, budget: &BodyBudget) -> Result<GrpcMessage, Refusal> {
        let body = Body::from_stream(futures::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>)));
        read_grpc(parts(), body, bytes_max, share(budget)).await
    }

    #[tokio::test]
    async fn a_grpc_message_is_counted_while_it_arrives() {
        let budget = budget(4 * UNIT_BYTES);
        let whole = framed(1, 3, b"abc");
        let one_by_one = whole.iter().map(|byte| vec![*byte]).collect();
        let message = grpc(one_by_one, 3, &budget).await.unwrap();
        assert_eq!((message.compressed, &message.body.bytes[..]), (true, &b"abc"[..]));
        // A prefix that promises much takes nothing; what has come is refused where it finds no room.
        let promise = grpc(vec![framed(0, 1 << 30, b"")], 1 << 30, &budget).await.unwrap_err();
        assert_eq!(promise.class(), ErrorClass::Invalid);
        let large = vec![7; 2 * UNIT_BYTES];
        let refused = grpc(vec![framed(0, 1 << 20, b""), large], 1 << 20, &budget).await.unwrap_err();
        assert_eq!((refused.class(), refused.retry_after()), (ErrorClass::Unavailable, Some(RETRY_AFTER)));
    }

    #[tokio::test]
    async fn the_prefix_is_checked_before_the_message_is_read() {
        let budget = budget(1 << 20);
        let endless = futures::stream::once(async { framed(0, u32::MAX, b"x") })
            .chain(futures::stream::pending())
            .map(Ok::<_, std::io::Error>);
        let mut parts = parts();
        parts.version = http::Version::HTTP_2;
        let refused = read_grpc(parts, Body::from_stream(endless), 100, share(&budget)).await.unwrap_err();
        assert_eq!((refused.class(), refused.retry_after()), (ErrorClass::LimitExceeded, None));
        for wrong in [vec![], framed(0, 3, b"ab"), framed(2, 1, b"a"), framed(0, 1, b"ab"), vec![0, 0]] {
            let refused = grpc(vec![wrong.clone()], 100, &budget).await.unwrap_err();
            assert_eq!(refused.class(), ErrorClass::Invalid, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_we_cut_may_come_again_and_a_short_one_may_not() {
        let budget = budget(1 << 20);
        let cut = |kind: Option<std::io::ErrorKind>| {
            let error: Box<dyn std::error::Error + Send + Sync> = match kind {
                Some(kind) => Box::new(std::io::Error::from(kind)),
                None => "timed out".into(),
            };
            let body = Body::from_stream(futures::stream::iter([Ok(Bytes::from_static(b"ab")), Err(error)]));
            let budget = budget.clone();
            async move { read(parts(), body, 5, share(&budget)).await.unwrap_err() }
        };
        assert_eq!(cut(Some(std::io::ErrorKind::UnexpectedEof)).await.class(), ErrorClass::Invalid);
        let ours = cut(None).await;
        assert_eq!((ours.class(), ours.retry_after()), (ErrorClass::Unavailable, Some(RETRY_AFTER)));
    }
}
