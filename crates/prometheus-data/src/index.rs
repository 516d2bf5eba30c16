//! A block's `index`: the symbols, once in memory, and the series, one after the other.
//!
//! Postings and label tables are not needed and not read. A damaged entry is told and passed over: entries end where their
//! length says, and where that is damaged, too, the next one is found by its checksum. Without a sound table of contents
//! the series are looked for behind the symbols. Without sound symbols no label can be trusted: the block is lost.
//!
//! Source: Prometheus' `tsdb/docs/format/index.md`; versions 1 (2017: symbols by offset, no alignment), 2 and 3.

use std::path::Path;

use pharos_model::{Labels, LabelsBuilder};

use crate::bytes::Cursor;
use crate::error::{Damage, DataError, Malformed, OnDamage};
use crate::file::WindowFile;

const MAGIC: u32 = 0xBAAA_D700;
const HEADER_BYTES: u64 = 5;
const CONTENTS_BYTES: u64 = 52;
const CRC_BYTES: usize = 4;
/// Largest entry of a series: labels and the places of its chunks.
const ENTRY_BYTES_MAX: usize = 64 << 20;
/// Longest LEB128 of a length.
const LENGTH_BYTES_MAX: usize = 10;
/// What a search by checksum tries per place: entries longer than this are not found again.
const RESYNC_ENTRY_BYTES_MAX: usize = 64 << 10;

/// Where a chunk is and what it spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkPlace {
    pub(crate) reference: u64,
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
}

/// An entry of the index.
#[derive(Debug, Default)]
pub(crate) struct SeriesEntry {
    /// What tombstones call it.
    pub(crate) id: u64,
    pub(crate) chunks: Vec<ChunkPlace>,
}

/// An open index.
#[derive(Debug)]
pub(crate) struct Index {
    file: WindowFile,
    version: u8,
    symbols: Symbols,
    next: u64,
    end: u64,
    labels: LabelsBuilder,
}

impl Index {
    /// Opens an index; `None` if nothing can be read from it, which was told.
    pub(crate) fn open(path: &Path, damage: OnDamage<'_>) -> Result<Option<Self>, DataError> {
        let mut file = WindowFile::open(path)?;
        let mut header = Cursor(file.read(0, HEADER_BYTES as usize)?);
        let mut version = match (header.u32(), header.u8()) {
            (Ok(MAGIC), Ok(version)) => version,
            (_, version) => {
                damage(at(path, 0, "the header is not that of an index; read as one of version 2"));
                version.unwrap_or(2)
            }
        };
        if !(1..=3).contains(&version) {
            damage(at(path, 4, "an unknown version; read as version 2"));
            version = 2;
        }
        let contents = contents(&mut file, damage)?;
        let symbols_at = contents.map_or(HEADER_BYTES, |contents| contents.symbols);
        let (symbols, symbols_end) = match Symbols::read(&mut file, symbols_at, version)? {
            Ok(read) => read,
            Err(Malformed(reason)) => {
                damage(at(path, symbols_at, &format!("the symbols: {reason}; without them no series has its labels")));
                return Ok(None);
            }
        };
        let (next, end) = match contents {
            Some(contents) => (contents.series, contents.series_end),
            None => (symbols_end, file.len()),
        };
        let next = if version == 1 { next } else { next.next_multiple_of(16) };
        Ok(Some(Self { file, version, symbols, next, end, labels: LabelsBuilder::default() }))
    }

    /// The next series; `entry` is overwritten.
    pub(crate) fn next(&mut self, entry: &mut SeriesEntry, damage: OnDamage<'_>) -> Result<Option<Labels>, DataError> {
        loop {
            if self.next >= self.end {
                return Ok(None);
            }
            let begin = self.next;
            let bytes = match checked_entry(&mut self.file, begin, self.end, ENTRY_BYTES_MAX)? {
                Found::Padding => {
                    self.next = begin + if self.version == 1 { 1 } else { 16 };
                    continue;
                }
                Found::Damaged(reason) => {
                    self.next = self.resync(begin)?;
                    damage(at(self.file.path(), begin, &format!("a series: {reason}; read on at byte {}", self.next)));
                    continue;
                }
                Found::Sound { length, body } => {
                    self.next = begin + length;
                    if self.version != 1 {
                        self.next = self.next.next_multiple_of(16);
                    }
                    entry.id = if self.version == 1 { begin } else { begin / 16 };
                    self.symbols.decode(body, &mut self.labels, &mut entry.chunks)
                }
            };
            match bytes.and_then(|()| self.labels.build().map_err(|_| Malformed("its labels are no label set"))) {
                Ok(labels) => return Ok(Some(labels)),
                Err(Malformed(reason)) => damage(at(self.file.path(), begin, &format!("a series: {reason}"))),
            }
        }
    }

    /// The place of the next entry whose checksum is right; the end if there is none.
    fn resync(&mut self, damaged: u64) -> Result<u64, DataError> {
        let step = if self.version == 1 { 1 } else { 16 };
        let mut place = damaged + step;
        while place < self.end {
            if let Found::Sound { .. } = checked_entry(&mut self.file, place, self.end, RESYNC_ENTRY_BYTES_MAX)? {
                return Ok(place);
            }
            place += step;
        }
        Ok(self.end)
    }
}

enum Found<'a> {
    Padding,
    Sound { length: u64, body: &'a [u8] },
    Damaged(&'static str),
}

fn checked_entry(file: &mut WindowFile, begin: u64, end: u64, bytes_max: usize) -> Result<Found<'_>, DataError> {
    let mut front = Cursor(file.read(begin, LENGTH_BYTES_MAX)?);
    let before = front.len();
    let Ok(length) = front.uvarint() else { return Ok(Found::Damaged("its length is no number")) };
    if length == 0 {
        return Ok(Found::Padding);
    }
    let head = before - front.len();
    let room = usize::try_from(end - begin).unwrap_or(usize::MAX).min(bytes_max);
    let Some(whole) = usize::try_from(length).ok().and_then(|length| length.checked_add(head + CRC_BYTES)) else {
        return Ok(Found::Damaged("its length makes no sense"));
    };
    if whole > room {
        return Ok(Found::Damaged("its length makes no sense"));
    }
    let bytes = file.read(begin, whole)?;
    match checked(bytes.get(head..).unwrap_or_default()) {
        Some(body) => Ok(Found::Sound { length: whole as u64, body }),
        None => Ok(Found::Damaged("wrong checksum")),
    }
}

/// What precedes the checksum at the end of `bytes`, if that is right.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, crc) = bytes.split_last_chunk::<CRC_BYTES>()?;
    (crc32c::crc32c(body) == u32::from_be_bytes(*crc)).then_some(body)
}

#[derive(Debug, Clone, Copy)]
struct Contents {
    symbols: u64,
    series: u64,
    series_end: u64,
}

/// The table of contents; `None` where it is damaged, which was told.
fn contents(file: &mut WindowFile, damage: OnDamage<'_>) -> Result<Option<Contents>, DataError> {
    let (path, len) = (file.path().to_owned(), file.len());
    let begin = len.saturating_sub(CONTENTS_BYTES);
    let read = |body: &[u8]| -> Option<Contents> {
        let mut cursor = Cursor(body);
        let mut sections = [0; 6];
        for section in &mut sections {
            *section = cursor.u64().ok()?;
        }
        let [symbols, series, rest @ ..] = sections;
        // Sections that are left out have the place 0.
        let series_end = rest.into_iter().filter(|place| *place > series).min().unwrap_or(begin);
        (symbols < series && series <= series_end && series_end <= begin).then_some(Contents {
            symbols,
            series,
            series_end,
        })
    };
    let found = checked(file.read(begin, CONTENTS_BYTES as usize)?).and_then(read);
    if found.is_none() {
        damage(at(&path, begin, "the table of contents is damaged; series are looked for behind the symbols"));
    }
    Ok(found)
}

/// All texts of the block's labels.
#[derive(Debug)]
struct Symbols {
    text: Vec<u8>,
    /// Begin and length of each in `text`.
    places: Vec<(u32, u32)>,
    /// Of version 1: what references count from.
    by_offset: Option<u64>,
}

impl Symbols {
    /// The symbols at `begin`, and where they end.
    fn read(file: &mut WindowFile, begin: u64, version: u8) -> Result<Result<(Self, u64), Malformed>, DataError> {
        const CUT: Malformed = Malformed("cut short");
        let Ok(length) = Cursor(file.read(begin, 4)?).u32() else { return Ok(Err(CUT)) };
        let whole = u64::from(length) + 4 + CRC_BYTES as u64;
        if begin.saturating_add(whole) > file.len() {
            return Ok(Err(Malformed("their length makes no sense")));
        }
        let bytes = file.read(begin, whole as usize)?;
        let Some(body) = checked(bytes.get(4..).unwrap_or_default()) else {
            return Ok(Err(Malformed("wrong checksum")));
        };
        let parsed = Self::parse(body, (version == 1).then_some(begin + 4));
        Ok(parsed.map(|symbols| (symbols, begin + whole)))
    }

    fn parse(body: &[u8], by_offset: Option<u64>) -> Result<Self, Malformed> {
        let mut cursor = Cursor(body);
        let count = cursor.u32()? as usize;
        if count > cursor.len() {
            return Err(Malformed("more of them than bytes"));
        }
        let mut places = Vec::with_capacity(if by_offset.is_some() { 0 } else { count });
        if by_offset.is_none() {
            for _ in 0..count {
                let length = cursor.count(1)?;
                places.push(((body.len() - cursor.len()) as u32, length as u32));
                cursor.take(length)?;
            }
        }
        Ok(Self { text: body.to_vec(), places, by_offset })
    }

    fn get(&self, reference: u64) -> Result<&str, Malformed> {
        const UNKNOWN: Malformed = Malformed("it names a symbol that is not there");
        if let Some(begin) = self.by_offset {
            let at = reference.checked_sub(begin).and_then(|at| usize::try_from(at).ok()).ok_or(UNKNOWN)?;
            return Cursor(self.text.get(at..).ok_or(UNKNOWN)?).text();
        }
        let place = usize::try_from(reference).ok().and_then(|at| self.places.get(at)).ok_or(UNKNOWN)?;
        let (begin, length) = (place.0 as usize, place.1 as usize);
        let text = self.text.get(begin..begin + length).ok_or(UNKNOWN)?;
        std::str::from_utf8(text).map_err(|_| Malformed("a label is not UTF-8"))
    }

    fn decode(&self, body: &[u8], labels: &mut LabelsBuilder, chunks: &mut Vec<ChunkPlace>) -> Result<(), Malformed> {
        labels.clear();
        chunks.clear();
        let mut cursor = Cursor(body);
        for _ in 0..cursor.count(2)? {
            let (name, value) = (cursor.uvarint()?, cursor.uvarint()?);
            labels.push(self.get(name)?, self.get(value)?);
        }
        let (mut time_ms, mut reference) = (0_i64, 0_i64);
        for index in 0..cursor.count(3)? {
            let min_ms = if index == 0 { cursor.varint()? } else { time_ms.wrapping_add(cursor.uvarint()? as i64) };
            let max_ms = min_ms.wrapping_add(cursor.uvarint()? as i64);
            reference = if index == 0 { cursor.uvarint()? as i64 } else { reference.wrapping_add(cursor.varint()?) };
            time_ms = max_ms;
            chunks.push(ChunkPlace { reference: reference as u64, min_ms, max_ms });
        }
        Ok(())
    }
}

fn at(path: &Path, offset: u64, reason: &str) -> Damage {
    Damage { path: path.to_owned(), offset, reason: reason.to_owned() }
}
