//! Blocks laid open: what takes how many bytes, for measurements; the catalogue as it is, so that fuzzing reaches it.

use bytes::Bytes;

use super::VERSION;
use super::open::Block;
use crate::codec::{DecodeError, Reader, Writer};

impl Block {
    /// The same block without its checksum, its catalogue not compressed.
    pub(crate) fn with_plain_catalogue(content: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let block = Block::open_content(&Bytes::copy_from_slice(content))?;
        let stored = block.stored_catalogue_bytes();
        let raw = block.catalogue()?.raw.as_slice();
        let mut reader = Reader::new(content);
        reader.byte("block version")?;
        let head = reader.bytes("block head")?;
        let mut lengths = Vec::new();
        lengths.put_varint(raw.len() as u64);
        lengths.put_varint(stored.len() as u64);
        let mut head = head[..head.len() - lengths.len()].to_vec();
        head.put_varint(raw.len() as u64);
        head.put_varint(raw.len() as u64);
        let body = &content[content.len() - reader.remaining()..];
        let bits = block.catalogue_bits_len();
        let core = &body[..body.len() - bits - stored.len()];
        let mut out = vec![VERSION];
        out.put_bytes(&head);
        for part in [core, raw, &body[body.len() - bits..]] {
            out.extend_from_slice(part);
        }
        Ok(out)
    }

    /// Parts and columns with their bytes.
    #[cfg(feature = "internals")]
    pub(crate) fn sizes(&self) -> Result<Vec<(String, usize)>, DecodeError> {
        let mut sizes = self.core_sizes();
        let catalogue = self.catalogue()?;
        sizes.push(("catalogue, inflated".to_owned(), catalogue.raw_len()));
        sizes.extend(catalogue.sizes());
        Ok(sizes)
    }
}
