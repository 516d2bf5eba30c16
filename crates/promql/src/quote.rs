//! Quoting and unquoting of strings, by the rules of Go that PromQL borrows.
//!
//! `"…"` and `'…'` know the escapes `\a \b \f \n \r \t \v \\`, the quote itself, `\ooo`, `\xhh`, `\uhhhh` and
//! `\Uhhhhhhhh`; `` `…` `` knows none.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text in double quotes, with escapes where a character is not printable.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    text.chars().for_each(|c| push_escaped(&mut quoted, c, '"'));
    quoted.push('"');
    quoted
}

/// A character in single quotes, as error messages show it.
#[must_use]
pub(crate) fn quote_char(c: char) -> String {
    let mut quoted = String::from("'");
    push_escaped(&mut quoted, c, '\'');
    quoted.push('\'');
    quoted
}

fn push_escaped(out: &mut String, c: char, delimiter: char) {
    let escape = match c {
        '\u{07}' => "\\a",
        '\u{08}' => "\\b",
        '\u{0c}' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{0b}' => "\\v",
        '\\' => "\\\\",
        _ if c == delimiter => {
            out.push('\\');
            out.push(c);
            return;
        }
        _ if is_printable(c) => {
            out.push(c);
            return;
        }
        _ => {
            let code = u32::from(c);
            let _ = match code {
                0..=0x7f => write!(out, "\\x{code:02x}"),
                0x80..=0xffff => write!(out, "\\u{code:04x}"),
                _ => write!(out, "\\U{code:08x}"),
            };
            return;
        }
    };
    out.push_str(escape);
}

/// Whether a character shows as itself. The standard library's debug escape knows; it also escapes combining marks
/// at the start of a text, so one letter goes before.
fn is_printable(c: char) -> bool {
    if c == char::REPLACEMENT_CHARACTER {
        return false; // the lexer refuses it unescaped
    }
    let mut buffer = String::from("a");
    buffer.push(c);
    c == '\'' || c == '"' || (buffer.escape_debug().count() == 2 && (c == ' ' || !c.is_whitespace()))
}

/// Resolves the escapes of a quoted text that the lexer accepted. `\x` and octal escapes write bytes, so the result may
/// be no UTF-8.
#[must_use]
pub(crate) fn unquote(quoted: &str) -> Vec<u8> {
    let body = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if quoted.starts_with('`') {
        return body.as_bytes().to_vec();
    }
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = push_unescaped(&mut out, &rest[at + 1..]);
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// Resolves the escape at the start of `text` (behind its backslash); answers what follows it.
fn push_unescaped<'a>(out: &mut Vec<u8>, text: &'a str) -> &'a str {
    let mut chars = text.chars();
    let Some(kind) = chars.next() else { return text };
    let simple = match kind {
        'a' => '\u{07}',
        'b' => '\u{08}',
        'f' => '\u{0c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{0b}',
        'x' => return push_byte(out, &text[1..], 2, 16),
        '0'..='7' => return push_byte(out, text, 3, 8),
        'u' => return push_code_point(out, &text[1..], 4),
        'U' => return push_code_point(out, &text[1..], 8),
        other => other,
    };
    out.extend_from_slice(simple.encode_utf8(&mut [0; 4]).as_bytes());
    chars.as_str()
}

fn push_byte<'a>(out: &mut Vec<u8>, text: &'a str, digits: usize, radix: u32) -> &'a str {
    let (code, rest) = text.split_at_checked(digits).unwrap_or((text, ""));
    out.extend(u32::from_str_radix(code, radix).ok().and_then(|byte| u8::try_from(byte).ok()));
    rest
}

fn push_code_point<'a>(out: &mut Vec<u8>, text: &'a str, digits: usize) -> &'a str {
    let (code, rest) = text.split_at_checked(digits).unwrap_or((text, ""));
    let c = u32::from_str_radix(code, 16).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    rest
}

/// The name as it may stand in a selector or label list: plain where it is a classic label name, else quoted.
pub(crate) fn label_name(name: &str) -> Cow<'_, str> {
    if is_classic_label_name(name) { Cow::Borrowed(name) } else { Cow::Owned(quote(name)) }
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`.
pub(crate) fn is_classic_label_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub(crate) fn is_classic_metric_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_resolve_and_come_back() {
        let source = r"'\a\b\f\n\r\t\v\\\' - \x41\101\u1234\U00010111☺'";
        let text = String::from_utf8(unquote(source)).unwrap();
        assert_eq!(text, "\u{7}\u{8}\u{c}\n\r\t\u{b}\\' - AA\u{1234}\u{10111}☺");
        assert_eq!(unquote(&quote(&text)), text.as_bytes());
        assert_eq!(quote("a\u{a0}b\u{0}\"\u{1f600}"), r#""a\u00a0b\x00\"😀""#);
    }

    #[test]
    fn raw_strings_know_no_escapes() {
        assert_eq!(unquote(r"`\n`"), br"\n");
    }

    #[test]
    fn byte_escapes_may_leave_utf8() {
        assert_eq!(unquote(r"'\xFF\377'"), [0xff, 0xff]);
    }
}
