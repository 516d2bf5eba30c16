//! What can be wrong with encoded bytes.

/// Bytes that no encoder of this crate wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum ChunkError {
    #[error("ends too early")]
    Truncated,
    #[error("{what} out of bounds")]
    OutOfBounds { what: &'static str },
    #[error("unknown {what} {found}")]
    Unknown { what: &'static str, found: u8 },
}
