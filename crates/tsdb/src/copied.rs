//! One series of a merge: chunks that go over as they are, and samples that are encoded anew.
//!
//! A chunk is copied, byte for byte, where a merge would change nothing about it:
//! - K1 Its part is in the form that is written, and of the newest version.
//! - K2 All its instants are kept, and nothing of its series is hidden in its part.
//! - K3 No other source has a chunk of the series that overlaps it: no samples go between its own or over them.
//! - K4 It is long, or there is nothing to join it to: a part that is alone is written again in its own window.
//!
//! What is left is decoded, merged, and encoded before, between and behind the copied chunks. Blocks are read whole or
//! checked before, so what is copied has the checksum it was written with.

use pharos_model::TimeRange;

use crate::TsdbError;
use crate::merge::Merge;
use crate::part::cursor::ChunkBounds;
use crate::part::writer::{CUT_SAMPLES, PartWriter};
use crate::samples::Samples;

/// Chunks from this length on are not joined to longer ones: that would make them little smaller.
const LONG_SAMPLES: usize = CUT_SAMPLES / 2;

/// Which chunks of a source may be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Copies {
    /// The part is in another form, or what is written needs the samples.
    #[default]
    Nothing,
    /// Those that are long.
    Long,
    /// All, where no other source has the series: the part is in the window that is written.
    Alone,
}

/// A chunk of the series that a merge stands on.
struct Piece {
    /// Which of the sources that stand on the series.
    source: usize,
    chunk: ChunkBounds,
    copied: bool,
}

/// Writes series of a merge one after the other.
pub(crate) struct SeriesWriter {
    kept: TimeRange,
    long_samples: usize,
    pieces: Vec<Piece>,
    samples: Samples,
}

impl SeriesWriter {
    /// Samples outside of `kept` are left out.
    pub(crate) fn new(kept: TimeRange) -> Self {
        Self { kept, long_samples: LONG_SAMPLES, pieces: Vec::new(), samples: Samples::default() }
    }

    /// Writes the series that the merge stands on, if anything of it is kept.
    pub(crate) fn write(&mut self, merge: &mut Merge, writer: &mut PartWriter) -> Result<(), TsdbError> {
        if !self.find_copied(merge)? {
            merge.read(self.kept, &mut self.samples)?;
            return writer.add_series(merge.labels()?, &self.samples);
        }
        self.samples.clear();
        for source in 0..merge.standing() {
            let is_copied =
                |piece: &Piece, chunk: usize| piece.copied && piece.source == source && piece.chunk.index == chunk;
            let decoded = |chunk: usize| !self.pieces.iter().any(|piece| is_copied(piece, chunk));
            merge.standing_source(source).read_some(self.kept, decoded, &mut self.samples)?;
        }
        writer.begin_series();
        let Samples { floats, histograms } = &self.samples;
        let (mut float, mut histogram) = (0, 0);
        for piece in self.pieces.iter().filter(|piece| piece.copied) {
            // K3: no decoded sample of its kind lies within it.
            if piece.chunk.holds_histograms {
                let behind = histograms.times.partition_point(|time| *time < piece.chunk.first_ms);
                writer.add_histograms(histograms, histogram..behind);
                histogram = behind;
            } else {
                let behind = floats.times.partition_point(|time| *time < piece.chunk.first_ms);
                writer.add_floats(floats, float..behind);
                float = behind;
            }
            merge.standing_source(piece.source).copy_chunk(&piece.chunk, writer)?;
        }
        writer.add_floats(floats, float..floats.len());
        writer.add_histograms(histograms, histogram..histograms.len());
        writer.end_series(merge.labels()?)
    }

    /// Finds what is copied, by first instant; false if nothing is.
    fn find_copied(&mut self, merge: &mut Merge) -> Result<bool, TsdbError> {
        self.pieces.clear();
        let standing = merge.standing();
        if (0..standing).all(|source| merge.standing_source(source).copies() == Copies::Nothing) {
            return Ok(false);
        }
        for source in 0..standing {
            merge.standing_source(source).each_chunk(&mut |chunk| {
                self.pieces.push(Piece { source, chunk, copied: true });
            })?;
        }
        self.pieces.sort_by_key(|piece| piece.chunk.first_ms);
        for at in 0..self.pieces.len() {
            let (before, behind) = self.pieces.split_at_mut(at + 1);
            let piece = &mut before[at];
            for other in behind.iter_mut().take_while(|other| other.chunk.first_ms <= piece.chunk.last_ms) {
                if other.source != piece.source {
                    (piece.copied, other.copied) = (false, false);
                }
            }
        }
        for piece in self.pieces.iter_mut().filter(|piece| piece.copied) {
            let source = merge.standing_source(piece.source);
            let inside = self.kept.contains(piece.chunk.first_ms) && self.kept.contains(piece.chunk.last_ms);
            piece.copied = inside
                && match source.copies() {
                    Copies::Nothing => false,
                    Copies::Alone if standing == 1 => true,
                    Copies::Alone | Copies::Long => source.chunk_len(&piece.chunk)? >= self.long_samples,
                };
        }
        Ok(self.pieces.iter().any(|piece| piece.copied))
    }
}

#[cfg(test)]
mod tests;
