//! Classes of characters: in brackets, by escapes, by Unicode's names.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

use super::scripts::{CATEGORIES, SCRIPTS};
use super::{FOLDED_CHARS_PER_RANGE, Parser, error};

/// Classes of `[:name:]`; POSIX's, and ASCII.
const POSIX: [(&str, &[(char, char)]); 14] = [
    ("alnum", &[('0', '9'), ('A', 'Z'), ('a', 'z')]),
    ("alpha", &[('A', 'Z'), ('a', 'z')]),
    ("ascii", &[('\0', '\x7f')]),
    ("blank", &[('\t', '\t'), (' ', ' ')]),
    ("cntrl", &[('\0', '\x1f'), ('\x7f', '\x7f')]),
    ("digit", DIGIT),
    ("graph", &[('!', '~')]),
    ("lower", &[('a', 'z')]),
    ("print", &[(' ', '~')]),
    ("punct", &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
    ("space", &[('\t', '\r'), (' ', ' ')]),
    ("upper", &[('A', 'Z')]),
    ("word", WORD),
    ("xdigit", &[('0', '9'), ('A', 'F'), ('a', 'f')]),
];
const DIGIT: &[(char, char)] = &[('0', '9')];
const WORD: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
/// Of `\s`; without the vertical tab that `[:space:]` has.
const SPACE: &[(char, char)] = &[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')];

/// Characters that have other cases are all between these; folding takes time for each character of a range.
const CASED: (char, char) = ('A', '\u{1e943}');

/// Adds the other cases of all characters. Takes time for each of those of `cased`.
pub(super) fn fold(class: &mut ClassUnicode) {
    let mut folded = cased(class);
    // It fails only where the tables of cases are not compiled in.
    let _ = folded.try_case_fold_simple();
    class.union(&folded);
}

/// Those of the characters that may have other cases.
fn cased(class: &ClassUnicode) -> ClassUnicode {
    let mut cased = class.clone();
    cased.intersect(&class_of(&[CASED]));
    cased
}

fn class_of(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|(first, last)| ClassUnicodeRange::new(*first, *last)))
}

impl<'a> Parser<'a> {
    /// `[…]`; the bracket was read, it stands at the beginning of `start`.
    pub(super) fn bracket(&mut self, start: &'a str) -> Result<(), String> {
        let negated = self.rest.starts_with('^');
        self.rest = self.rest.strip_prefix('^').unwrap_or(self.rest);
        let (mut class, mut first) = (ClassUnicode::empty(), true);
        while first || !self.rest.starts_with(']') {
            first = false;
            if let Some(named) = self.posix_class()? {
                class.union(&named);
            } else if let Some(escaped) = self.escaped_class()? {
                class.union(&escaped);
            } else {
                let range = self.class_range(start)?;
                class.union(&range);
            }
        }
        self.rest = &self.rest[1..];
        if negated {
            class.negate();
        }
        self.push_class(class)
    }

    /// A character or a range of them.
    fn class_range(&mut self, bracket: &'a str) -> Result<ClassUnicode, String> {
        let start = self.rest;
        let low = self.class_char(bracket)?;
        let mut high = low;
        // In `[a-]` both are themselves.
        if let Some(rest) = self.rest.strip_prefix('-').filter(|rest| !rest.is_empty() && !rest.starts_with(']')) {
            self.rest = rest;
            high = self.class_char(bracket)?;
            if high < low {
                return Err(error("invalid character class range", self.since(start)));
            }
        }
        // Surrogates, which no text has, shrink the range, perhaps to nothing.
        let low = char::from_u32(low).unwrap_or('\u{e000}');
        let high = char::from_u32(high).unwrap_or('\u{d7ff}');
        let mut class = if low <= high { class_of(&[(low, high)]) } else { ClassUnicode::empty() };
        self.fold_if_asked(&mut class)?;
        Ok(class)
    }

    fn class_char(&mut self, bracket: &'a str) -> Result<u32, String> {
        match self.rest.chars().next() {
            None => Err(error("missing closing ]", bracket)),
            Some('\\') => self.escape(),
            Some(_) => Ok(self.bump().map_or(0, u32::from)),
        }
    }

    fn fold_if_asked(&mut self, class: &mut ClassUnicode) -> Result<(), String> {
        if self.flags.fold_case {
            let chars: usize = cased(class).ranges().iter().map(ClassUnicodeRange::len).sum();
            self.charge(chars / FOLDED_CHARS_PER_RANGE)?;
            fold(class);
        }
        Ok(())
    }

    /// `[:name:]` or `[:^name:]`, if that is next.
    fn posix_class(&mut self) -> Result<Option<ClassUnicode>, String> {
        let start = self.rest;
        let Some((name, rest)) = start.strip_prefix("[:").and_then(|inner| inner.split_once(":]")) else {
            return Ok(None);
        };
        self.rest = rest;
        let (negated, plain) = (name.starts_with('^'), name.strip_prefix('^').unwrap_or(name));
        let Some((_, ranges)) = POSIX.iter().find(|(known, _)| *known == plain) else {
            return Err(error("invalid character class range", self.since(start)));
        };
        self.finish(class_of(ranges), negated).map(Some)
    }

    fn finish(&mut self, mut class: ClassUnicode, negated: bool) -> Result<ClassUnicode, String> {
        self.fold_if_asked(&mut class)?;
        if negated {
            class.negate();
        }
        Ok(class)
    }

    /// `\d`, `\pL`, `\p{Greek}` and their kin, if that is next.
    pub(super) fn escaped_class(&mut self) -> Result<Option<ClassUnicode>, String> {
        let start = self.rest;
        let Some(escape) = start.strip_prefix('\\') else { return Ok(None) };
        let mut after = escape.chars();
        let kind = after.next().unwrap_or('\\');
        let ranges = match kind.to_ascii_lowercase() {
            'd' => DIGIT,
            's' => SPACE,
            'w' => WORD,
            'p' => {
                self.rest = after.as_str();
                return self.unicode_class(start, kind == 'P').map(Some);
            }
            _ => return Ok(None),
        };
        self.rest = after.as_str();
        self.finish(class_of(ranges), kind.is_ascii_uppercase()).map(Some)
    }

    /// The name behind `\p`; the escape stands at the beginning of `start`.
    fn unicode_class(&mut self, start: &'a str, negated: bool) -> Result<ClassUnicode, String> {
        let name = if let Some(braced) = self.rest.strip_prefix('{') {
            let Some((name, rest)) = braced.split_once('}') else {
                return Err(error("invalid character class range", start));
            };
            self.rest = rest;
            name
        } else {
            let rest = self.rest;
            self.bump();
            self.since(rest)
        };
        let (inverted, plain) = (name.starts_with('^'), name.strip_prefix('^').unwrap_or(name));
        let Some(class) = unicode_table(plain) else {
            return Err(error("invalid character class range", self.since(start)));
        };
        self.charge(class.ranges().len())?;
        self.finish(class, negated != inverted)
    }
}

/// The class of a category or a script. Their names are exact, unlike those of the regex crates.
fn unicode_table(name: &str) -> Option<ClassUnicode> {
    let property = match name {
        "Any" => return Some(class_of(&[('\0', char::MAX)])),
        "Cs" => return Some(ClassUnicode::empty()), // surrogates
        _ if CATEGORIES.contains(&name) => "gc",
        _ if SCRIPTS.binary_search(&name).is_ok() => "sc",
        _ => return None,
    };
    let hir = regex_syntax::parse(&format!("\\p{{{property}={name}}}")).ok()?;
    match hir.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        HirKind::Literal(literal) => {
            let c = std::str::from_utf8(&literal.0).ok()?.chars().next()?;
            Some(class_of(&[(c, c)]))
        }
        _ => None,
    }
}
