//! `label_replace` and `label_join`.

use pharos_model::{METRIC_NAME, StepRange};
use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;

use crate::engine::QueryError;
use crate::engine::eval::{Evaluator, text};
use crate::engine::plan::Call;
use crate::engine::series::{Series, SeriesIter, build, builder_of};

/// Compiled patterns larger than this are refused.
const REGEX_BYTES_MAX: usize = 10 << 20;

impl Evaluator<'_> {
    pub(super) fn label_replace<'a>(&'a self, call: &'a Call, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let (target, replacement) = (text(&call.args[1])?, text(&call.args[2])?);
        let (source, pattern) = (text(&call.args[3])?, text(&call.args[4])?);
        let regex = anchored(pattern)?;
        if !is_label_name(target) {
            return Err(QueryError::execution(format!("invalid destination label name in label_replace(): {target}")));
        }
        let template = Template::parse(replacement, &regex);
        let mut captures = regex.create_captures();
        let input = self.vector(&call.args[0], steps)?;
        let output = input.map(move |series| {
            let mut series = series?;
            let value = series.labels.get(source).unwrap_or("");
            regex.captures(value, &mut captures);
            if captures.is_match() {
                let expanded = template.expand(value, &captures);
                set_label(&mut series, target, &expanded);
            }
            Ok(series)
        });
        self.merged(Box::new(output))
    }

    pub(super) fn label_join<'a>(&'a self, call: &'a Call, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let (target, separator) = (text(&call.args[1])?, text(&call.args[2])?);
        if !is_label_name(target) {
            return Err(QueryError::execution(format!("invalid destination label name in label_join(): {target}")));
        }
        let sources = call.args[3..].iter().map(text).collect::<Result<Vec<_>, _>>()?;
        if let Some(wrong) = sources.iter().find(|name| !is_label_name(name)) {
            return Err(QueryError::execution(format!("invalid source label name in label_join(): {wrong}")));
        }
        let input = self.vector(&call.args[0], steps)?;
        let output = input.map(move |series| {
            let mut series = series?;
            let values: Vec<&str> = sources.iter().map(|name| series.labels.get(name).unwrap_or("")).collect();
            let value = values.join(separator);
            set_label(&mut series, target, &value);
            Ok(series)
        });
        self.merged(Box::new(output))
    }
}

/// Any UTF-8 but the empty text. The parser has made U+FFFD of what was none.
fn is_label_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::REPLACEMENT_CHARACTER)
}

/// Sets a label; a name given anew is no longer to be removed.
fn set_label(series: &mut Series, name: &str, value: &str) {
    let mut builder = builder_of(&series.labels);
    builder.set(name, value);
    series.labels = build(builder);
    if name == METRIC_NAME {
        series.drop_name = false;
    }
}

fn anchored(pattern: &str) -> Result<Regex, QueryError> {
    use regex_syntax::hir::{Hir, Look};
    let invalid =
        |_: String| QueryError::execution(format!("invalid regular expression in label_replace(): {pattern}"));
    let hir = regex_syntax::ParserBuilder::new()
        .dot_matches_new_line(true)
        .build()
        .parse(pattern)
        .map_err(|error| invalid(error.to_string()))?;
    let hir = Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]);
    Regex::builder()
        .configure(Regex::config().nfa_size_limit(Some(REGEX_BYTES_MAX)).onepass_size_limit(Some(REGEX_BYTES_MAX)))
        .build_from_hir(&hir)
        .map_err(|error| invalid(error.to_string()))
}

/// A replacement text with `$1`, `$name` and `${name}`.
struct Template(Vec<Piece>);

enum Piece {
    Text(String),
    Group(usize),
}

impl Template {
    /// Unknown groups are empty, `$$` is a dollar, a `$` that names nothing stays.
    ///
    /// Source: Go, `regexp.Regexp.Expand`.
    fn parse(mut text: &str, regex: &Regex) -> Self {
        let mut pieces = Vec::new();
        while let Some(dollar) = text.find('$') {
            pieces.push(Piece::Text(text[..dollar].to_owned()));
            let rest = &text[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                pieces.push(Piece::Text("$".to_owned()));
                text = after;
                continue;
            }
            let Some((name, after)) = reference(rest) else {
                pieces.push(Piece::Text("$".to_owned()));
                text = rest;
                continue;
            };
            if let Some(group) = group_index(name, regex) {
                pieces.push(Piece::Group(group));
            }
            text = after;
        }
        pieces.push(Piece::Text(text.to_owned()));
        Self(pieces)
    }

    fn expand(&self, value: &str, captures: &Captures) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Group(group) => {
                    text.push_str(captures.get_group(*group).map_or("", |span| &value[span.range()]));
                }
            }
        }
        text
    }
}

/// The name of a group after a `$`, in braces or not, and what follows; `None` if there is none.
fn reference(text: &str) -> Option<(&str, &str)> {
    let braced = text.strip_prefix('{');
    let text = braced.unwrap_or(text);
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = if braced.is_some() { rest.strip_prefix('}')? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}

/// A number without leading zeros is the index of a group, all else its name.
fn group_index(name: &str, regex: &Regex) -> Option<usize> {
    let infos = regex.group_info();
    let is_index = name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if is_index {
        let index = name.parse().ok()?;
        return (index < infos.group_len(regex_automata::PatternID::ZERO)).then_some(index);
    }
    infos.to_index(regex_automata::PatternID::ZERO, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_expand_as_in_go() {
        let expand = |pattern: &str, template: &str, value: &str| {
            let regex = anchored(pattern).unwrap();
            let mut captures = regex.create_captures();
            regex.captures(value, &mut captures);
            captures.is_match().then(|| Template::parse(template, &regex).expand(value, &captures))
        };
        let check = |template: &str, expected: &str| {
            assert_eq!(expand("(?P<a>.)(.*)", template, "xyz").as_deref(), Some(expected), "{template}");
        };
        check("$1-$2", "x-yz");
        check("${1}0$10", "x0");
        check("$a${a}b", "xxb");
        check("$$1 $", "$1 $");
        check("${2", "${2");
        check("$3|${c}", "|");
        check("$01|${1 }|$-|${}", "|${1 }|$-|${}");
        assert_eq!(expand("y", "$1", "xyz"), None);
    }
}
