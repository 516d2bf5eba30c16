//! The form `STREAMED_XOR_CHUNKS`: frames, each with chunks of one series, series in the order of their labels.
//!
//! A frame is the message's length as a varint, the CRC-32C of the message in four bytes, high byte first, and a
//! `ChunkedReadResponse`.

use axum::body::Bytes;
use pharos_model::Labels;
use pharos_proto::remote_read::{Chunk, ChunkedReadResponse, ChunkedSeries, Query};
use pharos_storage::StorageError;
use prost::Message;

use super::{Reader, chunks, samples};
use crate::reply::ApiError;

/// Chunk bytes after which a series goes on in another frame, so that none passes 1 MiB.
const FRAME_CHUNK_BYTES: usize = 900 << 10;

pub(super) fn answer(reader: &Reader<'_>, queries: &[Query]) -> Result<Vec<Bytes>, ApiError> {
    let mut memory = reader.context.memory.reserve(0).map_err(StorageError::Memory)?;
    let mut all = Vec::new();
    for (query_index, query) in queries.iter().enumerate() {
        let mut found: Vec<(Labels, Vec<Bytes>)> = Vec::new();
        reader.each(query, |series| {
            let frames = series_frames(&series.labels, chunks::encode(&series), query_index as i64);
            let bytes: usize = frames.iter().map(Bytes::len).sum();
            memory.grow((bytes + series.labels.encoded().len()) as u64).map_err(StorageError::Memory)?;
            found.push((series.labels, frames));
            Ok(())
        })?;
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all.extend(found.into_iter().flat_map(|(_, frames)| frames));
    }
    Ok(all)
}

fn series_frames(labels: &Labels, chunks: Vec<Chunk>, query_index: i64) -> Vec<Bytes> {
    let labels = samples::labels(labels);
    let frame = |chunks: Vec<Chunk>| {
        let series = ChunkedSeries { labels: labels.clone(), chunks };
        frame(&ChunkedReadResponse { chunked_series: vec![series], query_index })
    };
    let (mut frames, mut pending, mut pending_bytes) = (Vec::new(), Vec::new(), 0);
    for chunk in chunks {
        if pending_bytes > 0 && pending_bytes + chunk.data.len() > FRAME_CHUNK_BYTES {
            frames.push(frame(std::mem::take(&mut pending)));
            pending_bytes = 0;
        }
        // Beside its data, a chunk's times and lengths take up to 30 bytes.
        pending_bytes += chunk.data.len() + 30;
        pending.push(chunk);
    }
    frames.push(frame(pending));
    frames
}

fn frame(message: &ChunkedReadResponse) -> Bytes {
    let encoded = message.encode_to_vec();
    let mut out = Vec::with_capacity(encoded.len() + 14);
    prost::encoding::encode_varint(encoded.len() as u64, &mut out);
    out.extend_from_slice(&crc32c(&encoded).to_be_bytes());
    out.extend_from_slice(&encoded);
    out.into()
}

/// CRC-32C (Castagnoli): the reflected polynomial 0x82f63b78.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ CRC_TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

static CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}
