//! Leaves that were opened: read by one thread, or in pieces by several.

use crate::{LeafStream, StorageError};

/// Streams that may be read at once by several threads, cut off one after another; an error ends them.
pub type LeafPieces = Box<dyn Iterator<Item = Result<LeafStream, StorageError>> + Send>;

/// A leaf of which nothing was read yet but which series it selects.
///
/// However it is read, the series are the same in the same order, and so are the counts of the meter once all streams
/// were dropped. Limits hold for all pieces together.
pub trait OpenLeaf: Send {
    /// How many series are selected, about, whether they have samples or not; 0 of a leaf that cannot be cut.
    fn series_count(&self) -> usize;

    /// All series in one stream.
    fn stream(self: Box<Self>) -> LeafStream;

    /// All series in pieces of about `series` series, at least 1: what the streams of the pieces answer one after the
    /// other is what [`OpenLeaf::stream`] answers. Pieces may be read in any order and by different threads. A piece holds
    /// next to nothing until it is read.
    fn pieces(self: Box<Self>, series: usize) -> LeafPieces;
}

/// A leaf that is not cut, of any store.
pub struct WholeLeaf(LeafStream);

impl WholeLeaf {
    /// All of it.
    #[must_use]
    pub fn new(stream: LeafStream) -> Self {
        Self(stream)
    }
}

impl OpenLeaf for WholeLeaf {
    fn series_count(&self) -> usize {
        0
    }

    fn stream(self: Box<Self>) -> LeafStream {
        self.0
    }

    fn pieces(self: Box<Self>, _: usize) -> LeafPieces {
        Box::new(std::iter::once(Ok(self.0)))
    }
}
