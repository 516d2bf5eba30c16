//! Search: which spans pass, and which traces are the newest of those.

mod bits;
mod block_terms;
mod evaluate;
mod necessary;
mod plan;
mod postings;
pub(crate) mod terms;
mod test;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod top;

pub(crate) use bits::Bits;
pub(crate) use block_terms::BlockTerms;
#[cfg_attr(test, expect(unused_imports, reason = "searches read blocks next"))]
pub(crate) use evaluate::{EvaluateError, OriginSource, passing_spans};
pub(crate) use necessary::{Clause as NecessaryClause, Hint, Necessary};
pub(crate) use plan::{Clause, SearchBounds, plan};
pub(crate) use postings::{PostingsShape, build_pages, find_blocks};
pub(crate) use terms::{TermSubject, Word};
pub(crate) use test::Test;
pub(crate) use top::TopTraces;
