//! Parameters: from the URL and, for a form, from the body; both together.

use std::fmt::Display;
use std::num::{IntErrorKind, ParseIntError};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::response::Response;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use pharos_base::{ErrorClass, HumanDuration};
use pharos_http::{Dialect, Refusal};
use pharos_model::Matcher;
use pharos_promql::limits::PATTERNS_BYTES_MAX;
use pharos_promql::parse_selector;

/// Parameters of a request, those of its form included.
const PARAMETERS_MAX: usize = 10_000;
/// Prometheus' own sentinels for "the beginning" and "the end" of time; no RFC 3339 parser takes their years.
const MIN_TIME: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME: &str = "292277025-08-18T07:12:54.999999999Z";
/// What the sentinels stand for: the furthest instants that the engine evaluates, ms from 1970.
const SENTINEL_MS: i64 = 1 << 61;

/// All parameters of a request, in order.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = Response;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let refuse = |message: String| Refusal::new(ErrorClass::Invalid, message).render(Dialect::Prometheus);
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let form = if content_type.starts_with("application/x-www-form-urlencoded") {
            whole(body).await.map_err(&refuse)?
        } else {
            Bytes::new()
        };
        let encoded = [form.as_ref(), parts.uri.query().unwrap_or("").as_bytes()];
        let count = encoded.iter().map(|encoded| pairs(encoded).count()).sum();
        if count > PARAMETERS_MAX {
            return Err(too_many(count).render(Dialect::Prometheus));
        }
        let mut params = Vec::with_capacity(count);
        for encoded in encoded {
            params.extend(decode_form(encoded).map_err(&refuse)?);
        }
        Ok(Self(params))
    }
}

/// A body that [`pharos_gateway::hold_reader_body`] holds.
async fn whole(body: Body) -> Result<Bytes, String> {
    to_bytes(body, usize::MAX).await.map_err(|error| format!("cannot read the body: {error}"))
}

/// The body of a request that is no form, held by [`pharos_gateway::hold_reader_body`].
pub(crate) struct HeldBytes(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for HeldBytes {
    type Rejection = Response;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Response> {
        let read = whole(request.into_body()).await.map(Self);
        read.map_err(|message| Refusal::new(ErrorClass::Invalid, message).render(Dialect::Plain))
    }
}

fn too_many(count: usize) -> Refusal {
    let message = format!("the request has {count} parameters, more than {PARAMETERS_MAX}: ask for less at a time");
    Refusal::new(ErrorClass::LimitExceeded, message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

/// The pairs of `a=b&c=d`.
fn pairs(encoded: &[u8]) -> impl Iterator<Item = &[u8]> {
    encoded.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty())
}

/// `a=b&c=d` with percent escapes and `+` for a space. A malformed escape is refused wherever it stands: upstream's
/// handlers refuse it as well, or answer as if the parameter were not there.
fn decode_form(encoded: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = |part: &[u8]| -> Result<String, String> {
        if let Some(wrong) = malformed_escape(part) {
            let wrong = String::from_utf8_lossy(wrong);
            return Err(format!("error parsing form values: invalid URL escape {}", pharos_promql::quote(&wrong)));
        }
        let spaced: Vec<u8> = part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        let decoded = percent_encoding::percent_decode(&spaced).decode_utf8();
        decoded.map(std::borrow::Cow::into_owned).map_err(|_| "parameters must be UTF-8".to_owned())
    };
    pairs(encoded)
        .map(|pair| {
            let split = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            Ok((text(&pair[..split])?, text(pair.get(split + 1..).unwrap_or(&[]))?))
        })
        .collect()
}

/// The first percent sign without two hexadecimal digits, and up to two bytes behind it.
fn malformed_escape(part: &[u8]) -> Option<&[u8]> {
    let escapes = part.iter().enumerate().filter(|(_, byte)| **byte == b'%').map(|(at, _)| &part[at..]);
    let is_sound = |escape: &[u8]| escape.len() >= 3 && escape[1..3].iter().all(u8::is_ascii_hexdigit);
    escapes.map(|escape| &escape[..escape.len().min(3)]).find(|escape| !is_sound(escape))
}

/// `bad_data` with this message.
pub(crate) fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorClass::Invalid, message)
}

/// `bad_data` about one parameter.
pub(crate) fn invalid(name: &str, problem: impl Display) -> Refusal {
    bad(format!("invalid parameter \"{name}\": {problem}"))
}

impl Params {
    /// The first value of `name`; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// All values of `name`.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// An instant, Unix milliseconds; `None` if absent.
    pub(crate) fn time_ms(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.plain_time_ms(name).map_err(|message| invalid(name, message))
    }

    /// As [`Self::time_ms`]; what is wrong is told without naming the parameter twice.
    pub(crate) fn plain_time_ms(&self, name: &str) -> Result<Option<i64>, String> {
        let parse = |text| parse_time_ms(text).map_err(|error| format!("invalid time value for '{name}': {error}"));
        self.get(name).map(parse).transpose()
    }

    /// A length of time, milliseconds; `None` if absent.
    pub(crate) fn duration_ms(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.get(name).map(|text| parse_duration_ms(text).map_err(|error| invalid(name, error))).transpose()
    }

    /// An instant that must be there.
    pub(crate) fn required_time_ms(&self, name: &str) -> Result<i64, Refusal> {
        parse_time_ms(self.get(name).unwrap_or("")).map_err(|error| invalid(name, error))
    }

    /// A length of time that must be there.
    pub(crate) fn required_duration_ms(&self, name: &str) -> Result<i64, Refusal> {
        parse_duration_ms(self.get(name).unwrap_or("")).map_err(|error| invalid(name, error))
    }

    /// The text of the query; without one the parser says what is missing.
    pub(crate) fn query(&self) -> &str {
        self.get("query").unwrap_or("")
    }

    /// A whole number of either sign; `None` if absent.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.get(name)
            .map(|text| text.parse().map_err(|_| invalid(name, format_args!("{name} must be a number"))))
            .transpose()
    }

    /// A switch: `true` or `1`, `false` or `0`; absent means off.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(invalid(name, format_args!("unable to parse boolean {other:?}"))),
        }
    }

    /// `limit`: 0 and absent mean none.
    pub(crate) fn limit(&self) -> Result<Option<usize>, Refusal> {
        let limit = self.get("limit").map(parse_integer).transpose().map_err(|error| invalid("limit", error))?;
        let limit = usize::try_from(limit.unwrap_or(0)).map_err(|_| invalid("limit", "limit must be non-negative"))?;
        Ok((limit > 0).then_some(limit))
    }

    /// All `match[]` selectors; each has a matcher that rejects the empty string.
    pub(crate) fn matcher_sets(&self) -> Result<Vec<Vec<Matcher>>, Refusal> {
        self.plain_matcher_sets().map_err(bad)
    }

    /// As [`Self::matcher_sets`], of which there must be one.
    pub(crate) fn required_matcher_sets(&self) -> Result<Vec<Vec<Matcher>>, Refusal> {
        let sets = self.plain_matcher_sets().map_err(|error| invalid("match[]", error))?;
        if sets.is_empty() { Err(bad("no match[] parameter provided")) } else { Ok(sets) }
    }

    /// As [`Self::matcher_sets`]; what is wrong as text.
    pub(crate) fn plain_matcher_sets(&self) -> Result<Vec<Vec<Matcher>>, String> {
        let sets = parse_selectors(self.all("match[]"))?;
        if sets.iter().any(|matchers| matchers.iter().all(Matcher::matches_empty)) {
            return Err("match[] must contain at least one non-empty matcher".to_owned());
        }
        Ok(sets)
    }
}

/// Selectors of a request; the patterns of all of them are bounded as those of one query.
pub(crate) fn parse_selectors<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<Vec<Matcher>>, String> {
    let mut pattern_bytes = 0;
    texts
        .map(|text| {
            let matchers = parse_selector(text).map_err(|error| error.to_string())?;
            pattern_bytes += matchers.iter().map(Matcher::pattern_bytes).sum::<usize>();
            if pattern_bytes > PATTERNS_BYTES_MAX {
                return Err(format!(
                    "patterns of all selectors are too large: at most {PATTERNS_BYTES_MAX} bytes compiled; send fewer at a time"
                ));
            }
            Ok(matchers)
        })
        .collect()
}

/// A whole number, refused in the words of Go's `strconv.Atoi`.
pub(crate) fn parse_integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|error: ParseIntError| {
        let problem = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {text:?}: {problem}")
    })
}

/// Unix seconds as a decimal number, or RFC 3339.
fn parse_time_ms(text: &str) -> Result<i64, String> {
    let fail = || format!("cannot parse {text:?} to a valid timestamp");
    if let Ok(seconds) = text.parse::<f64>() {
        // Whole seconds and the rest apart: a product of both would round what the double does not hold.
        let ms = seconds.trunc() * 1_000.0 + (seconds.fract() * 1_000.0).round();
        return if ms.abs() < 9.2e18 { Ok(ms as i64) } else { Err(fail()) };
    }
    match text {
        MIN_TIME => Ok(-SENTINEL_MS),
        MAX_TIME => Ok(SENTINEL_MS),
        _ => text.parse::<Timestamp>().map(Timestamp::as_millisecond).map_err(|_| fail()),
    }
}

/// Decimal seconds, or Prometheus' form such as `1h30m`.
fn parse_duration_ms(text: &str) -> Result<i64, String> {
    let fail = |more: &str| format!("cannot parse {text:?} to a valid duration{more}");
    if let Ok(seconds) = text.parse::<f64>() {
        // Upstream counts nanoseconds.
        if seconds.abs() * 1e9 > i64::MAX as f64 {
            return Err(fail(". It overflows int64"));
        }
        return if seconds.is_nan() { Err(fail("")) } else { Ok((seconds * 1_000.0) as i64) };
    }
    text.parse::<HumanDuration>().map(HumanDuration::as_ms).map_err(|_| fail(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_all_forms() {
        for (text, expected) in [
            ("1435781430.781", Some(1_435_781_430_781)),
            ("1.5e9", Some(1_500_000_000_000)),
            ("-1.5", Some(-1_500)),
            ("1435781430.7805", Some(1_435_781_430_780)),
            ("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781)),
            ("2015-07-01T22:10:51+02:00", Some(1_435_781_451_000)),
            // Grafana's exemplar probe sends milliseconds: a far future, but a time.
            ("1700000000000", Some(1_700_000_000_000_000)),
            (MIN_TIME, Some(-SENTINEL_MS)),
            (MAX_TIME, Some(SENTINEL_MS)),
            ("yesterday", None),
            ("NaN", None),
            ("1e300", None),
        ] {
            assert_eq!(parse_time_ms(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_or_units() {
        for (text, expected) in [("15", Some(15_000)), ("0.5", Some(500)), ("1h30m", Some(5_400_000)), ("x", None)] {
            assert_eq!(parse_duration_ms(text).ok(), expected, "{text}");
        }
        let overflow = "cannot parse \"1e10\" to a valid duration. It overflows int64";
        assert_eq!(parse_duration_ms("1e10").unwrap_err(), overflow);
    }

    #[test]
    fn switches_are_on_off_or_refused() {
        let flag = |value: &str| Params(vec![("f".to_owned(), value.to_owned())]).flag("f").ok();
        for (value, expected) in
            [("1", Some(true)), ("true", Some(true)), ("0", Some(false)), ("false", Some(false)), ("no", None)]
        {
            assert_eq!(flag(value), expected, "{value}");
        }
        assert!(!Params::default().flag("f").unwrap());
    }

    #[test]
    fn forms_are_decoded() {
        let pairs = decode_form(b"query=a%2Bb+c&match[]=%7Ba%3D%22%C3%A4%22%7D&empty").unwrap();
        let expected = [("query", "a+b c"), ("match[]", "{a=\"\u{e4}\"}"), ("empty", "")];
        assert_eq!(pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>(), expected);
        assert!(decode_form(b"q=%ff").is_err());
    }
}
