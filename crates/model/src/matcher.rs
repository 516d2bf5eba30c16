//! Matchers: one test on one label.

use std::fmt;
use std::sync::Arc;

use regex_automata::meta::Regex;
use regex_syntax::hir::{Class, ClassUnicodeRange, Hir, HirKind, Look};

use crate::Labels;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

impl MatchOp {
    /// The operator as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// The pattern of a `=~` or `!~` matcher cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid regular expression {pattern:?}: {reason}")]
pub struct MatcherError {
    /// The pattern as it was written.
    pub pattern: String,
    /// What the compiler said.
    pub reason: String,
}

/// Compiled automata larger than this are refused: one label pattern must not take a query's memory.
const REGEX_BYTES_MAX: usize = 10 << 20;
const PATTERN_BYTES_MAX: usize = 64 << 10;
const SET_VALUES_MAX: usize = 1_000;

/// One test on one label. A label that is absent has the value "".
#[derive(Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    pattern: Option<Arc<Pattern>>,
}

struct Pattern {
    regex: Regex,
    set: Option<Vec<String>>,
}

impl Matcher {
    /// Builds a matcher; for the regex operators `value` is the pattern, in RE2's dialect.
    ///
    /// # Errors
    /// [`MatcherError`] if the pattern does not compile or is too large.
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Self, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(Arc::new(Pattern::compile(&value)?)),
        };
        Ok(Self { name, op, value, pattern })
    }

    /// `name="value"`.
    #[must_use]
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), pattern: None }
    }

    /// The label tested.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The comparison.
    #[must_use]
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The value or the pattern.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label of this value passes.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        match self.op {
            MatchOp::Equal => self.value == value,
            MatchOp::NotEqual => self.value != value,
            MatchOp::Regex => self.pattern_matches(value),
            MatchOp::NotRegex => !self.pattern_matches(value),
        }
    }

    /// Whether series without the label pass as well.
    #[must_use]
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// For a positive matcher that only a few values can pass: these values, sorted; an index looks
    /// them up instead of walking the label's values.
    #[must_use]
    pub fn values(&self) -> Option<Vec<&str>> {
        match self.op {
            MatchOp::Equal => Some(vec![&self.value]),
            MatchOp::Regex => self.pattern.as_ref()?.set.as_ref().map(|set| set.iter().map(String::as_str).collect()),
            MatchOp::NotEqual | MatchOp::NotRegex => None,
        }
    }

    fn pattern_matches(&self, value: &str) -> bool {
        self.pattern.as_ref().is_some_and(|pattern| match &pattern.set {
            Some(set) => set.binary_search_by(|candidate| candidate.as_str().cmp(value)).is_ok(),
            None => pattern.regex.is_match(value),
        })
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Pattern {
    fn compile(text: &str) -> Result<Self, MatcherError> {
        let fail = |reason: String| MatcherError { pattern: text.chars().take(200).collect(), reason };
        if text.len() > PATTERN_BYTES_MAX {
            return Err(fail(format!("longer than {PATTERN_BYTES_MAX} bytes")));
        }
        let hir = regex_syntax::ParserBuilder::new()
            .dot_matches_new_line(true)
            .build()
            .parse(text)
            .map_err(|error| fail(error.to_string()))?;
        let set = literal_set(&hir);
        let regex = Regex::builder()
            .configure(Regex::config().nfa_size_limit(Some(REGEX_BYTES_MAX)).onepass_size_limit(Some(REGEX_BYTES_MAX)))
            .build_from_hir(&anchored(hir))
            .map_err(|error| fail(error.to_string()))?;
        Ok(Self { regex, set })
    }
}

/// The pattern between `^` and `$`, joined as syntax trees: no text can close the anchoring group.
fn anchored(hir: Hir) -> Hir {
    Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)])
}

/// The finite set of texts a pattern stands for, sorted, if it is small.
fn literal_set(hir: &Hir) -> Option<Vec<String>> {
    let mut texts = expand(hir)?;
    texts.sort_unstable();
    texts.dedup();
    Some(texts)
}

fn expand(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(literal) => Some(vec![std::str::from_utf8(&literal.0).ok()?.to_owned()]),
        HirKind::Capture(capture) => expand(&capture.sub),
        HirKind::Class(class) => expand_class(class),
        HirKind::Concat(parts) => parts.iter().try_fold(vec![String::new()], |heads, part| {
            let tails = expand(part)?;
            (heads.len() * tails.len() <= SET_VALUES_MAX)
                .then(|| heads.iter().flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}"))).collect())
        }),
        HirKind::Alternation(options) => {
            let mut texts = Vec::new();
            for option in options {
                texts.extend(expand(option)?);
                if texts.len() > SET_VALUES_MAX {
                    return None;
                }
            }
            Some(texts)
        }
        HirKind::Look(_) | HirKind::Repetition(_) => None,
    }
}

fn expand_class(class: &Class) -> Option<Vec<String>> {
    let Class::Unicode(class) = class else { return None };
    let count: usize = class.ranges().iter().map(ClassUnicodeRange::len).sum();
    (count <= SET_VALUES_MAX)
        .then(|| class.ranges().iter().flat_map(|range| (range.start()..=range.end()).map(String::from)).collect())
}

/// Whether every matcher passes on `labels`.
#[must_use]
pub fn matches_labels(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> Matcher {
        Matcher::new(MatchOp::Regex, "l", pattern).unwrap()
    }

    #[test]
    fn patterns_are_anchored_and_dots_match_newlines() {
        assert!(regex("a.c").matches("a\nc"));
        assert!(!regex("b").matches("abc"));
        assert!(regex("a|bc").matches("bc") && !regex("a|bc").matches("abc"));
        assert!(regex("").matches("") && regex(".*").matches_empty() && !regex(".+").matches_empty());
        assert!(regex("(?i)abc").matches("aBC"));
    }

    #[test]
    fn small_sets_are_listed() {
        assert_eq!(regex("get|put|p[ao]st").values(), Some(vec!["get", "past", "post", "put"]));
        assert_eq!(regex("5..").values(), None);
        assert_eq!(regex("a*").values(), None);
    }

    #[test]
    fn broken_patterns_are_refused() {
        for pattern in ["(", "a)(b", "[", "a{1000}{1000}{1000}", r"(?P<x", "*"] {
            assert!(Matcher::new(MatchOp::Regex, "l", pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn absent_labels_are_empty() {
        let labels = Labels::from_pairs([("a", "1")]).unwrap();
        assert!(matches_labels(&[Matcher::equal("b", "")], &labels));
        assert!(matches_labels(&[Matcher::new(MatchOp::NotEqual, "a", "").unwrap()], &labels));
        assert!(!matches_labels(&[Matcher::new(MatchOp::NotRegex, "a", "1|2").unwrap()], &labels));
    }
}
