//! The names of one door: prefixes under which it is served, and short forms of its path.
//!
//! `/prometheus/api/v1/export` and `/select/7/prometheus/api/v1/export` are `/api/v1/export`; a rule that closes the one must close
//! all. Only paths of one API are alike here: Tempo's `/tempo/api/search` is no other name of anything, and a method of gRPC is none
//! of a path of HTTP.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Below these stand a tenant and then a path (VictoriaMetrics' cluster URLs).
const OF_A_TENANT: [&str; 3] = ["/insert/", "/select/", "/delete/"];
/// Below these stands what stands below the root as well.
const OF_A_PRODUCT: [&str; 2] = ["/prometheus", "/jaeger"];
/// Below these stand OTLP's own paths.
const OF_OTLP: [&str; 2] = ["/api/v1/otlp", "/opentelemetry"];

/// The tenant that a path names, and what follows it.
pub(crate) fn split_tenant(path: &str) -> Option<(&str, &str)> {
    let below = OF_A_TENANT.iter().find_map(|front| path.strip_prefix(front))?;
    let (tenant, rest) = below.split_at(below.find('/').unwrap_or(below.len()));
    (!tenant.is_empty()).then_some((tenant, rest))
}

/// All names of the door that a path leads to, from the path as it stands to the shortest; each also decoded where it is
/// percent-encoded, as doors decode what stands for a tenant, a label or a service.
pub(crate) fn names_of(path: &str) -> Vec<Cow<'_, str>> {
    let mut names = Vec::with_capacity(4);
    let mut next = Some(path);
    while let Some(name) = next {
        names.push(Cow::Borrowed(name));
        if name.contains('%') {
            names.push(Cow::Owned(percent_decode_str(name).decode_utf8_lossy().into_owned()));
        }
        next = shorter(name);
    }
    names
}

/// The next shorter name of the same door.
fn shorter(name: &str) -> Option<&str> {
    if let Some((_tenant, rest)) = split_tenant(name) {
        return Some(rest);
    }
    if name.is_empty() || name == "/api/v1/push" {
        return Some("/api/v1/write");
    }
    if let Some(rest) = below(name, &OF_OTLP).filter(|rest| rest.starts_with("/v1/")) {
        return Some(rest);
    }
    below(name, &OF_A_PRODUCT)
}

/// What follows a front that ends where a segment does.
fn below<'p>(path: &'p str, fronts: &[&str]) -> Option<&'p str> {
    let mut rests = fronts.iter().filter_map(|front| path.strip_prefix(front));
    rests.find(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_leads_to_the_shortest_name() {
        for (path, shortest) in [
            ("/api/v1/export", "/api/v1/export"),
            ("/prometheus/api/v1/export", "/api/v1/export"),
            ("/select/7/prometheus/api/v1/export", "/api/v1/export"),
            ("/select/7%3A1/prometheus/federate", "/federate"),
            ("/delete/7/prometheus/api/v1/admin/tsdb/delete_series", "/api/v1/admin/tsdb/delete_series"),
            ("/insert/7/prometheus/api/v1/write", "/api/v1/write"),
            ("/insert/7/prometheus", "/api/v1/write"),
            ("/api/v1/push", "/api/v1/write"),
            ("/api/v1/otlp/v1/metrics", "/v1/metrics"),
            ("/prometheus/api/v1/otlp/v1/traces", "/v1/traces"),
            ("/opentelemetry/v1/logs", "/v1/logs"),
            ("/insert/7/opentelemetry/v1/metrics", "/v1/metrics"),
            ("/jaeger/api/traces", "/api/traces"),
            ("/select/7/jaeger/api/v3/traces", "/api/v3/traces"),
            ("/tempo/api/search", "/tempo/api/search"),
            ("/select/7/tempo/api/search", "/tempo/api/search"),
            ("/jaeger.api_v3.QueryService/GetTrace", "/jaeger.api_v3.QueryService/GetTrace"),
            (
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            ),
            ("/prometheusx/api", "/prometheusx/api"),
            ("/select//prometheus/x", "/select//prometheus/x"),
        ] {
            let names = names_of(path);
            assert_eq!(names.first().map(Cow::as_ref), Some(path));
            assert_eq!(names.last().map(Cow::as_ref), Some(shortest), "{names:?}");
        }
    }

    #[test]
    fn what_a_door_decodes_is_among_its_names() {
        let names = names_of("/prometheus/api/v1/label/%6Aob/values");
        assert!(names.contains(&Cow::Borrowed("/api/v1/label/job/values")), "{names:?}");
        assert_eq!(names_of("/x/%ff/%"), ["/x/%ff/%", "/x/\u{fffd}/%"]);
    }

    #[test]
    fn the_shortest_name_is_found_of_any_text() {
        for path in
            ["", "/", "//", "/select/", "/select/x", "/insert/a/insert/b/prometheus/prometheus/jaeger", "no path"]
        {
            let names = names_of(path);
            assert!(names.len() <= 2 * (path.len() + 2), "{names:?}");
        }
    }
}
