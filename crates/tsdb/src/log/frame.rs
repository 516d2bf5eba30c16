//! Record frames: what makes a record findable and its damage visible.
//!
//! Header, 24 bytes: magic, CRC-32 of everything after it, payload length, plain length, offset from the
//! start of its group (`u32` each), kind, codec (`u8` each), two zero bytes. Then the payload.

use std::io::{self, Read};

/// First bytes of every record.
pub(crate) const RECORD_MAGIC: [u8; 4] = *b"\xf1PHR";
pub(crate) const HEADER_LEN: usize = 24;
/// A longer record is not written and not believed.
pub(crate) const RECORD_BYTES_MAX: usize = 256 << 20;

const CODEC_PLAIN: u8 = 0;
const CODEC_SNAPPY: u8 = 1;
/// Shorter payloads are left as they are.
const COMPRESS_MIN: usize = 128;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Series and the ids that later batches of the segment call them by.
    Definitions = 1,
    /// One batch.
    Batch = 2,
}

/// A payload, compressed where that helps; made by whoever has the time, framed by the writer.
#[derive(Debug)]
pub(crate) struct Payload {
    kind: Kind,
    codec: u8,
    plain_len: u32,
    bytes: Vec<u8>,
}

/// A sound record.
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) plain: Vec<u8>,
    /// Bytes of the whole record.
    pub(crate) len: usize,
}

/// A record whose checksum is right, its payload as it was written.
pub(crate) struct Frame<'a> {
    kind: u8,
    codec: u8,
    plain_len: usize,
    payload: &'a [u8],
    /// Where its group starts, as an offset before the record.
    pub(crate) group_offset: u32,
    /// Bytes of the whole record.
    pub(crate) len: usize,
}

/// Why there is no sound record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unsound {
    /// The bytes end inside it.
    Cut,
    Magic,
    /// No record has such a length.
    Length,
    Checksum {
        expected: u32,
        found: u32,
    },
    /// It is as it was written, but not what this program writes.
    Content(String),
}

impl std::fmt::Display for Unsound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cut => f.write_str("the file ends inside a record"),
            Self::Magic => f.write_str("no record begins there"),
            Self::Length => f.write_str("record length above the limit"),
            Self::Checksum { expected, found } => write!(f, "expected checksum {expected:08x}, found {found:08x}"),
            Self::Content(reason) => f.write_str(reason),
        }
    }
}

impl Payload {
    /// `None` if `plain` is longer than a record may be.
    pub(crate) fn new(kind: Kind, plain: Vec<u8>) -> Option<Self> {
        if plain.len() > RECORD_BYTES_MAX {
            return None;
        }
        let plain_len = plain.len() as u32;
        if plain.len() >= COMPRESS_MIN
            && let Ok(packed) = snap::raw::Encoder::new().compress_vec(&plain)
            && packed.len() < plain.len()
        {
            return Some(Self { kind, codec: CODEC_SNAPPY, plain_len, bytes: packed });
        }
        Some(Self { kind, codec: CODEC_PLAIN, plain_len, bytes: plain })
    }

    /// Never compressed.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn plain(kind: Kind, plain: Vec<u8>) -> Self {
        Self { kind, codec: CODEC_PLAIN, plain_len: plain.len() as u32, bytes: plain }
    }

    /// Bytes of the whole record.
    pub(crate) fn record_len(&self) -> usize {
        HEADER_LEN + self.bytes.len()
    }

    /// Appends the record to `written`, which follows `unsynced` bytes of the same group.
    pub(crate) fn write(&self, written: &mut Vec<u8>, unsynced: u64) {
        let group = written;
        let start = group.len();
        // A group past 4 GiB would need an hour-long sync interval; saturating only makes recovery stricter.
        let offset = u32::try_from(unsynced + start as u64).unwrap_or(u32::MAX);
        group.extend_from_slice(&RECORD_MAGIC);
        group.extend_from_slice(&[0; 4]);
        for number in [self.bytes.len() as u32, self.plain_len, offset] {
            group.extend_from_slice(&number.to_le_bytes());
        }
        group.extend_from_slice(&[self.kind as u8, self.codec, 0, 0]);
        group.extend_from_slice(&self.bytes);
        let checksum = crc32fast::hash(&group[start + 8..]);
        group[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Reads the record that `source` stands before; `left` bytes follow, `scratch` is overwritten.
///
/// # Errors
/// What the system says. Bytes that are no sound record are told apart from that; `source` stands anywhere then.
pub(crate) fn read_from(
    source: &mut impl Read,
    left: u64,
    scratch: &mut Vec<u8>,
) -> io::Result<Result<Record, Unsound>> {
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    scratch.resize(HEADER_LEN.min(left), 0);
    source.read_exact(scratch)?;
    if let Some(header) = scratch.first_chunk::<HEADER_LEN>().filter(|header| header[..4] == RECORD_MAGIC) {
        let payload_len = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        if payload_len <= RECORD_BYTES_MAX {
            scratch.resize((HEADER_LEN + payload_len).min(left), 0);
            source.read_exact(&mut scratch[HEADER_LEN..])?;
        }
    }
    Ok(read(scratch))
}

/// Reads the record at the start of `bytes`.
pub(crate) fn read(bytes: &[u8]) -> Result<Record, Unsound> {
    check(bytes)?.open()
}

/// The frame at the start of `bytes`, if its checksum is right.
fn check(bytes: &[u8]) -> Result<Frame<'_>, Unsound> {
    let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(Unsound::Cut)?;
    if header[..4] != RECORD_MAGIC {
        return Err(Unsound::Magic);
    }
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (expected, payload_len, plain_len, group_offset) =
        (number(4), number(8) as usize, number(12) as usize, number(16));
    if payload_len > RECORD_BYTES_MAX {
        return Err(Unsound::Length);
    }
    let len = HEADER_LEN + payload_len;
    let record = bytes.get(..len).ok_or(Unsound::Cut)?;
    let found = crc32fast::hash(&record[8..]);
    if found != expected {
        return Err(Unsound::Checksum { expected, found });
    }
    Ok(Frame { kind: header[20], codec: header[21], plain_len, payload: &record[HEADER_LEN..], group_offset, len })
}

impl Frame<'_> {
    fn open(&self) -> Result<Record, Unsound> {
        let content = |reason: String| Unsound::Content(reason);
        let kind = match self.kind {
            1 => Kind::Definitions,
            2 => Kind::Batch,
            kind => return Err(content(format!("unknown record kind {kind}"))),
        };
        // The length inside the compressed bytes must agree before anything is allocated for it.
        let plain = match self.codec {
            CODEC_PLAIN => self.payload.to_vec(),
            CODEC_SNAPPY if self.plain_len > RECORD_BYTES_MAX => {
                return Err(content("plain length above the limit".to_owned()));
            }
            CODEC_SNAPPY if snap::raw::decompress_len(self.payload).ok() != Some(self.plain_len) => {
                return Err(content("plain length disagrees".to_owned()));
            }
            CODEC_SNAPPY => {
                snap::raw::Decoder::new().decompress_vec(self.payload).map_err(|error| content(error.to_string()))?
            }
            codec => return Err(content(format!("unknown record codec {codec}"))),
        };
        Ok(Record { kind, plain, len: self.len })
    }
}

/// The offset of the next record at or after `from` that is as it was written, whatever it holds.
pub(crate) fn find_sound(bytes: &[u8], from: usize) -> Option<(usize, Frame<'_>)> {
    let mut at = from;
    while at + HEADER_LEN <= bytes.len() {
        if bytes[at..at + 4] == RECORD_MAGIC
            && let Ok(frame) = check(&bytes[at..])
        {
            return Some((at, frame));
        }
        at += 1;
    }
    None
}
