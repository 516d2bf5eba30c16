//! What a pattern can be told of without running it: the few values it stands for, the text they share.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look};

/// Most values that a pattern is written out to, those of its plain alternatives aside.
const SET_VALUES_MAX: usize = 1_000;
/// Most bytes of these values, the pattern's own length aside.
const SET_BYTES_MAX: usize = 64 << 10;

/// How values are compared, cheapest first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One of these, sorted.
    Set(Vec<String>),
    /// A text with nothing, anything or something before and behind it.
    Affixed { before: Gap, literal: String, behind: Gap },
    /// Only by its automaton; all values begin with `prefix` and end with `suffix`.
    Other { prefix: String, suffix: String },
}

/// What may stand before or behind a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    None,
    /// `.*`
    Any,
    /// `.+`
    Some,
}

impl Gap {
    /// A value that has this before a literal at byte `at`, told by its length.
    fn admits(self, bytes: usize) -> bool {
        match self {
            Self::None => bytes == 0,
            Self::Any => true,
            Self::Some => bytes > 0,
        }
    }
}

impl Shape {
    /// `pattern_len`: length of the pattern's text, which bounds what is worth writing out.
    pub(super) fn of(hir: &Hir, pattern_len: usize) -> Self {
        let mut budget = Budget { bytes: SET_BYTES_MAX + 2 * pattern_len, values: SET_VALUES_MAX + pattern_len };
        if let Some(mut values) = values(hir, &mut budget) {
            values.sort_unstable();
            values.dedup();
            return Self::Set(values);
        }
        let parts = match hir.kind() {
            HirKind::Concat(parts) => parts.as_slice(),
            _ => std::slice::from_ref(hir),
        };
        affixed(parts).unwrap_or_else(|| Self::Other { prefix: leading(parts), suffix: trailing(parts) })
    }

    /// Whether the pattern matches, if that can be told so.
    pub(super) fn matches(&self, value: &str) -> Option<bool> {
        match self {
            Self::Set(values) => Some(values.binary_search_by(|candidate| candidate.as_str().cmp(value)).is_ok()),
            Self::Affixed { before, literal, behind } => Some(affix_matches(*before, literal, *behind, value)),
            Self::Other { prefix, suffix } => {
                let fits = value.starts_with(prefix.as_str()) && value.ends_with(suffix.as_str());
                if fits { None } else { Some(false) }
            }
        }
    }
}

fn affix_matches(before: Gap, literal: &str, behind: Gap, value: &str) -> bool {
    match (before, behind) {
        (Gap::None, _) => value.strip_prefix(literal).is_some_and(|rest| behind.admits(rest.len())),
        (_, Gap::None) => value.strip_suffix(literal).is_some_and(|rest| before.admits(rest.len())),
        _ => {
            // What must be there before and behind takes a character each; between them the literal is anywhere.
            let mut chars = value.chars();
            if before == Gap::Some && chars.next().is_none() {
                return false;
            }
            if behind == Gap::Some && chars.next_back().is_none() {
                return false;
            }
            chars.as_str().contains(literal)
        }
    }
}

/// Nothing, or gaps around one literal. Two gaps in a row are none of ours.
fn affixed(parts: &[Hir]) -> Option<Shape> {
    let (before, parts) = match parts.split_first() {
        Some((first, rest)) if gap(first).is_some() => (gap(first)?, rest),
        _ => (Gap::None, parts),
    };
    let (literal, parts) = match parts.split_first() {
        Some((first, rest)) if let HirKind::Literal(literal) = first.kind() => {
            (std::str::from_utf8(&literal.0).ok()?, rest)
        }
        _ => ("", parts),
    };
    let (behind, parts) = match parts.split_first() {
        Some((first, rest)) if gap(first).is_some() => (gap(first)?, rest),
        _ => (Gap::None, parts),
    };
    let fits = parts.is_empty() && (!literal.is_empty() || before == Gap::None || behind == Gap::None);
    fits.then(|| Shape::Affixed { before, literal: literal.to_owned(), behind })
}

fn gap(hir: &Hir) -> Option<Gap> {
    let HirKind::Repetition(repetition) = hir.kind() else { return None };
    let HirKind::Class(Class::Unicode(class)) = repetition.sub.kind() else { return None };
    let is_any = class.ranges() == [ClassUnicodeRange::new('\0', char::MAX)];
    match (is_any, repetition.min, repetition.max) {
        (true, 0, None) => Some(Gap::Any),
        (true, 1, None) => Some(Gap::Some),
        _ => None,
    }
}

fn leading(parts: &[Hir]) -> String {
    let mut parts = parts.iter().skip_while(|part| matches!(part.kind(), HirKind::Look(Look::Start)));
    parts.next().and_then(literal).unwrap_or_default()
}

fn trailing(parts: &[Hir]) -> String {
    let mut parts = parts.iter().rev().skip_while(|part| matches!(part.kind(), HirKind::Look(Look::End)));
    parts.next().and_then(literal).unwrap_or_default()
}

fn literal(hir: &Hir) -> Option<String> {
    let HirKind::Literal(literal) = hir.kind() else { return None };
    std::str::from_utf8(&literal.0).ok().map(str::to_owned)
}

/// How much may still be written out.
struct Budget {
    bytes: usize,
    values: usize,
}

impl Budget {
    fn take(&mut self, bytes: usize) -> Option<()> {
        self.bytes = self.bytes.checked_sub(bytes)?;
        self.values = self.values.checked_sub(1)?;
        Some(())
    }
}

/// The texts a tree stands for, if they are few; perhaps not sorted, perhaps the same twice.
fn values(hir: &Hir, budget: &mut Budget) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => {
            budget.take(0)?;
            Some(vec![String::new()])
        }
        HirKind::Literal(literal) => {
            budget.take(literal.0.len())?;
            Some(vec![std::str::from_utf8(&literal.0).ok()?.to_owned()])
        }
        HirKind::Capture(capture) => values(&capture.sub, budget),
        HirKind::Class(Class::Unicode(class)) => class_values(class, budget),
        HirKind::Concat(parts) => parts.iter().try_fold(vec![String::new()], |heads, part| {
            let tails = values(part, budget)?;
            if let [tail] = tails.as_slice() {
                return Some(heads.into_iter().map(|head| head + tail).collect());
            }
            let mut joined = Vec::with_capacity(heads.len().checked_mul(tails.len()).filter(|n| *n <= SET_VALUES_MAX)?);
            for (head, tail) in heads.iter().flat_map(|head| tails.iter().map(move |tail| (head, tail))) {
                budget.take(head.len() + tail.len())?;
                joined.push(format!("{head}{tail}"));
            }
            Some(joined)
        }),
        HirKind::Alternation(options) => {
            let mut texts = Vec::new();
            for option in options {
                texts.extend(values(option, budget)?);
            }
            Some(texts)
        }
        HirKind::Repetition(repetition) if (repetition.min, repetition.max) == (0, Some(1)) => {
            let mut texts = values(&repetition.sub, budget)?;
            texts.push(String::new());
            Some(texts)
        }
        // The ends of the value, where a pattern begins and ends anyway, would be nothing; they are rare.
        HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) | HirKind::Repetition(_) => None,
    }
}

fn class_values(class: &ClassUnicode, budget: &mut Budget) -> Option<Vec<String>> {
    let count: usize = class.ranges().iter().map(ClassUnicodeRange::len).sum();
    if count > SET_VALUES_MAX {
        return None;
    }
    let mut texts = Vec::with_capacity(count);
    for c in class.ranges().iter().flat_map(|range| range.start()..=range.end()) {
        budget.take(c.len_utf8())?;
        texts.push(String::from(c));
    }
    Some(texts)
}
