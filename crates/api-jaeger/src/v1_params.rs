//! The parameters of API v1.
//!
//! Searches take their times in microseconds, reads by id in any unit (Grafana sends milliseconds), dependencies in
//! milliseconds. A search needs no service, unlike Jaeger's.

use std::collections::BTreeMap;

use pharos_model::{TimeRangeNs, TraceId};
use pharos_storage::TraceQuery;

use crate::params::{Params, checked_query, filters_of, parse_bool, parse_duration_bound, parse_json_tags};
use crate::trace_id::parse_trace_id;

/// How far back a search without a start looks, nanoseconds.
const LOOKBACK_DEFAULT_NS: u64 = 2 * 86_400_000_000_000;
/// How far back dependencies are counted where the client does not say, milliseconds.
const DEPENDENCIES_LOOKBACK_DEFAULT_MS: u64 = 86_400_000;
const NS_PER_MS: u64 = 1_000_000;

/// What `GET /api/traces` asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum TracesQuestion {
    /// Traces that pass.
    Search(TraceQuery),
    /// These traces.
    Read(Vec<TraceId>, Option<TimeRangeNs>),
}

impl Params {
    /// Whether the traces are wanted as they came.
    pub(crate) fn v1_raw(&self) -> Result<bool, String> {
        self.v1("raw", parse_bool).map(Option::unwrap_or_default)
    }

    /// Whether the answer is to be indented.
    pub(crate) fn v1_pretty(&self) -> bool {
        self.get("prettyPrint").is_some_and(|value| value != "false")
    }

    /// The bounds `start` and `end` of a read by id, if one or both are given.
    pub(crate) fn v1_range(&self) -> Result<Option<TimeRangeNs>, String> {
        let (start_ns, end_ns) = (self.v1("start", parse_unix_ns)?, self.v1("end", parse_unix_ns)?);
        Ok((start_ns.is_some() || end_ns.is_some())
            .then(|| TimeRangeNs::inclusive(start_ns.unwrap_or(0), end_ns.unwrap_or(u64::MAX - 1))))
    }

    /// What `GET /api/traces` asks for. All parameters must be readable, also those that reads by id do not use.
    pub(crate) fn v1_traces(&self, now_ns: u64) -> Result<TracesQuestion, String> {
        let query = self.v1_search(now_ns)?;
        let id = |text| parse_trace_id(text).ok_or_else(|| format!("cannot parse traceID param: {text:?}"));
        let ids = self.all("traceID").map(id).collect::<Result<Vec<_>, _>>()?;
        if !ids.is_empty() {
            return Ok(TracesQuestion::Read(ids, self.v1_range()?));
        }
        // Between them is also nothing where only an end of long ago is given.
        if query.start.start_ns >= query.start.end_ns {
            return Err("invalid parameter: start time must be before end time".to_owned());
        }
        Ok(TracesQuestion::Search(query))
    }

    fn v1_search(&self, now_ns: u64) -> Result<TraceQuery, String> {
        let end_ns = self.v1("end", parse_unix_ns)?.unwrap_or(now_ns);
        let start_ns = self.v1("start", parse_unix_ns)?;
        let start_ns = start_ns.unwrap_or(now_ns.saturating_sub(LOOKBACK_DEFAULT_NS));
        let query = TraceQuery {
            service: self.get("service").map(str::to_owned),
            operation: self.get("operation").map(str::to_owned),
            filters: filters_of(&self.v1_tags()?),
            predicate: None,
            start: TimeRangeNs::inclusive(start_ns, end_ns),
            duration_min_ns: self.v1("minDuration", parse_duration_bound)?.flatten(),
            duration_max_ns: self.v1("maxDuration", parse_duration_bound)?.flatten(),
            limit: self.v1_limit()?,
        };
        checked_query(query, ["minDuration", "maxDuration", "limit"])
    }

    /// 0 where the client does not say; to say so itself is a mistake.
    fn v1_limit(&self) -> Result<usize, String> {
        let parse = |text: &str| text.parse::<i32>().map_err(|_| format!("{text:?} is no 32-bit number"));
        match self.v1("limit", parse)?.map(usize::try_from) {
            None => Ok(0),
            Some(Ok(limit)) if limit > 0 => Ok(limit),
            Some(_) => Err("invalid parameter: limit must be greater than 0".to_owned()),
        }
    }

    /// Of a key that comes several times the last value counts, and those of `tags` come after those of `tag`.
    fn v1_tags(&self) -> Result<BTreeMap<String, String>, String> {
        let pair = |tag: &str| {
            let (key, value) = tag
                .split_once(':')
                .ok_or_else(|| format!("malformed 'tag' parameter, expecting key:value, received: {tag}"))?;
            Ok((key.to_owned(), value.to_owned()))
        };
        let mut tags = self.all("tag").map(pair).collect::<Result<BTreeMap<_, _>, String>>()?;
        for text in self.all("tags") {
            let more = parse_json_tags(text)
                .map_err(|error| format!("malformed 'tags' parameter, cannot unmarshal JSON: {error}"))?;
            tags.extend(more);
        }
        Ok(tags)
    }

    /// `endTs` and `lookback` of dependencies.
    pub(crate) fn v1_dependencies(&self, now_ms: u64) -> Result<TimeRangeNs, String> {
        let end_ms = self.v1("endTs", parse_ms)?.unwrap_or(now_ms);
        let lookback_ms = self.v1("lookback", parse_ms)?.unwrap_or(DEPENDENCIES_LOOKBACK_DEFAULT_MS);
        let start_ms = end_ms.saturating_sub(lookback_ms);
        Ok(TimeRangeNs::inclusive(start_ms.saturating_mul(NS_PER_MS), end_ms.saturating_mul(NS_PER_MS)))
    }

    /// One parameter, read by `parse`; a mistake is told in API v1's words.
    fn v1<T>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
        self.get(name).map(parse).transpose().map_err(|error| format!("unable to parse param '{name}': {error}"))
    }
}

fn parse_ms(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number of milliseconds"))
}

/// Seconds, milliseconds, microseconds or nanoseconds, told apart by the number of digits: present times have
/// 10, 13, 16 and 19. Jaeger's own unit is microseconds; Grafana sends milliseconds on reads by id.
fn parse_unix_ns(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no Unix time");
    let number: u64 = text.parse().map_err(|_| wrong())?;
    let factor = match text.trim_start_matches(['+', '0']).len() {
        12 | 13 => 1_000_000,
        18..=20 => 1,
        10 | 11 => 1_000_000_000,
        _ => 1_000,
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::filter_of;

    const NOW_NS: u64 = 1_700_000_000_000_000_000;

    fn asked(query: &str) -> Result<TracesQuestion, String> {
        Params::parse(Some(query)).v1_traces(NOW_NS)
    }

    fn search(query: &str) -> TraceQuery {
        match asked(query).unwrap() {
            TracesQuestion::Search(query) => query,
            read @ TracesQuestion::Read(..) => panic!("{read:?}"),
        }
    }

    #[test]
    fn the_unit_of_a_time_follows_from_its_length() {
        for text in ["1700000000", "1700000000000", "1700000000000000", "1700000000000000000"] {
            assert_eq!(parse_unix_ns(text), Ok(NOW_NS), "{text}");
        }
        assert_eq!(parse_unix_ns("0"), Ok(0));
        for wrong in ["-1", "99999999999999999999", "1e9", ""] {
            assert!(parse_unix_ns(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_search_reads_every_parameter() {
        let query = search(
            "service=shop&operation=GET%20%2F&tag=a:b:c&tags=%7B%22error%22%3A%22true%22%7D&minDuration=1ms\
             &maxDuration=2s&limit=7&start=1700000000000000&end=1700000001000000",
        );
        assert_eq!((query.service.as_deref(), query.operation.as_deref()), (Some("shop"), Some("GET /")));
        assert_eq!(query.filters, [filter_of("a", "b:c"), filter_of("error", "true")]);
        assert_eq!((query.duration_min_ns, query.duration_max_ns), (Some(1_000_000), Some(2_000_000_000)));
        assert_eq!((query.limit, query.start.start_ns), (7, NOW_NS));
        assert!(query.start.contains(1_700_000_001_000_000_000), "the end is inside");
    }

    #[test]
    fn what_is_not_said_has_jaegers_defaults() {
        let query = search("");
        let start = TimeRangeNs::inclusive(NOW_NS - LOOKBACK_DEFAULT_NS, NOW_NS);
        assert_eq!((query.limit, query.start), (100, start));
        assert_eq!((query.service, query.duration_max_ns), (None, None));
        assert_eq!(search("maxDuration=0s").duration_max_ns, None, "zero is no bound");
    }

    #[test]
    fn of_a_tag_that_comes_twice_the_last_counts() {
        let tags = "tag=a:1&tags=%7B%22a%22%3A%223%22%7D&tag=a:2&tag=b:";
        assert_eq!(search(tags).filters, [filter_of("a", "3"), filter_of("b", "")]);
    }

    #[test]
    fn traces_are_asked_for_by_id_in_any_form_and_unit() {
        let ids = vec![parse_trace_id("ab").unwrap(), parse_trace_id("0102030405060708090a0b0c0d0e0f10").unwrap()];
        let read = asked("traceID=ab&traceID=AQIDBAUGBwgJCgsMDQ4PEA%3D%3D");
        assert_eq!(read, Ok(TracesQuestion::Read(ids.clone(), None)), "without times all of time is looked at");
        let range = TimeRangeNs::inclusive(NOW_NS, u64::MAX - 1);
        let read = asked("traceID=ab&traceID=0102030405060708090a0b0c0d0e0f10&start=1700000000000");
        assert_eq!(read, Ok(TracesQuestion::Read(ids, Some(range))));
        let before = asked("traceID=ab&end=1600000000000");
        assert!(matches!(before, Ok(TracesQuestion::Read(_, Some(_)))), "an end alone is enough: {before:?}");
    }

    #[test]
    fn mistakes_are_told_in_jaegers_words() {
        for (query, words) in [
            ("tag=x", "malformed 'tag' parameter, expecting key:value, received: x"),
            ("tags=x", "malformed 'tags' parameter, cannot unmarshal JSON: "),
            ("tags=%7B%22a%22%3A1%7D", "malformed 'tags' parameter, cannot unmarshal JSON: "),
            ("limit=0", "invalid parameter: limit must be greater than 0"),
            ("limit=-1", "invalid parameter: limit must be greater than 0"),
            ("limit=2147483648", "unable to parse param 'limit': "),
            ("limit=99999", "limit: at most 10000 traces"),
            ("minDuration=5", "unable to parse param 'minDuration': time: missing unit in duration \"5\""),
            ("maxDuration=-5s", "unable to parse param 'maxDuration': \"-5s\" is negative"),
            ("minDuration=2s&maxDuration=1s", "'maxDuration' should be greater than 'minDuration'"),
            ("start=x", "unable to parse param 'start': "),
            ("end=x", "unable to parse param 'end': "),
            ("start=1700000000000001&end=1700000000000000", "invalid parameter: start time must be before end time"),
            ("end=1600000000000000", "invalid parameter: start time must be before end time"),
            ("traceID=ab&traceID=xyz!", "cannot parse traceID param: \"xyz!\""),
            ("traceID=", "cannot parse traceID param: \"\""),
            ("traceID=ab&limit=x", "unable to parse param 'limit': "),
        ] {
            let told = asked(query).unwrap_err();
            assert!(told.starts_with(words), "{query}: {told}");
        }
        assert!(Params::parse(Some("raw=maybe")).v1_raw().unwrap_err().starts_with("unable to parse param 'raw': "));
    }

    #[test]
    fn dependencies_are_asked_for_in_milliseconds() {
        let range = |query: &str| Params::parse(Some(query)).v1_dependencies(1_700_000_000_000);
        let of_day = TimeRangeNs::inclusive(NOW_NS - 86_400_000_000_000, NOW_NS);
        assert_eq!(range(""), Ok(of_day));
        assert_eq!(range("endTs=1700000000000&lookback=86400000"), Ok(of_day));
        assert!(range("endTs=x").unwrap_err().starts_with("unable to parse param 'endTs': "));
        assert!(range("lookback=1h").unwrap_err().starts_with("unable to parse param 'lookback': "));
    }
}
