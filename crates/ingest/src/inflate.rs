//! Bounded decompression: the limit is counted while inflating, so that a small body cannot become
//! a large one before anybody looks.

use std::fmt;
use std::io::{self, Read};

use bytes::Bytes;
use parking_lot::Mutex;
use pharos_base::ByteSize;

use crate::IngestError;

/// A body's content encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// Snappy's block format, not the framed one.
    Snappy,
}

/// Largest window a zstd frame may ask for, as a power of two: 64 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 26;
/// No snappy element yields more than 64 bytes for its 3.
const SNAPPY_RATIO_MAX: usize = 22;

impl Encoding {
    /// From a `Content-Encoding` header; `None` for what is not spoken here. An absent or empty header is identity.
    #[must_use]
    pub fn from_header(value: Option<&str>) -> Option<Self> {
        match value.unwrap_or("").trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            "snappy" => Some(Self::Snappy),
            _ => None,
        }
    }

    /// The header's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Snappy => "snappy",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Inflates `body` to at most `limit` bytes; an identity body is returned as it is, uncopied.
///
/// # Errors
/// - [`IngestError::BodyTooLarge`]: inflating was stopped at the limit.
/// - [`IngestError::Inflate`]: truncated or damaged.
pub fn inflate(body: Bytes, encoding: Encoding, limit: ByteSize) -> Result<Bytes, IngestError> {
    let limit_bytes = usize::try_from(limit.0).unwrap_or(usize::MAX);
    let fail = |error: &dyn fmt::Display| IngestError::Inflate { encoding, message: error.to_string() };
    match encoding {
        Encoding::Identity if body.len() > limit_bytes => Err(IngestError::BodyTooLarge { limit }),
        Encoding::Identity => Ok(body),
        Encoding::Gzip => {
            let reader = flate2::bufread::MultiGzDecoder::new(&body[..]);
            read_bounded(reader, body.len(), limit, encoding)
        }
        Encoding::Zstd => {
            let mut reader = zstd::stream::read::Decoder::with_buffer(&body[..]).map_err(|error| fail(&error))?;
            reader.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| fail(&error))?;
            read_bounded(reader, body.len(), limit, encoding)
        }
        Encoding::Snappy => {
            let mut scratch = Scratch::default();
            let length = inflate_snappy(&body, limit, &mut scratch)?;
            scratch.0.truncate(length);
            Ok(Bytes::from(scratch.0))
        }
    }
}

/// Inflates into `scratch` and answers how many bytes of it.
fn inflate_snappy(body: &[u8], limit: ByteSize, scratch: &mut Scratch) -> Result<usize, IngestError> {
    let fail = |message: String| IngestError::Inflate { encoding: Encoding::Snappy, message };
    let declared = snap::raw::decompress_len(body).map_err(|error| fail(error.to_string()))?;
    if declared as u64 > limit.0 {
        return Err(IngestError::BodyTooLarge { limit });
    }
    if declared > body.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(fail("declared length is impossible for a body of this size".to_owned()));
    }
    let Scratch(bytes) = scratch;
    if bytes.len() < declared {
        // Anew, as what is there need not be kept.
        *bytes = vec![0; declared];
    }
    let done = snap::raw::Decoder::new().decompress(body, &mut bytes[..declared]);
    done.map_err(|error| fail(error.to_string()))
}

/// Memory that bodies are inflated into, one after the other; what it holds means nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Vec<u8>);

/// Scratch of requests that are done, for those to come: fresh memory costs more than inflating into it.
#[derive(Debug, Default)]
pub(crate) struct ScratchPool(Mutex<Vec<Scratch>>);

/// Larger ones are not kept.
const SCRATCH_BYTES_MAX: usize = 4 << 20;
/// No more are kept; few requests are decoded at a time.
const SCRATCH_KEPT_MAX: usize = 4;

impl ScratchPool {
    /// Lends scratch to `work`, however that ends.
    pub(crate) fn lend<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let taken = self.0.lock().pop();
        let mut scratch = taken.unwrap_or_default();
        let done = work(&mut scratch);
        let mut kept = self.0.lock();
        if scratch.0.len() <= SCRATCH_BYTES_MAX && kept.len() < SCRATCH_KEPT_MAX {
            kept.push(scratch);
        }
        done
    }
}

/// An inflated body, wherever it is.
#[derive(Debug)]
pub(crate) enum Plain<'a> {
    /// In memory of its own, or where it was.
    Bytes(Bytes),
    /// In scratch.
    Scratch(&'a [u8]),
}

impl std::ops::Deref for Plain<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Scratch(bytes) => bytes,
        }
    }
}

/// As [`inflate`], for remote write.
///
/// - vmagent may send snappy under a zstd header and the other way round: a body that fails as the one is tried as
///   the other.
/// - The first senders named no encoding and meant snappy: an undeclared body is snappy, or else plain.
///
/// # Errors
/// As [`inflate`], for the encoding that was declared.
pub(crate) fn inflate_remote_write(
    body: Bytes,
    declared: Option<Encoding>,
    limit: ByteSize,
    scratch: &mut Scratch,
) -> Result<Plain<'_>, IngestError> {
    let (first, second) = match declared {
        Some(Encoding::Snappy) => (Encoding::Snappy, Encoding::Zstd),
        Some(Encoding::Zstd) => (Encoding::Zstd, Encoding::Snappy),
        None => (Encoding::Snappy, Encoding::Identity),
        Some(encoding @ (Encoding::Identity | Encoding::Gzip)) => {
            return inflate(body, encoding, limit).map(Plain::Bytes);
        }
    };
    let mut attempt = |encoding| match encoding {
        Encoding::Snappy => inflate_snappy(&body, limit, scratch).map(Err),
        _ => inflate(body.clone(), encoding, limit).map(Ok),
    };
    let done = match attempt(first) {
        Err(error) if declared.is_none() || matches!(error, IngestError::Inflate { .. }) => {
            attempt(second).map_err(|_| error)
        }
        done => done,
    };
    // Bytes of their own, or else so many of the scratch.
    Ok(match done? {
        Ok(bytes) => Plain::Bytes(bytes),
        Err(length) => Plain::Scratch(&scratch.0[..length]),
    })
}

fn read_bounded(
    reader: impl Read,
    compressed: usize,
    limit: ByteSize,
    encoding: Encoding,
) -> Result<Bytes, IngestError> {
    let limit_bytes = usize::try_from(limit.0).unwrap_or(usize::MAX);
    let mut out = Vec::with_capacity(compressed.saturating_mul(4).min(limit_bytes).min(1 << 20));
    // One byte beyond the limit tells "too large" from "exactly full".
    reader.take(limit.0.saturating_add(1)).read_to_end(&mut out).map_err(|error| IngestError::Inflate {
        encoding,
        message: match error.kind() {
            io::ErrorKind::UnexpectedEof => "truncated".to_owned(),
            _ => error.to_string(),
        },
    })?;
    if out.len() > limit_bytes { Err(IngestError::BodyTooLarge { limit }) } else { Ok(Bytes::from(out)) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const COMPRESSED: [Encoding; 3] = [Encoding::Gzip, Encoding::Zstd, Encoding::Snappy];

    fn deflate(plain: &[u8], encoding: Encoding) -> Bytes {
        Bytes::from(match encoding {
            Encoding::Identity => plain.to_vec(),
            Encoding::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                writer.write_all(plain).unwrap();
                writer.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(plain, 1).unwrap(),
            Encoding::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
        })
    }

    #[test]
    fn the_limit_counts_inflated_bytes() {
        let plain = vec![b'x'; 10_000];
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd, Encoding::Snappy] {
            let body = deflate(&plain, encoding);
            assert_eq!(inflate(body.clone(), encoding, ByteSize(10_000)).unwrap(), plain, "{encoding}");
            let refused = inflate(body, encoding, ByteSize(9_999));
            assert!(matches!(refused, Err(IngestError::BodyTooLarge { limit: ByteSize(9_999) })), "{encoding}");
        }
    }

    #[test]
    fn truncated_bodies_are_named() {
        for encoding in COMPRESSED {
            let body = deflate(b"some text that is longer than its own header", encoding);
            let cut = inflate(body.slice(..body.len() - 3), encoding, ByteSize::mib(1));
            assert!(matches!(cut, Err(IngestError::Inflate { .. })), "{encoding}");
        }
    }

    #[test]
    fn a_snappy_header_cannot_claim_memory() {
        let claims_60_mib = Bytes::from_static(&[0x80, 0x80, 0x80, 0x1e, 0]);
        assert!(matches!(
            inflate(claims_60_mib, Encoding::Snappy, ByteSize::mib(64)),
            Err(IngestError::Inflate { .. })
        ));
    }

    #[test]
    fn remote_write_takes_either_codec_under_either_header() {
        let mut scratch = Scratch::default();
        let snappy_or_zstd = [(Encoding::Snappy, Some(Encoding::Zstd)), (Encoding::Zstd, Some(Encoding::Snappy))];
        for (sent, declared) in snappy_or_zstd.into_iter().chain([(Encoding::Snappy, None), (Encoding::Identity, None)])
        {
            let body = deflate(b"series", sent);
            assert_eq!(&*inflate_remote_write(body, declared, ByteSize::mib(1), &mut scratch).unwrap(), b"series");
        }
        let hostile = Bytes::from_static(b"\xff\xff");
        let neither = inflate_remote_write(hostile, Some(Encoding::Zstd), ByteSize::mib(1), &mut scratch);
        assert!(matches!(neither, Err(IngestError::Inflate { encoding: Encoding::Zstd, .. })));
    }

    #[test]
    fn scratch_is_kept_though_a_body_is_damaged_but_not_if_it_is_large() {
        let pool = ScratchPool::default();
        let inflate = |plain: &[u8], is_damaged| {
            let mut body = deflate(plain, Encoding::Snappy).to_vec();
            body.truncate(body.len() - usize::from(is_damaged));
            pool.lend(|scratch| {
                inflate_remote_write(body.into(), Some(Encoding::Snappy), ByteSize::mib(64), scratch).map(drop)
            })
        };
        let kept = || pool.0.lock().iter().map(|scratch| scratch.0.len()).collect::<Vec<_>>();
        assert!(inflate(&[7; 1000], true).is_err());
        assert_eq!(kept(), [1000]);
        assert!(inflate(&[7; 2000], false).is_ok());
        assert_eq!(kept(), [2000]);
        assert!(inflate(&vec![7; SCRATCH_BYTES_MAX + 1], false).is_ok());
        assert_eq!(kept(), [0_usize; 0]);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_pass_the_limit(bytes in proptest::collection::vec(any::<u8>(), 0..200), which in 0..3_usize) {
            if let Ok(plain) = inflate(Bytes::from(bytes), COMPRESSED[which], ByteSize(1000)) {
                prop_assert!(plain.len() <= 1000);
            }
        }
    }
}
