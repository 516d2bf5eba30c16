//! JSON as it is written by hand: the large answers, whose members are known when this is compiled.
//!
//! Every text goes through [`JsonText::text`], which leaves what must be escaped to `serde_json`; so are doubles.

use std::io;

use serde::Serialize;

/// Of an answer for people.
const INDENT: &[u8] = b"    ";
const LOWEST_BITS: u64 = u64::from_ne_bytes([1; 8]);
const HIGHEST_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Something that JSON is written to.
pub(crate) trait JsonText: io::Write + Sized {
    /// Appends bytes as they are: brackets, names of members, separators.
    fn put(&mut self, bytes: &[u8]);

    /// Takes note of a value that could not be serialized.
    fn note(&mut self, error: serde_json::Error);

    /// A text in quotes.
    fn text(&mut self, text: &str) {
        if is_plain(text.as_bytes()) {
            self.put(b"\"");
            self.put(text.as_bytes());
            self.put(b"\"");
        } else {
            self.value(text);
        }
    }

    /// An integer.
    fn number(&mut self, number: impl itoa::Integer) {
        self.put(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Whatever else.
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        if let Err(error) = serde_json::to_writer(&mut *self, value) {
            self.note(error);
        }
    }

    /// A comma before every element but the first.
    fn separate(&mut self, is_first: &mut bool) {
        if !std::mem::take(is_first) {
            self.put(b",");
        }
    }
}

impl JsonText for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    /// Vectors take all that is written, and what is written has no maps with keys that are no texts.
    fn note(&mut self, _: serde_json::Error) {}
}

/// Whether nothing in a text needs to be escaped; eight bytes at once.
fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let is_special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    !words.iter().any(|word| has_special(u64::from_ne_bytes(*word))) && !rest.iter().any(is_special)
}

/// Whether one of eight bytes is a control character, a quote or a backslash.
fn has_special(word: u64) -> bool {
    // The highest bit of bytes below `limit`: only they borrow. A borrow from a lower byte makes mistakes, but not without a
    // byte that is below.
    let below = |word: u64, limit: u8| word.wrapping_sub(LOWEST_BITS * u64::from(limit)) & !word & HIGHEST_BITS;
    let equal = |byte: u8| below(word ^ (LOWEST_BITS * u64::from(byte)), 1);
    below(word, 0x20) | equal(b'"') | equal(b'\\') != 0
}

/// Breaks compact JSON into lines, as `serde_json` does.
#[derive(Debug, Default)]
pub(crate) struct Indenter {
    depth: usize,
    /// Nothing is in the brackets that were opened last.
    is_empty: bool,
    is_in_text: bool,
    is_escaped: bool,
}

impl Indenter {
    /// Hands over what is next, with lines; `bytes` may begin and end anywhere.
    pub(crate) fn indent(&mut self, bytes: &[u8], mut put: impl FnMut(&[u8])) {
        for byte in bytes {
            if self.is_in_text {
                self.is_in_text = self.is_escaped || *byte != b'"';
                self.is_escaped = !self.is_escaped && *byte == b'\\';
                put(&[*byte]);
                continue;
            }
            let is_end = matches!(byte, b']' | b'}');
            self.depth = self.depth.saturating_sub(usize::from(is_end));
            if is_end != self.is_empty {
                self.break_line(&mut put);
            }
            self.is_empty = matches!(byte, b'[' | b'{');
            self.depth += usize::from(self.is_empty);
            self.is_in_text = *byte == b'"';
            put(&[*byte]);
            match byte {
                b',' => self.break_line(&mut put),
                b':' => put(b" "),
                _ => {}
            }
        }
    }

    fn break_line(&self, put: &mut impl FnMut(&[u8])) {
        put(b"\n");
        (0..self.depth).for_each(|_| put(INDENT));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::ser::PrettyFormatter;
    use serde_json::{Serializer, Value, json};

    use super::*;

    #[test]
    fn texts_are_written_as_serde_json_writes_them() {
        let mut texts: Vec<String> = (0..=u8::MAX)
            .flat_map(|byte| {
                // Each letter at each place of a word, and behind one.
                (0..9)
                    .map(move |at| format!("{}{}{}", "a".repeat(at), char::from(byte), "\u{7f}\u{e9}z".repeat(8 - at)))
            })
            .collect();
        texts.extend(["", "plain", "two words, and more than eight bytes", "\u{1f69a}\u{2028}\0"].map(str::to_owned));
        for text in texts {
            let mut written = Vec::new();
            written.text(&text);
            assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(&text).unwrap());
        }
    }

    #[test]
    fn every_byte_that_is_special_is_found_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for around in [0x20, 0x21, 0x7f, 0x80, 0xff, b'!', b'#', b'[', b']'] {
                let is_special = byte < 0x20 || byte == b'"' || byte == b'\\';
                for at in 0..8 {
                    let mut word = [around; 8];
                    word[at] = byte;
                    assert_eq!(
                        has_special(u64::from_ne_bytes(word)),
                        is_special,
                        "{byte:02x} at {at} among {around:02x}"
                    );
                }
            }
        }
    }

    #[test]
    fn lines_break_where_serde_json_breaks_them() {
        let value = json!({
            "data": [[], {}, [1], [[], [{}]], {"a": {"b": null, "c": [1, -2.5, true]}}, "quo\"te, [{\\\" : \\"],
            "empty": "", "more": [""],
        });
        for value in [value, Value::Null, json!([]), json!("x"), json!([[[]]])] {
            let mut expected = Vec::new();
            value
                .serialize(&mut Serializer::with_formatter(&mut expected, PrettyFormatter::with_indent(INDENT)))
                .unwrap();
            let compact = serde_json::to_vec(&value).unwrap();
            for size in [1, 2, 3, compact.len()] {
                let (mut indenter, mut found) = (Indenter::default(), Vec::new());
                compact.chunks(size).for_each(|bytes| indenter.indent(bytes, |bytes| found.extend_from_slice(bytes)));
                assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(&expected));
            }
        }
    }
}
