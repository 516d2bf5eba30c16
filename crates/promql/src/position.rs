//! Where a piece of query text stands: byte spans, and the `line:column` that people read.

/// Byte offsets into the query text, `[start, end)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The span from byte `start` up to, but without, byte `end`.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        Self { start: saturate(start), end: saturate(end) }
    }

    /// The smallest span that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The text under this span; empty where the span does not fit `text`.
    #[must_use]
    pub fn text(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

fn saturate(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

/// A place people can find: both numbers count from 1, the column in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineColumn {
    /// Line, from 1.
    pub line: usize,
    /// Byte within the line, from 1.
    pub column: usize,
}

impl LineColumn {
    /// The place of byte `offset` in `text`; an offset behind the end means the end. In an empty text there is no place:
    /// both numbers are 0.
    #[must_use]
    pub fn of(text: &str, offset: u32) -> Self {
        if text.is_empty() {
            return Self { line: 0, column: 0 };
        }
        let offset = (offset as usize).min(text.len());
        let before = &text.as_bytes()[..offset];
        let line = before.split(|byte| *byte == b'\n').count();
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Self { line, column: offset - line_start + 1 }
    }
}

impl std::fmt::Display for LineColumn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line == 0 {
            return f.write_str("unknown position");
        }
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_from_one_on_every_line() {
        let text = "a +\n  b";
        assert_eq!(LineColumn::of(text, 0).to_string(), "1:1");
        assert_eq!(LineColumn::of(text, 3).to_string(), "1:4");
        assert_eq!(LineColumn::of(text, 6).to_string(), "2:3");
        assert_eq!(LineColumn::of(text, 99).to_string(), "2:4");
        assert_eq!(LineColumn::of("", 0).to_string(), "unknown position");
    }
}
