//! Allow and deny: from where, for which paths, with which methods a credential works.

use std::net::IpAddr;

use http::Method;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

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
    /// Paths as in the URL; a `*` at the end stands for any rest; any if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Methods in capitals; any if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
}

impl AccessRules {
    /// Whether a request passes. A sender whose address is not known is in every network of `deny` and in none of `allow`.
    #[must_use]
    pub fn permit(&self, client: Option<IpAddr>, path: &str, method: &Method) -> bool {
        let fits = |rule: &AccessRule, if_unknown| rule.fits(client, if_unknown, path, method);
        let is_denied = self.deny.iter().any(|rule| fits(rule, true));
        !is_denied && (self.allow.is_empty() || self.allow.iter().any(|rule| fits(rule, false)))
    }
}

impl AccessRule {
    fn fits(&self, client: Option<IpAddr>, if_unknown: bool, path: &str, method: &Method) -> bool {
        // An IPv4 sender on a socket of both families is an IPv4 sender.
        let client = client.map(|client| client.to_canonical());
        let in_network = self.networks.is_empty()
            || client.map_or(if_unknown, |client| self.networks.iter().any(|network| network.contains(&client)));
        let on_path = self.paths.is_empty() || self.paths.iter().any(|pattern| path_fits(pattern, path));
        let by_method = self.methods.is_empty() || self.methods.iter().any(|name| name == method.as_str());
        in_network && on_path && by_method
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
}
