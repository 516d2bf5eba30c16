//! Answers with traces: serialized on the query pool while the store reads, one trace at a time.
//!
//! What is rendered is held in pieces ([`Pieces`]) until the last trace is read, so that a read that fails answers with an
//! error and not with half a body. Answers beyond [`HELD_BYTES_MAX`] are sent while they are made, at the pace of
//! their client. What is held counts against the memory of the read; its deadline and its client are asked after with
//! every trace and every piece.

mod pieces;

use std::cell::RefCell;
use std::iter::Peekable;

use axum::body::Bytes;
use hashbrown::HashSet;
use pharos_base::BudgetExceeded;
use pharos_model::TraceId;
use pharos_storage::{ReadContext, StorageError, Trace, TraceStream};
use serde::{Serialize, ser};
use serde_json::Serializer;

pub(crate) use self::pieces::Pieces;
use crate::adjust::Adjusting;
use crate::grpc_stream::Outlet;

/// What is held of an answer before its first byte is sent.
pub(crate) const HELD_BYTES_MAX: usize = 4 << 20;

/// An answer as JSON.
#[derive(Debug)]
pub(crate) enum Rendered {
    /// Not begun to be sent, in pieces.
    Held(Vec<Bytes>),
    /// All of it went through the outlet.
    Sent,
}

/// The rendering of one answer: its bounds, and why it ended early.
pub(crate) struct Rendering<'a> {
    pub(crate) context: &'a ReadContext,
    /// Where large answers go; without one they are held, whatever their size.
    outlet: Option<Outlet<Bytes>>,
    /// Serializers know only texts as errors; this is the real one.
    failure: RefCell<Option<StorageError>>,
}

impl<'a> Rendering<'a> {
    /// Begins within the bounds of `context`; large answers go to `outlet`.
    pub(crate) fn new(context: &'a ReadContext, outlet: Outlet<Bytes>) -> Self {
        Self { context, outlet: Some(outlet), failure: RefCell::new(None) }
    }

    /// Begins within the bounds of `context`; the answer is held.
    #[cfg(test)]
    pub(crate) fn held(context: &'a ReadContext) -> Self {
        Self { context, outlet: None, failure: RefCell::new(None) }
    }

    /// Serializes `answer`.
    ///
    /// # Errors
    /// Whatever a [`Traces`] in the answer met, [`StorageError::LimitExceeded`] if the pieces do not fit into
    /// the memory of the read, [`StorageError::Interrupted`].
    pub(crate) fn finish(&self, answer: &impl Serialize, pretty: bool) -> Result<Rendered, StorageError> {
        let mut pieces = Pieces::new(self, pretty);
        let written = answer.serialize(&mut Serializer::new(&mut pieces));
        match (written, self.failure.take()) {
            (_, Some(failure)) => Err(failure),
            (written, None) => pieces.close(written),
        }
    }

    /// Makes an answer of what `write` writes; indented for people if it is `pretty`.
    ///
    /// # Errors
    /// As [`Rendering::finish`], and whatever `write` fails with.
    pub(crate) fn finish_written(
        &self,
        pretty: bool,
        write: impl FnOnce(&mut Pieces<'_>) -> Result<(), StorageError>,
    ) -> Result<Rendered, StorageError> {
        let mut pieces = Pieces::new(self, pretty);
        write(&mut pieces)?;
        pieces.close(Ok(()))
    }

    /// Keeps the real error and returns what a serializer can carry.
    fn fail<E: ser::Error>(&self, error: StorageError) -> E {
        let carried = E::custom(&error);
        *self.failure.borrow_mut() = Some(error);
        carried
    }
}

/// Of the common budget there may be more with time; of the read's own there never is.
pub(crate) fn too_large(error: BudgetExceeded) -> StorageError {
    if error.is_shared() {
        return StorageError::Memory(error);
    }
    StorageError::LimitExceeded {
        what: "answer size (query.memory_max, bytes)",
        limit: error.limit_bytes,
        hint: "lower `limit`, narrow the time range, or raise query.memory_max",
    }
}

/// The traces of an answer, read while it is serialized.
pub(crate) struct Traces<'a> {
    rendering: &'a Rendering<'a>,
    stream: RefCell<Peekable<TraceStream>>,
    /// `None` leaves them as they came.
    adjusting: Option<Adjusting>,
    seen: RefCell<HashSet<TraceId>>,
}

impl<'a> Traces<'a> {
    /// The traces of `stream`, for the answer of `rendering`.
    pub(crate) fn new(rendering: &'a Rendering<'a>, stream: TraceStream, adjusting: Option<Adjusting>) -> Self {
        Self { rendering, stream: RefCell::new(stream.peekable()), adjusting, seen: RefCell::default() }
    }

    /// Whether there is none, not even one that cannot be read.
    pub(crate) fn is_empty(&self) -> bool {
        self.stream.borrow_mut().peek().is_none()
    }

    /// Whether a trace was among those read so far.
    pub(crate) fn has_seen(&self, id: TraceId) -> bool {
        self.seen.borrow().contains(&id)
    }

    /// Reads the next.
    ///
    /// # Errors
    /// In the serializer's words; [`Rendering::finish`] returns the store's.
    pub(crate) fn next<E: ser::Error>(&self) -> Result<Option<Trace>, E> {
        self.read().map_err(|error| self.rendering.fail(error))
    }

    /// Reads the next.
    ///
    /// # Errors
    /// Those of the store, [`StorageError::LimitExceeded`] if it cannot be adjusted within the memory of the read.
    pub(crate) fn read(&self) -> Result<Option<Trace>, StorageError> {
        self.rendering.context.check()?;
        let mut next = self.stream.borrow_mut().next().transpose()?;
        if let (Some(trace), Some(adjusting)) = (&mut next, &self.adjusting) {
            adjusting.apply(trace, &self.rendering.context.memory).map_err(too_large)?;
        }
        if let Some(trace) = &next {
            self.seen.borrow_mut().insert(trace.trace_id);
        }
        Ok(next)
    }
}
