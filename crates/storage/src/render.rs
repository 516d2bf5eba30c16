//! Attribute values as text, the way Jaeger shows and compares them.
//!
//! Numbers are written as Go's JSON encoder writes them, bytes as base64, arrays and maps as JSON with
//! sorted keys. Search terms, the Jaeger API and the reference store all use this one function: a
//! tag that is shown can be searched for as it is shown.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use pharos_model::AttributeValue;

/// The text of `value`: `text`, `true`, `123`, `72.5`, base64 of bytes, JSON of arrays and maps; empty for a
/// value that is not there.
#[must_use]
pub fn render_attribute_value(value: &AttributeValue) -> Cow<'_, str> {
    match value {
        AttributeValue::Empty => Cow::Borrowed(""),
        AttributeValue::String(text) => Cow::Borrowed(text),
        AttributeValue::Bool(true) => Cow::Borrowed("true"),
        AttributeValue::Bool(false) => Cow::Borrowed("false"),
        AttributeValue::Int(number) => Cow::Owned(number.to_string()),
        AttributeValue::Double(number) => Cow::Owned(render_double(*number)),
        AttributeValue::Bytes(bytes) => {
            let mut text = String::new();
            push_base64(&mut text, bytes);
            Cow::Owned(text)
        }
        AttributeValue::Array(_) | AttributeValue::Map(_) => {
            let mut text = String::new();
            push_json(&mut text, value);
            Cow::Owned(text)
        }
    }
}

/// A double as ECMAScript and Go's JSON write it: shortest digits that read back the same.
fn render_double(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let magnitude = number.abs();
    if magnitude == 0.0 || (1e-6..1e21).contains(&magnitude) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    if magnitude >= 1e21 { text.replacen('e', "e+", 1) } else { text }
}

fn push_json(out: &mut String, value: &AttributeValue) {
    match value {
        AttributeValue::Empty => out.push_str("null"),
        AttributeValue::String(text) => push_json_text(out, text),
        AttributeValue::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        AttributeValue::Int(number) => {
            let _ = write!(out, "{number}");
        }
        // JSON has no word for these; text keeps them apart.
        AttributeValue::Double(number) if !number.is_finite() => push_json_text(out, &render_double(*number)),
        AttributeValue::Double(number) => out.push_str(&render_double(*number)),
        AttributeValue::Bytes(bytes) => {
            out.push('"');
            push_base64(out, bytes);
            out.push('"');
        }
        AttributeValue::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_json(out, value);
            }
            out.push(']');
        }
        AttributeValue::Map(attributes) => {
            let sorted: BTreeMap<&str, &AttributeValue> =
                attributes.iter().map(|attribute| (attribute.key.as_str(), &attribute.value)).collect();
            out.push('{');
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_json_text(out, key);
                out.push(':');
                push_json(out, value);
            }
            out.push('}');
        }
    }
}

fn push_json_text(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if (control as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

fn push_base64(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            if digit <= group.len() {
                out.push(char::from(DIGITS[(word >> (18 - 6 * digit)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pharos_model::Attribute;

    use super::*;

    fn check(value: &AttributeValue, expected: &str) {
        assert_eq!(render_attribute_value(value), expected);
    }

    #[test]
    fn numbers_read_as_in_json() {
        for (number, expected) in [
            (72.5, "72.5"),
            (1.0, "1"),
            (-0.0, "-0"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-7"),
            (1e20, "100000000000000000000"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            check(&AttributeValue::Double(number), expected);
        }
        check(&AttributeValue::Int(-7), "-7");
        check(&AttributeValue::Bool(true), "true");
        check(&AttributeValue::Empty, "");
    }

    #[test]
    fn bytes_are_base64_and_nested_values_json() {
        for (bytes, expected) in [(&b"f"[..], "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"", "")] {
            check(&AttributeValue::Bytes(bytes.to_vec()), expected);
        }
        let entry = |key: &str, value| Attribute { key: key.to_owned(), value };
        let map = AttributeValue::Map(vec![
            entry("z", AttributeValue::Array(vec![AttributeValue::Int(1), AttributeValue::Empty])),
            entry("a", AttributeValue::String("quo\"te\n".to_owned())),
        ]);
        check(&map, r#"{"a":"quo\"te\n","z":[1,null]}"#);
    }
}
