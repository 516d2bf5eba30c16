//! Tests of many values against one matcher.
//!
//! Patterns over many values run as an automaton that goes on where a value shares its beginning with the
//! one before, and that knows when no continuation can match. Where the automaton would be too large, or for
//! few values, each value is matched by itself.

use pharos_base::{CancelToken, Interrupted};
use pharos_model::{MatchOp, Matcher, PatternWalk};

/// After this many values an automaton is built: it costs about as much as matching so many one by one.
const AUTOMATON_VALUES_MIN: u32 = 1024;
/// Values between two questions whether to go on: some hundred microseconds, with slow patterns some milliseconds.
const VALUES_BETWEEN_CHECKS: u32 = 1024;
/// Larger automata are not built: neither their memory nor their making is worth it.
const AUTOMATON_BYTES_MAX: usize = 1 << 20;

/// Whether values pass a matcher; best asked in an order in which neighbours begin alike.
pub(crate) struct ValueTest<'a> {
    matcher: &'a Matcher,
    cancel: &'a CancelToken,
    before_check: u32,
    /// Values to be matched one by one before an automaton is tried; 0 when that was done.
    before_automaton: u32,
    automaton: Option<PatternWalk>,
}

impl<'a> ValueTest<'a> {
    pub(crate) fn new(matcher: &'a Matcher, cancel: &'a CancelToken) -> Self {
        Self {
            matcher,
            cancel,
            before_check: VALUES_BETWEEN_CHECKS,
            before_automaton: AUTOMATON_VALUES_MIN,
            automaton: None,
        }
    }

    /// Whether `value` passes.
    ///
    /// # Errors
    /// Now and then, once the token says so.
    pub(crate) fn passes(&mut self, value: &str) -> Result<bool, Interrupted> {
        self.before_check -= 1;
        if self.before_check == 0 {
            self.before_check = VALUES_BETWEEN_CHECKS;
            self.cancel.check()?;
        }
        if self.before_automaton > 0 {
            self.before_automaton -= 1;
            if self.before_automaton == 0 {
                self.automaton = self.matcher.walk(AUTOMATON_BYTES_MAX);
            }
        }
        Ok(match &mut self.automaton {
            Some(walk) => walk.matches(value) == (self.matcher.op() == MatchOp::Regex),
            None => self.matcher.matches(value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATTERNS: [&str; 16] = [
        "a.*", ".*b", "a|ab|abc", "(?i)AB.*", "[^a]+", "(a|b)*", "a{2,3}", "", ".+", "^ab$", "a$|b", "ä.", "(?s).b.",
        "a*?b", r"\w+", r"a\b",
    ];

    proptest! {
        #[test]
        fn automata_agree_with_matching_one_by_one(mut values in proptest::collection::vec("[abAB\nä]{0,6}", 1..60), sorted: bool) {
            if sorted {
                values.sort();
            }
            for pattern in PATTERNS {
                for op in [MatchOp::Regex, MatchOp::NotRegex] {
                    let matcher = Matcher::new(op, "l", pattern).unwrap();
                    let cancel = CancelToken::new();
                    let mut test = ValueTest { before_automaton: 3, ..ValueTest::new(&matcher, &cancel) };
                    for value in &values {
                        prop_assert_eq!(test.passes(value).unwrap(), matcher.matches(value), "{} {:?}", matcher, value);
                    }
                }
            }
        }
    }

    #[test]
    fn patterns_too_large_for_an_automaton_are_matched_one_by_one() {
        let matcher = Matcher::new(MatchOp::Regex, "l", "[01]*1[01]{17}").unwrap();
        let cancel = CancelToken::new();
        let mut test = ValueTest { before_automaton: 1, ..ValueTest::new(&matcher, &cancel) };
        assert!(test.passes("0100000000000000000").unwrap() && !test.passes("0000000000000000000").unwrap());
        assert!(test.automaton.is_none() && test.before_automaton == 0);
    }

    #[test]
    fn matching_of_many_values_stops_when_nobody_waits_for_it() {
        let (matcher, cancel) = (Matcher::new(MatchOp::Regex, "l", ".*a.*b").unwrap(), CancelToken::new());
        let mut test = ValueTest::new(&matcher, &cancel);
        assert_eq!(test.passes("ab"), Ok(true));
        cancel.cancel();
        let asked = (0..1_000_000).take_while(|_| test.passes("ab").is_ok()).count();
        assert!(asked < VALUES_BETWEEN_CHECKS as usize);
    }
}
