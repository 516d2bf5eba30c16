//! Readers of every file of the store, for fuzzing: any bytes in, and what must hold is asserted. Part of the
//! feature `fuzzing` only, which no binary has.
//!
//! A checksum in front of a parser would hide the parser from the fuzzer, and offsets would break with every
//! byte that it inserts. So an input is no file: it names what is *in* the blocks, and each function makes the
//! files of it, sound checksums, lengths and offsets included. Then they are opened and read as the store does.
//!
//! Each function takes a directory of its own, whose files it replaces. `*_input` answers the input that stands
//! for real files: a corpus begins with those.

use std::fs;
use std::path::Path;

use pharos_chunk::bytes::{Reader, push_slice};
use pharos_model::MetricBatch;

use crate::TsdbError;
use crate::disk::RealDisk;
use crate::log::frame::{self, HEADER_LEN, Payload};
use crate::log::record::{self, Decoded};
use crate::log::recovery::{self, Replay};
use crate::log::segment::{self, SEGMENT_HEADER_LEN};
use crate::open::HeadReplay;
use crate::part::block::{self, Packing};
use crate::part::meta::{META_FILE, PartMeta};
use crate::settings::Settings;
use crate::shared::{METADATA_FILE, TOMBSTONES_FILE};
use crate::tenant::Tenants;
use crate::{metadata, tombstones};

pub use crate::part::fuzzing::{part, part_input};
pub use crate::part::index::fuzzing::{index, index_input};
pub use crate::rollup::fuzzing::{rollup, rollup_input};

/// Replays a log of one or two segments; each record of the first gets its checksum first. Input: flags (bit 0:
/// another segment follows), then the segment without its header.
///
/// What replays must replay again to the same samples, and each record that decodes must survive encoding.
///
/// # Panics
/// If that does not hold: a bug.
pub fn log(dir: &Path, bytes: &[u8]) {
    let Some((flags, records)) = bytes.split_first() else { return };
    let (first, second) = (segment::path_of(dir, 1), segment::path_of(dir, 2));
    let mut file = segment::header().to_vec();
    file.extend_from_slice(records);
    seal_records(&mut file);
    fs::write(&first, &file).expect("a folder for scratch files");
    let _ = fs::remove_file(&second);
    if flags & 1 == 1 {
        fs::write(&second, segment::header()).expect("a folder for scratch files");
    }
    match (replay(dir), replay(dir)) {
        (Ok(first), Ok(again)) => assert_eq!(first, again, "what was replayed is replayed again"),
        (Err(TsdbError::DamagedLog { .. }), Err(TsdbError::DamagedLog { .. })) => {
            assert_eq!(fs::read(&first).expect("it was written"), file, "a damaged log is left alone");
        }
        (first, again) => panic!("{first:?}, then {again:?}"),
    }
    let _ = recovery::replay(&RealDisk, dir, &mut Encoded);
}

/// The input that stands for a segment file.
///
/// # Errors
/// [`TsdbError`] if it cannot be read.
pub fn log_input(segment: &Path) -> Result<Vec<u8>, TsdbError> {
    let file = fs::read(segment).map_err(TsdbError::io("read", segment))?;
    let mut input = vec![0];
    let mut at = SEGMENT_HEADER_LEN;
    // Plain records, so that what is in them can be changed.
    while let Ok(record) = frame::read(&file[at..]) {
        Payload::plain(record.kind, record.plain).write(&mut input, 0);
        at += record.len;
    }
    Ok(input)
}

/// Samples in the heads after a replay.
fn replay(dir: &Path) -> Result<u64, TsdbError> {
    let (tenants, settings) = (Tenants::default(), Settings::for_tests());
    let mut head = HeadReplay::new(&tenants, &settings);
    recovery::replay(&RealDisk, dir, &mut head)?;
    head.finish();
    Ok(head.samples)
}

/// Gives the records of a segment file their checksums, as far as one follows the other.
fn seal_records(file: &mut [u8]) {
    let mut at = SEGMENT_HEADER_LEN;
    while let Some(header) = file.get(at..at + HEADER_LEN) {
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let Some(record) = file.get_mut(at..).and_then(|rest| rest.get_mut(..HEADER_LEN + length)) else { return };
        let checksum = crc32fast::hash(&record[8..]);
        record[4..8].copy_from_slice(&checksum.to_le_bytes());
        at += record.len();
    }
}

/// Checks that records survive encoding.
struct Encoded;

impl Replay for Encoded {
    fn begin_segment(&mut self, _number: u64) {}

    fn record(&mut self, record: Decoded) -> Result<(), String> {
        let Decoded::Batch(tenant, log_ids, batch) = record else { return Ok(()) };
        let encode = |log_ids: &[u64], batch: &MetricBatch| {
            let mut bytes = Vec::new();
            let payloads = record::encode_batch(&tenant, batch, &vec![0; log_ids.len()], log_ids)?;
            // A record that decodes may take more than one when its parts are reckoned at their most.
            let [payload] = payloads.as_slice() else { return None };
            payload.write(&mut bytes, 0);
            Some(frame::read(&bytes).expect("own records are sound").plain)
        };
        if let Some(first) = encode(&log_ids, &batch) {
            let (_, log_ids, batch) = record::decode_batch(&first).expect("what was encoded is decoded");
            assert_eq!(encode(&log_ids, &batch), Some(first), "what was decoded survives encoding");
        }
        Ok(())
    }
}

/// Reads the small files: descriptions of parts, tombstones, metadata. Input: which one (0, 1, 2), then a file whose
/// block, if it has one, is its payload alone.
///
/// # Panics
/// If something does not survive encoding: a bug.
pub fn small_files(dir: &Path, bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    if *which == 0 {
        return description(dir, bytes);
    }
    let Some((header, payload)) = bytes.split_at_checked(16) else { return };
    let mut file = header.to_vec();
    block::write(payload, Packing::Plain, &mut file);
    if *which == 1 {
        fs::write(dir.join(TOMBSTONES_FILE), file).expect("a folder for scratch files");
        if let Ok(all) = tombstones::read(dir) {
            assert_eq!(tombstones::decode(&tombstones::encode(&all)).as_deref(), Ok(all.as_ref()));
        }
    } else {
        fs::write(dir.join(METADATA_FILE), file).expect("a folder for scratch files");
        if let Ok(all) = metadata::read(dir) {
            let mut payload = Vec::new();
            record::push_metadata(&mut payload, &all);
            assert_eq!(record::take_metadata(&mut Reader::new(&payload)), Ok(all));
        }
    }
}

fn description(dir: &Path, bytes: &[u8]) {
    let path = dir.join(META_FILE);
    // As the reader does it: of a key that stands there twice the last counts.
    let value = serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let mut meta = value.and_then(|value| serde_json::from_value::<PartMeta>(value).ok());
    let file = meta.as_mut().map_or_else(|| bytes.to_vec(), PartMeta::encode);
    fs::write(&path, file).expect("a folder for scratch files");
    match (PartMeta::read(dir), meta) {
        (Ok(found), Some(meta)) => assert_eq!(found, meta),
        (Err(TsdbError::Version { found, .. }), Some(meta)) => assert_eq!(found, meta.version),
        (Err(_), None) => {}
        (found, meta) => panic!("{found:?} instead of {meta:?}"),
    }
}

/// The input that stands for a small file.
///
/// # Errors
/// [`TsdbError`] if it cannot be read.
pub fn small_file_input(path: &Path) -> Result<Vec<u8>, TsdbError> {
    let file = fs::read(path).map_err(TsdbError::io("read", path))?;
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(which) = [TOMBSTONES_FILE, METADATA_FILE].iter().position(|known| name == Some(known)) else {
        return Ok([&[0], file.as_slice()].concat());
    };
    let mut input = vec![which as u8 + 1];
    input.extend_from_slice(&file[..16]);
    input.extend(block::unpack("block", path, 16, file[16..].to_vec())?);
    Ok(input)
}

/// Reads an input: what is missing is empty, what is too large is cut.
pub(crate) struct Input<'a>(Reader<'a>);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(Reader::new(bytes))
    }

    /// A number below `end`.
    pub(crate) fn number(&mut self, end: u64) -> u64 {
        self.0.varint().unwrap_or(0) % end
    }

    pub(crate) fn slice(&mut self) -> &'a [u8] {
        let length = self.number(1 << 32) as usize;
        let length = length.min(self.0.rest().len());
        self.0.take(length).unwrap_or_default()
    }
}

/// Appends slices as [`Input::slice`] reads them.
pub(crate) fn push_slices<'a>(out: &mut Vec<u8>, slices: impl IntoIterator<Item = &'a [u8]>) {
    slices.into_iter().for_each(|slice| push_slice(out, slice));
}
