//! Matchers: one test on one label.

use std::fmt;
use std::sync::Arc;

use crate::pattern::{Pattern, PatternWalk};
use crate::{Labels, PatternError};

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

/// One test on one label. A label that is absent has the value "".
#[derive(Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    pattern: Option<Arc<Pattern>>,
}

impl Matcher {
    /// Builds a matcher; for the regex operators `value` is the pattern, in RE2's dialect.
    ///
    /// # Errors
    /// [`PatternError`] if the pattern does not compile or is too large.
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Self, PatternError> {
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

    /// The same test on another label.
    #[must_use]
    pub fn of_label(&self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self.clone() }
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
            MatchOp::Equal | MatchOp::Regex => self.named_values(),
            MatchOp::NotEqual | MatchOp::NotRegex => None,
        }
    }

    /// The same for a negative matcher: the few values that do not pass.
    #[must_use]
    pub fn refused_values(&self) -> Option<Vec<&str>> {
        match self.op {
            MatchOp::NotEqual | MatchOp::NotRegex => self.named_values(),
            MatchOp::Equal | MatchOp::Regex => None,
        }
    }

    fn named_values(&self) -> Option<Vec<&str>> {
        match &self.pattern {
            None => Some(vec![&self.value]),
            Some(pattern) => pattern.values().map(|values| values.iter().map(String::as_str).collect()),
        }
    }

    /// Whether every value passes, be the label there or not: `=~".*"`.
    #[must_use]
    pub fn passes_everything(&self) -> bool {
        self.op == MatchOp::Regex && self.pattern.as_ref().is_some_and(|pattern| pattern.matches_everything())
    }

    /// Whether a value passes exactly if it is not empty: `!=""`, `=~".+"`.
    #[must_use]
    pub fn passes_presence(&self) -> bool {
        match (self.op, &self.pattern) {
            (MatchOp::NotEqual, _) => self.value.is_empty(),
            (MatchOp::Regex, Some(pattern)) => pattern.matches_everything_but_empty(),
            (MatchOp::NotRegex, Some(pattern)) => {
                pattern.values().is_some_and(|values| values.len() == 1 && values[0].is_empty())
            }
            _ => false,
        }
    }

    /// For a regex matcher, an automaton that says of many values whether the **pattern** matches; of use where neighbours
    /// begin alike. `None` where [`Matcher::matches`] is as good or it would exceed `bytes_max`.
    #[must_use]
    pub fn walk(&self, bytes_max: usize) -> Option<PatternWalk> {
        self.pattern.as_ref()?.walk(bytes_max)
    }

    /// Memory that the compiled pattern takes, in bytes.
    #[must_use]
    pub fn pattern_bytes(&self) -> usize {
        self.pattern.as_ref().map_or(0, |pattern| pattern.memory_bytes())
    }

    fn pattern_matches(&self, value: &str) -> bool {
        self.pattern.as_ref().is_some_and(|pattern| pattern.matches(value))
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
    fn few_values_are_listed() {
        let values = |op, pattern| Matcher::new(op, "l", pattern).unwrap();
        let found = values(MatchOp::Regex, "get|put|p[ao]st");
        assert_eq!(found.values(), Some(vec!["get", "past", "post", "put"]));
        assert_eq!(found.refused_values(), None);
        let found = values(MatchOp::NotRegex, "(?i)ok?");
        assert_eq!((found.values(), found.refused_values().map(|values| values.len())), (None, Some(8)));
        assert_eq!(values(MatchOp::Regex, "5..").values(), None);
        assert_eq!(values(MatchOp::NotEqual, "a").refused_values(), Some(vec!["a"]));
        assert!(regex("(.*)").passes_everything() && !regex(".+").passes_everything());
        assert!(regex(".+").passes_presence() && !regex(".*").passes_presence());
        assert!(Matcher::new(MatchOp::NotRegex, "l", "").unwrap().passes_presence());
    }

    #[test]
    fn absent_labels_are_empty() {
        let labels = Labels::from_pairs([("a", "1")]).unwrap();
        assert!(matches_labels(&[Matcher::equal("b", "")], &labels));
        assert!(matches_labels(&[Matcher::new(MatchOp::NotEqual, "a", "").unwrap()], &labels));
        assert!(!matches_labels(&[Matcher::new(MatchOp::NotRegex, "a", "1|2").unwrap()], &labels));
    }
}
