//! What an evaluation must answer: rows, a number, a text, a failure, warnings and infos.

use pharos_model::StepRange;
use regex_automata::meta::Regex;

use super::command::{split_word, steps};
use super::scan::Scan;
use super::series::SeriesText;
use crate::quote::unquote;

/// What a result is compared with.
#[derive(Debug, Clone, Default)]
pub(super) struct Expectation {
    /// Expected series; without any, and without a number or text, the result must be empty.
    pub(super) rows: Vec<SeriesText>,
    pub(super) scalar: Option<f64>,
    pub(super) string: Option<String>,
    /// Rows come in this very order.
    pub(super) ordered: bool,
    /// The query fails, with one of these messages if there are any.
    pub(super) failure: Option<Vec<TextPattern>>,
    pub(super) warnings: Notes,
    pub(super) infos: Notes,
    /// The times of a range vector that an instant query answers.
    pub(super) range_vector: Option<StepRange>,
}

/// What is expected of the warnings, or of the infos. By default anything goes.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    pub(super) required: bool,
    pub(super) forbidden: bool,
    /// Each must be met by a note, and each note must meet one.
    pub(super) texts: Vec<TextPattern>,
}

#[derive(Debug, Clone)]
pub(super) enum TextPattern {
    Exact(String),
    Matches(Regex),
}

impl TextPattern {
    pub(super) fn is_met_by(&self, text: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == text,
            Self::Matches(regex) => regex.is_match(text),
        }
    }
}

impl Expectation {
    pub(super) fn failure() -> Self {
        Self { failure: Some(Vec::new()), ..Self::default() }
    }

    pub(super) fn warning() -> Self {
        Self { warnings: Notes { required: true, ..Notes::default() }, ..Self::default() }
    }

    pub(super) fn info() -> Self {
        Self { infos: Notes { required: true, ..Notes::default() }, ..Self::default() }
    }

    pub(super) fn ordered() -> Self {
        Self { ordered: true, ..Self::default() }
    }

    /// Adds what one line below an `eval` says.
    pub(super) fn read_line(&mut self, line: &str) -> Result<(), String> {
        let (word, rest) = split_word(line);
        match word {
            "expect" => self.read_expect(rest),
            "expected_fail_message" => self.add_failure(Some(TextPattern::Exact(rest.to_owned()))),
            "expected_fail_regexp" => self.add_failure(Some(matching(rest)?)),
            _ => {
                if let Some(value) = number(line) {
                    self.scalar = Some(value);
                } else {
                    self.rows.push(SeriesText::parse(line)?);
                }
                Ok(())
            }
        }
    }

    fn read_expect(&mut self, text: &str) -> Result<(), String> {
        let (kind, rest) = split_word(text);
        match kind {
            "ordered" => self.ordered = true,
            "fail" => return self.add_failure(pattern(rest)?),
            "warn" => self.warnings.require(pattern(rest)?),
            "info" => self.infos.require(pattern(rest)?),
            "no_warn" => self.warnings.forbidden = true,
            "no_info" => self.infos.forbidden = true,
            "string" => {
                if rest.len() < 2 {
                    return Err("a quoted text is expected".to_owned());
                }
                self.string = Some(String::from_utf8_lossy(&unquote(rest)).into_owned());
            }
            "range" => {
                let (what, rest) = split_word(rest);
                if what != "vector" {
                    return Err(format!("\"vector\" is expected, not {what:?}"));
                }
                self.range_vector = Some(steps(rest)?.0);
            }
            other => return Err(format!("unknown expectation {other:?}")),
        }
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "the end of branches whose others can fail")]
    fn add_failure(&mut self, pattern: Option<TextPattern>) -> Result<(), String> {
        self.failure.get_or_insert_default().extend(pattern);
        Ok(())
    }
}

impl Notes {
    fn require(&mut self, pattern: Option<TextPattern>) {
        self.required = true;
        self.texts.extend(pattern);
    }
}

/// `msg: text`, `regex: expression`, or nothing.
fn pattern(text: &str) -> Result<Option<TextPattern>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.split_once(':') {
        Some(("msg", message)) => Ok(Some(TextPattern::Exact(message.trim().to_owned()))),
        Some(("regex", expression)) => matching(expression.trim()).map(Some),
        _ => Err(format!("\"msg:\" or \"regex:\" is expected, not {text:?}")),
    }
}

fn matching(expression: &str) -> Result<TextPattern, String> {
    Regex::new(expression).map(TextPattern::Matches).map_err(|error| error.to_string())
}

/// A line that is a number and nothing else.
fn number(line: &str) -> Option<f64> {
    let mut scan = Scan::new(line);
    scan.float().ok().filter(|_| scan.rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expectation(lines: &[&str]) -> Expectation {
        let mut expectation = Expectation::default();
        for line in lines {
            expectation.read_line(line).unwrap();
        }
        expectation
    }

    #[test]
    fn every_kind_of_line_is_understood() {
        let found = expectation(&[
            "expect ordered",
            "expect warn msg: PromQL warning: a: b (1:2)",
            "expect info regex: ^Prom",
            "expect no_info",
            "expect range vector from 0 to 1m step 10s",
            "a{b=\"c\"} 1 2",
        ]);
        assert!(found.ordered && found.warnings.required && found.infos.forbidden);
        assert!(found.warnings.texts[0].is_met_by("PromQL warning: a: b (1:2)"));
        assert!(found.infos.texts[0].is_met_by("PromQL info"));
        assert_eq!(found.range_vector.map(StepRange::len), Some(7));
        assert_eq!(found.rows[0].points.len(), 2);
        assert_eq!(expectation(&["-Inf"]).scalar, Some(f64::NEG_INFINITY));
        assert_eq!(expectation(&["expect string `a\\`"]).string.as_deref(), Some("a\\"));
        assert_eq!(expectation(&["expect fail msg:gone"]).failure.map(|texts| texts.len()), Some(1));
    }

    #[test]
    fn unknown_expectations_are_refused() {
        for line in ["expect nothing", "expect warn loud", "expect range scalar", "expect fail regex: ("] {
            assert!(Expectation::default().read_line(line).is_err(), "{line}");
        }
    }
}
