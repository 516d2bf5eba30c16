//! The bytes of an answer in pieces, and JSON written into them.
//!
//! Writers do not ask whether a write went well: after the first failure nothing is written any more, and
//! [`Pieces::close`] tells why.

use std::io;

use axum::body::Bytes;
use pharos_base::Reservation;
use pharos_storage::StorageError;

use super::{HELD_BYTES_MAX, Rendered, Rendering, too_large};
use crate::json_text::{Indenter, JsonText};

/// Size of one piece: large enough to be sent at once, small enough to charge what is used.
const PIECE_BYTES: usize = 64 << 10;

/// The bytes of an answer.
pub(crate) struct Pieces<'a> {
    rendering: &'a Rendering<'a>,
    held: Option<Reservation>,
    full: Vec<Bytes>,
    open: Vec<u8>,
    is_sending: bool,
    /// Of answers for people.
    indenter: Option<Indenter>,
    /// Why nothing is written any more.
    failure: Option<StorageError>,
}

impl<'a> Pieces<'a> {
    /// None yet. `pretty` ones are indented; what is written to them is not.
    pub(super) fn new(rendering: &'a Rendering<'a>, pretty: bool) -> Self {
        let indenter = pretty.then(Indenter::default);
        Self { rendering, held: None, full: Vec::new(), open: Vec::new(), is_sending: false, indenter, failure: None }
    }

    /// Whether a write failed: there is no use in more.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

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

    /// Ends the answer; `written` is what a serializer said.
    pub(super) fn close(mut self, written: Result<(), serde_json::Error>) -> Result<Rendered, StorageError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        written.map_err(unrendered)?;
        self.open.shrink_to_fit();
        self.full.push(std::mem::take(&mut self.open).into());
        if self.is_sending {
            self.send()?;
            return Ok(Rendered::Sent);
        }
        Ok(Rendered::Held(self.full))
    }

    /// Writes what may not fit into the open piece.
    fn put_across(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.failure.is_none() {
            if self.open.len() == self.open.capacity()
                && let Err(failure) = self.turn()
            {
                self.failure = Some(failure);
                return;
            }
            let taken = bytes.len().min(self.open.capacity() - self.open.len());
            self.open.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
        }
    }
}

impl JsonText for Pieces<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(mut indenter) = self.indenter.take() {
            indenter.indent(bytes, |bytes| self.put_across(bytes));
            self.indenter = Some(indenter);
        } else if bytes.len() <= self.open.capacity() - self.open.len() {
            self.open.extend_from_slice(bytes);
        } else {
            self.put_across(bytes);
        }
    }

    fn note(&mut self, error: serde_json::Error) {
        self.failure.get_or_insert_with(|| unrendered(error));
    }
}

impl io::Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        match &self.failure {
            // The failure itself is kept.
            Some(failure) => Err(io::Error::other(failure.to_string())),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unrendered(error: serde_json::Error) -> StorageError {
    StorageError::Internal { action: "rendering traces", source: error.into() }
}
