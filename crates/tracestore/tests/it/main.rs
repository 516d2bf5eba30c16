//! The trace store through its public interface.
#![expect(clippy::unwrap_used, reason = "a test that fails shows where")]

mod calls;
mod conformance;
mod damage;
mod examine;
mod format;
mod many_keys;
mod merges;
mod recovery;
mod repair;
mod retention;
mod searches;
mod snapshots;
mod support;
