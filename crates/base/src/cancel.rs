//! Cancellation: one flag and one deadline, asked between units of work.

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

/// A cheap, cloneable handle; cancelling any clone cancels all.
#[derive(Debug, Clone, Default)]
pub struct CancelToken {
    cancelled: Crossing,
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
        Self { cancelled: Crossing::default(), deadline: Some(deadline) }
    }

    /// The same token, expiring at `deadline` or at its own, whichever comes first.
    #[must_use]
    pub fn with_deadline_at(&self, deadline: Instant) -> Self {
        let deadline = self.deadline.map_or(deadline, |own| own.min(deadline));
        Self { cancelled: self.cancelled.clone(), deadline: Some(deadline) }
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
        self.cancelled.at().or(self.deadline.filter(|deadline| *deadline <= now))
    }

    /// Called by the work between its units: per series, per chunk, never per sample.
    ///
    /// # Errors
    /// [`Interrupted`] once the token was cancelled or its deadline has passed.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.cancelled.at().is_some() {
            return Err(Interrupted::Cancelled);
        }
        match self.deadline {
            Some(deadline) if SystemClock.monotonic() >= deadline => Err(Interrupted::DeadlineExceeded),
            _ => Ok(()),
        }
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
    fn a_past_deadline_is_reported() {
        let deadline = SystemClock.monotonic();
        let token = CancelToken::with_deadline(deadline);
        assert_eq!(token.check(), Err(Interrupted::DeadlineExceeded));
        assert_eq!(token.interrupted_at(SystemClock.monotonic()), Some(deadline));
    }
}
