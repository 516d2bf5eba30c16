//! A write-ahead log: numbered segments of pages, records cut into fragments that never cross a page.
//!
//! After a damaged fragment the reading goes on with the next page, and with the first record that begins there.
//!
//! Source: Prometheus' `tsdb/docs/format/wal.md`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::bytes::Cursor;
use crate::error::{Damage, DataError, Malformed, OnDamage};
use crate::folder::numbered_files;

const PAGE_BYTES: usize = 32 << 10;
const TYPE_MASK: u8 = 0b111;
const SNAPPY: u8 = 1 << 3;
const ZSTD: u8 = 1 << 4;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;
/// Largest record, compressed or not.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// What follows the fragment in its page can be read.
const LOST_FRAGMENT: Malformed = Malformed("wrong checksum of a fragment, which is lost");

/// Where a record begins.
#[derive(Debug, Clone)]
pub(crate) struct RecordPlace {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
}

/// Records of several segments, in order.
#[derive(Debug)]
pub(crate) struct LogReader {
    segments: VecDeque<PathBuf>,
    open: Option<Segment>,
    /// Fragments of the record under way, and where it began.
    partial: Vec<u8>,
    partial_at: Option<u64>,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: File,
    page: Vec<u8>,
    page_at: u64,
    /// How much of the page is read.
    at: usize,
}

impl LogReader {
    pub(crate) fn new(segments: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { segments: segments.into_iter().collect(), open: None, partial: Vec::new(), partial_at: None }
    }

    /// The segments of a head's log: the last checkpoint, then what follows it.
    pub(crate) fn of_wal(folder: &Path) -> Result<Self, DataError> {
        let mut checkpoint: Option<(u64, PathBuf)> = None;
        for entry in std::fs::read_dir(folder).map_err(DataError::io("read", folder))? {
            let path = entry.map_err(DataError::io("read", folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let number = name.and_then(|name| name.strip_prefix("checkpoint.")?.parse().ok());
            if let Some(number) = number
                && path.is_dir()
                && checkpoint.as_ref().is_none_or(|(last, _)| number > *last)
            {
                checkpoint = Some((number, path));
            }
        }
        let covered = checkpoint.as_ref().map(|(number, _)| *number);
        let mut segments = match &checkpoint {
            Some((_, path)) => numbered_files(path)?,
            None => Vec::new(),
        };
        let later = numbered_files(folder)?;
        segments.extend(later.into_iter().filter(|(number, _)| covered.is_none_or(|covered| *number > covered)));
        Ok(Self::new(segments.into_iter().map(|(_, path)| path)))
    }

    /// The segments of the log of late samples.
    pub(crate) fn of_wbl(folder: &Path) -> Result<Self, DataError> {
        let segments = if folder.is_dir() { numbered_files(folder)? } else { Vec::new() };
        Ok(Self::new(segments.into_iter().map(|(_, path)| path)))
    }

    /// Reads the next whole record into `record`, inflated.
    pub(crate) fn next(
        &mut self,
        record: &mut Vec<u8>,
        damage: OnDamage<'_>,
    ) -> Result<Option<RecordPlace>, DataError> {
        loop {
            if self.open.is_none() {
                let Some(path) = self.segments.pop_front() else { return Ok(None) };
                self.open = Some(Segment::open(path)?);
            }
            let Some(segment) = &mut self.open else { continue };
            if segment.at >= segment.page.len() && !segment.next_page()? {
                if let Some(offset) = self.partial_at.take() {
                    damage(Malformed("the log ends within this record").at(&segment.path, offset));
                }
                self.open = None;
                continue;
            }
            let offset = segment.page_at + segment.at as u64;
            let fragment = match segment.fragment() {
                Ok(Some(fragment)) => fragment,
                Ok(None) => continue,
                Err(malformed) => {
                    damage(malformed.at(&segment.path, offset));
                    self.partial_at = None;
                    if !matches!(malformed, LOST_FRAGMENT) {
                        segment.at = segment.page.len();
                    }
                    continue;
                }
            };
            let (kind, flags, begin, end) = fragment;
            let starts = matches!(kind, FULL | FIRST);
            if starts {
                if let Some(lost) = self.partial_at.replace(offset) {
                    damage(Malformed("a record without its end").at(&segment.path, lost));
                }
                self.partial.clear();
            } else if self.partial_at.is_none() {
                // Its beginning was in a damaged page, which was told.
                continue;
            }
            if self.partial.len() + (end - begin) > RECORD_BYTES_MAX {
                damage(Malformed("a record is too long").at(&segment.path, offset));
                self.partial_at = None;
                continue;
            }
            self.partial.extend_from_slice(&segment.page[begin..end]);
            if !matches!(kind, FULL | LAST) {
                continue;
            }
            let offset = self.partial_at.take().unwrap_or(offset);
            match inflate(flags, &self.partial, record) {
                Ok(()) => return Ok(Some(RecordPlace { path: segment.path.clone(), offset })),
                Err(malformed) => damage(malformed.at(&segment.path, offset)),
            }
        }
    }
}

/// Kind, flags, and where in the page its bytes are.
type Fragment = (u8, u8, usize, usize);

impl Segment {
    fn open(path: PathBuf) -> Result<Self, DataError> {
        let file = File::open(&path).map_err(DataError::io("open", &path))?;
        Ok(Self { path, file, page: Vec::new(), page_at: 0, at: 0 })
    }

    fn next_page(&mut self) -> Result<bool, DataError> {
        self.page_at += self.page.len() as u64;
        self.page.clear();
        self.at = 0;
        let read = (&mut self.file).take(PAGE_BYTES as u64).read_to_end(&mut self.page);
        read.map(|count| count > 0).map_err(DataError::io("read", &self.path))
    }

    /// Whether a whole fragment begins here, or the page ends.
    fn is_sound_here(&self) -> bool {
        let mut cursor = Cursor(&self.page[self.at..]);
        match (cursor.u8(), cursor.u16(), cursor.u32()) {
            (Ok(head), ..) if head & TYPE_MASK == 0 => cursor.0.iter().all(|byte| *byte == 0),
            (Ok(_), Ok(length), Ok(crc)) => {
                cursor.take(usize::from(length)).is_ok_and(|data| crc32c::crc32c(data) == crc)
            }
            (head, ..) => head.is_err(),
        }
    }

    /// The fragment that begins here; `None` where the rest of the page is empty.
    fn fragment(&mut self) -> Result<Option<Fragment>, Malformed> {
        let mut cursor = Cursor(&self.page[self.at..]);
        let head = cursor.u8()?;
        if head & TYPE_MASK == 0 {
            self.at = self.page.len();
            let is_empty = cursor.0.iter().all(|byte| *byte == 0);
            return if is_empty { Ok(None) } else { Err(Malformed("the rest of a page should be empty")) };
        }
        if !matches!(head & TYPE_MASK, FULL | FIRST | MIDDLE | LAST) {
            return Err(Malformed("a fragment of an unknown kind; the rest of its page is lost"));
        }
        let length = usize::from(cursor.u16()?);
        let crc = cursor.u32()?;
        let begin = self.page.len() - cursor.len();
        let data = cursor.take(length).map_err(|_| Malformed("a fragment is cut short"))?;
        self.at = begin + length;
        if crc32c::crc32c(data) != crc {
            if self.is_sound_here() {
                return Err(LOST_FRAGMENT);
            }
            return Err(Malformed("wrong checksum of a fragment; the rest of its page is lost"));
        }
        Ok(Some((head & TYPE_MASK, head, begin, self.at)))
    }
}

fn inflate(flags: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    const TOO_LONG: Malformed = Malformed("a record is too long");
    out.clear();
    if flags & SNAPPY != 0 {
        const BAD: Malformed = Malformed("a record cannot be inflated as snappy");
        let length = snap::raw::decompress_len(bytes).map_err(|_| BAD)?;
        if length > RECORD_BYTES_MAX {
            return Err(TOO_LONG);
        }
        out.resize(length, 0);
        let written = snap::raw::Decoder::new().decompress(bytes, out).map_err(|_| BAD)?;
        out.truncate(written);
    } else if flags & ZSTD != 0 {
        const BAD: Malformed = Malformed("a record cannot be inflated as zstd");
        let decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|_| BAD)?;
        decoder.take(RECORD_BYTES_MAX as u64 + 1).read_to_end(out).map_err(|_| BAD)?;
        if out.len() > RECORD_BYTES_MAX {
            return Err(TOO_LONG);
        }
    } else {
        out.extend_from_slice(bytes);
    }
    Ok(())
}

/// Tells a record that was whole yet makes no sense.
pub(crate) fn tell(place: &RecordPlace, Malformed(reason): Malformed, damage: OnDamage<'_>) {
    let reason = format!("a record: {reason}; the rest of it is lost");
    damage(Damage { path: place.path.clone(), offset: place.offset, reason });
}
