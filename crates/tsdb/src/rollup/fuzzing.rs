//! A rollup file made of any blocks: see [`crate::fuzzing`].

use std::fs;
use std::path::Path;

use pharos_chunk::ChunkError;
use pharos_chunk::bytes::push_varint;

use super::block::{Block, BlockBuilder};
use super::cells::{Cells, Run};
use super::codec::{Columns, SeriesReader};
use super::coverage::Coverage;
use super::thin::{ThinSeries, Want};
use super::writer::{end, header};
use super::{Resolution, RollupFile};
use crate::TsdbError;
use crate::fuzzing::{Input, push_slices};
use crate::part::block::{self, Packing};
use crate::part::meta::RollupMeta;
use crate::part::toc::BLOCK_SERIES;

const SERIES_END: u64 = 3 * BLOCK_SERIES as u64;
/// Runs of a series that are looked at: one that repeats may be of any number of cells.
const RUNS_MAX: usize = 64;
const WANTS: [Want; 8] =
    [Want::Newest, Want::Last, Want::Min, Want::Max, Want::Count, Want::Sum, Want::Mean, Want::Counter];

/// Reads all cells of a rollup file. Input: 0 for an hour or 1 for five minutes, series count, payloads of the blocks.
///
/// What was decoded must survive encoding, and every function finds its points.
///
/// # Panics
/// If that does not hold: a bug.
pub fn rollup(dir: &Path, bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let resolution = Resolution::COARSEST_FIRST[input.number(2) as usize];
    let series_count = input.number(SERIES_END);
    let (mut bytes, mut lens) = (header().to_vec(), Vec::new());
    for _ in 0..series_count.div_ceil(BLOCK_SERIES as u64) {
        lens.push(block::write(input.slice(), Packing::Plain, &mut bytes));
    }
    let offset = bytes.len() as u64;
    bytes.extend(end(resolution, series_count, &lens, offset));
    fs::write(dir.join(resolution.file_name()), &bytes).expect("a folder for scratch files");
    let meta = RollupMeta { resolution_ms: resolution.ms(), bytes: bytes.len() as u64 };
    let file = RollupFile::open(dir, meta, series_count).expect("what is read at first is sound");
    for block in (0..lens.len() as u32).filter_map(|number| file.block(number).ok()) {
        let read = |slot| cells(&block, slot, resolution).ok().flatten();
        for cells in (0..BLOCK_SERIES).filter_map(read) {
            points(&cells, resolution);
            encode_again(&cells, resolution);
        }
    }
}

/// The input that stands for a rollup file of the part in `dir`.
///
/// # Errors
/// [`TsdbError`] if it cannot be read.
pub fn rollup_input(dir: &Path, resolution: Resolution) -> Result<Vec<u8>, TsdbError> {
    let meta = crate::part::meta::PartMeta::read(dir)?;
    let of_file = meta.rollups.iter().find(|rollup| rollup.resolution_ms == resolution.ms());
    let Some(of_file) = of_file else { return Ok(Vec::new()) };
    let file = RollupFile::open(dir, *of_file, meta.series)?;
    let mut input = Vec::new();
    let place = Resolution::COARSEST_FIRST.iter().position(|known| *known == resolution);
    push_varint(&mut input, place.unwrap_or(0) as u64);
    push_varint(&mut input, meta.series);
    for number in 0..meta.series.div_ceil(BLOCK_SERIES as u64) {
        push_slices(&mut input, [file.block(number as u32)?.payload()]);
    }
    Ok(input)
}

/// The first runs of a series; `None` if it has no cells.
fn cells(block: &Block, slot: usize, resolution: Resolution) -> Result<Option<Cells>, ChunkError> {
    let bytes = block.series(slot)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut reader = SeriesReader::new(bytes)?;
    let (sums, counter, starts) = (reader.has_sums(), reader.has_counter(), reader.has_starts());
    let mut runs = Vec::new();
    while let Some(number) = reader.next_frame()? {
        let frame = block.frame(number, resolution)?;
        let run = reader.run(frame.valued(), Columns::ALL)?;
        runs.push(Run { frame, ..run });
        if runs.len() == RUNS_MAX {
            break;
        }
    }
    Ok(Some(Cells { runs, sums, counter, starts }))
}

fn points(cells: &Cells, resolution: Resolution) {
    let coverage = Coverage { resolution, buckets: Vec::new(), gaps: Vec::new(), sparse: None };
    for want in WANTS {
        let columns = want.columns();
        if columns == Columns::SUM && !cells.sums || columns == Columns::COUNTER && !cells.counter {
            continue;
        }
        let mut series = ThinSeries::default();
        for run in &cells.runs {
            series.push(&run.frame, run, 0..run.frame.len(), want, &coverage);
        }
        let samples = crate::samples::Samples::default();
        series.join(&samples, want, &mut super::thin::Points::default());
    }
}

fn encode_again(cells: &Cells, resolution: Resolution) {
    let mut builder = BlockBuilder::default();
    builder.push(Some(cells.clone()));
    let block = Block::new(builder.take()).expect("own blocks are sound");
    let again = self::cells(&block, 0, resolution).expect("own cells are read").expect("there were some");
    assert_eq!((again.sums, again.counter, again.starts), (cells.sums, cells.counter, cells.starts));
    assert_eq!(again.runs.len(), cells.runs.len());
    for (again, run) in again.runs.iter().zip(&cells.runs) {
        assert_eq!((&again.frame, &again.turn_times), (&run.frame, &run.turn_times));
        assert_eq!(bits(again), bits(run));
    }
}

fn bits(run: &Run) -> [Vec<u64>; 6] {
    [&run.last, &run.min, &run.max, &run.sum, &run.first, &run.turn_values]
        .map(|column| column.iter().map(|value| value.to_bits()).collect())
}
