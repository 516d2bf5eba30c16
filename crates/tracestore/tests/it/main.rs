//! The trace store through its public interface.

mod conformance;
mod recovery;
mod retention;
mod support;
