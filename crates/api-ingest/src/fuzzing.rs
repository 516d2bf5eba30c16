//! What the doors read of a body before anything else does, as a function that takes any bytes and panics where a promise is
//! broken.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use bytes::Bytes;
use http::Version;
use http::request::Parts;
use pharos_base::ErrorClass;
use pharos_model::TenantId;

use crate::body::{GrpcMessage, read_grpc};
use pharos_http::{BodyBudget, Refusal};

/// What all bodies may hold.
const BUDGET_BYTES: u64 = 64 << 20;
/// Flag and length.
const PREFIX_BYTES: usize = 5;

/// The body of a unary gRPC call. Input: a byte of which one bit is set where the limit is the length that the prefix tells, and
/// the others are the size of the pieces that the body comes in; a byte that is the limit otherwise; and the body.
///
/// # Panics
/// If a message is taken that is not all of the body, or over the limit; if one is refused that is neither; if the pieces make a
/// difference, or memory of the budget is not given back: a bug.
pub fn grpc_frame(bytes: &[u8]) {
    let [pieces, limit, body @ ..] = bytes else { return };
    let told = body.first_chunk().map(|&[flag, length @ ..]: &[u8; PREFIX_BYTES]| (flag, u32::from_be_bytes(length)));
    let exact = told.map(|(_, length)| length as usize).filter(|length| pieces & 1 == 1 && *length <= body.len());
    let bytes_max = exact.unwrap_or(usize::from(*limit));
    let budget = BodyBudget::new("ingest.limits.bodies_max", BUDGET_BYTES);
    let whole = read(body, body.len().max(1), bytes_max, &budget);
    let in_pieces = read(body, usize::from(pieces >> 1) + 1, bytes_max, &budget);
    assert_eq!(outcome(&whole), outcome(&in_pieces));
    match (&whole, told) {
        (Ok(message), Some((flag, length))) => {
            assert!(flag <= 1 && message.compressed == (flag == 1));
            assert_eq!(
                (message.body.bytes.as_ref(), length as usize),
                (&body[PREFIX_BYTES..], body.len() - PREFIX_BYTES)
            );
            assert!(length as usize <= bytes_max);
        }
        (Err(refusal), Some((flag @ 0..=1, length))) => {
            let is_too_large = length as usize > bytes_max;
            assert!(is_too_large || length as usize != body.len() - PREFIX_BYTES, "{flag} {length}: {refusal:?}");
            let class = if is_too_large { ErrorClass::LimitExceeded } else { ErrorClass::Invalid };
            assert_eq!(refusal.class(), class);
        }
        (Err(refusal), _) => assert_eq!(refusal.class(), ErrorClass::Invalid),
        (Ok(_), None) => panic!("a message without a prefix"),
    }
    drop((whole, in_pieces));
    let mut all = budget.share(&TenantId::default());
    assert!(all.grow(BUDGET_BYTES as usize).is_ok(), "what was held is free again");
}

/// What is told of a call: the message, or the refusal in words.
fn outcome(read: &Result<GrpcMessage, Refusal>) -> Result<(bool, Bytes), String> {
    match read {
        Ok(message) => Ok((message.compressed, message.body.bytes.clone())),
        Err(refusal) => Err(format!("{refusal:?}")),
    }
}

fn read(body: &[u8], piece: usize, bytes_max: usize, budget: &BodyBudget) -> Result<GrpcMessage, Refusal> {
    let pieces: Vec<_> = body.chunks(piece).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
    let body = Body::from_stream(futures::stream::iter(pieces));
    let parts = parts();
    let reading = read_grpc(parts, body, bytes_max, budget.share(&TenantId::default()));
    // All of the body is there: nothing is waited for.
    match pin!(reading).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => read,
        Poll::Pending => panic!("a body that is there is read at once"),
    }
}

/// Of a call: a stream of HTTP/2, which a refusal leaves unread.
fn parts() -> Parts {
    let mut parts = http::Request::new(()).into_parts().0;
    parts.version = Version::HTTP_2;
    parts
}
