//! Answers with traces: serialized on the query pool while the store reads, one trace at a time.
//!
//! What is rendered is held in pieces until the last trace is read, so that a read that fails answers with an
//! error and not with half a body. The pieces count against the memory of the read; its deadline and its client
//! are asked after with every trace and every piece.

use std::cell::RefCell;
use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::iter::Peekable;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::header::CONTENT_TYPE;
use pharos_base::{BudgetExceeded, Reservation};
use pharos_model::TraceId;
use pharos_storage::{ReadContext, StorageError, Trace, TraceStream};
use serde::{Serialize, ser};
use serde_json::Serializer;

/// Size of one piece: large enough to be sent at once, small enough to charge what is used.
const PIECE_BYTES: usize = 64 << 10;

/// An answer as JSON, in pieces.
#[derive(Debug)]
pub(crate) struct Rendered(Vec<Bytes>);

impl IntoResponse for Rendered {
    fn into_response(self) -> Response {
        let mut pieces = self.0;
        // With one piece the length of the body is known beforehand.
        let body = match pieces.pop() {
            Some(only) if pieces.is_empty() => Body::from(only),
            last => Body::from_stream(stream::iter(pieces.into_iter().chain(last).map(Ok::<_, Infallible>))),
        };
        ([(CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// The rendering of one answer: its bounds, and why it ended early.
pub(crate) struct Rendering<'a> {
    context: &'a ReadContext,
    /// Serializers know only texts as errors; this is the real one.
    failure: RefCell<Option<StorageError>>,
}

impl<'a> Rendering<'a> {
    /// Begins within the bounds of `context`.
    pub(crate) fn new(context: &'a ReadContext) -> Self {
        Self { context, failure: RefCell::new(None) }
    }

    /// Serializes `answer`.
    ///
    /// # Errors
    /// Whatever a [`Traces`] in the answer met, [`StorageError::LimitExceeded`] if the pieces do not fit into
    /// the memory of the read, [`StorageError::Interrupted`].
    pub(crate) fn finish(&self, answer: &impl Serialize, pretty: bool) -> Result<Rendered, StorageError> {
        let mut pieces = Pieces { rendering: self, held: None, full: Vec::new(), open: Vec::new() };
        let written = if pretty {
            answer.serialize(&mut Serializer::pretty(&mut pieces))
        } else {
            answer.serialize(&mut Serializer::new(&mut pieces))
        };
        let rendered = pieces.close();
        match (written, self.failure.take()) {
            (Ok(()), None) => Ok(rendered),
            (_, Some(failure)) => Err(failure),
            (Err(error), None) => Err(StorageError::Internal { action: "rendering traces", source: error.into() }),
        }
    }

    /// Keeps the real error and returns what a serializer can carry.
    fn fail<E: ser::Error>(&self, error: StorageError) -> E {
        let carried = E::custom(&error);
        *self.failure.borrow_mut() = Some(error);
        carried
    }
}

/// The bytes of an answer.
struct Pieces<'a> {
    rendering: &'a Rendering<'a>,
    held: Option<Reservation>,
    full: Vec<Bytes>,
    open: Vec<u8>,
}

impl Pieces<'_> {
    /// Puts the open piece to the full ones and begins another.
    fn turn(&mut self) -> Result<(), StorageError> {
        self.rendering.context.check()?;
        let bytes = PIECE_BYTES as u64;
        match &mut self.held {
            Some(held) => held.grow(bytes).map_err(too_large)?,
            none => *none = Some(self.rendering.context.memory.reserve(bytes).map_err(too_large)?),
        }
        let full = std::mem::replace(&mut self.open, Vec::with_capacity(PIECE_BYTES));
        if !full.is_empty() {
            self.full.push(full.into());
        }
        Ok(())
    }

    fn close(mut self) -> Rendered {
        self.open.shrink_to_fit();
        self.full.push(self.open.into());
        Rendered(self.full)
    }
}

impl io::Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.open.len() == self.open.capacity() {
            self.turn().map_err(|error| io::Error::other(self.rendering.fail::<serde_json::Error>(error)))?;
        }
        let taken = bytes.len().min(self.open.capacity() - self.open.len());
        self.open.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_large(error: BudgetExceeded) -> StorageError {
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
    seen: RefCell<HashSet<TraceId>>,
}

impl<'a> Traces<'a> {
    /// The traces of `stream`, for the answer of `rendering`.
    pub(crate) fn new(rendering: &'a Rendering<'a>, stream: TraceStream) -> Self {
        Self { rendering, stream: RefCell::new(stream.peekable()), seen: RefCell::default() }
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
        let next = self.read().map_err(|error| self.rendering.fail(error))?;
        if let Some(trace) = &next {
            self.seen.borrow_mut().insert(trace.trace_id);
        }
        Ok(next)
    }

    fn read(&self) -> Result<Option<Trace>, StorageError> {
        self.rendering.context.check()?;
        self.stream.borrow_mut().next().transpose()
    }
}
