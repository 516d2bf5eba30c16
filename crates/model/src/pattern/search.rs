//! Patterns that are searched for anywhere in a text, as trace searches ask for them.

use std::fmt;

use regex_automata::meta::Regex;

use super::{PATTERN_BYTES_MAX, PatternError, build, re2, without_captures};

/// A pattern in RE2's dialect, matched anywhere in a text; `.` matches no newline unless `(?s)` says so. Equal patterns have
/// equal texts.
#[derive(Clone)]
pub struct SearchPattern {
    text: String,
    regex: Regex,
}

impl SearchPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`PatternError`] if it is none, or too large.
    pub fn new(text: impl Into<String>) -> Result<Self, PatternError> {
        let text = text.into();
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::too_large(&text, &format!("longer than {PATTERN_BYTES_MAX} bytes")));
        }
        let parsed = re2::parse(&text).map_err(PatternError::new)?;
        // The dialect of matchers lets a dot match newlines. A flag at the very front holds for the whole pattern.
        let parsed =
            if text.contains('.') { re2::parse(&format!("(?-s){text}")).map_err(PatternError::new)? } else { parsed };
        let regex = build(&without_captures(parsed.hir), &text)?;
        Ok(Self { text, regex })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it occurs in `text`; linear in the text's length.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl fmt::Debug for SearchPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}

impl PartialEq for SearchPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SearchPattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_anywhere_and_a_dot_stops_at_newlines() {
        for (pattern, text, expected) in [
            ("ell", "hello", true),
            ("^ell", "hello", false),
            ("lo$", "hello", true),
            ("a|lo", "hello", true),
            ("a.b", "a\nb", false),
            ("(?s)a.b", "a\nb", true),
            ("(?s:a.b)|c", "a\nb", true),
            ("(?i)HEL", "hello", true),
            ("", "", true),
            (r"\bé", "é", false),
        ] {
            assert_eq!(SearchPattern::new(pattern).unwrap().is_in(text), expected, "{pattern} in {text:?}");
        }
        let error = SearchPattern::new("a(.").unwrap_err();
        assert_eq!(error.to_string(), "error parsing regexp: missing closing ): `a(.`");
        assert!(SearchPattern::new("x".repeat(PATTERN_BYTES_MAX + 1)).is_err());
    }
}
