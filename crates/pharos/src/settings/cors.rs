//! Whose pages browsers let send and read.

use axum::http::HeaderName;
use pharos_base::HumanDuration;
use serde::{Deserialize, Serialize};

/// The longest that browsers remember.
const MAX_AGE_MAX_S: u64 = 86_400;

/// Pages of other sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cors {
    pub(crate) origins: Vec<String>,
    pub(crate) headers: Vec<String>,
    pub(crate) max_age: HumanDuration,
}

impl Default for Cors {
    fn default() -> Self {
        Self { origins: Vec::new(), headers: Vec::new(), max_age: HumanDuration::from_ms(600_000) }
    }
}

impl Cors {
    /// Whether a page of `origin` is among those that are named. `*` within a name stands for a part of a host.
    pub(crate) fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|pattern| is_match(pattern, origin))
    }

    pub(super) fn faults(&self, is_guarded: bool) -> Vec<String> {
        let mut faults = Vec::new();
        for origin in &self.origins {
            let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            if origin == "*" {
                if !is_guarded {
                    faults.push(
                        "cors.origins: '*' while auth is off would let every site read everything here".to_owned(),
                    );
                }
            } else if rest.is_none_or(|host| host.is_empty() || host.contains('/') || host.matches('*').count() > 1) {
                faults.push(format!(
                    "cors.origins: {origin:?} is no origin: write https://host or https://host:port, with one * at most"
                ));
            }
        }
        for header in self.headers.iter().filter(|header| *header != "*") {
            if header.parse::<HeaderName>().is_err() {
                faults.push(format!("cors.headers: {header:?} is no name of a header"));
            }
        }
        if self.max_age.0.as_secs() > MAX_AGE_MAX_S {
            faults.push("cors.max_age: browsers remember for a day at most, 1d".to_owned());
        }
        faults
    }
}

fn is_match(pattern: &str, origin: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern.eq_ignore_ascii_case(origin) };
    if pattern == "*" {
        return true;
    }
    let middle = origin.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    // Only a part of a host: `https://*.example.com` must not take a port or a user of another one.
    let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    middle.is_some_and(|middle| !middle.is_empty() && middle.bytes().all(is_of_host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_taken_by_the_letter_but_for_one_star() {
        for (pattern, origin, expected) in [
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example", "http://a.example", false),
            ("https://*.example", "https://a.b.example", true),
            ("https://*.example", "https://.example", false),
            ("https://*.example", "https://evil.test:1@x.example", false),
            ("https://*.example", "https://a.example.evil", false),
            ("*", "null", true),
            ("https://*", "null", false),
        ] {
            assert_eq!(is_match(pattern, origin), expected, "{pattern} {origin}");
        }
    }

    #[test]
    fn what_is_no_origin_or_header_is_told() {
        let cors = |origins: &[&str], headers: &[&str]| Cors {
            origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            headers: headers.iter().map(|&header| header.to_owned()).collect(),
            ..Cors::default()
        };
        assert_eq!(cors(&["*", "https://a", "https://*.b:1"], &["*", "X-A"]).faults(true), [""; 0]);
        for (wrong, is_guarded) in [
            (cors(&["*"], &[]), false),
            (cors(&["a.example"], &[]), true),
            (cors(&["https://a/"], &[]), true),
            (cors(&["https://*.*"], &[]), true),
            (cors(&[], &["a b"]), true),
        ] {
            assert_eq!(wrong.faults(is_guarded).len(), 1, "{wrong:?}");
        }
    }
}
