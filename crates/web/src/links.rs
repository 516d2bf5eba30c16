//! Links that other tools hold into the pages that Pharos replaces.
//!
//! Alerts carry Prometheus' `/graph?g0.expr=…`, dashboards and chat logs Jaeger's `/trace/{id}` and `/search?…`.
//! The UI understands them behind its `#`; here they are only moved there. Every target is relative, so that a path
//! prefix in front of Pharos survives.

/// Where a link of Prometheus' or Jaeger's own page leads in ours, as a relative reference; `None` for other paths.
///
/// - `path`: absolute, percent-encoded as received.
/// - `query`: without the question mark; `http` guarantees it to be fit for a header.
pub(crate) fn moved(path: &str, query: Option<&str>) -> Option<String> {
    let with_query = |page: &str| match query {
        Some(query) if !query.is_empty() => format!("./#/{page}?{query}"),
        _ => format!("./#/{page}"),
    };
    match path {
        "/graph" | "/query" => Some(with_query("graph")),
        "/search" => Some(with_query("search")),
        _ => {
            let id = path.strip_prefix("/trace/")?;
            is_trace_id(id).then(|| format!("../#/trace/{}", id.to_ascii_lowercase()))
        }
    }
}

/// 1 to 32 hexadecimal digits, as Jaeger writes them.
fn is_trace_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod unit {
    use super::moved;

    fn check(path: &str, query: Option<&str>, expected: Option<&str>) {
        assert_eq!(moved(path, query).as_deref(), expected, "{path} {query:?}");
    }

    #[test]
    fn links_of_prometheus_and_jaeger_lead_behind_the_hash() {
        check("/graph", Some("g0.expr=up&g0.tab=1"), Some("./#/graph?g0.expr=up&g0.tab=1"));
        check("/query", None, Some("./#/graph"));
        check("/search", Some("service=cart"), Some("./#/search?service=cart"));
        check("/trace/0AF7651916cd43dd", Some("uiFind=x"), Some("../#/trace/0af7651916cd43dd"));
    }

    #[test]
    fn other_paths_stay() {
        check("/", None, None);
        check("/trace/", None, None);
        check("/trace/not-hex", None, None);
        check("/trace/0af7651916cd43dd8448eb211c80319c0", None, None);
        check("/graph/more", None, None);
    }
}
