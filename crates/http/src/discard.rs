//! Reading what nobody wants, so that the answer arrives.
//!
//! Over HTTP/1.1 a server that answers and closes with the body unread resets the connection, and the client
//! (or nginx) sees a broken pipe instead of the 401 or 413. Over HTTP/2 the stream is reset after the answer,
//! which loses nothing. A client that asked whether to send its body at all (`Expect: 100-continue`) has not
//! sent it, and reading would tell it to.

use std::time::Duration;

use axum::body::Body;
use http::Version;
use http::header::EXPECT;
use http::request::Parts;
use http_body_util::BodyExt;

/// At most so much is read of a body that was refused, bytes.
pub const DISCARD_BYTES_MAX: usize = 32 << 20;
/// At most so long.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// What becomes of the rest of a request's body if the request is refused. It is asked of the head, which need not be kept
/// while the body comes.
#[derive(Debug, Clone, Copy)]
pub struct Leftover {
    is_read: bool,
}

impl Leftover {
    /// Of the request with this head.
    #[must_use]
    pub fn of(parts: &Parts) -> Self {
        Self { is_read: parts.version < Version::HTTP_2 && !parts.headers.contains_key(EXPECT) }
    }

    /// Reads and drops the rest of a refused request's body, within bounds, where that is needed.
    pub async fn discard(self, mut body: Body) {
        if !self.is_read {
            return;
        }
        let discard = async {
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.data_ref().map_or(0, bytes::Bytes::len);
                if read > DISCARD_BYTES_MAX {
                    return;
                }
            }
        };
        // A sender that is slower than this sees its connection closed.
        let _ = tokio::time::timeout(DISCARD_TIMEOUT, discard).await;
    }
}
