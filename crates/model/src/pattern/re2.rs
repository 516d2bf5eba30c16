//! RE2's dialect as Prometheus speaks it: from a pattern's text to a syntax tree.
//!
//! Owns the grammar and its errors, whose texts are Go's. What follows the tree (automata, searches) is the regex crates'
//! business; what differs in their own dialect is decided here: `\d \w \s \b` and POSIX classes are ASCII, `.` matches
//! newlines unless `(?-s)` says otherwise, `\Q…\E` quotes, `\pN` and octal escapes exist, `\C` does not, braces that are no
//! repetition are themselves, and a repetition copies its operand at most 1000 times.
//!
//! Invariants
//! - R1 Neither time nor memory nor depth of the tree exceed what the text's length and the limits below allow; groups
//!   live on a stack of the heap.
//!
//! Source: Go, `regexp/syntax`.

mod class;
mod escape;
mod flags;
mod scripts;

use regex_syntax::hir::{Capture, Class, ClassUnicode, ClassUnicodeRange, Hir, Look, Repetition};

use self::class::fold;
use self::flags::Flags;

/// Deepest nesting of groups.
const NESTING_MAX: usize = 250;
/// Most copies of an operand that repetitions around it make, as in Go.
const COPIES_MAX: u32 = 1000;
/// Most ranges of characters in all classes together.
const CLASS_RANGES_MAX: usize = 200_000;
/// So many characters to find other cases of cost as much as a range.
const FOLDED_CHARS_PER_RANGE: usize = 16;

/// A pattern's tree and what it says of its groups.
pub(super) struct Parsed {
    /// With captures numbered from 1, without their names.
    pub(super) hir: Hir,
    /// The names of groups, in the order of the text; a name may come twice.
    pub(super) group_names: Vec<(String, u32)>,
}

/// Parses a pattern. The error is what Go says behind "error parsing regexp: ".
pub(super) fn parse(text: &str) -> Result<Parsed, String> {
    let mut parser = Parser {
        text,
        rest: text,
        flags: Flags::default(),
        groups: Vec::new(),
        open: Open::default(),
        group_count: 0,
        group_names: Vec::new(),
        class_ranges: 0,
        repetition_at: None,
    };
    while !parser.rest.is_empty() {
        parser.next()?;
    }
    if !parser.groups.is_empty() {
        return Err(error("missing closing )", text));
    }
    Ok(Parsed { hir: parser.open.close().hir, group_names: parser.group_names })
}

/// A message with the part of the pattern at fault.
fn error(message: &str, part: &str) -> String {
    format!("{message}: `{part}`")
}

/// A tree and how often repetitions within it copy their innermost operand.
struct Node {
    hir: Hir,
    copies: u32,
}

/// What stands in a group so far: alternatives, the last one still open.
#[derive(Default)]
struct Open {
    alternatives: Vec<Node>,
    sequence: Vec<Node>,
    /// Characters behind `sequence` that are themselves; a tree of each would be large.
    literal: String,
}

impl Open {
    fn push(&mut self, node: Node) {
        self.end_literal();
        self.sequence.push(node);
    }

    fn end_literal(&mut self) {
        if !self.literal.is_empty() {
            let literal = std::mem::take(&mut self.literal);
            self.sequence.push(Node { hir: Hir::literal(literal.into_bytes()), copies: 1 });
        }
    }

    /// What a repetition operator applies to.
    fn pop(&mut self) -> Option<Node> {
        let Some(c) = self.literal.pop() else { return self.sequence.pop() };
        self.end_literal();
        Some(Node { hir: Hir::literal(c.encode_utf8(&mut [0; 4]).as_bytes()), copies: 1 })
    }

    fn end_alternative(&mut self) {
        self.end_literal();
        let sequence = std::mem::take(&mut self.sequence);
        let copies = sequence.iter().map(|node| node.copies).max().unwrap_or(1);
        let hir = Hir::concat(sequence.into_iter().map(|node| node.hir).collect());
        self.alternatives.push(Node { hir, copies });
    }

    fn close(mut self) -> Node {
        self.end_alternative();
        let copies = self.alternatives.iter().map(|node| node.copies).max().unwrap_or(1);
        let hir = Hir::alternation(self.alternatives.into_iter().map(|node| node.hir).collect());
        Node { hir, copies }
    }
}

/// A group whose end is still to come: what stood before it, and what ends with it.
struct Group {
    outer: Open,
    flags: Flags,
    capture: Option<u32>,
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    flags: Flags,
    groups: Vec<Group>,
    open: Open,
    group_count: u32,
    group_names: Vec<(String, u32)>,
    class_ranges: usize,
    /// Where the repetition operator stands that was read just before, if that was one.
    repetition_at: Option<usize>,
}

impl<'a> Parser<'a> {
    /// Reads one element. The caller saw that the text goes on.
    fn next(&mut self) -> Result<(), String> {
        let repetition_at = self.repetition_at.take();
        let start = self.rest;
        let Some(c) = self.bump() else { return Ok(()) };
        match c {
            '(' if self.rest.starts_with('?') => self.flags_or_group(start),
            '(' => {
                self.group_count += 1;
                self.open_group(Some(self.group_count))
            }
            '|' => {
                self.open.end_alternative();
                Ok(())
            }
            ')' => self.close_group(),
            '^' => {
                self.push(Hir::look(if self.flags.multi_line { Look::StartLF } else { Look::Start }));
                Ok(())
            }
            '$' => {
                self.push(Hir::look(if self.flags.multi_line { Look::EndLF } else { Look::End }));
                Ok(())
            }
            '.' => {
                let all = ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)]);
                let line = [ClassUnicodeRange::new('\0', '\t'), ClassUnicodeRange::new('\u{b}', char::MAX)];
                self.push_class(if self.flags.dot_newline { all } else { ClassUnicode::new(line) })
            }
            '[' => self.bracket(start),
            '*' => self.repeat(start, repetition_at, 0, None),
            '+' => self.repeat(start, repetition_at, 1, None),
            '?' => self.repeat(start, repetition_at, 0, Some(1)),
            '{' => self.counted(start, repetition_at),
            '\\' => self.backslash(start),
            c => self.push_literal(Some(c)),
        }
    }

    fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
    }

    /// The text from `start` up to what comes next.
    fn since(&self, start: &'a str) -> &'a str {
        &start[..start.len() - self.rest.len()]
    }

    fn push(&mut self, hir: Hir) {
        self.open.push(Node { hir, copies: 1 });
    }

    /// One character; `None` is a code point that no text has.
    fn push_literal(&mut self, c: Option<char>) -> Result<(), String> {
        let Some(c) = c else {
            self.push(Hir::fail());
            return Ok(());
        };
        if self.flags.fold_case {
            let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
            fold(&mut class);
            return self.push_class(class);
        }
        self.open.literal.push(c);
        Ok(())
    }

    fn push_class(&mut self, class: ClassUnicode) -> Result<(), String> {
        self.charge(class.ranges().len())?;
        self.push(Hir::class(Class::Unicode(class)));
        Ok(())
    }

    /// Counts ranges of classes towards their limit.
    fn charge(&mut self, ranges: usize) -> Result<(), String> {
        self.class_ranges += ranges;
        if self.class_ranges > CLASS_RANGES_MAX {
            return Err(error("expression too large", self.text));
        }
        Ok(())
    }

    fn open_group(&mut self, capture: Option<u32>) -> Result<(), String> {
        if self.groups.len() >= NESTING_MAX {
            return Err(error("expression nests too deeply", self.text));
        }
        self.groups.push(Group { outer: std::mem::take(&mut self.open), flags: self.flags, capture });
        Ok(())
    }

    /// Flags that changed within the group end with it.
    fn close_group(&mut self) -> Result<(), String> {
        let Some(group) = self.groups.pop() else { return Err(error("unexpected )", self.text)) };
        let Node { mut hir, copies } = std::mem::replace(&mut self.open, group.outer).close();
        self.flags = group.flags;
        if let Some(index) = group.capture {
            hir = Hir::capture(Capture { index, name: None, sub: Box::new(hir) });
        }
        self.open.push(Node { hir, copies });
        Ok(())
    }

    /// Applies the operator that stands at the beginning of `start` and was read to the last element.
    fn repeat(
        &mut self,
        start: &'a str,
        repetition_at: Option<usize>,
        min: u32,
        max: Option<u32>,
    ) -> Result<(), String> {
        let mut greedy = !self.flags.swap_greed;
        if let Some(rest) = self.rest.strip_prefix('?') {
            self.rest = rest;
            greedy = !greedy;
        }
        let operator = self.since(start);
        let start_at = self.text.len() - start.len();
        if let Some(earlier_at) = repetition_at {
            let both = &self.text[earlier_at..start_at + operator.len()];
            return Err(error("invalid nested repetition operator", both));
        }
        let Some(Node { hir, copies }) = self.open.pop() else {
            return Err(error("missing argument to repetition operator", operator));
        };
        // Without an upper bound the copies are those of the lower; `{0}` makes none of whatever is within.
        let factor = match (min, max) {
            (_, Some(0)) => 0,
            (0 | 1, None) => 1,
            (min, max) => max.unwrap_or(min),
        };
        let copies = copies.saturating_mul(factor);
        if copies > COPIES_MAX && (min >= 2 || max.is_some_and(|max| max >= 2)) {
            return Err(error("invalid repeat count", operator));
        }
        let hir = Hir::repetition(Repetition { min, max, greedy, sub: Box::new(hir) });
        self.open.push(Node { hir, copies });
        self.repetition_at = Some(start_at);
        Ok(())
    }

    /// `{2}`, `{2,}`, `{2,5}`; any other brace is itself.
    fn counted(&mut self, start: &'a str, repetition_at: Option<usize>) -> Result<(), String> {
        let Some((min, max, rest)) = counts(self.rest) else { return self.push_literal(Some('{')) };
        self.rest = rest;
        let (min, max) = match (min, max) {
            (Some(min), Some(Some(max))) if min <= COPIES_MAX && max <= COPIES_MAX && min <= max => (min, Some(max)),
            (Some(min), None) if min <= COPIES_MAX => (min, None),
            _ => return Err(error("invalid repeat count", self.since(start))),
        };
        self.repeat(start, repetition_at, min, max)
    }
}

/// A count, `None` if it is too large to be one.
type Count = Option<u32>;

/// The counts of a repetition up to its closing brace, and what follows; no upper bound is `None`.
fn counts(text: &str) -> Option<(Count, Option<Count>, &str)> {
    let (min, rest) = count(text)?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((min, Some(min), rest));
    }
    let rest = rest.strip_prefix(',')?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((min, None, rest));
    }
    let (max, rest) = count(rest)?;
    Some((min, Some(max), rest.strip_prefix('}')?))
}

/// A decimal without leading zeros.
fn count(text: &str) -> Option<(Count, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    if number.is_empty() || (number.len() > 1 && number.starts_with('0')) {
        return None;
    }
    Some((number.parse().ok(), rest))
}
