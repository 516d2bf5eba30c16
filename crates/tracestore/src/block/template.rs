//! Templates: texts whose numbers are cut out, so that texts that differ in nothing else are one.
//!
//! Cut are runs of decimal digits that read as a number and print as they were, and hexadecimal ids, those of UUIDs
//! included. In a template a byte that UTF-8 never has stands for each. A text has one template and one list of
//! numbers; together they print that text and no other.

use std::io::Write;

use crate::codec::DecodeError;

/// Stands for a decimal number below 10^19 without leading zeros.
const DECIMAL: u8 = 0xff;
/// Stands for hexadecimal digits, at most 16; their number follows.
const HEX: u8 = 0xfe;

const DECIMAL_DIGITS_MAX: usize = 19;
const HEX_DIGITS_MAX: usize = 16;
/// Numbers behind so many stay where they are.
pub(super) const NUMBERS_MAX: usize = 32;
/// Shorter runs of hexadecimal digits are words or parts of numbers.
const HEX_RUN_MIN: usize = 8;
/// Where the dashes of a UUID are, and its length.
const UUID_DASHES: [usize; 4] = [8, 13, 18, 23];
const UUID_LEN: usize = 36;

/// Cuts `text` up: its template is appended to `template`, its numbers to `numbers`.
pub(super) fn cut(text: &[u8], template: &mut Vec<u8>, numbers: &mut Vec<i64>) {
    let (mut at, first) = (0, numbers.len());
    while at < text.len() {
        let word = word_len(&text[at..]);
        if word == 0 {
            template.push(text[at]);
            at += 1;
            continue;
        }
        let before = (template.len(), numbers.len());
        let len = cut_word(&text[at..], word, template, numbers);
        if numbers.len() - first > NUMBERS_MAX {
            template.truncate(before.0);
            numbers.truncate(before.1);
            template.extend_from_slice(&text[at..]);
            return;
        }
        at += len;
    }
}

/// Cuts up the `word` letters and digits that `text` begins with, or the UUID; how many bytes that were.
fn cut_word(text: &[u8], word: usize, template: &mut Vec<u8>, numbers: &mut Vec<i64>) -> usize {
    if word == UUID_DASHES[0] && text.first_chunk().is_some_and(is_uuid) && word_len(&text[24..]) == 12 {
        for (index, part) in text[..UUID_LEN].split(|byte| *byte == b'-').enumerate() {
            if index > 0 {
                template.push(b'-');
            }
            cut_hex(part, template, numbers);
        }
        return UUID_LEN;
    }
    let run = &text[..word];
    if word >= HEX_RUN_MIN && is_hex_id(run) {
        cut_hex(run, template, numbers);
    } else {
        cut_decimals(run, template, numbers);
    }
    word
}

/// Letters and digits at the beginning.
fn word_len(text: &[u8]) -> usize {
    text.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(text.len())
}

fn is_hex_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn is_uuid(text: &[u8; UUID_LEN]) -> bool {
    text.iter()
        .enumerate()
        .all(|(at, byte)| if UUID_DASHES.contains(&at) { *byte == b'-' } else { is_hex_digit(*byte) })
}

/// Hexadecimal digits, decimal ones among them, that are no decimal number.
fn is_hex_id(run: &[u8]) -> bool {
    run.iter().all(|byte| is_hex_digit(*byte)) && run.iter().any(u8::is_ascii_digit) && decimal(run).is_none()
}

fn cut_hex(digits: &[u8], template: &mut Vec<u8>, numbers: &mut Vec<i64>) {
    for part in digits.chunks(HEX_DIGITS_MAX) {
        let number = part.iter().fold(0_u64, |number, digit| {
            number << 4 | u64::from(if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 })
        });
        template.extend_from_slice(&[HEX, part.len() as u8]);
        numbers.push(number as i64);
    }
}

fn cut_decimals(mut run: &[u8], template: &mut Vec<u8>, numbers: &mut Vec<i64>) {
    while let Some(at) = run.iter().position(u8::is_ascii_digit) {
        let (before, rest) = run.split_at(at);
        template.extend_from_slice(before);
        let len = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        match decimal(&rest[..len]) {
            Some(number) => {
                template.push(DECIMAL);
                numbers.push(number);
            }
            None => template.extend_from_slice(&rest[..len]),
        }
        run = &rest[len..];
    }
    template.extend_from_slice(run);
}

/// The number that prints as exactly these digits.
fn decimal(digits: &[u8]) -> Option<i64> {
    let is_canonical = digits.len() <= DECIMAL_DIGITS_MAX && (digits[0] != b'0' || digits.len() == 1);
    if !is_canonical || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0')) as i64)
}

/// How many numbers a template has. Also checks it: what is between them is UTF-8.
pub(super) fn check(template: &[u8]) -> Result<usize, DecodeError> {
    let mut count = 0;
    for piece in pieces(template) {
        match piece? {
            Piece::Text(text) => {
                std::str::from_utf8(text).map_err(|_| DecodeError::NotText("template"))?;
            }
            Piece::Decimal | Piece::Hex(_) => count += 1,
        }
    }
    if count <= NUMBERS_MAX { Ok(count) } else { Err(DecodeError::OutOfRange("numbers of a template")) }
}

/// Appends the text that a checked template and its numbers stand for. Numbers that it wants and that are not there are left out.
pub(super) fn print(template: &[u8], mut numbers: impl Iterator<Item = i64>, out: &mut Vec<u8>) {
    for piece in pieces(template).flatten() {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text),
            Piece::Decimal => numbers.by_ref().take(1).for_each(|number| print_decimal(number, out)),
            Piece::Hex(digits) => numbers.by_ref().take(1).for_each(|number| print_hex(number as u64, digits, out)),
        }
    }
}

/// Puts numbers that are always the same into the template: `known` answers each in turn.
pub(super) fn fill_in(template: &[u8], mut known: impl FnMut() -> Option<i64>, out: &mut Vec<u8>) {
    for piece in pieces(template).flatten() {
        let number = if let Piece::Text(_) = piece { None } else { known() };
        match (piece, number) {
            (Piece::Text(text), _) => out.extend_from_slice(text),
            (Piece::Decimal, Some(number)) => print_decimal(number, out),
            (Piece::Decimal, None) => out.push(DECIMAL),
            (Piece::Hex(digits), Some(number)) => print_hex(number as u64, digits, out),
            (Piece::Hex(digits), None) => out.extend_from_slice(&[HEX, digits as u8]),
        }
    }
}

/// The numbers with which a checked template prints `text`, if it can.
pub(super) fn match_text(template: &[u8], mut text: &[u8], numbers: &mut Vec<i64>) -> bool {
    numbers.clear();
    for piece in pieces(template).flatten() {
        let len = match piece {
            Piece::Text(literal) => {
                if !text.starts_with(literal) {
                    return false;
                }
                literal.len()
            }
            Piece::Decimal => {
                let len = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
                let Some(number) = (len > 0).then(|| decimal(&text[..len])).flatten() else { return false };
                numbers.push(number);
                len
            }
            Piece::Hex(len) => {
                let Some(digits) = text.get(..len).filter(|digits| digits.iter().all(|digit| is_hex_digit(*digit)))
                else {
                    return false;
                };
                cut_hex(digits, &mut Vec::new(), numbers);
                len
            }
        };
        text = &text[len..];
    }
    text.is_empty()
}

enum Piece<'a> {
    Text(&'a [u8]),
    Decimal,
    Hex(usize),
}

fn pieces(mut template: &[u8]) -> impl Iterator<Item = Result<Piece<'_>, DecodeError>> {
    std::iter::from_fn(move || {
        let first = *template.first()?;
        let (piece, len) = match first {
            DECIMAL => (Ok(Piece::Decimal), 1),
            HEX => match template.get(1) {
                Some(digits @ 1..=16) => (Ok(Piece::Hex(usize::from(*digits))), 2),
                _ => (Err(DecodeError::OutOfRange("digits of a template")), template.len()),
            },
            _ => {
                let len = template.iter().position(|byte| *byte >= HEX).unwrap_or(template.len());
                (Ok(Piece::Text(&template[..len])), len)
            }
        };
        template = &template[len..];
        Some(piece)
    })
}

fn print_decimal(number: i64, out: &mut Vec<u8>) {
    // Twenty digits are enough for any.
    let mut digits = [0; 20];
    let mut rest = number as u64;
    let mut at = digits.len();
    while rest > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

fn print_hex(number: u64, digits: usize, out: &mut Vec<u8>) {
    write!(out, "{number:0digits$x}").expect("vectors take all that is written");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_text(text: &str) -> (String, Vec<i64>) {
        let (mut template, mut numbers) = (Vec::new(), Vec::new());
        cut(text.as_bytes(), &mut template, &mut numbers);
        assert_eq!(check(&template), Ok(numbers.len()), "{text}");
        let mut printed = Vec::new();
        print(&template, numbers.iter().copied(), &mut printed);
        assert_eq!(std::str::from_utf8(&printed), Ok(text));
        let mut matched = Vec::new();
        assert!(match_text(&template, text.as_bytes(), &mut matched));
        assert_eq!(matched, numbers);
        (
            template
                .iter()
                .map(|byte| {
                    if *byte == DECIMAL {
                        '?'
                    } else if *byte == HEX {
                        'x'
                    } else {
                        char::from(*byte)
                    }
                })
                .collect(),
            numbers,
        )
    }

    #[test]
    fn numbers_are_cut_out() {
        assert_eq!(check_text("GET items:17"), ("GET items:?".to_owned(), vec![17]));
        assert_eq!(check_text("10.0.25.3"), ("?.?.?.?".to_owned(), vec![10, 0, 25, 3]));
        assert_eq!(check_text("v2-07-1x0"), ("v?-07-?x?".to_owned(), vec![2, 1, 0]));
        assert_eq!(check_text("9999999999999999999").1, vec![9_999_999_999_999_999_999_u64 as i64]);
        assert_eq!(check_text("99999999999999999999").1, vec![0x9999_9999_9999_9999_u64 as i64, 0x9999]);
        assert_eq!(check_text(&"1 ".repeat(40)).1.len(), NUMBERS_MAX);
    }

    #[test]
    fn ids_are_cut_out_whole() {
        let (template, numbers) = check_text("order/550e8400-e29b-41d4-0716-446655440000");
        assert_eq!((template.as_str(), numbers.len()), ("order/x\u{8}-x\u{4}-x\u{4}-x\u{4}-x\u{c}", 5));
        assert_eq!(check_text("ffffffffffffffff0123456789abcdef").1, vec![-1, 0x0123_4567_89ab_cdef]);
        assert_eq!(check_text("deadbeef"), ("deadbeef".to_owned(), vec![]));
        assert_eq!(check_text("0000000000000000").1, vec![0]);
        check_text("550e8400-e29b-41d4-0716-4466554400001");
    }

    proptest! {
        #[test]
        fn any_text_is_its_template_and_numbers(text in "[0-9a-fxé./ -]{0,90}") {
            check_text(&text);
        }
    }
}
