//! Tags of a search as tests on a span.

use pharos_model::{SpanKind, StatusCode};
use pharos_storage::SpanFilter;

const RESOURCE_PREFIX: &str = "resource.";

/// The test that a tag `key=value` stands for. Some keys are not attributes but parts of the span, also under
/// the names in which the v1 API shows them.
pub(crate) fn filter_of(key: &str, value: &str) -> SpanFilter {
    let attribute = || SpanFilter::Attribute { key: key.to_owned(), value: value.to_owned() };
    match key {
        "error" => match value {
            "true" => SpanFilter::Status(StatusCode::Error),
            "false" => SpanFilter::NotStatus(StatusCode::Error),
            _ => attribute(),
        },
        "span.kind" => kind_of(value).map_or_else(attribute, SpanFilter::Kind),
        "span.status" | "otel.status_code" => status_of(value).map_or_else(attribute, SpanFilter::Status),
        "scope.name" | "otel.scope.name" | "otel.library.name" => SpanFilter::ScopeName(value.to_owned()),
        "scope.version" | "otel.scope.version" | "otel.library.version" => SpanFilter::ScopeVersion(value.to_owned()),
        _ => match key.strip_prefix(RESOURCE_PREFIX) {
            Some(key) if !key.is_empty() => {
                SpanFilter::ResourceAttribute { key: key.to_owned(), value: value.to_owned() }
            }
            _ => attribute(),
        },
    }
}

/// The kind of a word such as `server`.
pub(crate) fn kind_of(word: &str) -> Option<SpanKind> {
    Some(match word.to_ascii_lowercase().as_str() {
        "unspecified" => SpanKind::Unspecified,
        "internal" => SpanKind::Internal,
        "server" => SpanKind::Server,
        "client" => SpanKind::Client,
        "producer" => SpanKind::Producer,
        "consumer" => SpanKind::Consumer,
        _ => return None,
    })
}

fn status_of(word: &str) -> Option<StatusCode> {
    Some(match word.to_ascii_lowercase().as_str() {
        "unset" => StatusCode::Unset,
        "ok" => StatusCode::Ok,
        "error" => StatusCode::Error,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_no_attributes_become_tests_of_the_span() {
        let attribute = |key: &str, value: &str| SpanFilter::Attribute { key: key.to_owned(), value: value.to_owned() };
        for (key, value, expected) in [
            ("error", "true", SpanFilter::Status(StatusCode::Error)),
            ("error", "false", SpanFilter::NotStatus(StatusCode::Error)),
            ("error", "timeout", attribute("error", "timeout")),
            ("span.kind", "server", SpanFilter::Kind(SpanKind::Server)),
            ("otel.status_code", "OK", SpanFilter::Status(StatusCode::Ok)),
            ("otel.scope.name", "lib", SpanFilter::ScopeName("lib".to_owned())),
            ("http.method", "GET", attribute("http.method", "GET")),
            (
                "resource.host.name",
                "a",
                SpanFilter::ResourceAttribute { key: "host.name".to_owned(), value: "a".to_owned() },
            ),
        ] {
            assert_eq!(filter_of(key, value), expected, "{key}={value}");
        }
    }
}
