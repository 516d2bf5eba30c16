//! The bytes of a block behind its heads, taken from the front piece by piece.
//!
//! Pieces share the block's memory and keep it: what is read of a block lives as long as one likes.

use bytes::Bytes;

use crate::codec::DecodeError;

/// What was not taken yet.
#[derive(Debug, Clone)]
pub(super) struct Body(Bytes);

impl Body {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(super) fn take(&mut self, length: usize, what: &'static str) -> Result<Bytes, DecodeError> {
        if length > self.0.len() {
            return Err(DecodeError::Truncated(what));
        }
        Ok(self.0.split_to(length))
    }

    /// Takes `count` ids of `N` bytes each.
    pub(super) fn take_ids<const N: usize>(&mut self, count: u64, what: &'static str) -> Result<Ids<N>, DecodeError> {
        let bytes = u32::try_from(count).ok().and_then(|count| (count as usize).checked_mul(N));
        Ok(Ids(self.take(bytes.ok_or(DecodeError::OutOfRange(what))?, what)?))
    }
}

/// Ids of `N` bytes, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Ids<const N: usize>(Bytes);

impl<const N: usize> Ids<N> {
    pub(super) fn empty() -> Self {
        Self(Bytes::new())
    }
}

impl<const N: usize> std::ops::Deref for Ids<N> {
    type Target = [[u8; N]];

    fn deref(&self) -> &[[u8; N]] {
        self.0.as_chunks().0
    }
}
