//! The bytes of the log of waiting spans: requests, and what became of traces. `docs/log.md` has the table.
//!
//! Pure functions. Invariants
//! - F1 A record is handed out only if its checksum, which covers its length too, is right; nothing is made up.
//! - F2 What is not readable ends no file: records behind it whose place is known are handed out all the same.

use pharos_model::{TenantId, TraceId};

const MAGIC: [u8; 8] = *b"PHSMPLG2";
/// What all versions begin with.
const FAMILY: &[u8] = b"PHSMPLG";
/// Magic, sound bytes of the file before, checksum of both.
pub(crate) const HEADER_BYTES: usize = 20;
/// Length and checksum.
const FRAME_BYTES: usize = 8;
/// Largest record: a request, its tenant and what else is known of it.
pub(crate) const RECORD_BYTES_MAX: usize = 1 << 30;

const REQUEST: u8 = 0;
const JUDGEMENTS: u8 = 1;
const DROPPED: u8 = 0;
const KEPT: u8 = 1;
const STORED: u8 = 2;
const DELETED: u8 = 3;

/// A place in the log; later records have greater ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Position {
    /// Number of the file.
    pub(crate) file: u64,
    /// Where the record begins in it.
    pub(crate) offset: u64,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    pub(crate) tenant: TenantId,
    /// When it came, Unix milliseconds: for distances between requests only.
    pub(crate) received_at_ms: i64,
    /// Spans of it that were acknowledged.
    pub(crate) span_count: u32,
    /// What its body is written in, as ingest numbers it.
    pub(crate) form: u8,
    pub(crate) body: &'a [u8],
}

/// What became of a trace's spans that came up to a place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) tenant: TenantId,
    pub(crate) trace_id: TraceId,
    /// The request that brought the last of them.
    pub(crate) up_to: Position,
    pub(crate) fate: Fate,
}

/// What became of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// No policy wanted them.
    Dropped,
    /// They go to the trace store with this threshold.
    Kept(u64),
    /// They are there.
    Stored,
    /// Somebody had their trace deleted.
    Deleted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Request(Request<'a>),
    Judgements(Vec<Judgement>),
}

/// What a file begins with. `before_bytes`: where the last sound record of the file before it ends.
pub(crate) fn encode_header(before_bytes: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&before_bytes.to_le_bytes());
    let checksum = crc32c::crc32c(&header[..16]);
    header[16..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Appends a request's record to `out`; `None`, and nothing is appended, if it is too large for one.
pub(crate) fn encode_request(request: &Request<'_>, out: &mut Vec<u8>) -> Option<()> {
    if request.body.len() > RECORD_BYTES_MAX - 1024 {
        return None;
    }
    framed(out, |out| {
        out.push(REQUEST);
        out.extend_from_slice(&request.received_at_ms.to_le_bytes());
        out.extend_from_slice(&request.span_count.to_le_bytes());
        put_tenant(&request.tenant, out);
        out.push(request.form);
        out.extend_from_slice(request.body);
    });
    Some(())
}

/// Appends a record of judgements to `out`.
pub(crate) fn encode_judgements(judgements: &[Judgement], out: &mut Vec<u8>) {
    framed(out, |out| {
        out.push(JUDGEMENTS);
        for Judgement { tenant, trace_id, up_to, fate } in judgements {
            put_tenant(tenant, out);
            out.extend_from_slice(&trace_id.0);
            out.extend_from_slice(&up_to.file.to_le_bytes());
            out.extend_from_slice(&up_to.offset.to_le_bytes());
            match fate {
                Fate::Dropped => out.push(DROPPED),
                Fate::Kept(threshold) => {
                    out.push(KEPT);
                    out.extend_from_slice(&threshold.to_le_bytes());
                }
                Fate::Stored => out.push(STORED),
                Fate::Deleted => out.push(DELETED),
            }
        }
    });
}

fn put_tenant(tenant: &TenantId, out: &mut Vec<u8>) {
    // Names of tenants are short: the model says so.
    out.push(tenant.as_str().len() as u8);
    out.extend_from_slice(tenant.as_str().as_bytes());
}

fn framed(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let frame = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    content(out);
    let length = ((out.len() - frame - FRAME_BYTES) as u32).to_le_bytes();
    let checksum = checksum(length, &out[frame + FRAME_BYTES..]);
    out[frame..frame + 4].copy_from_slice(&length);
    out[frame + 4..frame + FRAME_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

/// Covers the length, so that zeros are no record.
fn checksum(length: [u8; 4], content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), content)
}

/// Why a file cannot be read as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No sound record follows what is not readable: what a write leaves that did not end.
    Torn,
    /// Its bytes are not what was written.
    Damaged,
}

/// Another version wrote the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OtherVersion;

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    /// Where the last sound record of the file before ends, if the header can be read.
    pub(crate) before_bytes: Option<u64>,
    /// Where each begins, and what it says.
    pub(crate) records: Vec<(u64, Record<'a>)>,
    /// Where the last sound record ends; 0 without a header: nothing was ever written behind it.
    pub(crate) sound_bytes: u64,
    pub(crate) fault: Option<Fault>,
}

/// Reads a file's bytes.
///
/// # Errors
/// [`OtherVersion`].
pub(crate) fn decode(bytes: &[u8]) -> Result<Contents<'_>, OtherVersion> {
    let mut contents = Contents { before_bytes: None, records: Vec::new(), sound_bytes: 0, fault: None };
    if bytes.starts_with(FAMILY) && bytes.len() >= MAGIC.len() && !bytes.starts_with(&MAGIC) {
        return Err(OtherVersion);
    }
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(contents) };
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(contents);
    }
    let mut before = [0; 8];
    before.copy_from_slice(&header[8..16]);
    let before = u64::from_le_bytes(before);
    if encode_header(before) == *header {
        contents.before_bytes = Some(before);
    } else {
        contents.fault = Some(Fault::Damaged);
    }
    let mut at = HEADER_BYTES;
    contents.sound_bytes = at as u64;
    let mut is_doubtful = false;
    while at < bytes.len() {
        let Some((is_sound, content)) = frame(&bytes[at..]) else {
            is_doubtful = true;
            break;
        };
        let end = at + FRAME_BYTES + content.len();
        match is_sound.then(|| read_record(content)) {
            Some(Some(record)) => {
                contents.records.push((at as u64, record));
                contents.sound_bytes = end as u64;
                if is_doubtful {
                    contents.fault = Some(Fault::Damaged);
                }
            }
            Some(None) => contents.fault = Some(Fault::Damaged),
            None => is_doubtful = true,
        }
        at = end;
    }
    if is_doubtful && contents.fault.is_none() {
        contents.fault = Some(Fault::Torn);
    }
    Ok(contents)
}

/// The content of the frame that begins here, and whether its checksum is right; `None` if there is no whole one.
fn frame(bytes: &[u8]) -> Option<(bool, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (expected, rest) = rest.split_first_chunk::<4>()?;
    let content = rest.get(..u32::from_le_bytes(*length) as usize)?;
    Some((checksum(*length, content) == u32::from_le_bytes(*expected), content))
}

/// Gives every frame the checksum of what it holds.
#[cfg(feature = "fuzzing")]
pub(crate) fn make_right(bytes: &mut [u8]) {
    let mut at = HEADER_BYTES;
    while let Some((_, content)) = bytes.get(at..).and_then(frame) {
        let end = at + FRAME_BYTES + content.len();
        let right = checksum((content.len() as u32).to_le_bytes(), content);
        bytes[at + 4..at + FRAME_BYTES].copy_from_slice(&right.to_le_bytes());
        at = end;
    }
}

fn read_record(content: &[u8]) -> Option<Record<'_>> {
    let mut rest = content;
    match take::<1>(&mut rest)? {
        [REQUEST] => {
            let received_at_ms = i64::from_le_bytes(take(&mut rest)?);
            let span_count = u32::from_le_bytes(take(&mut rest)?);
            let tenant = take_tenant(&mut rest)?;
            let [form] = take(&mut rest)?;
            Some(Record::Request(Request { tenant, received_at_ms, span_count, form, body: rest }))
        }
        [JUDGEMENTS] => {
            let mut judgements = Vec::new();
            while !rest.is_empty() {
                let (tenant, trace_id) = (take_tenant(&mut rest)?, TraceId(take(&mut rest)?));
                let (file, offset) = (u64::from_le_bytes(take(&mut rest)?), u64::from_le_bytes(take(&mut rest)?));
                let fate = match take::<1>(&mut rest)? {
                    [DROPPED] => Fate::Dropped,
                    [KEPT] => Fate::Kept(u64::from_le_bytes(take(&mut rest)?)),
                    [STORED] => Fate::Stored,
                    [DELETED] => Fate::Deleted,
                    _ => return None,
                };
                judgements.push(Judgement { tenant, trace_id, up_to: Position { file, offset }, fate });
            }
            Some(Record::Judgements(judgements))
        }
        _ => None,
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

fn take_tenant(rest: &mut &[u8]) -> Option<TenantId> {
    let [length] = take(rest)?;
    let (name, after) = rest.split_at_checked(usize::from(length))?;
    *rest = after;
    std::str::from_utf8(name).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
