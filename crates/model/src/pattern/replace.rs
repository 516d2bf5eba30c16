//! Replacing what a pattern matches by a template, as `label_replace` does.

use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;

use super::{PatternError, compile, re2};

/// A pattern that must match a whole value, and the template of what takes its place.
pub struct Replacement {
    regex: Regex,
    captures: Captures,
    pieces: Vec<Piece>,
}

enum Piece {
    Text(String),
    /// The first of these groups that took part in the match.
    Groups(Vec<usize>),
}

impl Replacement {
    /// In `template`, `$1`, `$name` and `${name}` are groups of `pattern` (empty if there is none), `$$` is a dollar; a `$`
    /// that names nothing stays. A name is as long as it can be: `$1x` is the group `1x`.
    ///
    /// # Errors
    /// [`PatternError`] if the pattern is none, or too large.
    ///
    /// Source: Go, `regexp.Regexp.Expand`.
    pub fn new(pattern: &str, template: &str) -> Result<Self, PatternError> {
        let parsed = re2::parse(pattern).map_err(PatternError::new)?;
        let regex = compile(parsed.hir, pattern)?;
        let pieces = pieces(template, &parsed.group_names);
        Ok(Self { captures: regex.create_captures(), regex, pieces })
    }

    /// What takes the place of `value`; `None` if the pattern does not match it.
    pub fn apply(&mut self, value: &str) -> Option<String> {
        self.regex.captures(value, &mut self.captures);
        if !self.captures.is_match() {
            return None;
        }
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Groups(groups) => {
                    let found = groups.iter().find_map(|group| self.captures.get_group(*group));
                    text.push_str(found.map_or("", |span| &value[span.range()]));
                }
            }
        }
        Some(text)
    }
}

fn pieces(mut template: &str, names: &[(String, u32)]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while let Some((before, after)) = template.split_once('$') {
        pieces.push(Piece::Text(before.to_owned()));
        template = after;
        if let Some(rest) = after.strip_prefix('$') {
            pieces.push(Piece::Text("$".to_owned()));
            template = rest;
        } else if let Some((name, rest)) = group_name(after) {
            pieces.push(Piece::Groups(groups(name, names)));
            template = rest;
        } else {
            pieces.push(Piece::Text("$".to_owned()));
        }
    }
    pieces.push(Piece::Text(template.to_owned()));
    pieces
}

/// The name at the beginning of `text`, in braces or not, and what follows it.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let (braced, text) = (text.starts_with('{'), text.strip_prefix('{').unwrap_or(text));
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = if braced { rest.strip_prefix('}')? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}

/// A number without leading zeros means a group by its place, anything else those of that name.
fn groups(name: &str, names: &[(String, u32)]) -> Vec<usize> {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if is_number {
        return name.parse().into_iter().collect();
    }
    names.iter().filter(|(known, _)| known == name).map(|(_, index)| *index as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, template: &str, value: &str, expected: Option<&str>) {
        let found = Replacement::new(pattern, template).unwrap().apply(value);
        assert_eq!(found.as_deref(), expected, "{pattern} {template} {value}");
    }

    #[test]
    fn templates_name_groups_as_go_has_it() {
        check("(.*)-(.*)", "$2-$1", "a-b", Some("b-a"));
        check("(.*)-(.*)", "${2}x$1x$0", "a-b", Some("bxa-b"));
        check("(?P<n>a)(?<m>b)?", "<$n${m}$$>", "a", Some("<a$>"));
        check("(a)", "$1_$ ${1 $} ${1}}$01$9", "a", Some("$ ${1 $} a}"));
        check("(?P<x>a)|(?P<x>b)", "$x", "b", Some("b"));
        check("(a)(b){0}(c)", "$3$2", "ac", Some("c"));
        check("(?P<a>.)(.*)", "$a${a}b ${1}0$10 ${2 $3|${c}", "xyz", Some("xxb x0 ${2 |"));
        check("a", "b", "ab", None);
        check("(.*)", "é$1 ü$1ü", "\n", Some("é\n ü"));
        check("(x)?", "[$1]", "", Some("[]"));
    }
}
