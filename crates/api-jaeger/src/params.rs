//! The parameters of a URL, and what searches of every API have in common.

use std::collections::BTreeMap;

use pharos_storage::{SpanFilter, SpanPredicate, TraceQuery};

use crate::duration::parse_go_duration;
use crate::filter::filter_of;

/// Traces a search returns where the client does not say.
const LIMIT_DEFAULT: usize = 100;
/// Traces a search may return.
const LIMIT_MAX: usize = 10_000;

/// The parameters of a URL, in order.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a URL's query; text that is no UTF-8 is replaced.
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let text = |part: &str| {
            let spaced = part.replace('+', " ");
            percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = query.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(pairs.map(|(name, value)| (text(name), text(value))).collect())
    }

    /// The first value of `name`; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, value)| found == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The first value of any of `names`, and the name that has it.
    pub(crate) fn any<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &str)> {
        names.iter().find_map(|name| self.get(name).map(|value| (*name, value)))
    }

    /// All values of `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A truth value in any form that Go reads.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// A bound of the duration, nanoseconds; zero is none.
pub(crate) fn parse_duration_bound(text: &str) -> Result<Option<u64>, String> {
    let ns = u64::try_from(parse_go_duration(text)?).map_err(|_| format!("{text:?} is negative"))?;
    Ok((ns > 0).then_some(ns))
}

/// A search with a filter, which excludes the plain tests.
pub(crate) fn with_predicate(query: TraceQuery, predicate: Option<SpanPredicate>) -> Result<TraceQuery, String> {
    let has_tests = query.service.is_some()
        || query.operation.is_some()
        || !query.filters.is_empty()
        || query.duration_min_ns.is_some()
        || query.duration_max_ns.is_some();
    if predicate.is_some() && has_tests {
        return Err("query.filter excludes service, operation, attributes and durations: write them into it".to_owned());
    }
    Ok(TraceQuery { predicate, ..query })
}

/// A search that obeys what all APIs ask of one; no limit becomes the usual one. The names are those of the
/// shortest duration, the longest and the limit, for the message.
pub(crate) fn checked_query(query: TraceQuery, [min, max, limit]: [&str; 3]) -> Result<TraceQuery, String> {
    if matches!((query.duration_min_ns, query.duration_max_ns), (Some(min), Some(max)) if max < min) {
        return Err(format!("'{max}' should be greater than '{min}'"));
    }
    match query.limit {
        0 => Ok(TraceQuery { limit: LIMIT_DEFAULT, ..query }),
        1..=LIMIT_MAX => Ok(query),
        _ => Err(format!("{limit}: at most {LIMIT_MAX} traces can be asked for")),
    }
}

/// A JSON object of text to text.
pub(crate) fn parse_json_tags(text: &str) -> Result<BTreeMap<String, String>, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// The tests that tags stand for.
pub(crate) fn filters_of(tags: &BTreeMap<String, String>) -> Vec<SpanFilter> {
    tags.iter().map(|(key, value)| filter_of(key, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_value_counts_as_absent() {
        let params = Params::parse(Some("a=&b=1&a=x%20y&c&b=2+3"));
        assert_eq!((params.get("a"), params.get("b"), params.get("c")), (Some("x y"), Some("1"), None));
        assert_eq!(params.all("b").collect::<Vec<_>>(), ["1", "2 3"]);
        assert_eq!(params.any(&["c", "b"]), Some(("b", "1")));
    }

    #[test]
    fn truth_has_gos_forms() {
        for (text, truth) in [("1", true), ("T", true), ("True", true), ("0", false), ("f", false), ("FALSE", false)] {
            assert_eq!(parse_bool(text), Ok(truth), "{text}");
        }
        for wrong in ["", "yes", "tRUE", "2"] {
            assert!(parse_bool(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_bound_of_zero_is_none_and_none_is_negative() {
        assert_eq!(parse_duration_bound("0s"), Ok(None));
        assert_eq!(parse_duration_bound("1ns"), Ok(Some(1)));
        assert!(parse_duration_bound("-1ns").is_err());
    }
}
