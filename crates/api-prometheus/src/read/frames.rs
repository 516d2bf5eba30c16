//! The form `STREAMED_XOR_CHUNKS`: frames, each with chunks of one series, series in the order of their labels.
//!
//! A frame is the message's length as a varint, the CRC-32C of the message in four bytes, high byte first, and a
//! `ChunkedReadResponse`.

use axum::body::Bytes;
use pharos_model::Labels;
use pharos_proto::remote_read::{Chunk, ChunkedReadResponse, ChunkedSeries, Query};
use pharos_storage::StorageError;
use prost::Message;

use super::{FRAME_BYTES_MAX, Reader, chunks, samples};
use crate::reply::ApiError;

/// What a frame takes beside labels and chunks: lengths, the checksum, the query's number.
const FRAME_OVERHEAD_BYTES: usize = 64;
/// What a chunk takes beside its data: times, kind, lengths.
const CHUNK_OVERHEAD_BYTES: usize = 40;
/// What a label takes beside its texts.
const LABEL_OVERHEAD_BYTES: usize = 16;

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

/// The frames of a series: as many chunks in each as fit into [`FRAME_BYTES_MAX`] beside the labels, which stand in
/// each; one chunk at least, however long labels and chunk are.
fn series_frames(labels: &Labels, chunks: Vec<Chunk>, query_index: i64) -> Vec<Bytes> {
    let labels = samples::labels(labels);
    let label_bytes = labels.iter().map(|label| label.name.len() + label.value.len() + LABEL_OVERHEAD_BYTES);
    let room = FRAME_BYTES_MAX.saturating_sub(label_bytes.sum::<usize>() + FRAME_OVERHEAD_BYTES);
    let frame = |chunks: Vec<Chunk>| {
        let series = ChunkedSeries { labels: labels.clone(), chunks };
        frame(&ChunkedReadResponse { chunked_series: vec![series], query_index })
    };
    let (mut frames, mut pending, mut pending_bytes) = (Vec::new(), Vec::new(), 0);
    for chunk in chunks {
        let bytes = chunk.data.len() + CHUNK_OVERHEAD_BYTES;
        if pending_bytes > 0 && pending_bytes + bytes > room {
            frames.push(frame(std::mem::take(&mut pending)));
            pending_bytes = 0;
        }
        pending_bytes += bytes;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_frame_is_too_large_for_its_reader_whatever_its_labels_take() {
        let chunk = |at: i64| Chunk { min_time_ms: at, max_time_ms: at, r#type: 1, data: vec![7; 1_500] };
        for (label_bytes, chunks) in [(1, 2_000), (120 << 10, 2_000), (500 << 10, 1_000), (2 << 20, 5)] {
            let labels = Labels::from_pairs([("a", "x".repeat(label_bytes)), ("b", "y".to_owned())]).unwrap();
            let frames = series_frames(&labels, (0..chunks).map(chunk).collect(), 3);
            let mut times = Vec::new();
            for frame in &frames {
                let mut rest = frame.as_ref();
                let length = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
                let message = ChunkedReadResponse::decode(&rest[4..]).unwrap();
                assert!(length == rest.len() - 4 && message.chunked_series[0].labels.len() == 2);
                let held = &message.chunked_series[0].chunks;
                assert!(frame.len() <= FRAME_BYTES_MAX || held.len() == 1, "{} bytes", frame.len());
                times.extend(held.iter().map(|chunk| chunk.min_time_ms));
            }
            assert_eq!(times, (0..chunks).collect::<Vec<_>>());
            // As full as may be: not a frame for each chunk where there is room.
            assert!(frames.len() < 8, "{} frames", frames.len());
        }
    }
}
