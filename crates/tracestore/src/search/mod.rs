//! Search: which spans pass, and which traces are the newest of those.

mod plan;
mod top;

pub(crate) use plan::{Clause, SearchBounds, plan};
pub(crate) use top::TopTraces;
