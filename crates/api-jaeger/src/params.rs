//! Query parameters: times in every unit that clients send, trace ids in every form, durations, tags.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use pharos_model::{TimeRangeNs, TraceId};
use pharos_storage::{SpanFilter, TraceQuery};

use crate::duration::parse_go_duration;
use crate::filter::filter_of;

/// Traces a search returns where the client does not say.
const LIMIT_DEFAULT: usize = 100;
/// Traces a search may return.
const LIMIT_MAX: usize = 10_000;
/// How far back a search without a start looks, nanoseconds.
const LOOKBACK_DEFAULT_NS: u64 = 2 * 86_400_000_000_000;

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

    /// The first value of any of `names`.
    pub(crate) fn any(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }

    /// All values of `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// An instant as a whole number; its unit follows from its length.
    pub(crate) fn instant_ns(&self, name: &str) -> Result<Option<u64>, String> {
        self.get(name)
            .map(|text| parse_unix_ns(text).ok_or_else(|| format!("{name}: {text:?} is no Unix time")))
            .transpose()
    }

    /// A whole number of milliseconds.
    pub(crate) fn ms(&self, name: &str) -> Result<Option<u64>, String> {
        self.get(name)
            .map(|text| text.parse().map_err(|_| format!("{name}: {text:?} is no number of milliseconds")))
            .transpose()
    }

    fn duration_ns(&self, name: &str) -> Result<Option<u64>, String> {
        self.get(name)
            .map(|text| {
                parse_go_duration(text).ok_or_else(|| format!("{name}: {text:?} is no duration: write 1.2s or 100ms"))
            })
            .transpose()
    }

    /// The bounds `start` and `end` of a read by id, if both or one is given.
    pub(crate) fn read_range(&self, start: &str, end: &str) -> Result<Option<TimeRangeNs>, String> {
        let (start_ns, end_ns) = (self.instant_ns(start)?, self.instant_ns(end)?);
        Ok((start_ns.is_some() || end_ns.is_some())
            .then(|| TimeRangeNs::inclusive(start_ns.unwrap_or(0), end_ns.unwrap_or(u64::MAX - 1))))
    }

    /// A search as API v1 says it.
    pub(crate) fn v1_query(&self, now_ns: u64) -> Result<TraceQuery, String> {
        let end_ns = self.instant_ns("end")?.unwrap_or(now_ns);
        let start_ns = self.instant_ns("start")?.unwrap_or(now_ns.saturating_sub(LOOKBACK_DEFAULT_NS));
        let mut filters = Vec::new();
        for tag in self.all("tag") {
            let (key, value) = tag
                .split_once(':')
                .ok_or_else(|| format!("malformed 'tag' parameter, expecting key:value, received: {tag}"))?;
            filters.push(filter_of(key, value));
        }
        for tags in self.all("tags") {
            filters.extend(json_filters("tags", tags)?);
        }
        let start = TimeRangeNs::inclusive(start_ns, end_ns);
        self.query(["service", "operation"], ["minDuration", "maxDuration"], &["limit"], filters, start)
    }

    /// A search as API v3 says it.
    pub(crate) fn v3_query(&self) -> Result<TraceQuery, String> {
        let instant = |names: [&str; 2]| {
            let text = self.any(&names).ok_or_else(|| format!("{} is required", names[0]))?;
            parse_rfc3339_ns(text).ok_or_else(|| format!("{}: {text:?} is no RFC 3339 time", names[0]))
        };
        let start_ns = instant(["query.startTimeMin", "query.start_time_min"])?;
        let end_ns = instant(["query.startTimeMax", "query.start_time_max"])?;
        if start_ns >= end_ns {
            return Err("query.startTimeMin must lie before query.startTimeMax".to_owned());
        }
        if self.get("query.filter").is_some() {
            return Err("query.filter: structured filters are not supported; use query.attributes".to_owned());
        }
        let attributes = self.get("query.attributes");
        let filters = attributes.map(|text| json_filters("query.attributes", text)).transpose()?.unwrap_or_default();
        let aliased = |names: &[&'static str; 2]| if self.get(names[0]).is_some() { names[0] } else { names[1] };
        self.query(
            [
                aliased(&["query.serviceName", "query.service_name"]),
                aliased(&["query.operationName", "query.operation_name"]),
            ],
            [
                aliased(&["query.durationMin", "query.duration_min"]),
                aliased(&["query.durationMax", "query.duration_max"]),
            ],
            &["query.searchDepth", "query.search_depth", "query.num_traces"],
            filters,
            // This API's own words: the first instant is inside, the last is not.
            TimeRangeNs { start_ns, end_ns },
        )
    }

    fn query(
        &self,
        [service, operation]: [&str; 2],
        [min, max]: [&str; 2],
        limits: &[&str],
        filters: Vec<SpanFilter>,
        start: TimeRangeNs,
    ) -> Result<TraceQuery, String> {
        let query = TraceQuery {
            service: self.get(service).map(str::to_owned),
            operation: self.get(operation).map(str::to_owned),
            filters,
            predicate: None,
            start,
            duration_min_ns: self.duration_ns(min)?,
            duration_max_ns: self.duration_ns(max)?,
            limit: self.limit(limits)?,
        };
        checked_query(query, [min, max, limits[0]])
    }

    fn limit(&self, names: &[&str]) -> Result<usize, String> {
        let Some(text) = self.any(names) else { return Ok(0) };
        text.parse().map_err(|_| format!("{}: {text:?} is no number", names[0]))
    }
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
fn json_filters(name: &str, text: &str) -> Result<Vec<SpanFilter>, String> {
    let tags: std::collections::BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|error| format!("malformed '{name}' parameter: {error}"))?;
    Ok(tags.iter().map(|(key, value)| filter_of(key, value)).collect())
}

/// Seconds, milliseconds, microseconds or nanoseconds, told apart by the number of digits: present times have
/// 10, 13, 16 and 19. Jaeger's own unit is microseconds; Grafana sends milliseconds on reads by id.
fn parse_unix_ns(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    let factor = match text.trim_start_matches('0').len() {
        12 | 13 => 1_000_000,
        18..=20 => 1,
        10 | 11 => 1_000_000_000,
        _ => 1_000,
    };
    number.checked_mul(factor)
}

fn parse_rfc3339_ns(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<Timestamp>().ok()?.as_nanosecond()).ok()
}

/// A time of API v3.
pub(crate) fn optional_rfc3339_ns(params: &Params, names: &[&str]) -> Result<Option<u64>, String> {
    params
        .any(names)
        .map(|text| parse_rfc3339_ns(text).ok_or_else(|| format!("{}: {text:?} is no RFC 3339 time", names[0])))
        .transpose()
}

/// A trace id as clients write it: 1 to 32 hexadecimal digits, or base64 of 8 or 16 bytes.
pub(crate) fn parse_trace_id(text: &str) -> Option<TraceId> {
    if let Ok(id) = text.parse() {
        return Some(id);
    }
    if text.len() > 24 {
        return None;
    }
    let decoded =
        [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().find_map(|form| form.decode(text).ok())?;
    let mut id = [0; 16];
    id.get_mut(16_usize.checked_sub(decoded.len())?..)?.copy_from_slice(&decoded);
    matches!(decoded.len(), 8 | 16).then_some(TraceId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_time_follows_from_its_length() {
        let expected = Some(1_700_000_000_000_000_000);
        for text in ["1700000000", "1700000000000", "1700000000000000", "1700000000000000000"] {
            assert_eq!(parse_unix_ns(text), expected, "{text}");
        }
        assert_eq!(parse_unix_ns("0"), Some(0));
        assert_eq!(parse_unix_ns("-1"), None);
        assert_eq!(parse_unix_ns("99999999999999999999"), None);
    }

    #[test]
    fn trace_ids_come_in_hex_and_base64() {
        let id = parse_trace_id("0102030405060708090a0b0c0d0e0f10").unwrap();
        assert_eq!(parse_trace_id("AQIDBAUGBwgJCgsMDQ4PEA=="), Some(id));
        assert_eq!(parse_trace_id("AQIDBAUGBwgJCgsMDQ4PEA"), Some(id));
        assert_eq!(parse_trace_id("abc").unwrap().to_string(), "00000000000000000000000000000abc");
        for wrong in ["", "xyz!", "AQID", &"f".repeat(33)] {
            assert_eq!(parse_trace_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_v1_search_reads_every_parameter() {
        let query = "service=shop&operation=GET%20%2F&tag=a:b:c&tags=%7B%22error%22%3A%22true%22%7D&minDuration=1ms\
                     &maxDuration=2s&limit=7&start=1700000000000000&end=1700000001000000";
        let query = Params::parse(Some(query)).v1_query(0).unwrap();
        assert_eq!((query.service.as_deref(), query.operation.as_deref()), (Some("shop"), Some("GET /")));
        assert_eq!(query.filters, [filter_of("a", "b:c"), filter_of("error", "true")]);
        assert_eq!((query.duration_min_ns, query.duration_max_ns), (Some(1_000_000), Some(2_000_000_000)));
        assert_eq!((query.limit, query.start.start_ns), (7, 1_700_000_000_000_000_000));
        assert!(query.start.contains(1_700_000_001_000_000_000), "the end is inside");
        let mistakes = ["tag=x", "tags=x", "limit=-1", "limit=99999", "minDuration=2s&maxDuration=1s", "start=x"];
        for mistake in mistakes {
            assert!(Params::parse(Some(mistake)).v1_query(0).is_err(), "{mistake}");
        }
    }
}
