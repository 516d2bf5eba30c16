//! Loads what a cursor reads from a part's data file: through the shared cache, or past it when merging.
//!
//! Bodies are read together for many series of a block, one by one for a few or where they are large. Before
//! the first piece of a block is used its checksum is checked; that it was right is remembered with the part.
//!
//! Who merges reads all of a part in order: of a large block a stretch at a time, so that what a merge takes does not grow
//! with its sources, nor with their blocks.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use pharos_chunk::ChunkError;

use super::block::BlockAt;
use super::chunks::{Chunk, ChunkBlock, ColumnBounds, TimesBlock};
use super::layout;
use super::reader::{Part, corrupt};
use crate::TsdbError;
use crate::cache::BlockCache;

/// Decoded columns of instants that one cursor keeps at hand take at most about this much.
const COLUMNS_BYTES_MAX: usize = 4 << 20;

/// Larger blocks of bodies are read piece by piece by a query: their pieces are large, too.
const WHOLE_BYTES_MAX: usize = 4 << 20;
const BODIES: &str = "chunk body block";

/// What the cursors of a merge keep at hand together, columns and bodies by themselves; but each at least as much as this.
const MERGE_BYTES_MAX: usize = 8 << 20;
/// 68 columns of the usual length.
const MERGE_COLUMNS_BYTES_MIN: usize = 256 << 10;
const MERGE_BODIES_BYTES_MIN: usize = 128 << 10;

/// What a loader may keep at hand, bytes.
#[derive(Debug, Clone, Copy)]
struct Room {
    columns: usize,
    bodies: usize,
    /// Whether what follows a piece will be asked for next, and is to be written anew: then nothing is trusted that was not checked
    /// by this very loader.
    merges: bool,
}

/// Reads one part on behalf of one cursor.
pub(super) struct Loader {
    pub(super) part: Arc<Part>,
    cache: Option<Arc<BlockCache>>,
    room: Room,
    at_hand: AtHand,
    /// What loaders that ended left for their siblings.
    left: Option<Arc<Mutex<Vec<AtHand>>>>,
}

/// What was read last.
#[derive(Default)]
struct AtHand {
    columns: HashMap<u32, Arc<[i64]>>,
    columns_bytes: usize,
    /// Without a cache: the block of encoded columns read last.
    times_block: Option<(u32, Arc<TimesBlock>)>,
    bodies: Bodies,
}

/// The bodies read last.
#[derive(Default)]
struct Bodies {
    /// Of which block `buffer` has a stretch, and where in its payload that begins.
    held: Option<(u32, usize)>,
    /// The stretch within `buffer`.
    stretch: Range<usize>,
    /// The block that was checked last.
    checked: Option<u32>,
    buffer: Vec<u8>,
    one: Vec<u8>,
}

impl Loader {
    pub(super) fn new(part: Arc<Part>, cache: Option<Arc<BlockCache>>) -> Self {
        Self::with_room(part, cache, Room { columns: COLUMNS_BYTES_MAX, bodies: WHOLE_BYTES_MAX, merges: false })
    }

    /// One of `sources` that are merged: it reads everything, once and in order, past the cache.
    pub(super) fn merging(part: Arc<Part>, sources: usize) -> Self {
        let share = MERGE_BYTES_MAX / sources.max(1);
        let columns = share.clamp(MERGE_COLUMNS_BYTES_MIN, COLUMNS_BYTES_MAX);
        let bodies = share.clamp(MERGE_BODIES_BYTES_MIN, WHOLE_BYTES_MAX);
        Self::with_room(part, None, Room { columns, bodies, merges: true })
    }

    fn with_room(part: Arc<Part>, cache: Option<Arc<BlockCache>>, room: Room) -> Self {
        Self { part, cache, room, at_hand: AtHand::default(), left: None }
    }

    /// Another one of the same part, for a cursor that reads a piece of what this one's cursor would have read. It goes
    /// on with what a sibling left that has ended.
    pub(super) fn sibling(&mut self) -> Self {
        let left = self.left.get_or_insert_default();
        let at_hand = left.lock().pop().unwrap_or_default();
        let (part, cache) = (Arc::clone(&self.part), self.cache.clone());
        Self { part, cache, room: self.room, at_hand, left: Some(Arc::clone(left)) }
    }

    pub(super) fn cache(&self) -> Option<&BlockCache> {
        self.cache.as_deref()
    }

    /// Bytes it holds by itself.
    pub(super) fn bytes(&self) -> u64 {
        (self.at_hand.columns_bytes + self.at_hand.bodies.buffer.capacity() + self.at_hand.bodies.one.capacity()) as u64
    }

    /// Chunk headers of a block.
    pub(super) fn chunks(&mut self, number: u32) -> Result<Arc<ChunkBlock>, TsdbError> {
        match self.cache.clone() {
            Some(cache) => cache.chunks(self.part.id, number, || self.read_chunks(number)),
            None => self.read_chunks(number).map(Arc::new),
        }
    }

    fn read_chunks(&mut self, number: u32) -> Result<ChunkBlock, TsdbError> {
        let part = Arc::clone(&self.part);
        let at = part.toc.headers[number as usize];
        let payload = part.data.read("chunk header block", at)?;
        let bodies_len = part.data.plain_len(BODIES, part.toc.bodies[number as usize])?;
        let fail = |error| TsdbError::chunk("chunk header block", &part.data.path, at.offset)(error);
        ChunkBlock::build((part.data_version, &payload), bodies_len, fail, |column| {
            let instants = self.instants(column)?;
            match (instants.first(), instants.last()) {
                (Some(first), Some(last)) => Ok((*first, *last)),
                _ => Err(corrupt(&part.data, "chunk header block", at.offset, "a chunk has no instants")),
            }
        })
    }

    /// A column of instants.
    pub(super) fn column(&mut self, column: &ColumnBounds) -> Result<Arc<[i64]>, TsdbError> {
        self.instants(column.number)
    }

    /// Instants of a chunk and its bulk, as [`Loader::column`] and [`Loader::bulk`].
    pub(super) fn chunk(
        &mut self,
        column: &ColumnBounds,
        number: u32,
        chunk: &Chunk,
        whole: bool,
    ) -> Result<(&[i64], &[u8]), TsdbError> {
        // Threads that read one block would wait for each other to count who uses its columns.
        if !self.at_hand.columns.contains_key(&column.number) {
            self.instants(column.number)?;
        }
        let bulk = self.at_hand.bodies.bulk(&self.part, number, chunk, whole, self.room)?;
        Ok((self.at_hand.columns.get(&column.number).map_or(&[], |column| column.as_ref()), bulk))
    }

    fn instants(&mut self, number: u32) -> Result<Arc<[i64]>, TsdbError> {
        if let Some(column) = self.at_hand.columns.get(&number) {
            return Ok(Arc::clone(column));
        }
        let column = match self.cache.clone() {
            Some(cache) => cache.instants(self.part.id, number, || self.read_instants(number))?,
            None => self.read_instants(number)?,
        };
        if self.at_hand.columns_bytes >= self.room.columns {
            self.at_hand.columns.clear();
            self.at_hand.columns_bytes = 0;
        }
        self.at_hand.columns_bytes += size_of_val(column.as_ref());
        self.at_hand.columns.insert(number, Arc::clone(&column));
        Ok(column)
    }

    fn read_instants(&mut self, number: u32) -> Result<Arc<[i64]>, TsdbError> {
        let times = &self.part.toc.times;
        let Some(block) = times.partition_point(|(first, _)| *first <= number).checked_sub(1) else {
            return Err(corrupt(&self.part.data, "chunk", 0, "refers to no column of instants"));
        };
        let (first, at) = times[block];
        let block = self.times_block(block as u32, at)?;
        let Some(encoded) = block.column((number - first) as usize) else {
            return Err(corrupt(&self.part.data, "block of instants", at.offset, "has too few columns"));
        };
        Ok(layout::decode_instants(encoded).map_err(self.times_error(at))?.into())
    }

    fn times_block(&mut self, number: u32, at: BlockAt) -> Result<Arc<TimesBlock>, TsdbError> {
        if let Some((loaded, block)) = &self.at_hand.times_block
            && *loaded == number
        {
            return Ok(Arc::clone(block));
        }
        let read = || TimesBlock::new(self.part.data.read("block of instants", at)?).map_err(self.times_error(at));
        let block = match &self.cache {
            Some(cache) => cache.times(self.part.id, number, read)?,
            None => Arc::new(read()?),
        };
        self.at_hand.times_block = Some((number, Arc::clone(&block)));
        Ok(block)
    }

    /// What of a chunk's body lies apart from the headers; `whole` reads all such of the block at once, for more
    /// to come.
    pub(super) fn bulk(&mut self, number: u32, chunk: &Chunk, whole: bool) -> Result<&[u8], TsdbError> {
        self.at_hand.bodies.bulk(&self.part, number, chunk, whole, self.room)
    }

    fn times_error(&self, at: BlockAt) -> impl FnOnce(ChunkError) -> TsdbError {
        TsdbError::chunk("block of instants", &self.part.data.path, at.offset)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        if let Some(left) = &self.left {
            left.lock().push(std::mem::take(&mut self.at_hand));
        }
    }
}

impl Bodies {
    fn bulk(&mut self, part: &Part, number: u32, chunk: &Chunk, whole: bool, room: Room) -> Result<&[u8], TsdbError> {
        let Some(range) = chunk.bulk_apart() else { return Ok(&[]) };
        let at = part.toc.bodies[number as usize];
        if self.place(number, &range).is_none() {
            let is_checked = self.checked == Some(number) || !room.merges && part.checked.contains(number);
            if !(whole && at.len as usize <= room.bodies) && (is_checked || part.data.check(BODIES, at)?) {
                part.checked.insert(number);
                self.checked = Some(number);
                // Equal bodies are stored once: what lies before the stretch is no reason to leave it.
                let is_before = self.held.is_some_and(|(held, first)| held == number && range.start < first);
                if !room.merges || is_before {
                    part.data.read_plain_piece(BODIES, at, range, &mut self.one)?;
                    return Ok(&self.one);
                }
                let end = range.end.max(at.plain_payload_len().min(range.start.saturating_add(room.bodies)));
                self.held = None;
                part.data.read_plain_piece(BODIES, at, range.start..end, &mut self.buffer)?;
                (self.held, self.stretch) = (Some((number, range.start)), 0..self.buffer.len());
            } else {
                self.held = None;
                self.stretch = part.data.read_into(BODIES, at, &mut self.buffer)?;
                self.held = Some((number, 0));
            }
        }
        let found = self.place(number, &range).map(|place| &self.buffer[place]);
        found.ok_or_else(|| corrupt(&part.data, BODIES, at.offset, "is shorter than its headers say"))
    }

    /// Where in the buffer a range of a block's payload is, if it is there.
    fn place(&self, number: u32, range: &Range<usize>) -> Option<Range<usize>> {
        let (_, first) = self.held.filter(|(held, _)| *held == number)?;
        let (start, end) = (range.start.checked_sub(first)?, range.end.checked_sub(first)?);
        (start <= end && end <= self.stretch.len()).then(|| self.stretch.start + start..self.stretch.start + end)
    }
}
