//! The head: the newest, still mutable samples of every series, backed by the log.
//!
//! A tenant's series live in a [`registry::Registry`]; their samples in a [`generation::Generation`],
//! which a flush replaces by an empty one, writes to parts and lets go. It never opens files, starts
//! threads or asks the clock.

pub(crate) mod buffer;
pub(crate) mod generation;
mod open;
pub(crate) mod registry;
