//! Inflating a body piece by piece, so that its length needs no limit.

use std::fmt;
use std::io::Write;

use flate2::write::MultiGzDecoder;

use crate::{Encoding, IngestError};

/// Largest window a zstd frame may ask for, as a power of two: 8 MiB, what RFC 8878 tells every decoder to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What a piece is inflated to at once, about: four bytes of zstd may be 128 KiB, and of gzip 4 KiB.
const OUT_BYTES_MAX: usize = 1 << 20;

/// Inflates pieces in order.
pub(super) struct StreamInflater(Inner);

enum Inner {
    Identity,
    Gzip { decoder: Box<MultiGzDecoder<Vec<u8>>>, begun: bool },
    Zstd { decoder: zstd::stream::raw::Decoder<'static>, frame_open: bool },
}

impl fmt::Debug for StreamInflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            Inner::Identity => Encoding::Identity,
            Inner::Gzip { .. } => Encoding::Gzip,
            Inner::Zstd { .. } => Encoding::Zstd,
        };
        f.debug_tuple("StreamInflater").field(&name).finish()
    }
}

fn fail(encoding: Encoding, error: impl fmt::Display) -> IngestError {
    IngestError::Inflate { encoding, message: error.to_string() }
}

impl StreamInflater {
    pub(super) fn new(encoding: Encoding) -> Result<Self, IngestError> {
        Ok(Self(match encoding {
            Encoding::Identity => Inner::Identity,
            Encoding::Gzip => Inner::Gzip { decoder: Box::new(MultiGzDecoder::new(Vec::new())), begun: false },
            Encoding::Zstd => {
                let mut decoder = zstd::stream::raw::Decoder::new().map_err(|error| fail(encoding, error))?;
                let window = zstd::stream::raw::DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
                decoder.set_parameter(window).map_err(|error| fail(encoding, error))?;
                Inner::Zstd { decoder, frame_open: false }
            }
            Encoding::Snappy => return Err(fail(encoding, "send an import plain, as gzip or as zstd")),
        }))
    }

    /// Appends what the front of `piece` inflates to: all of it, or a little more than [`OUT_BYTES_MAX`]. Answers how much of `piece` that is.
    pub(super) fn inflate(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<usize, IngestError> {
        match &mut self.0 {
            Inner::Identity => out.extend_from_slice(piece),
            Inner::Gzip { decoder, begun } => {
                *begun |= !piece.is_empty();
                decoder.write_all(piece).map_err(|error| fail(Encoding::Gzip, error))?;
                decoder.flush().map_err(|error| fail(Encoding::Gzip, error))?;
                out.append(decoder.get_mut());
            }
            Inner::Zstd { decoder, frame_open } => {
                return inflate_zstd(decoder, frame_open, piece, out).map_err(|error| fail(Encoding::Zstd, error));
            }
        }
        Ok(piece.len())
    }

    /// Ends the body: one that was cut is an error.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), IngestError> {
        match &mut self.0 {
            Inner::Gzip { decoder, begun: true } => {
                decoder.try_finish().map_err(|_| fail(Encoding::Gzip, "truncated"))?;
                out.append(decoder.get_mut());
            }
            Inner::Zstd { frame_open: true, .. } => return Err(fail(Encoding::Zstd, "truncated")),
            _ => {}
        }
        Ok(())
    }
}

fn inflate_zstd(
    decoder: &mut zstd::stream::raw::Decoder<'_>,
    frame_open: &mut bool,
    piece: &[u8],
    out: &mut Vec<u8>,
) -> std::io::Result<usize> {
    use zstd::stream::raw::{InBuffer, Operation, OutBuffer};
    let mut scratch = vec![0; 128 << 10];
    let mut input = InBuffer::around(piece);
    let out_max = out.len() + OUT_BYTES_MAX;
    loop {
        // What the decoder still holds of input that it took is one block at most.
        if out.len() > out_max && input.pos() < piece.len() {
            return Ok(input.pos());
        }
        if !*frame_open {
            if input.pos() == piece.len() {
                return Ok(piece.len());
            }
            decoder.reinit()?;
        }
        let (written, hint) = {
            let mut output = OutBuffer::around(&mut scratch[..]);
            let hint = decoder.run(&mut input, &mut output)?;
            (output.pos(), hint)
        };
        out.extend_from_slice(&scratch[..written]);
        // A hint of 0 says that the frame is whole and all of it handed out.
        *frame_open = hint != 0;
        if *frame_open && input.pos() == piece.len() && written < scratch.len() {
            return Ok(piece.len());
        }
    }
}
