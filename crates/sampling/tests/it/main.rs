//! Requests in, kept traces out: through restarts, refusals and limits.

mod limits;
mod policies;
mod recovery;
mod world;
