//! Compressed parts of a block.
//!
//! A length is believed only so far: nothing inflates to more than [`FRAME_RATIO_MAX`] times its size.
//! What would is stored as it is.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use crate::codec::DecodeError;

/// How many times its size a frame may inflate to.
const FRAME_RATIO_MAX: usize = 256;

thread_local! {
    /// A context is large, and cheap to use again.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Appends `raw`, compressed where that is shorter, and answers how many bytes it takes: as many as `raw` if it
/// stands as it is.
pub(super) fn put_frame(out: &mut Vec<u8>, raw: &[u8], compressor: &mut Compressor<'_>) -> usize {
    let start = out.len();
    if let Ok(compressed) = compressor.compress(raw)
        && compressed.len() < raw.len()
        && compressed.len() * FRAME_RATIO_MAX >= raw.len()
    {
        out.extend_from_slice(&compressed);
    } else {
        out.extend_from_slice(raw);
    }
    out.len() - start
}

/// The reverse of [`put_frame`].
pub(super) fn read_frame(stored: &[u8], raw_len: usize) -> Result<Vec<u8>, DecodeError> {
    if stored.len() == raw_len {
        return Ok(stored.to_vec());
    }
    if raw_len < stored.len() || raw_len > stored.len().saturating_mul(FRAME_RATIO_MAX) {
        return Err(DecodeError::OutOfRange("length of a frame"));
    }
    let damaged = DecodeError::OutOfRange("compressed frame");
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        let decompressor = match decompressor {
            Some(decompressor) => decompressor,
            None => decompressor.insert(Decompressor::new().map_err(|_| damaged)?),
        };
        let raw = decompressor.decompress(stored, raw_len).map_err(|_| damaged)?;
        if raw.len() == raw_len { Ok(raw) } else { Err(damaged) }
    })
}
