//! A body that did not come to its end: whose fault that is decides whether its sender shall try again.

use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;

use pharos_base::ErrorClass;

use crate::Refusal;

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a sender is told whose body ended with `error`.
///
/// Less than its `Content-Length`, or chunks that are none, will not get better: 400, which senders drop. Everything else is
/// ours (it was too slow for us, we are stopping): 503 and `Retry-After`, so that nothing is lost.
#[must_use]
pub fn body_cut_short(error: &(dyn Error + 'static)) -> Refusal {
    let is_senders_fault = causes(error).any(|cause| {
        let by_http = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        by_http || matches!(kind, Some(ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput))
    });
    let message =
        format!("request body ended early: {}", causes(error).last().map_or_else(String::new, ToString::to_string));
    if is_senders_fault {
        Refusal::new(ErrorClass::Invalid, message)
    } else {
        Refusal::new(ErrorClass::Unavailable, message).with_retry_after(Some(RETRY_AFTER))
    }
}

/// An error and what caused it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_sender_broke_is_dropped() {
        let sent: std::io::Error = ErrorKind::UnexpectedEof.into();
        assert_eq!(body_cut_short(&axum::Error::new(sent)).class(), ErrorClass::Invalid);
        let reset: std::io::Error = ErrorKind::ConnectionReset.into();
        let ours = body_cut_short(&axum::Error::new(reset));
        assert_eq!((ours.class(), ours.retry_after()), (ErrorClass::Unavailable, Some(RETRY_AFTER)));
    }
}
