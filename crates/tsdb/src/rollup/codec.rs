//! Bytes of frames and of series; `docs/rollup.md` says what is where.
//!
//! Decoders take any bytes: they answer [`ChunkError`] and allocate no more than a run calls for.

use pharos_chunk::bytes::{Reader, push_slice, push_varint};
use pharos_chunk::{ChunkError, Form, ints, values};

use super::Resolution;
use super::cells::{Cells, Frame, RUN_BUCKETS, Run, TURNS_MAX};

const SUMS: u8 = 1;
const COUNTER: u8 = 2;
const STARTS: u8 = 4;
const OWN: u8 = 0;
const SAME_AS_LAST: u8 = 1;
const SAME_AS_FIRST: u8 = 2;
/// A run has no more cells.
const CELLS_MAX: usize = RUN_BUCKETS as usize;

/// Appends a frame.
pub(super) fn encode_frame(frame: &Frame, out: &mut Vec<u8>) {
    push_varint(out, frame.len() as u64);
    for column in [&frame.buckets, &frame.counts, &frame.firsts, &frame.lasts, &frame.opened, &frame.closed] {
        ints::encode(column, Form::Cold, out);
    }
}

/// Reads a frame to the end of `bytes`.
pub(super) fn decode_frame(bytes: &[u8], resolution: Resolution) -> Result<Frame, ChunkError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count("cell count", CELLS_MAX)?;
    let mut column = || {
        let mut column = Vec::with_capacity(count);
        ints::decode(&mut reader, count, &mut column).map(|()| column)
    };
    let (buckets, counts, firsts, lasts) = (column()?, column()?, column()?, column()?);
    let frame = Frame { buckets, counts, firsts, lasts, opened: column()?, closed: column()? };
    if is_sound(&frame, resolution) && reader.is_empty() {
        Ok(frame)
    } else {
        Err(ChunkError::OutOfBounds { what: "cell" })
    }
}

fn is_sound(frame: &Frame, resolution: Resolution) -> bool {
    // Ends of buckets must not wrap.
    let far = i64::MAX / 4 / resolution.ms();
    let in_world = frame.buckets.iter().all(|bucket| (-far..far).contains(bucket));
    let ascending = frame.buckets.is_sorted_by(|a, b| a < b);
    let within = |column: &[i64], bound: i64| column.iter().all(|value| (0..bound).contains(value));
    let length = resolution.ms();
    // Asked of numbers within bounds only: others could wrap.
    let ordered = || {
        (0..frame.len()).all(|at| {
            let (first, last) = (frame.firsts[at], frame.lasts[at]);
            let newest = if frame.closed[at] > 0 { frame.closed[at] - 1 } else { last };
            let markers_fit = first + frame.opened[at] < length && newest <= last;
            markers_fit
                && match frame.counts[at] {
                    0 => first == last && newest == last && frame.closed[at] > 0,
                    1 => first == last,
                    count => last < first && count <= first - last + 1,
                }
        })
    };
    let columns = [&frame.counts, &frame.firsts, &frame.lasts, &frame.opened, &frame.closed];
    in_world && ascending && columns.into_iter().all(|column| within(column, length + 1)) && ordered()
}

/// Appends a series whose runs have the frames of these numbers.
pub(super) fn encode_series(cells: &Cells, frames: &[usize], out: &mut Vec<u8>) {
    let flag = |holds: bool, flag: u8| if holds { flag } else { 0 };
    out.push(flag(cells.sums, SUMS) | flag(cells.counter, COUNTER) | flag(cells.starts, STARTS));
    push_varint(out, cells.runs.len() as u64);
    let mut scratch = Vec::new();
    for (run, frame) in cells.runs.iter().zip(frames) {
        push_varint(out, *frame as u64);
        push_column(&run.last, &[], &mut scratch, out);
        if cells.counter {
            push_column(&run.first, &[(SAME_AS_LAST, &run.last)], &mut scratch, out);
        }
        let known = [(SAME_AS_LAST, run.last.as_slice()), (SAME_AS_FIRST, run.first.as_slice())];
        push_column(&run.min, &known, &mut scratch, out);
        push_column(&run.max, &known, &mut scratch, out);
        if cells.sums {
            push_column(&run.sum, &known, &mut scratch, out);
        }
        if cells.counter {
            push_varint(out, run.turn_times.len() as u64);
            if !run.turn_times.is_empty() {
                scratch.clear();
                ints::encode(&run.turn_times, Form::Cold, &mut scratch);
                push_slice(out, &scratch);
                scratch.clear();
                values::encode(&run.turn_values, Form::Cold, &mut scratch);
                push_slice(out, &scratch);
            }
        }
    }
}

fn push_column(column: &[f64], known: &[(u8, &[f64])], scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    let same = |other: &[f64]| {
        other.len() == column.len() && other.iter().zip(column).all(|(a, b)| a.to_bits() == b.to_bits())
    };
    if let Some((tag, _)) = known.iter().find(|(_, other)| same(other)) {
        out.push(*tag);
        return;
    }
    scratch.clear();
    values::encode(column, Form::Cold, scratch);
    out.push(OWN);
    push_slice(out, scratch);
}

/// The columns that a query looks at; the others are passed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Columns(u8);

impl Columns {
    pub(super) const LAST: Self = Self(1);
    pub(super) const MIN: Self = Self(2);
    pub(super) const MAX: Self = Self(4);
    pub(super) const SUM: Self = Self(8);
    /// First, last and turns.
    pub(super) const COUNTER: Self = Self(16);
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) const ALL: Self = Self(31);

    pub(super) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A series, run by run.
#[derive(Debug)]
pub(super) struct SeriesReader<'a> {
    reader: Reader<'a>,
    runs_left: usize,
    flags: u8,
}

impl<'a> SeriesReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, ChunkError> {
        let mut reader = Reader::new(bytes);
        let flags = reader.byte()?;
        if flags > SUMS | COUNTER | STARTS {
            return Err(ChunkError::Unknown { what: "flags of a rollup", found: flags });
        }
        // A run takes at least a byte.
        let runs_left = reader.count("run count", reader.rest().len())?;
        Ok(Self { reader, runs_left, flags })
    }

    pub(super) fn has_sums(&self) -> bool {
        self.flags & SUMS != 0
    }

    pub(super) fn has_counter(&self) -> bool {
        self.flags & COUNTER != 0
    }

    pub(super) fn has_starts(&self) -> bool {
        self.flags & STARTS != 0
    }

    /// The number of the next run's frame; `None` at the end. Then comes [`SeriesReader::run`].
    pub(super) fn next_frame(&mut self) -> Result<Option<usize>, ChunkError> {
        if self.runs_left == 0 {
            return Ok(None);
        }
        self.runs_left -= 1;
        self.reader.count("frame number", u32::MAX as usize).map(Some)
    }

    /// The columns asked for of the run whose frame has `valued` cells with a value; its frame and the other columns are
    /// left empty.
    pub(super) fn run(&mut self, valued: usize, wanted: Columns) -> Result<Run, ChunkError> {
        let counter = wanted.contains(Columns::COUNTER);
        let mut packed = PackedRun { last: self.column()?, ..PackedRun::default() };
        if self.has_counter() {
            packed.first = self.column()?;
        }
        (packed.min, packed.max) = (self.column()?, self.column()?);
        if self.has_sums() {
            packed.sum = self.column()?;
        }
        let mut run = Run::default();
        if self.has_counter() {
            let turns = self.reader.count("turn count", TURNS_MAX)?;
            if turns > 0 {
                let times = self.reader.slice()?;
                let turn_values = self.reader.slice()?;
                if counter {
                    ints::decode(&mut Reader::new(times), turns, &mut run.turn_times)?;
                    if !run.turn_times.is_sorted_by(|a, b| a < b) {
                        return Err(ChunkError::OutOfBounds { what: "turns of a rollup" });
                    }
                    values::decode(turn_values, &[], turns, &mut run.turn_values)?;
                }
            }
        }
        for (column, own, is_wanted) in [
            (&mut run.last, packed.last, wanted.contains(Columns::LAST) || counter),
            (&mut run.first, packed.first, counter && self.has_counter()),
            (&mut run.min, packed.min, wanted.contains(Columns::MIN)),
            (&mut run.max, packed.max, wanted.contains(Columns::MAX)),
            (&mut run.sum, packed.sum, wanted.contains(Columns::SUM) && self.has_sums()),
        ] {
            if is_wanted {
                values::decode(packed.own(own)?, &[], valued, column)?;
            }
        }
        Ok(run)
    }

    fn column(&mut self) -> Result<Packed<'a>, ChunkError> {
        Ok(match self.reader.byte()? {
            OWN => Packed::Own(self.reader.slice()?),
            SAME_AS_LAST => Packed::Last,
            SAME_AS_FIRST => Packed::First,
            found => return Err(ChunkError::Unknown { what: "column of a rollup", found }),
        })
    }
}

/// A column that is not decoded yet.
#[derive(Debug, Clone, Copy)]
enum Packed<'a> {
    Own(&'a [u8]),
    Last,
    First,
}

#[derive(Debug)]
struct PackedRun<'a> {
    last: Packed<'a>,
    first: Packed<'a>,
    min: Packed<'a>,
    max: Packed<'a>,
    sum: Packed<'a>,
}

impl Default for PackedRun<'_> {
    fn default() -> Self {
        let none = Packed::Own(&[]);
        Self { last: none, first: none, min: none, max: none, sum: none }
    }
}

impl<'a> PackedRun<'a> {
    /// The bytes of a column that may be another's.
    fn own(&self, column: Packed<'a>) -> Result<&'a [u8], ChunkError> {
        // The first column may be the last one, which is nobody else's.
        let column = if let Packed::First = column { self.first } else { column };
        match if let Packed::Last = column { self.last } else { column } {
            Packed::Own(bytes) => Ok(bytes),
            _ => Err(ChunkError::OutOfBounds { what: "column of a rollup" }),
        }
    }
}
