//! Requests in, kept traces out: through restarts, refusals and limits.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod limits;
mod policies;
mod recovery;
mod world;
