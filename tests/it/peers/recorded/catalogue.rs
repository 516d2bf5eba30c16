//! The questions as data: a text file of templates, multiplied out.
//!
//! ```text
//! # A comment.
//! let window = 1m | 5m
//! class rates: bits
//! rate(up[$window])
//! holt_winters(up[5m], 0.5, 0.5) ~> double_exponential_smoothing(up[5m], 0.5, 0.5)
//! up{a="\n"} !! why the two must differ
//! ```
//!
//! A template stands for every combination of the alternatives of its variables. `~>` gives the text for Pharos where a name has
//! changed between the two versions. A query after which `!!` gives a reason is asked, too: it must differ, else its reason is
//! out of date.

use super::super::compare::Exactness;

/// What is true of all questions of a class, beside how exact their answers are; in the catalogue each by its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trait {
    /// The query tells the order of an instant vector.
    Ordered,
    /// Nothing at all is an answer that is hoped for.
    MayBeEmpty,
    /// An error is what is hoped for.
    Fails,
    /// The questions are paths with their parameters and not queries.
    Paths,
    /// Ranges begin only after the samples do.
    Inside,
    InstantOnly,
    RangeOnly,
}

const TRAITS: [(&str, Trait); 7] = [
    ("ordered", Trait::Ordered),
    ("may be empty", Trait::MayBeEmpty),
    ("fails", Trait::Fails),
    ("paths", Trait::Paths),
    ("inside", Trait::Inside),
    ("instant only", Trait::InstantOnly),
    ("range only", Trait::RangeOnly),
];

/// Questions that are alike.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) name: String,
    pub(super) exactness: Exactness,
    traits: Vec<Trait>,
}

impl Class {
    pub(super) fn has(&self, which: Trait) -> bool {
        self.traits.contains(&which)
    }
}

/// One question.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) class: Class,
    pub(super) theirs: String,
    pub(super) ours: String,
    /// Why the answers differ, if they do.
    pub(super) differs: Option<String>,
}

/// Reads a catalogue and multiplies it out.
pub(super) fn read(text: &str) -> Vec<Question> {
    let (mut variables, mut class, mut questions) = (Vec::<(&str, Vec<&str>)>::new(), None, Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((name, alternatives)) = line.strip_prefix("let ").and_then(|rest| rest.split_once(" = ")) {
            variables.retain(|(known, _)| *known != name);
            variables.push((name, alternatives.split(" | ").map(str::trim).collect()));
        } else if let Some((name, options)) = line.strip_prefix("class ").and_then(|rest| rest.split_once(": ")) {
            class = Some(class_of(name, options));
        } else {
            let class = class.clone().unwrap_or_else(|| panic!("line {}: no class before it", number + 1));
            questions.extend(multiplied(line, &variables).iter().map(|line| question(line, class.clone())));
        }
    }
    questions
}

fn class_of(name: &str, options: &str) -> Class {
    let (exactness, traits) = options.split_once(", ").unwrap_or((options, ""));
    let exactness = match exactness {
        "bits" => Exactness::Bits,
        "sums" => Exactness::Sums,
        other => panic!("class {name}: first comes \"bits\" or \"sums\", not {other:?}"),
    };
    let known = |words: &str| {
        let found = TRAITS.iter().find(|(text, _)| *text == words);
        found.unwrap_or_else(|| panic!("class {name}: what is {words:?}?")).1
    };
    let traits = traits.split(", ").filter(|words| !words.is_empty()).map(known).collect();
    Class { name: name.to_owned(), exactness, traits }
}

fn question(line: &str, class: Class) -> Question {
    let (line, differs) = line.split_once(" !! ").map_or((line, None), |(line, why)| (line, Some(why.to_owned())));
    let (theirs, ours) = line.split_once(" ~> ").unwrap_or((line, line));
    Question { class, theirs: theirs.to_owned(), ours: ours.to_owned(), differs }
}

/// Every combination of the variables in `line`: the first one in it is replaced, then those in the results.
fn multiplied(line: &str, variables: &[(&str, Vec<&str>)]) -> Vec<String> {
    let first = line.match_indices('$').find_map(|(at, _)| {
        let rest = &line[at + 1..];
        let length = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(rest.len());
        let name = &rest[..length];
        // "$1" is a group of a regular expression.
        (length > 0).then(|| {
            let found = variables.iter().find(|(known, _)| *known == name);
            (name, &found.unwrap_or_else(|| panic!("no variable ${name} for {line}")).1)
        })
    });
    let Some((name, alternatives)) = first else { return vec![line.to_owned()] };
    let replaced = |alternative: &&str| multiplied(&replace(line, name, alternative), variables);
    alternatives.iter().flat_map(replaced).collect()
}

/// Replaces `$name` everywhere but in `$name_that_goes_on`.
fn replace(line: &str, name: &str, value: &str) -> String {
    let (mut out, mut rest) = (String::new(), line);
    let pattern = format!("${name}");
    while let Some((before, after)) = rest.split_once(&pattern) {
        let goes_on = after.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        out += before;
        out += if goes_on { &pattern } else { value };
        rest = after;
    }
    out + rest
}
