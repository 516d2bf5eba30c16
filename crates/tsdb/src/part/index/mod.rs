//! The index file of a part: label sets by series number, and series numbers by label value.
//!
//! A series' number is its position in the part, in ascending order of label bytes. Each label's values are
//! ordered and numbered; each label has a column with the value id of every series that has it. Postings are
//! not stored: a column is scanned faster than stored lists are read, and grouping needs it anyway.
//! Bytes: `docs/part.md`.

mod cache;
mod cursor;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod listing;
mod reader;
mod segment;
mod select;
mod toc;
mod v1;
mod values;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use roaring::RoaringBitmap;

pub(crate) use self::cache::IndexCache;
pub(crate) use self::cursor::LabelCursor;
use self::reader::Reader;
use self::toc::Toc;
pub(crate) use self::writer::IndexWriter;
use super::block::{self, BlockAt, BlockFile};
use super::toc::DataToc;
use crate::TsdbError;

/// The version written; all from 1 on are read.
const INDEX_VERSION: u32 = 2;
const INDEX_MAGIC: [u8; 8] = *b"PHAROSIX";
/// TOC offset `u64`, TOC length `u32`, version `u32`, magic.
const FOOTER_LEN: usize = 24;

/// The open index of a part.
#[derive(Debug)]
pub(crate) struct PartIndex {
    form: Form,
}

#[derive(Debug)]
enum Form {
    Current(Reader),
    /// Version 1, written anew in memory when it is first asked.
    Old {
        file: BlockFile,
        toc: v1::Toc,
        cache: Arc<IndexCache>,
        rewritten: OnceLock<Reader>,
    },
}

/// Where the bytes of an index are.
#[derive(Debug)]
enum Source {
    File(BlockFile),
    /// The current form of an old file, which `path` names.
    Memory {
        bytes: Vec<u8>,
        path: PathBuf,
    },
}

impl PartIndex {
    /// Opens an index file; what it says about the data file comes with it.
    pub(crate) fn open(file: BlockFile, cache: &Arc<IndexCache>) -> Result<(Self, DataToc), TsdbError> {
        let (version, at) = read_footer(&file)?;
        let payload = file.read("table of contents", at)?;
        let fail = TsdbError::chunk("table of contents", &file.path, at.offset);
        if version == 1 {
            let (toc, data) = v1::Toc::decode(&payload).map_err(fail)?;
            let form = Form::Old { file, toc, cache: Arc::clone(cache), rewritten: OnceLock::new() };
            return Ok((Self { form }, data));
        }
        let (toc, data) = Toc::decode(&payload).map_err(fail)?;
        Ok((Self { form: Form::Current(Reader::new(Source::File(file), toc, Arc::clone(cache))) }, data))
    }

    fn reader(&self) -> Result<&Reader, TsdbError> {
        match &self.form {
            Form::Current(reader) => Ok(reader),
            Form::Old { file, toc, cache, rewritten } => {
                if let Some(reader) = rewritten.get() {
                    return Ok(reader);
                }
                let reader = rewrite(file, toc, cache)?;
                Ok(rewritten.get_or_init(|| reader))
            }
        }
    }

    /// Every series.
    pub(crate) fn all(&self) -> RoaringBitmap {
        let series_count = match &self.form {
            Form::Current(reader) => reader.toc.series_count,
            Form::Old { toc, .. } => toc.series_count,
        };
        let mut all = RoaringBitmap::new();
        all.insert_range(0..series_count);
        all
    }
}

fn rewrite(file: &BlockFile, toc: &v1::Toc, cache: &Arc<IndexCache>) -> Result<Reader, TsdbError> {
    let (bytes, toc) = toc.rewrite(file)?;
    let source = Source::Memory { bytes, path: file.path.clone() };
    Ok(Reader::new(source, toc, Arc::clone(cache)))
}

impl Source {
    fn read(&self, what: &'static str, at: BlockAt) -> Result<Vec<u8>, TsdbError> {
        match self {
            Self::File(file) => file.read(what, at),
            Self::Memory { bytes, path } => {
                block::check_place(what, path, at, bytes.len() as u64)?;
                let start = at.offset as usize;
                block::unpack(what, path, at.offset, bytes[start..start + at.len as usize].to_vec())
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::File(file) => &file.path,
            Self::Memory { path, .. } => path,
        }
    }
}

/// The version of an index file and the place of its table of contents.
fn read_footer(file: &BlockFile) -> Result<(u32, BlockAt), TsdbError> {
    let Some(footer_at) = file.len.checked_sub(FOOTER_LEN as u64) else {
        return Err(corrupt(file, 0, "file is too short"));
    };
    let footer = file.read_raw(footer_at, FOOTER_LEN)?;
    let (numbers, magic) = footer.split_at(16);
    if magic != INDEX_MAGIC {
        return Err(corrupt(file, footer_at, "not an index file"));
    }
    let mut reader = pharos_chunk::bytes::Reader::new(numbers);
    let fail = || TsdbError::chunk("index footer", &file.path, footer_at);
    let at = BlockAt { offset: reader.u64().map_err(fail())?, len: reader.u32().map_err(fail())? };
    match reader.u32().map_err(fail())? {
        0 => Err(corrupt(file, footer_at, "version 0")),
        found if found > INDEX_VERSION => {
            Err(TsdbError::Version { path: file.path.clone(), found, supported: INDEX_VERSION })
        }
        version => Ok((version, at)),
    }
}

fn corrupt(file: &BlockFile, offset: u64, reason: &str) -> TsdbError {
    TsdbError::Corrupt { what: "index footer", path: file.path.clone(), offset, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
