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

    /// Compiles a pattern that has to match the whole of a text; its `.` matches newlines, too.
    ///
    /// # Errors
    /// [`PatternError`] if it is none, or too large.
    pub fn whole(text: &str) -> Result<Self, PatternError> {
        // By itself first: parentheses that are closed before they are opened would pass within others.
        re2::parse(text).map_err(PatternError::new)?;
        Self::new(format!("^(?s:{text})$"))
    }

    /// Memory of the compiled form, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.text.capacity() + self.regex.memory_usage()
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

/// Most patterns of one search.
pub const SEARCH_PATTERNS_MAX: usize = 64;
/// What the compiled patterns of one search may take together, but for the last.
pub const SEARCH_PATTERNS_BYTES_MAX: usize = 10 << 20;

/// Counts the patterns of one search: many, or a few large ones, would take seconds to compile and more memory than a search may.
#[derive(Debug, Default)]
pub struct SearchPatterns {
    count: usize,
    bytes: usize,
}

impl SearchPatterns {
    /// Compiles one more.
    ///
    /// # Errors
    /// [`PatternError`] if there were too many, or if `compile` says so.
    pub fn compile(
        &mut self,
        compile: impl FnOnce() -> Result<SearchPattern, PatternError>,
    ) -> Result<SearchPattern, PatternError> {
        if self.count == SEARCH_PATTERNS_MAX {
            return Err(PatternError::new(format!("a search has at most {SEARCH_PATTERNS_MAX} patterns")));
        }
        if self.bytes > SEARCH_PATTERNS_BYTES_MAX {
            let reason = format!("the automata of a search's patterns exceed {SEARCH_PATTERNS_BYTES_MAX} bytes");
            return Err(PatternError::new(reason));
        }
        let pattern = compile()?;
        self.count += 1;
        self.bytes += pattern.memory_bytes();
        Ok(pattern)
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

    #[test]
    fn a_whole_pattern_matches_from_end_to_end() {
        for (pattern, text, expected) in [
            ("ell", "hello", false),
            ("h.*o", "hel\nlo", true),
            ("a|b", "ab", false),
            ("", "", true),
            ("a$", "a", true),
        ] {
            assert_eq!(SearchPattern::whole(pattern).unwrap().is_in(text), expected, "{pattern} in {text:?}");
        }
        assert!(SearchPattern::whole("a)(b").is_err() && SearchPattern::whole("(a").is_err());
    }

    #[test]
    fn a_search_has_so_many_patterns_and_so_much_of_them() {
        let mut patterns = SearchPatterns::default();
        for _ in 0..SEARCH_PATTERNS_MAX {
            patterns.compile(|| SearchPattern::new("a.b")).unwrap();
        }
        let error = patterns.compile(|| panic!("it is not compiled")).unwrap_err().to_string();
        assert!(error.contains("at most 64 patterns"), "{error}");
        let mut patterns = SearchPatterns::default();
        let large = || SearchPattern::new(r"\pL{150}");
        let compiled = (0..SEARCH_PATTERNS_MAX).take_while(|_| patterns.compile(large).is_ok()).count();
        let each = large().unwrap().memory_bytes();
        assert_eq!(compiled, SEARCH_PATTERNS_BYTES_MAX / each + 1, "each takes {each} bytes");
    }
}
