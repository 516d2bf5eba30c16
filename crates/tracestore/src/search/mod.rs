//! Search: which spans pass, and which traces are the newest of those.
//!
//! A query becomes a tree of tests ([`Test`]), evaluated exactly on the columns of a block ([`passing_spans`]). What the
//! tests imply ([`Necessary`]) says with words and value postings which blocks need no look. Formats: `docs/search.md`.

mod bits;
mod block_terms;
mod evaluate;
mod hashes;
mod list_block;
mod listing;
mod necessary;
mod postings;
mod progress;
pub(crate) mod terms;
mod test;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod top;

use pharos_storage::TraceQuery;

pub(crate) use bits::Bits;
pub(crate) use block_terms::BlockTerms;
pub(crate) use evaluate::{EvaluateError, OriginSource, passing_spans};
pub(crate) use hashes::{is_of, put_numbers, value_number};
pub(crate) use list_block::{list_block, list_origin};
pub(crate) use listing::{Listing, Wanted, listed_type};
pub(crate) use necessary::{Clause, Hint, Necessary};
#[cfg(feature = "internals")]
pub(crate) use postings::find_in_postings;
pub(crate) use postings::{PostingsShape, ValueEntry, build_pages, checked_page, find_blocks};
pub(crate) use progress::Progress;
pub(crate) use terms::{TermSubject, Word};
pub(crate) use test::Test;
pub(crate) use top::TopTraces;

/// A query, made ready for all days.
pub(crate) struct Search<'q> {
    pub(crate) query: &'q TraceQuery,
    /// Whether values are tested by patterns.
    pub(crate) has_patterns: bool,
    pub(crate) test: Test<'q>,
    pub(crate) necessary: Necessary<'q>,
}

impl<'q> Search<'q> {
    pub(crate) fn new(query: &'q TraceQuery) -> Self {
        let test = Test::of(query);
        let necessary = Necessary::of(&test);
        let has_patterns = test.has_patterns();
        Self { query, has_patterns, test, necessary }
    }
}
