//! Answers with traces: serialized on the query pool while the store reads, one trace at a time.
//!
//! What is rendered is held in pieces until the last trace is read, so that a read that fails answers with an
//! error and not with half a body. Answers beyond [`HELD_BYTES_MAX`] are sent while they are made, at the pace of
//! their client. What is held counts against the memory of the read; its deadline and its client are asked after with
//! every trace and every piece.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::iter::Peekable;

use axum::body::Bytes;
use pharos_base::{BudgetExceeded, Reservation};
use pharos_model::TraceId;
use pharos_storage::{ReadContext, StorageError, Trace, TraceStream};
use serde::{Serialize, ser};
use serde_json::Serializer;
use serde_json::ser::PrettyFormatter;

use crate::adjust::Adjusting;
use crate::grpc_stream::Outlet;

/// Size of one piece: large enough to be sent at once, small enough to charge what is used.
const PIECE_BYTES: usize = 64 << 10;
/// What is held of an answer before its first byte is sent.
pub(crate) const HELD_BYTES_MAX: usize = 4 << 20;
/// Of an answer for people.
const INDENT: &[u8] = b"    ";

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
        let mut pieces = Pieces { rendering: self, held: None, full: Vec::new(), open: Vec::new(), is_sending: false };
        let written = if pretty {
            answer.serialize(&mut Serializer::with_formatter(&mut pieces, PrettyFormatter::with_indent(INDENT)))
        } else {
            answer.serialize(&mut Serializer::new(&mut pieces))
        };
        match (written, self.failure.take()) {
            (Ok(()), None) => pieces.close(),
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
    is_sending: bool,
}

impl Pieces<'_> {
    /// Puts the open piece to the full ones and begins another.
    fn turn(&mut self) -> Result<(), StorageError> {
        self.rendering.context.check()?;
        if !self.is_sending {
            self.charge()?;
        }
        let full = std::mem::replace(&mut self.open, Vec::with_capacity(PIECE_BYTES));
        if !full.is_empty() {
            self.full.push(full.into());
        }
        self.is_sending |= self.full.len() * PIECE_BYTES >= HELD_BYTES_MAX && self.rendering.outlet.is_some();
        if self.is_sending {
            self.send()?;
        }
        Ok(())
    }

    /// Takes the memory of one more piece. What is sent later keeps it: of the pieces on their way few exist at a time.
    fn charge(&mut self) -> Result<(), StorageError> {
        let bytes = PIECE_BYTES as u64;
        match &mut self.held {
            Some(held) => held.grow(bytes).map_err(too_large),
            none => {
                *none = Some(self.rendering.context.memory.reserve(bytes).map_err(too_large)?);
                Ok(())
            }
        }
    }

    fn send(&mut self) -> Result<(), StorageError> {
        let Some(outlet) = &self.rendering.outlet else { return Ok(()) };
        self.full.drain(..).try_for_each(|piece| outlet.send(piece))
    }

    fn close(mut self) -> Result<Rendered, StorageError> {
        self.open.shrink_to_fit();
        self.full.push(std::mem::take(&mut self.open).into());
        if self.is_sending {
            self.send()?;
            return Ok(Rendered::Sent);
        }
        Ok(Rendered::Held(self.full))
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

    /// Serializers write single signs and short words: nearly all of them fit.
    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while bytes.len() > self.open.capacity() - self.open.len() {
            let taken = self.write(bytes)?;
            bytes = &bytes[taken..];
        }
        self.open.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Of the common budget there may be more with time; of the read's own there never is.
pub(crate) fn too_large(error: BudgetExceeded) -> StorageError {
    if error.is_shared {
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
        let next = self.read().map_err(|error| self.rendering.fail(error))?;
        if let Some(trace) = &next {
            self.seen.borrow_mut().insert(trace.trace_id);
        }
        Ok(next)
    }

    fn read(&self) -> Result<Option<Trace>, StorageError> {
        self.rendering.context.check()?;
        let mut next = self.stream.borrow_mut().next().transpose()?;
        if let (Some(trace), Some(adjusting)) = (&mut next, &self.adjusting) {
            adjusting.apply(trace, &self.rendering.context.memory).map_err(too_large)?;
        }
        Ok(next)
    }
}
