//! Memory that the caches of a tenant take from its account, given back when they go.

use std::sync::Arc;

use crate::shares::Account;

/// What one has taken.
#[derive(Debug)]
pub(super) struct Booked {
    account: Arc<Account>,
    bytes: u64,
}

impl Booked {
    pub(super) fn nothing(account: &Arc<Account>) -> Self {
        Self { account: Arc::clone(account), bytes: 0 }
    }

    /// Takes more, if there is room.
    pub(super) fn add(&mut self, bytes: u64) -> bool {
        let is_taken = self.account.take(bytes);
        if is_taken {
            self.bytes += bytes;
        }
        is_taken
    }

    /// Takes over what another took from the same account.
    pub(super) fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives a part back.
    pub(super) fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.account.give_back(bytes);
    }
}

impl Drop for Booked {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.account.give_back(self.bytes);
        }
    }
}
