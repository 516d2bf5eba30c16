//! Cancellation: one flag and one deadline, asked between units of work.

use std::sync::Arc;
use std::time::Instant;

use crate::Crossing;
use crate::clock::{Clock, SystemClock};

/// Why work was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// The caller went away or asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The deadline passed.
    #[error("deadline exceeded")]
    DeadlineExceeded,
}

/// A cheap, cloneable handle; cancelling any clone cancels all, and all children.
#[derive(Debug, Clone, Default)]
pub struct CancelToken {
    cancelled: Crossing,
    above: Option<Arc<CancelToken>>,
    deadline: Option<Instant>,
}

impl CancelToken {
    /// A token without a deadline.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that also expires at `deadline`.
    #[must_use]
    pub fn with_deadline(deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..Self::default() }
    }

    /// The same token, expiring at `deadline` or at its own, whichever comes first.
    #[must_use]
    pub fn with_deadline_at(&self, deadline: Instant) -> Self {
        let deadline = self.deadline.map_or(deadline, |own| own.min(deadline));
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// A token of its own for a part of the work: it is cancelled with this one, or alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { cancelled: Crossing::default(), above: Some(Arc::new(self.clone())), deadline: self.deadline }
    }

    /// When the work must end; `None` means never.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Asks the work to stop at its next check.
    pub fn cancel(&self) {
        self.cancelled.note();
    }

    /// Since when the work shall stop: since it was cancelled, or else since its deadline, if that has passed `now`.
    #[must_use]
    pub fn interrupted_at(&self, now: Instant) -> Option<Instant> {
        self.cancelled_at().or(self.deadline.filter(|deadline| *deadline <= now))
    }

    /// Called by the work between its units: per series, per chunk, never per sample.
    ///
    /// # Errors
    /// [`Interrupted`] once the token was cancelled or its deadline has passed.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.cancelled_at().is_some() {
            return Err(Interrupted::Cancelled);
        }
        match self.deadline {
            Some(deadline) if SystemClock.monotonic() >= deadline => Err(Interrupted::DeadlineExceeded),
            _ => Ok(()),
        }
    }

    fn cancelled_at(&self) -> Option<Instant> {
        self.cancelled.at().or_else(|| self.above.as_ref()?.cancelled_at())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelling_one_clone_cancels_all() {
        let token = CancelToken::new();
        let clone = token.clone();
        assert_eq!(token.check(), Ok(()));
        clone.cancel();
        assert_eq!(token.check(), Err(Interrupted::Cancelled));
        let now = SystemClock.monotonic();
        assert!(token.with_deadline_at(now).interrupted_at(now).is_some_and(|at| at <= now));
    }

    #[test]
    fn a_child_is_cancelled_alone_or_with_its_parent() {
        let token = CancelToken::new();
        let (first, second) = (token.child(), token.child().child());
        first.cancel();
        assert_eq!((first.check(), second.check(), token.check()), (Err(Interrupted::Cancelled), Ok(()), Ok(())));
        token.cancel();
        assert_eq!(second.check(), Err(Interrupted::Cancelled));
    }

    #[test]
    fn a_past_deadline_is_reported() {
        let deadline = SystemClock.monotonic();
        let token = CancelToken::with_deadline(deadline);
        assert_eq!(token.check(), Err(Interrupted::DeadlineExceeded));
        assert_eq!(token.interrupted_at(SystemClock.monotonic()), Some(deadline));
    }
}
