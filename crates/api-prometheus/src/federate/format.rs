//! Which exposition format a client gets, and how names are written in it.
//!
//! Source: content negotiation of Prometheus' exposition formats; OpenMetrics is not offered for federation, there as here.

use std::borrow::Cow;
use std::fmt::Write;

use http::HeaderMap;
use http::header::ACCEPT;

/// The bytes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Text 0.0.4.
    Text,
    /// Text 1.0.0, in which names may be quoted.
    TextWithQuotes,
    /// Messages, each behind its length.
    Protobuf,
}

/// What becomes of names beyond `[a-zA-Z_:][a-zA-Z0-9_:]*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Nothing; text quotes them.
    Utf8,
    /// Every other character becomes `_`.
    Underscores,
    /// `.` becomes `_dot_`, `_` and every other character `__`; all names are treated so.
    Dots,
    /// Characters become their codes: `U__a_2e_b`.
    Values,
}

/// A format, as the client and we can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) form: Form,
    pub(super) names: Names,
}

impl Format {
    /// The first of the accepted formats that we write; text 0.0.4 if there is none.
    pub(super) fn negotiated(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut entries: Vec<_> = accepted.flat_map(|value| value.split(',')).map(Entry::parse).collect();
        // Stable: among equals the client's order counts.
        entries.sort_by(|a, b| b.quality.total_cmp(&a.quality));
        entries.iter().find_map(Entry::format).unwrap_or(Self { form: Form::Text, names: Names::Underscores })
    }

    pub(super) fn content_type(self) -> String {
        let form = match self.form {
            Form::Text => "text/plain; version=0.0.4; charset=utf-8",
            Form::TextWithQuotes => "text/plain; version=1.0.0; charset=utf-8",
            Form::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        };
        let names = match self.names {
            Names::Utf8 => "allow-utf-8",
            Names::Underscores => "underscores",
            Names::Dots => "dots",
            Names::Values => "values",
        };
        format!("{form}; escaping={names}")
    }
}

/// One entry of an `Accept` header.
struct Entry<'a> {
    media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f64,
}

impl<'a> Entry<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or("");
        let parameters: Vec<_> = parts
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name, value.trim_matches('"')))
            .collect();
        let quality = parameters.iter().find(|(name, _)| *name == "q").and_then(|(_, value)| value.parse().ok());
        Self { media_type, parameters, quality: quality.unwrap_or(1.0) }
    }

    fn parameter(&self, wanted: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value)
    }

    fn format(&self) -> Option<Format> {
        let form = match (self.media_type, self.parameter("version")) {
            ("application/vnd.google.protobuf", _)
                if self.parameter("proto") == Some("io.prometheus.client.MetricFamily")
                    && self.parameter("encoding") == Some("delimited") =>
            {
                Form::Protobuf
            }
            ("text/plain", Some("1.0.0")) => Form::TextWithQuotes,
            ("text/plain", None | Some("" | "0.0.4")) => Form::Text,
            _ => return None,
        };
        let names = match self.parameter("escaping") {
            Some("allow-utf-8") => Names::Utf8,
            Some("dots") => Names::Dots,
            Some("values") => Names::Values,
            _ => Names::Underscores,
        };
        Some(Format { form, names })
    }
}

impl Names {
    /// A name as the client wants it; label names have no colons in the classic character set.
    pub(super) fn write(self, name: &str, colons: bool) -> Cow<'_, str> {
        let is_plain = is_classic(name, colons);
        match self {
            Self::Utf8 => Cow::Borrowed(name),
            Self::Underscores | Self::Values if is_plain => Cow::Borrowed(name),
            Self::Underscores => escaped(name, colons, |out, _| out.push('_')),
            Self::Dots => {
                let escape = |out: &mut String, character| out.push_str(if character == '.' { "_dot_" } else { "__" });
                escaped_with_underscores(name, colons, escape)
            }
            Self::Values => {
                let escape = |out: &mut String, character: char| {
                    // Writing into a string cannot fail.
                    let _ = write!(out, "_{:x}_", u32::from(character));
                };
                Cow::Owned(format!("U__{}", escaped_with_underscores(name, colons, escape)))
            }
        }
    }
}

/// Whether a name is of the classic character set.
pub(super) fn is_classic(name: &str, colons: bool) -> bool {
    !name.is_empty() && name.char_indices().all(|(at, character)| is_classic_at(at, character, colons))
}

fn is_classic_at(at: usize, character: char, colons: bool) -> bool {
    character == '_'
        || character.is_ascii_alphabetic()
        || (colons && character == ':')
        || (at > 0 && character.is_ascii_digit())
}

fn escaped(name: &str, colons: bool, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    let mut out = String::with_capacity(name.len());
    for (at, character) in name.char_indices() {
        if is_classic_at(at, character, colons) { out.push(character) } else { escape(&mut out, character) }
    }
    Cow::Owned(out)
}

/// As [`escaped`], with `_` doubled.
fn escaped_with_underscores(name: &str, colons: bool, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    let mut out = String::with_capacity(name.len());
    for (at, character) in name.char_indices() {
        match character {
            '_' => out.push_str("__"),
            _ if is_classic_at(at, character, colons) => out.push(character),
            _ => escape(&mut out, character),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(accept: &str, content_type: &str) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        assert_eq!(Format::negotiated(&headers).content_type(), content_type, "{accept}");
    }

    #[test]
    fn the_best_format_that_both_know_is_taken() {
        let classic = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
        assert_eq!(Format::negotiated(&HeaderMap::new()).content_type(), classic);
        for accept in ["*/*", "text/html", "application/openmetrics-text;version=1.0.0", "text/plain;version=9", ""] {
            check(accept, classic);
        }
        let quoted = "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8";
        check("text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.2", quoted);
        let messages = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        let wanted = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        // As Prometheus asks when it prefers protobuf, and when it does not.
        check(
            &format!("{wanted};q=0.6,application/openmetrics-text;q=0.5,text/plain;version=0.0.4;q=0.3"),
            &format!("{messages}; escaping=underscores"),
        );
        check(&format!("text/plain;version=0.0.4;q=0.6,{wanted};q=0.5"), classic);
        check(&format!("{wanted};escaping=dots"), &format!("{messages}; escaping=dots"));
        check("application/vnd.google.protobuf;proto=other;encoding=delimited", classic);
    }

    #[test]
    fn names_are_escaped_in_four_ways() {
        for (names, name, expected) in [
            (Names::Utf8, "a.b", "a.b"),
            (Names::Underscores, "a.b:c_1", "a_b:c_1"),
            (Names::Underscores, "1a", "_a"),
            (Names::Dots, "a.b_c-d", "a_dot_b__c__d"),
            (Names::Values, "plain_name", "plain_name"),
            (Names::Values, "a.b_\u{1f980}", "U__a_2e_b___1f980_"),
        ] {
            assert_eq!(names.write(name, true), expected, "{names:?}");
        }
        assert_eq!(Names::Underscores.write("a:b", false), "a_b");
    }
}
