//! Reading a request's body, bounded while it arrives.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use hashbrown::HashMap;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use pharos_base::{ByteSize, ErrorClass};
use pharos_http::{Refusal, body_cut_short, discard_body};
use pharos_ingest::IngestError;
use pharos_model::TenantId;

use crate::refuse::refusal;

/// Bytes that one permit stands for.
const UNIT_BYTES: usize = 64 << 10;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the bodies of all requests may hold together.
///
/// A tenant may hold as much as is left for others, so that however many it sends there is room for who comes: alone it has half, two
/// that want all have a third each. A tenant's only body may take what is left.
///
/// Invariant B1: what is held of all tenants and what is free are what there is.
#[derive(Debug, Clone)]
pub(crate) struct BodyBudget(Arc<Books>);

#[derive(Debug)]
struct Books {
    bytes_max: u64,
    state: Mutex<Held>,
}

/// In units of [`UNIT_BYTES`].
#[derive(Debug)]
struct Held {
    free: usize,
    /// Of tenants that hold any.
    tenants: HashMap<TenantId, usize>,
}

/// A body and its share of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct HeldBody {
    pub bytes: Bytes,
    pub held: Share,
}

/// A share of the budget.
#[derive(Debug)]
pub(crate) struct Share {
    books: Arc<Books>,
    tenant: TenantId,
    units: usize,
}

impl BodyBudget {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let free = usize::try_from(bytes_max).unwrap_or(usize::MAX).div_ceil(UNIT_BYTES);
        Self(Arc::new(Books { bytes_max, state: Mutex::new(Held { free, tenants: HashMap::new() }) }))
    }

    /// An empty share of a body of `tenant`.
    pub(crate) fn share(&self, tenant: &TenantId) -> Share {
        Share { books: Arc::clone(&self.0), tenant: tenant.clone(), units: 0 }
    }
}

impl Share {
    /// Grows it to `bytes`.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let more = bytes.div_ceil(UNIT_BYTES).saturating_sub(self.units);
        if more == 0 {
            return Ok(());
        }
        let mut state = self.books.state.lock();
        let of_tenant = state.tenants.get(&self.tenant).copied().unwrap_or(0);
        let is_only_one = of_tenant == self.units;
        if more > state.free || (!is_only_one && of_tenant + more > state.free - more) {
            let all = more > state.free;
            drop(state);
            return Err(self.refusal(all));
        }
        state.free -= more;
        *state.tenants.entry_ref(&self.tenant).or_default() += more;
        self.units += more;
        Ok(())
    }

    fn refusal(&self, is_used_up: bool) -> Refusal {
        let who = if is_used_up {
            "server holds as many bytes of request bodies as it may".to_owned()
        } else {
            format!("tenant {} holds its share of the bytes of request bodies", self.tenant)
        };
        let limit = ByteSize(self.books.bytes_max);
        let message = format!("{who}, ingest.limits.bodies_max = {limit}; send the request again, or raise it");
        Refusal::new(ErrorClass::Unavailable, message).with_retry_after(Some(RETRY_AFTER))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.units == 0 {
            return;
        }
        let mut state = self.books.state.lock();
        state.free += self.units;
        if let Some(held) = state.tenants.get_mut(&self.tenant) {
            *held -= self.units;
            if *held == 0 {
                state.tenants.remove(&self.tenant);
            }
        }
    }
}

/// Reads the whole body, as it is encoded; its share of the budget grows while it arrives.
pub(crate) async fn read(parts: &Parts, body: Body, bytes_max: usize, share: Share) -> Result<HeldBody, Refusal> {
    let declared: Option<u64> = text(&parts.headers, CONTENT_LENGTH).and_then(|value| value.parse().ok());
    let reading = Reading { bytes_max, declared: declared.map(length_of), framed: false };
    gather(parts, body, reading, share).await
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
pub(crate) async fn read_grpc(
    parts: &Parts,
    body: Body,
    bytes_max: usize,
    share: Share,
) -> Result<GrpcMessage, Refusal> {
    let reading = Reading { bytes_max, declared: None, framed: true };
    let mut body = gather(parts, body, reading, share).await?;
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

async fn gather(parts: &Parts, mut body: Body, reading: Reading, share: Share) -> Result<HeldBody, Refusal> {
    let outcome = gather_within(&mut body, reading, share).await;
    if outcome.is_err() {
        discard_body(parts.version, &parts.headers, body).await;
    }
    outcome
}

async fn gather_within(body: &mut Body, mut reading: Reading, mut held: Share) -> Result<HeldBody, Refusal> {
    reading.check(&[])?;
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| body_cut_short(&error))?.into_data() else { continue };
        held.grow(bytes.len() + data.len())?;
        if bytes.is_empty() {
            // A body of one frame is not copied again.
            bytes = data.try_into_mut().unwrap_or_else(|data| BytesMut::from(&data[..]));
        } else {
            let left = reading.declared.map_or(usize::MAX, |declared| declared.saturating_sub(bytes.len()));
            // Twice as much, as all do, but not beyond what was declared.
            bytes.reserve(data.len().max(bytes.len().min(left)));
            bytes.extend_from_slice(&data);
        }
        reading.check(&bytes)?;
    }
    Ok(HeldBody { bytes: bytes.freeze(), held })
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
    use super::*;
    use futures::StreamExt;

    fn parts() -> Parts {
        http::Request::new(()).into_parts().0
    }

    fn share(budget: &BodyBudget) -> Share {
        budget.share(&TenantId::default())
    }

    #[test]
    fn a_tenant_leaves_room_for_others() {
        let budget = BodyBudget::new(12 * UNIT_BYTES as u64);
        let grown = |tenant: &str, units: usize| {
            let mut share = budget.share(&tenant.parse().unwrap());
            share.grow(units * UNIT_BYTES).map(|()| share)
        };
        let of_greedy: Vec<_> = (0..6).map(|_| grown("greedy", 1).unwrap()).collect();
        let refused = grown("greedy", 1).unwrap_err();
        assert!(
            refused.message().contains("tenant greedy") && refused.message().contains("bodies_max = 768KiB"),
            "{refused:?}"
        );
        let of_other: Vec<_> = (0..3).map(|_| grown("other", 1).unwrap()).collect();
        assert!(grown("other", 1).is_err(), "3 are left, and it has 3");
        let alone = grown("alone", 3).unwrap();
        let refused = grown("late", 1).unwrap_err();
        assert!(refused.message().starts_with("server holds"), "{refused:?}");
        drop((of_greedy, of_other, alone));
        assert!(grown("greedy", 12).is_ok(), "a tenant's only body");
        let state = budget.0.state.lock();
        assert_eq!((state.free, state.tenants.len()), (12, 0), "B1");
    }

    #[tokio::test]
    async fn bodies_share_a_budget_and_give_it_back() {
        let budget = BodyBudget::new(2 * UNIT_BYTES as u64);
        let read = |length: usize| {
            let budget = budget.clone();
            async move { read(&parts(), Body::from(vec![7; length]), 1 << 20, share(&budget)).await }
        };
        let first = read(UNIT_BYTES).await.unwrap();
        assert_eq!(first.bytes.len(), UNIT_BYTES);
        let refused = read(UNIT_BYTES + 1).await.unwrap_err();
        assert_eq!((refused.class(), refused.retry_after()), (ErrorClass::Unavailable, Some(RETRY_AFTER)));
        drop(first);
        assert_eq!(read(2 * UNIT_BYTES).await.unwrap().bytes.len(), 2 * UNIT_BYTES);
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_put_together() {
        let pieces = ["ab", "", "cde"].map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())));
        let body = Body::from_stream(futures::stream::iter(pieces));
        let read = read(&parts(), body, 5, share(&BodyBudget::new(1))).await.unwrap();
        assert_eq!(read.bytes, "abcde");
    }

    fn framed(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &length.to_be_bytes(), message].concat()
    }

    async fn grpc(pieces: Vec<Vec<u8>>, bytes_max: usize, budget: &BodyBudget) -> Result<GrpcMessage, Refusal> {
        let body = Body::from_stream(futures::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>)));
        read_grpc(&parts(), body, bytes_max, share(budget)).await
    }

    #[tokio::test]
    async fn a_grpc_message_is_counted_while_it_arrives() {
        let budget = BodyBudget::new(4 * UNIT_BYTES as u64);
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
        let budget = BodyBudget::new(1 << 20);
        let endless = futures::stream::once(async { framed(0, u32::MAX, b"x") })
            .chain(futures::stream::pending())
            .map(Ok::<_, std::io::Error>);
        let mut parts = parts();
        parts.version = http::Version::HTTP_2;
        let refused = read_grpc(&parts, Body::from_stream(endless), 100, share(&budget)).await.unwrap_err();
        assert_eq!((refused.class(), refused.retry_after()), (ErrorClass::LimitExceeded, None));
        for wrong in [vec![], framed(0, 3, b"ab"), framed(2, 1, b"a"), framed(0, 1, b"ab"), vec![0, 0]] {
            let refused = grpc(vec![wrong.clone()], 100, &budget).await.unwrap_err();
            assert_eq!(refused.class(), ErrorClass::Invalid, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_we_cut_may_come_again_and_a_short_one_may_not() {
        let budget = BodyBudget::new(1 << 20);
        let cut = |kind: Option<std::io::ErrorKind>| {
            let error: Box<dyn std::error::Error + Send + Sync> = match kind {
                Some(kind) => Box::new(std::io::Error::from(kind)),
                None => "timed out".into(),
            };
            let body = Body::from_stream(futures::stream::iter([Ok(Bytes::from_static(b"ab")), Err(error)]));
            let budget = budget.clone();
            async move { read(&parts(), body, 5, share(&budget)).await.unwrap_err() }
        };
        assert_eq!(cut(Some(std::io::ErrorKind::UnexpectedEof)).await.class(), ErrorClass::Invalid);
        let ours = cut(None).await;
        assert_eq!((ours.class(), ours.retry_after()), (ErrorClass::Unavailable, Some(RETRY_AFTER)));
    }
}
