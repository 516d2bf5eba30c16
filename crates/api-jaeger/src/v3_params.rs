//! The parameters of API v3: names in camel case, deprecated ones in snake case beside them.

use jiff::Timestamp;
use pharos_model::TimeRangeNs;
use pharos_storage::{OperationQuery, TraceQuery};

use crate::filter::kind_of;
use crate::filter_tree::{call_of_json, predicate_of};
use crate::params::{
    Params, checked_query, filters_of, parse_bool, parse_duration_bound, parse_json_tags, with_predicate,
};

impl Params {
    /// A search: what is asked for, and whether the traces are wanted as they came.
    /// Its patterns are compiled here: to be called within the job.
    pub(crate) fn v3_query(&self) -> Result<(TraceQuery, bool), String> {
        let start = self.v3_search_range()?;
        let filter = |text: &str| call_of_json(text).and_then(|filter| predicate_of(&filter));
        let predicate = self.v3(&["query.filter"], filter)?;
        let text = |names| self.any(names).map(|(_, text)| text.to_owned());
        let tags = self.v3(&["query.attributes"], parse_json_tags)?.unwrap_or_default();
        let (min, max) = (["query.durationMin", "query.duration_min"], ["query.durationMax", "query.duration_max"]);
        let depth = ["query.searchDepth", "query.search_depth", "query.num_traces"];
        let query = TraceQuery {
            service: text(&["query.serviceName", "query.service_name"]),
            operation: text(&["query.operationName", "query.operation_name"]),
            filters: filters_of(&tags),
            predicate: None,
            start,
            duration_min_ns: self.v3(&min, parse_duration_bound)?.flatten(),
            duration_max_ns: self.v3(&max, parse_duration_bound)?.flatten(),
            limit: self.v3(&depth, parse_depth)?.unwrap_or(0),
        };
        let is_raw = self.v3_raw(["query.rawTraces", "query.raw_traces"])?;
        let query = checked_query(query, [min[0], max[0], depth[0]])?;
        Ok((with_predicate(query, predicate)?, is_raw))
    }

    /// When spans of a search start. This API's own words: the first instant is inside, the last is not.
    pub(crate) fn v3_search_range(&self) -> Result<TimeRangeNs, String> {
        let start_ns = self.v3_time(["query.startTimeMin", "query.start_time_min"])?;
        let end_ns = self.v3_time(["query.startTimeMax", "query.start_time_max"])?;
        let (Some(start_ns), Some(end_ns)) = (start_ns, end_ns) else {
            return Err("query.startTimeMin and query.startTimeMax are required".to_owned());
        };
        if start_ns >= end_ns {
            return Err("query.startTimeMin must lie before query.startTimeMax".to_owned());
        }
        Ok(TimeRangeNs { start_ns, end_ns })
    }

    /// Whether traces are wanted as they came.
    pub(crate) fn v3_raw(&self, names: [&str; 2]) -> Result<bool, String> {
        self.v3(&names, parse_bool).map(Option::unwrap_or_default)
    }

    /// The bounds of a read by id, if one or both are given.
    pub(crate) fn v3_range(&self) -> Result<Option<TimeRangeNs>, String> {
        let (start_ns, end_ns) = (self.v3_time(["startTime", "start_time"])?, self.v3_time(["endTime", "end_time"])?);
        Ok((start_ns.is_some() || end_ns.is_some())
            .then(|| TimeRangeNs::inclusive(start_ns.unwrap_or(0), end_ns.unwrap_or(u64::MAX - 1))))
    }

    /// The bounds of dependencies; both are required.
    pub(crate) fn v3_dependencies(&self) -> Result<TimeRangeNs, String> {
        let required = |names: [&str; 2]| self.v3_time(names)?.ok_or_else(|| format!("{} is required", names[0]));
        let (start_ns, end_ns) = (required(["startTime", "start_time"])?, required(["endTime", "end_time"])?);
        if start_ns >= end_ns {
            return Err("endTime must be after startTime".to_owned());
        }
        Ok(TimeRangeNs::inclusive(start_ns, end_ns))
    }

    /// Which operations to list.
    pub(crate) fn v3_operations(&self) -> Result<OperationQuery, String> {
        let service = self.get("service").ok_or("parameter 'service' is required")?;
        let kind = |word: &str| kind_of(word).ok_or_else(|| format!("{word:?} is no kind of span"));
        Ok(OperationQuery { service: service.to_owned(), kind: self.v3(&["spanKind", "span_kind"], kind)? })
    }

    fn v3_time(&self, names: [&str; 2]) -> Result<Option<u64>, String> {
        self.v3(&names, parse_rfc3339_ns)
    }

    /// The first parameter of `names` that is there, read by `parse`; a mistake is told in API v3's words.
    fn v3<T>(&self, names: &[&str], parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
        let Some((name, text)) = self.any(names) else { return Ok(None) };
        parse(text).map(Some).map_err(|error| format!("malformed parameter {name}: {error}"))
    }
}

/// A count of traces in 32 bits; 0 is the usual one.
fn parse_depth(text: &str) -> Result<usize, String> {
    text.parse::<u32>().map(|depth| depth as usize).map_err(|_| format!("{text:?} is no 32-bit number"))
}

fn parse_rfc3339_ns(text: &str) -> Result<u64, String> {
    let time = text.parse::<Timestamp>().ok().and_then(|time| u64::try_from(time.as_nanosecond()).ok());
    time.ok_or_else(|| format!("{text:?} is no RFC 3339 time since 1970"))
}

#[cfg(test)]
mod tests {
    use pharos_storage::{SpanPredicate, SpanReference};

    use super::*;
    use crate::filter::filter_of;

    const WINDOW: &str =
        "query.startTimeMin=2023-11-14T22:13:20Z&query.startTimeMax=2023-11-14T23:13:20.000000001%2B01:00";

    fn asked(query: &str) -> Result<(TraceQuery, bool), String> {
        Params::parse(Some(query)).v3_query()
    }

    #[test]
    fn a_search_reads_every_parameter_under_all_its_names() {
        let camel = "&query.serviceName=shop&query.operationName=GET&query.searchDepth=7&query.durationMin=1ms\
                     &query.durationMax=2s&query.rawTraces=true&query.attributes=%7B%22a%22%3A%22b%22%7D";
        let snake = "&query.service_name=shop&query.operation_name=GET&query.num_traces=7&query.duration_min=1ms\
                     &query.duration_max=2s&query.raw_traces=T&query.attributes=%7B%22a%22%3A%22b%22%7D";
        let (query, is_raw) = asked(&format!("{WINDOW}{camel}")).unwrap();
        assert!(is_raw);
        assert_eq!((query.service.as_deref(), query.operation.as_deref(), query.limit), (Some("shop"), Some("GET"), 7));
        assert_eq!((query.duration_min_ns, query.duration_max_ns), (Some(1_000_000), Some(2_000_000_000)));
        assert_eq!(query.filters, [filter_of("a", "b")]);
        let start_ns = 1_700_000_000_000_000_000;
        assert_eq!(query.start, TimeRangeNs { start_ns, end_ns: start_ns + 1 });
        let window = WINDOW.replace("TimeMin", "_time_min").replace("TimeMax", "_time_max");
        assert_eq!(asked(&format!("{window}{snake}")), Ok((query.clone(), is_raw)));
        let depth = snake.replace("num_traces", "search_depth");
        assert_eq!(asked(&format!("{window}{depth}")), Ok((query, is_raw)));
    }

    #[test]
    fn a_filter_excludes_the_plain_tests() {
        let filter = "&query.filter=%7B%22op%22%3A%22exists%22%2C%22args%22%3A%5B%7B%22attr%22%3A%7B%22key%22%3A%22a%22%7D%7D%5D%7D";
        let exists = SpanPredicate::Exists(SpanReference::Attribute { level: None, key: "a".to_owned() });
        assert_eq!(asked(&format!("{WINDOW}{filter}")).unwrap().0.predicate, Some(exists));
        let told = asked(&format!("{WINDOW}{filter}&query.serviceName=shop")).unwrap_err();
        assert!(told.starts_with("query.filter excludes service"), "{told}");
    }

    #[test]
    fn what_is_not_said_has_jaegers_defaults() {
        for depth in ["", "&query.searchDepth=0", "&query.searchDepth="] {
            let (query, is_raw) = asked(&format!("{WINDOW}{depth}")).unwrap();
            assert_eq!((query.limit, is_raw, query.service), (100, false, None), "{depth}");
        }
    }

    #[test]
    fn mistakes_name_their_parameter() {
        for (query, words) in [
            ("", "query.startTimeMin and query.startTimeMax are required"),
            ("query.startTimeMin=2023-11-14T22:13:20Z", "query.startTimeMin and query.startTimeMax are required"),
            ("query.startTimeMin=1", "malformed parameter query.startTimeMin: "),
            ("query.start_time_min=1969-01-01T00:00:00Z", "malformed parameter query.start_time_min: "),
            ("&query.searchDepth=-1", "malformed parameter query.searchDepth: "),
            ("&query.num_traces=x", "malformed parameter query.num_traces: "),
            ("&query.searchDepth=10001", "query.searchDepth: at most 10000"),
            ("&query.durationMin=1", "malformed parameter query.durationMin: time: missing unit in duration \"1\""),
            ("&query.durationMin=2s&query.durationMax=1s", "'query.durationMax' should be greater"),
            ("&query.attributes=%5B%5D", "malformed parameter query.attributes: "),
            ("&query.rawTraces=x", "malformed parameter query.rawTraces: "),
            ("&query.filter=x", "malformed parameter query.filter: filter: expected value"),
            ("&query.filter=%7B%22op%22%3A%22x%22%7D", "malformed parameter query.filter: filter: unknown operator"),
        ] {
            let query = if query.starts_with('&') { format!("{WINDOW}{query}") } else { query.to_owned() };
            let told = asked(&query).unwrap_err();
            assert!(told.starts_with(words), "{query}: {told}");
        }
        let turned = "query.startTimeMin=2023-11-14T22:13:20Z&query.startTimeMax=2023-11-14T22:13:20Z";
        assert_eq!(asked(turned).unwrap_err(), "query.startTimeMin must lie before query.startTimeMax");
    }

    #[test]
    fn dependencies_need_both_bounds_in_order() {
        let range = |query: &str| Params::parse(Some(query)).v3_dependencies();
        let (early, late) = ("2026-01-24T12:00:00Z", "2026-01-24T16:00:00Z");
        assert!(range(&format!("start_time={early}&endTime={late}")).is_ok());
        for (query, named) in [
            (String::new(), "startTime"),
            (format!("endTime={late}"), "startTime"),
            (format!("startTime={early}"), "endTime"),
            (format!("startTime=x&endTime={late}"), "startTime"),
            (format!("startTime={late}&endTime={early}"), "endTime"),
            (format!("startTime={late}&endTime={late}"), "endTime"),
        ] {
            let told = range(&query).unwrap_err();
            assert!(told.contains(named), "{query}: {told}");
        }
    }

    #[test]
    fn operations_are_of_a_service_and_perhaps_a_kind() {
        let query = |text: &str| Params::parse(Some(text)).v3_operations();
        assert_eq!(query("service=a&span_kind=SERVER").unwrap().kind, kind_of("server"));
        assert!(query("").unwrap_err().contains("service"));
        assert!(query("service=a&spanKind=x").unwrap_err().starts_with("malformed parameter spanKind: "));
    }
}
