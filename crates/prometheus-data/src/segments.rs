//! A block's `chunks/` files.
//!
//! Source: Prometheus' `tsdb/docs/format/chunks.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::bytes::Cursor;
use crate::chunk;
use crate::error::{Damage, DataError, OnDamage};
use crate::file::WindowFile;
use crate::folder::numbered_files;
use crate::points::Points;

const MAGIC: u32 = 0x85BD_40DD;
const VERSION: u8 = 1;
/// Largest chunk. Prometheus cuts them at about a kilobyte; a single histogram of very many buckets may be larger.
const CHUNK_BYTES_MAX: usize = 4 << 20;
/// Longest length of a chunk, the byte that names its encoding, and the checksum.
const FRAME_BYTES_MAX: usize = 5 + 1 + 4;

/// The files of one block, opened when first needed.
#[derive(Debug)]
pub(crate) struct Segments {
    folder: PathBuf,
    /// By the number that references use, which is one less than their names'.
    paths: BTreeMap<u64, PathBuf>,
    open: Option<(u64, WindowFile)>,
}

impl Segments {
    /// Files in `folder`. One that is missing is missed by the chunks in it alone.
    pub(crate) fn open(folder: &Path) -> Result<Self, DataError> {
        let files = if folder.is_dir() { numbered_files(folder)? } else { Vec::new() };
        let paths = files.into_iter().filter_map(|(number, path)| Some((number.checked_sub(1)?, path))).collect();
        Ok(Self { folder: folder.to_owned(), paths, open: None })
    }

    /// Appends the points of the chunk at `reference`; one that is damaged is told and adds nothing.
    pub(crate) fn read(&mut self, reference: u64, points: &mut Points, damage: OnDamage<'_>) -> Result<(), DataError> {
        let (segment, offset) = (reference >> 32, reference & 0xffff_ffff);
        let Some(path) = self.paths.get(&segment) else {
            let path = self.folder.join(format!("{:06}", segment + 1));
            damage(Damage { path, offset, reason: "a chunk is missing: there is no such file".to_owned() });
            return Ok(());
        };
        // Chunks of a series lie together and files are passed in order: the earlier ones are done with.
        let file = match &mut self.open {
            Some((open, file)) if *open == segment => file,
            other => &mut other.insert((segment, open_segment(path, damage)?)).1,
        };
        let (floats, histograms) = (points.floats.len(), points.histograms.len());
        if let Err(reason) = read_chunk(file, offset, points)? {
            points.floats.truncate(floats);
            points.histograms.truncate(histograms);
            damage(Damage { path: path.clone(), offset, reason: format!("a chunk: {reason}") });
        }
        Ok(())
    }
}

fn open_segment(path: &Path, damage: OnDamage<'_>) -> Result<WindowFile, DataError> {
    let mut file = WindowFile::open(path)?;
    let mut header = Cursor(file.read(0, 5)?);
    if (header.u32(), header.u8()) != (Ok(MAGIC), Ok(VERSION)) {
        let reason = "the header is not that of a file of chunks; each chunk is read if its checksum is right";
        damage(Damage { path: path.to_owned(), offset: 0, reason: reason.to_owned() });
    }
    Ok(file)
}

fn read_chunk(file: &mut WindowFile, offset: u64, points: &mut Points) -> Result<Result<(), &'static str>, DataError> {
    let mut front = Cursor(file.read(offset, FRAME_BYTES_MAX)?);
    let before = front.len();
    let Ok(length) = front.uvarint() else { return Ok(Err("its length is no number")) };
    let head = before - front.len();
    let Some(length) = usize::try_from(length).ok().filter(|length| *length <= CHUNK_BYTES_MAX) else {
        return Ok(Err("its length makes no sense"));
    };
    let whole = head + 1 + length + 4;
    let bytes = file.read(offset, whole)?;
    if bytes.len() < whole {
        return Ok(Err("the file ends within it"));
    }
    let Some((body, crc)) = bytes[head..].split_last_chunk::<4>() else { return Ok(Err("cut short")) };
    if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return Ok(Err("wrong checksum"));
    }
    let Some((encoding, data)) = body.split_first() else { return Ok(Err("cut short")) };
    Ok(chunk::decode(*encoding, data, points).map_err(|malformed| malformed.0))
}
