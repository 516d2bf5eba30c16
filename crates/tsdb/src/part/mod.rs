//! Parts: immutable, checksummed directories of one tenant's samples in one aligned time window.
//!
//! Bytes: `docs/part.md`. A part is written under a temporary name, synced, renamed and only then read;
//! its files are read with positioned reads, block by block.

pub(crate) mod block;
pub(crate) mod exemplars;
pub(crate) mod layout;
pub(crate) mod meta;
pub(crate) mod reader;
pub(crate) mod toc;
pub(crate) mod writer;

pub(crate) use reader::Part;
