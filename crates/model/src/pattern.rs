//! Patterns of matchers: RE2's dialect, anchored at both ends, `.` matching newlines.
//!
//! Owns the compiled form and what is known of it without running it. A pattern is matched in time linear in the value's
//! length, and its compiled form is bounded ([`COMPILED_BYTES_MAX`]).
//!
//! Invariant P1: every way to ask (a set, what stands around a literal, an automaton over many values) answers as the pattern itself does.

mod re2;
mod replace;
mod search;
mod shape;
#[cfg(test)]
mod tests;
mod walk;

use regex_automata::meta::Regex;
use regex_syntax::hir::{Capture, Hir, HirKind, Look, Repetition};

pub use self::replace::Replacement;
pub use self::search::{SEARCH_PATTERNS_BYTES_MAX, SEARCH_PATTERNS_MAX, SearchPattern, SearchPatterns};
use self::shape::{Gap, Shape};
pub use self::walk::PatternWalk;

/// Compiled automata larger than this are refused: one label pattern must not take a query's memory.
const COMPILED_BYTES_MAX: usize = 10 << 20;
/// Longest pattern, but for plain alternatives.
const PATTERN_BYTES_MAX: usize = 256 << 10;
/// Longest list of plain alternatives, such as dashboards make of variables.
const ALTERNATIVES_BYTES_MAX: usize = 4 << 20;

/// The text is no pattern, or too large a one. Reads as Go's error does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {reason}")]
pub struct PatternError {
    /// What is wrong, and with which part of the pattern.
    pub reason: String,
}

/// Longest part of a pattern that an error shows.
const SHOWN_CHARS_MAX: usize = 1_000;

impl PatternError {
    fn new(mut reason: String) -> Self {
        if let Some((at, _)) = reason.char_indices().nth(SHOWN_CHARS_MAX) {
            reason.truncate(at);
            reason.push('…');
        }
        Self { reason }
    }

    fn too_large(pattern: &str, limit: &str) -> Self {
        Self::new(format!("expression too large, {limit}: `{pattern}`"))
    }
}

pub(crate) struct Pattern {
    shape: Shape,
    /// Without captures. Absent where the shape tells everything.
    automaton: Option<(Hir, Regex)>,
}

impl Pattern {
    pub(crate) fn compile(text: &str) -> Result<Self, PatternError> {
        if let Some(values) = plain_alternatives(text) {
            if text.len() > ALTERNATIVES_BYTES_MAX {
                let limit = format!("longer than {ALTERNATIVES_BYTES_MAX} bytes");
                return Err(PatternError::too_large(text, &limit));
            }
            return Ok(Self { shape: Shape::Set(values), automaton: None });
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::too_large(text, &format!("longer than {PATTERN_BYTES_MAX} bytes")));
        }
        let hir = without_captures(re2::parse(text).map_err(PatternError::new)?.hir);
        let shape = Shape::of(&hir, text.len());
        let automaton = match shape {
            Shape::Set(_) | Shape::Affixed { .. } => None,
            Shape::Other { .. } => Some((hir.clone(), compile(hir, text)?)),
        };
        Ok(Self { shape, automaton })
    }

    pub(crate) fn matches(&self, value: &str) -> bool {
        let told = self.shape.matches(value);
        told.unwrap_or_else(|| self.automaton.as_ref().is_some_and(|(_, regex)| regex.is_match(value)))
    }

    /// The values that match, sorted, if they are few.
    pub(crate) fn values(&self) -> Option<&[String]> {
        match &self.shape {
            Shape::Set(values) => Some(values),
            _ => None,
        }
    }

    /// `.*` and its like.
    pub(crate) fn matches_everything(&self) -> bool {
        self.is_gap(Gap::Any)
    }

    /// `.+` and its like.
    pub(crate) fn matches_everything_but_empty(&self) -> bool {
        self.is_gap(Gap::Some)
    }

    fn is_gap(&self, gap: Gap) -> bool {
        match &self.shape {
            Shape::Affixed { before, literal, behind } => {
                literal.is_empty() && [(gap, Gap::None), (Gap::None, gap)].contains(&(*before, *behind))
            }
            _ => false,
        }
    }

    /// An automaton for many values, if the shape is not faster and it takes at most `bytes_max`.
    pub(crate) fn walk(&self, bytes_max: usize) -> Option<PatternWalk> {
        self.automaton.as_ref().and_then(|(hir, _)| PatternWalk::build(hir, bytes_max))
    }

    /// Memory of the compiled form, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let values = self.values().unwrap_or_default();
        let values: usize = values.iter().map(|value| size_of::<String>() + value.capacity()).sum();
        values + self.automaton.as_ref().map_or(0, |(_, regex)| regex.memory_usage())
    }
}

/// The alternatives of a pattern without any other operator: no syntax tree is needed, however many they are.
fn plain_alternatives(text: &str) -> Option<Vec<String>> {
    const OPERATORS: [char; 13] = ['\\', '.', '+', '*', '?', '(', ')', '[', ']', '{', '}', '^', '$'];
    if text.contains(OPERATORS) {
        return None;
    }
    let mut values: Vec<String> = text.split('|').map(str::to_owned).collect();
    values.sort_unstable();
    values.dedup();
    Some(values)
}

/// The tree between `^` and `$`, compiled. Anchors join as trees: no text can close the group around it.
fn compile(hir: Hir, text: &str) -> Result<Regex, PatternError> {
    build(&Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]), text)
}

/// The tree as it stands, compiled; `text` is for the message.
fn build(hir: &Hir, text: &str) -> Result<Regex, PatternError> {
    let config = Regex::config().nfa_size_limit(Some(COMPILED_BYTES_MAX)).onepass_size_limit(Some(COMPILED_BYTES_MAX));
    let regex = Regex::builder().configure(config).build_from_hir(hir);
    regex.map_err(|_| PatternError::too_large(text, &format!("its automaton exceeds {COMPILED_BYTES_MAX} bytes")))
}

/// The same language; nobody asks a matcher for its groups. Depth is bounded by the parser of patterns.
fn without_captures(hir: Hir) -> Hir {
    if hir.properties().explicit_captures_len() == 0 {
        return hir;
    }
    match hir.into_kind() {
        HirKind::Capture(Capture { sub, .. }) => without_captures(*sub),
        HirKind::Repetition(Repetition { min, max, greedy, sub }) => {
            Hir::repetition(Repetition { min, max, greedy, sub: Box::new(without_captures(*sub)) })
        }
        HirKind::Concat(parts) => Hir::concat(parts.into_iter().map(without_captures).collect()),
        HirKind::Alternation(options) => Hir::alternation(options.into_iter().map(without_captures).collect()),
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Class(class) => Hir::class(class),
        HirKind::Look(look) => Hir::look(look),
    }
}
