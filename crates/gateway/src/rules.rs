//! Allow and deny: from where, for which paths, with which methods a credential works.
//!
//! One door has several names (`names.rs`), and both lists take the side of caution: a path of `deny` closes a door under every name
//! that it fits, a path of `allow` opens the name that stands in the URL, letter by letter, and no other one.

use std::net::IpAddr;

use http::Method;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::names::names_of;

/// Filters of one credential. A request passes if no rule of `deny` fits it and, unless `allow` is empty, one of `allow` does:
/// deny beats allow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessRules {
    /// What is let through; everything if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<AccessRule>,
    /// What is not, whatever `allow` says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<AccessRule>,
}

/// One filter: all that is given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessRule {
    /// Networks of the sender, such as `10.1.0.0/16`; any if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// Paths; a `*` at the end stands for any rest; any if empty. In `allow`: as in the URL. In `deny`: as in the URL, or any shorter
    /// name of the same door, so that `/api/v1/export` stands for `/prometheus/api/v1/export` and `/select/7/prometheus/api/v1/export`,
    /// too, and letters that are percent-encoded do not hide a path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Methods, in letters of any case: nobody who writes `delete` means that it counts for nothing. Any if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
}

impl AccessRules {
    /// Whether a request passes. A sender whose address is not known is in every network of `deny` and in none of `allow`.
    #[must_use]
    pub fn permit(&self, client: Option<IpAddr>, path: &str, method: &Method) -> bool {
        let is_allowed = |rule: &AccessRule| {
            rule.is_for_sender(client, false) && rule.is_for_path(&[path]) && rule.is_for_method(method)
        };
        !self.deny(client, path, method) && (self.allow.is_empty() || self.allow.iter().any(is_allowed))
    }

    /// Whether a session may be opened, or asked who it is: that moves no data, so that of `allow` the networks alone count.
    /// A token for some paths of the user interface could not log in there otherwise.
    pub(crate) fn permit_session(&self, client: Option<IpAddr>, path: &str, method: &Method) -> bool {
        let is_allowed = |rule: &AccessRule| rule.is_for_sender(client, false);
        !self.deny(client, path, method) && (self.allow.is_empty() || self.allow.iter().any(is_allowed))
    }

    fn deny(&self, client: Option<IpAddr>, path: &str, method: &Method) -> bool {
        if self.deny.is_empty() {
            return false;
        }
        let names = names_of(path);
        let is_denied = |rule: &AccessRule| {
            rule.is_for_sender(client, true) && rule.is_for_path(&names) && rule.is_for_method(method)
        };
        self.deny.iter().any(is_denied)
    }
}

impl AccessRule {
    fn is_for_sender(&self, client: Option<IpAddr>, if_unknown: bool) -> bool {
        // An IPv4 sender on a socket of both families is an IPv4 sender.
        let client = client.map(|client| client.to_canonical());
        self.networks.is_empty()
            || client.map_or(if_unknown, |client| self.networks.iter().any(|network| network.contains(&client)))
    }

    fn is_for_path(&self, names: &[impl AsRef<str>]) -> bool {
        self.paths.is_empty()
            || self.paths.iter().any(|pattern| names.iter().any(|name| path_fits(pattern, name.as_ref())))
    }

    fn is_for_method(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|name| name.eq_ignore_ascii_case(method.as_str()))
    }
}

fn path_fits(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(front) => path.starts_with(front),
        None => path == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> AccessRules {
        serde_json::from_str(json).unwrap()
    }

    fn permits(rules: &AccessRules, client: &str, path: &str, method: &Method) -> bool {
        rules.permit(client.parse().ok(), path, method)
    }

    #[test]
    fn without_rules_everything_passes() {
        assert!(permits(&AccessRules::default(), "", "/any", &Method::DELETE));
    }

    #[test]
    fn deny_beats_allow() {
        let rules = rules(
            r#"{"allow":[{"networks":["10.0.0.0/8","fd00::/8"]}],
                "deny":[{"networks":["10.9.0.0/16"]},{"paths":["/api/v1/admin/*"],"methods":["POST"]}]}"#,
        );
        for (client, path, method, expected) in [
            ("10.1.2.3", "/api/v1/query", Method::GET, true),
            ("::ffff:10.1.2.3", "/api/v1/query", Method::GET, true),
            ("fd12::1", "/api/v1/query", Method::GET, true),
            ("10.9.2.3", "/api/v1/query", Method::GET, false),
            ("192.0.2.1", "/api/v1/query", Method::GET, false),
            ("not known", "/api/v1/query", Method::GET, false),
            ("10.1.2.3", "/api/v1/admin/tsdb/snapshot", Method::POST, false),
            ("10.1.2.3", "/api/v1/admin/tsdb/snapshot", Method::GET, true),
        ] {
            assert_eq!(permits(&rules, client, path, &method), expected, "{client} {path} {method}");
        }
    }

    #[test]
    fn a_sender_of_no_known_address_is_let_through_by_no_network_and_stopped_by_any() {
        let denied = rules(r#"{"deny":[{"networks":["10.9.0.0/16"]}]}"#);
        assert!(!permits(&denied, "not known", "/x", &Method::GET) && permits(&denied, "10.1.0.1", "/x", &Method::GET));
        assert!(!permits(&rules(r#"{"allow":[{"networks":["0.0.0.0/0"]}]}"#), "not known", "/x", &Method::GET));
    }

    #[test]
    fn a_path_without_a_star_is_that_path_alone() {
        let rules = rules(r#"{"allow":[{"paths":["/api/v1/write","/v1/*"]}]}"#);
        for (path, expected) in
            [("/api/v1/write", true), ("/api/v1/write/", false), ("/v1/traces", true), ("/v2/x", false)]
        {
            assert_eq!(permits(&rules, "", path, &Method::POST), expected, "{path}");
        }
    }

    #[test]
    fn a_denied_door_is_closed_under_all_its_names() {
        for (pattern, names) in [
            (
                "/api/v1/export",
                &[
                    "/api/v1/export",
                    "/prometheus/api/v1/export",
                    "/select/7/prometheus/api/v1/export",
                    "/select/%37/prometheus/api/v1/export",
                ][..],
            ),
            (
                "/api/v1/admin/*",
                &[
                    "/api/v1/admin/tsdb/delete_series",
                    "/prometheus/api/v1/admin/tsdb/delete_series",
                    "/delete/7/prometheus/api/v1/admin/tsdb/delete_series",
                    "/api/v1/admin/traces/delete",
                ],
            ),
            ("/api/v1/label/job/*", &["/api/v1/label/%6Aob/values", "/select/7/prometheus/api/v1/label/jo%62/values"]),
            ("/prometheus/*", &["/prometheus/api/v1/query", "/select/7/prometheus/api/v1/query"]),
            ("/api/traces*", &["/api/traces", "/jaeger/api/traces/00ab", "/select/7/jaeger/api/traces"]),
            ("/tempo/*", &["/tempo/api/search", "/select/7/tempo/api/search"]),
            (
                "/v1/metrics",
                &[
                    "/v1/metrics",
                    "/api/v1/otlp/v1/metrics",
                    "/prometheus/api/v1/otlp/v1/metrics",
                    "/opentelemetry/v1/metrics",
                    "/insert/7/opentelemetry/v1/metrics",
                ],
            ),
            (
                "/api/v1/write",
                &[
                    "/api/v1/write",
                    "/api/v1/push",
                    "/prometheus/api/v1/write",
                    "/insert/7/prometheus",
                    "/insert/7/prometheus/api/v1/write",
                ],
            ),
        ] {
            let denied = rules(&format!(r#"{{"deny":[{{"paths":[{pattern:?}]}}]}}"#));
            for name in names {
                assert!(!permits(&denied, "", name, &Method::POST), "{pattern} lets {name} through");
            }
        }
    }

    #[test]
    fn methods_count_in_letters_of_any_case() {
        let rules = rules(r#"{"deny":[{"methods":["delete","POST"]}]}"#);
        for (method, expected) in [(Method::DELETE, false), (Method::POST, false), (Method::GET, true)] {
            assert_eq!(permits(&rules, "", "/x", &method), expected, "{method}");
        }
    }

    #[test]
    fn a_longer_name_denies_itself_and_an_allowed_one_opens_itself_alone() {
        let denied = rules(r#"{"deny":[{"paths":["/select/7/*"]}]}"#);
        assert!(permits(&denied, "", "/api/v1/query", &Method::GET));
        assert!(permits(&denied, "", "/select/8/prometheus/api/v1/query", &Method::GET));
        let allowed = rules(r#"{"allow":[{"paths":["/api/v1/label/job/values"]}]}"#);
        for (path, expected) in [
            ("/api/v1/label/job/values", true),
            ("/prometheus/api/v1/label/job/values", false),
            ("/select/8/prometheus/api/v1/label/job/values", false),
            ("/api/v1/label/%6Aob/values", false),
            ("/api/v1/label%2Fjob/values", false),
        ] {
            assert_eq!(permits(&allowed, "", path, &Method::GET), expected, "{path}");
        }
    }

    #[test]
    fn a_session_is_opened_from_the_networks_that_count_whatever_the_paths_are() {
        let session =
            |rules: &AccessRules, client: &str| rules.permit_session(client.parse().ok(), "/auth/login", &Method::POST);
        let networks = rules(r#"{"allow":[{"networks":["10.0.0.0/8"],"paths":["/api/v1/query"],"methods":["GET"]}]}"#);
        assert!(session(&networks, "10.1.2.3") && !session(&networks, "192.0.2.1") && !session(&networks, "not known"));
        let denied = rules(r#"{"deny":[{"networks":["10.9.0.0/16"]},{"paths":["/api/v1/export"]}]}"#);
        assert!(session(&denied, "10.1.2.3") && !session(&denied, "10.9.2.3") && !session(&denied, "not known"));
        assert!(!session(&rules(r#"{"deny":[{"paths":["/auth/*"]}]}"#), "10.1.2.3"));
    }
}
