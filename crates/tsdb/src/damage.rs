//! What was found damaged, for operators: at start, by queries and by merging. Each place is told once.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pharos_base::full_message;
use pharos_storage::StorageError;

use crate::TsdbError;

/// Messages kept; further places are counted only.
const MESSAGES_MAX: usize = 1000;

/// All damage known since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct DamageLog {
    messages: Mutex<Vec<String>>,
    /// Errors met, each time anew.
    met: AtomicU64,
}

impl DamageLog {
    /// What was found at start.
    pub(crate) fn new(messages: Vec<String>) -> Self {
        Self { met: AtomicU64::new(messages.len() as u64), messages: Mutex::new(messages) }
    }

    /// Notes an error if it tells of damage; its place is logged when it is met first.
    pub(crate) fn note(&self, error: &TsdbError) {
        if error.damaged_file().is_none() {
            return;
        }
        self.met.fetch_add(1, Ordering::Relaxed);
        let message = full_message(error);
        let mut messages = self.messages.lock();
        if messages.len() < MESSAGES_MAX && !messages.contains(&message) {
            tracing::error!(error = %message, "damaged file is left untouched; what needs it is refused, the rest is served");
            messages.push(message);
        }
    }

    /// Notes what a query met, for the query's answer.
    pub(crate) fn met_in_query(&self, error: TsdbError) -> StorageError {
        self.note(&error);
        error.into()
    }

    pub(crate) fn messages(&self) -> Vec<String> {
        self.messages.lock().clone()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.lock().is_empty()
    }

    /// How often damage was met.
    pub(crate) fn met(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_once_and_counted_each_time() {
        let damage = DamageLog::default();
        damage.note(&TsdbError::Stopped);
        assert!(damage.is_empty(), "no damage");
        for offset in [5, 5, 9] {
            let reason = "wrong".to_owned();
            damage.note(&TsdbError::Corrupt { what: "block", path: "data".into(), offset, reason });
        }
        assert_eq!((damage.messages().len(), damage.met()), (2, 3));
    }
}
