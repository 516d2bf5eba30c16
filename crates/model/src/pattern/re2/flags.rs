//! Flags and what stands behind `(?`.

use super::{Parser, error};

/// What `(?imsU)` switches. `s` is on at the start of a pattern, as Prometheus has it.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the language")]
pub(super) struct Flags {
    /// `i`: upper and lower case are alike.
    pub(super) fold_case: bool,
    /// `m`: `^` and `$` match at the ends of lines.
    pub(super) multi_line: bool,
    /// `s`: `.` matches newlines.
    pub(super) dot_newline: bool,
    /// `U`: repetitions prefer few copies, with `?` behind them many.
    pub(super) swap_greed: bool,
}

impl Default for Flags {
    fn default() -> Self {
        Self { fold_case: false, multi_line: false, dot_newline: true, swap_greed: false }
    }
}

impl<'a> Parser<'a> {
    /// `(?P<name>`, `(?<name>`, `(?flags)` or `(?flags:`; the parenthesis was read, it stands at the beginning of `start`.
    pub(super) fn flags_or_group(&mut self, start: &'a str) -> Result<(), String> {
        let named = start.strip_prefix("(?P<").or_else(|| start.strip_prefix("(?<"));
        if let Some(name) = named.filter(|name| !name.is_empty()) {
            return self.named_group(start, name);
        }
        self.rest = &self.rest[1..];
        let (mut flags, mut value, mut saw_flag) = (self.flags, true, false);
        while let Some(c) = self.bump() {
            match c {
                'i' => flags.fold_case = value,
                'm' => flags.multi_line = value,
                's' => flags.dot_newline = value,
                'U' => flags.swap_greed = value,
                '-' if value => value = false,
                ':' | ')' if value || saw_flag => {
                    if c == ':' {
                        self.open_group(None)?;
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            saw_flag = c != '-';
        }
        Err(error("invalid or unsupported Perl syntax", self.since(start)))
    }

    fn named_group(&mut self, start: &'a str, name: &'a str) -> Result<(), String> {
        let Some((name, rest)) = name.split_once('>') else {
            return Err(error("invalid named capture", start));
        };
        self.rest = rest;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(error("invalid named capture", self.since(start)));
        }
        self.group_count += 1;
        self.group_names.push((name.to_owned(), self.group_count));
        self.open_group(Some(self.group_count))
    }
}
