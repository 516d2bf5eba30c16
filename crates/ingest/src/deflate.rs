//! Compression of what is answered.

use std::io::Write;

use crate::Encoding;

/// `plain`, compressed; `None` for [`Encoding::Identity`], and where memory does not suffice.
#[must_use]
pub fn deflate(plain: &[u8], encoding: Encoding) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Identity => None,
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain).ok()?;
            encoder.finish().ok()
        }
        Encoding::Zstd => zstd::bulk::compress(plain, zstd::DEFAULT_COMPRESSION_LEVEL).ok(),
        Encoding::Snappy => snap::raw::Encoder::new().compress_vec(plain).ok(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pharos_base::ByteSize;

    use super::*;
    use crate::inflate;

    #[test]
    fn what_is_compressed_inflates_to_the_same() {
        let plain = Bytes::from("text that repeats ".repeat(100));
        for encoding in [Encoding::Gzip, Encoding::Zstd, Encoding::Snappy] {
            let packed = Bytes::from(deflate(&plain, encoding).unwrap());
            assert!(packed.len() < plain.len() / 4, "{encoding}");
            assert_eq!(inflate(packed, encoding, ByteSize(1 << 20)).unwrap(), plain, "{encoding}");
        }
        assert_eq!(deflate(&plain, Encoding::Identity), None);
    }
}
