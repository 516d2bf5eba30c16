//! Backups of a data folder, in another folder or in S3-compatible storage: incremental, verified, shared.
//!
//! A [`Repository`] holds *objects*, named by the SHA-256 of what is in them, and one *manifest* per backup, which says
//! which object is which file. What an earlier backup sent is not sent again. The layout: `docs/repository.md`.
//!
//! This crate knows files, not stores: what a consistent set of files is, [`SourceTree`] is told by its caller.
//! It reads no environment and asks a [`pharos_base::Clock`] for the time.
//!
//! Invariants
//! - B1 A backup exists if its manifest does; the manifest is written last, whole or not at all.
//! - B2 Every object that a manifest names was complete before the manifest was written.
//! - B3 Bytes are hashed while they are sent and while they are read: neither a file that changes under the reader nor a
//!   damaged object passes.
//! - B4 An object is removed only while no backup is made, and only if no manifest names it.
//! - B5 A restore that did not end leaves [`UNFINISHED_FOLDER`] in the data folder, and with it no server starts.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod digest;
mod error;
mod locks;
mod manifest;
mod place;
mod prune;
mod repository;
mod restore;
mod save;
mod source;
mod verify;

#[cfg(test)]
mod tests;

pub use error::BackupError;
pub use place::{Location, S3Options, make_folder};
pub use prune::Pruned;
pub use repository::{BackupEntry, BackupNote, Observer, Repository, RepositorySettings, Unobserved};
pub use restore::{Restored, UNFINISHED_FOLDER};
pub use save::Saved;
pub use source::SourceTree;
pub use verify::{Fault, Verified};
