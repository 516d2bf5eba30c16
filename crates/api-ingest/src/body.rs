//! Reading a request's body, bounded while it arrives.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http_body_util::BodyExt;
use pharos_base::{ByteSize, ErrorClass};
use pharos_http::{Refusal, discard_body};
use pharos_ingest::IngestError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refuse::refusal;

/// Bytes that one permit stands for.
const UNIT_BYTES: usize = 64 << 10;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the bodies of all requests may hold together.
#[derive(Debug, Clone)]
pub(crate) struct BodyBudget(Arc<Semaphore>);

/// A body and its share of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct HeldBody {
    pub bytes: Bytes,
    pub held: Share,
}

/// A share of the budget.
#[derive(Debug, Default)]
pub(crate) struct Share(Option<OwnedSemaphorePermit>);

impl BodyBudget {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let units = usize::try_from(bytes_max).unwrap_or(usize::MAX).div_ceil(UNIT_BYTES);
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }

    /// Takes a body's share, for one that was read already.
    pub(crate) fn hold(&self, bytes: Bytes) -> Result<HeldBody, Refusal> {
        let mut held = Share::default();
        self.grow(&mut held, bytes.len())?;
        Ok(HeldBody { bytes, held })
    }

    /// Grows a share to `bytes`.
    pub(crate) fn grow(&self, share: &mut Share, bytes: usize) -> Result<(), Refusal> {
        let has = share.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(UNIT_BYTES).saturating_sub(has);
        if more == 0 {
            return Ok(());
        }
        let busy = || {
            let message = "server holds as many request bodies as it may; send the request again, or raise ingest.limits.bodies_max";
            Refusal::new(ErrorClass::Unavailable, message).with_retry_after(Some(RETRY_AFTER))
        };
        let more = u32::try_from(more).map_err(|_| busy())?;
        let permit = Arc::clone(&self.0).try_acquire_many_owned(more).map_err(|_| busy())?;
        match &mut share.0 {
            Some(has) => has.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }
}

/// Reads the whole body, as it is encoded; its share of the budget grows while it arrives.
pub(crate) async fn read(
    parts: &Parts,
    mut body: Body,
    bytes_max: usize,
    budget: &BodyBudget,
) -> Result<HeldBody, Refusal> {
    let outcome = read_within(&parts.headers, &mut body, bytes_max, budget).await;
    if outcome.is_err() {
        discard_body(parts.version, &parts.headers, body).await;
    }
    outcome
}

async fn read_within(
    headers: &HeaderMap,
    body: &mut Body,
    bytes_max: usize,
    budget: &BodyBudget,
) -> Result<HeldBody, Refusal> {
    let too_large = || refusal(&IngestError::BodyTooLarge { limit: ByteSize(bytes_max as u64) });
    let declared: Option<u64> = text(headers, CONTENT_LENGTH).and_then(|value| value.parse().ok());
    if declared.is_some_and(|declared| declared > bytes_max as u64) {
        return Err(too_large());
    }
    let (mut bytes, mut held) = (BytesMut::new(), Share::default());
    while let Some(frame) = body.frame().await {
        let ended = |error| Refusal::new(ErrorClass::Invalid, format!("request body ended early: {error}"));
        let Ok(data) = frame.map_err(ended)?.into_data() else { continue };
        let length = bytes.len() + data.len();
        if length > bytes_max {
            return Err(too_large());
        }
        budget.grow(&mut held, length)?;
        if bytes.is_empty() {
            // The declared length was checked; a body of one frame is not copied again.
            bytes = data.try_into_mut().unwrap_or_else(|data| BytesMut::from(&data[..]));
        } else {
            bytes.extend_from_slice(&data);
        }
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

    fn parts() -> Parts {
        http::Request::new(()).into_parts().0
    }

    #[tokio::test]
    async fn bodies_share_a_budget_and_give_it_back() {
        let budget = BodyBudget::new(2 * UNIT_BYTES as u64);
        let read = |length: usize| {
            let budget = budget.clone();
            async move { read(&parts(), Body::from(vec![7; length]), 1 << 20, &budget).await }
        };
        let first = read(UNIT_BYTES).await.unwrap();
        assert_eq!(first.bytes.len(), UNIT_BYTES);
        let refused = read(UNIT_BYTES + 1).await.unwrap_err();
        assert_eq!((refused.class(), refused.retry_after()), (ErrorClass::Unavailable, Some(RETRY_AFTER)));
        assert!(budget.hold(Bytes::from(vec![7; 2 * UNIT_BYTES])).is_err());
        drop(first);
        assert_eq!(read(2 * UNIT_BYTES).await.unwrap().bytes.len(), 2 * UNIT_BYTES);
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_put_together() {
        let pieces = ["ab", "", "cde"].map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())));
        let body = Body::from_stream(futures::stream::iter(pieces));
        let read = read(&parts(), body, 5, &BodyBudget::new(1)).await.unwrap();
        assert_eq!(read.bytes, "abcde");
    }
}
