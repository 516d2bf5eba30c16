//! Which client certificate is whose.
//!
//! The port has checked the certificate against its authorities; here its names are held against rules. The first rule of the list
//! that fits counts, whatever other names the certificate has.

use std::sync::Arc;

use pharos_http::ClientCertificate;

use crate::identities::{CertificateMatch, CertificateSettings, GrantSettings, is_name};
use crate::{Grant, TenantAccess};

/// No rule fits a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this certificate is nobody's here: no rule of identities.certificates fits its names")]
pub struct CertificateRefused;

/// All rules, in order.
#[derive(Debug, Default)]
pub(crate) struct CertificateRules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    /// Field and pattern, for [`Grant::authority`].
    authority: Arc<str>,
    field: Field,
    pattern: String,
    name: String,
    tenants: TenantAccess,
    grant: GrantSettings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Uri,
    Dns,
    CommonName,
}

impl Field {
    /// What parts its segments.
    fn separator(self) -> char {
        if self == Self::Uri { '/' } else { '.' }
    }

    /// What stands for its value in the name of an identity.
    fn placeholder(self) -> &'static str {
        match self {
            Self::Uri => "{uri}",
            Self::Dns => "{dns}",
            Self::CommonName => "{common_name}",
        }
    }
}

impl CertificateMatch {
    fn only(&self) -> Option<(Field, &str)> {
        match (&self.uri, &self.dns, &self.common_name) {
            (Some(uri), None, None) => Some((Field::Uri, uri)),
            (None, Some(dns), None) => Some((Field::Dns, dns)),
            (None, None, Some(name)) => Some((Field::CommonName, name)),
            _ => None,
        }
    }
}

impl CertificateSettings {
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match self.matches.only() {
            None => faults.push("match: give exactly one of uri, dns and common_name".to_owned()),
            Some((_, "")) => faults.push("match: is empty, and would fit nothing".to_owned()),
            Some((field, _)) => {
                let other = [Field::Uri, Field::Dns, Field::CommonName]
                    .into_iter()
                    .find(|other| *other != field && self.name.contains(other.placeholder()));
                if let Some(other) = other {
                    faults.push(format!("name: {} is not what the rule matches", other.placeholder()));
                }
            }
        }
        match self.grant.tenants() {
            Err(fault) => faults.push(fault),
            Ok(None) => faults.push("grant.tenant: is needed: a certificate names no tenant".to_owned()),
            Ok(Some(_)) => {}
        }
        if self.grant.scopes.is_empty() {
            faults.push("grant.scopes: list at least one scope".to_owned());
        }
        faults
    }
}

impl CertificateRules {
    /// Of settings without faults; rules with faults would be left out.
    pub(crate) fn new(settings: &[CertificateSettings]) -> Self {
        let rules = settings.iter().filter_map(|settings| {
            let (field, pattern) = settings.matches.only()?;
            Some(Rule {
                authority: format!("{field:?} {pattern}").into(),
                field,
                pattern: pattern.to_owned(),
                name: if settings.name.is_empty() { field.placeholder() } else { &settings.name }.to_owned(),
                tenants: settings.grant.tenants().ok().flatten()?,
                grant: settings.grant.clone(),
            })
        });
        Self(rules.collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn grant_of(&self, certificate: &ClientCertificate) -> Result<Grant, CertificateRefused> {
        self.0.iter().find_map(|rule| rule.grant_of(certificate)).ok_or(CertificateRefused)
    }
}

impl Rule {
    fn grant_of(&self, certificate: &ClientCertificate) -> Option<Grant> {
        let values = match self.field {
            Field::Uri => certificate.uris.as_slice(),
            Field::Dns => &certificate.dns,
            Field::CommonName => certificate.common_name.as_slice(),
        };
        let fitting = values.iter().find(|value| self.fits(value))?;
        let name = self.name.replace(self.field.placeholder(), fitting);
        if !is_name(&name) {
            return None;
        }
        let grant = self.grant.grant(&name, self.tenants.clone(), &[]);
        // Inclusive there, exclusive here.
        let expires_s = Some(certificate.not_after_s.saturating_add(1));
        let authority = Arc::clone(&self.authority);
        Some(Grant { authority, not_before_s: Some(certificate.not_before_s), expires_s, ..grant })
    }

    /// Names of hosts are the same in capitals; URIs and common names are not.
    fn fits(&self, value: &str) -> bool {
        match self.field {
            Field::Dns => fits(&self.pattern.to_ascii_lowercase(), &value.to_ascii_lowercase(), '.'),
            field => fits(&self.pattern, value, field.separator()),
        }
    }
}

/// Whether `text` is `pattern`, segment by segment; a `*` stands for any text within its segment, and never for an empty segment.
fn fits(pattern: &str, text: &str, separator: char) -> bool {
    let (mut patterns, mut texts) = (pattern.split(separator), text.split(separator));
    loop {
        match (patterns.next(), texts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(text)) if segment_fits(pattern, text) => {}
            _ => return false,
        }
    }
}

fn segment_fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or("")) else { return false };
    let Some(last) = pattern.contains('*').then(|| parts.next_back().unwrap_or("")) else { return rest.is_empty() };
    if text.is_empty() {
        return false;
    }
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(list: serde_json::Value) -> CertificateRules {
        let settings: Vec<CertificateSettings> = serde_json::from_value(list).unwrap();
        for rule in &settings {
            assert_eq!(rule.faults(), Vec::<String>::new());
        }
        CertificateRules::new(&settings)
    }

    fn certificate(uris: &[&str], dns: &[&str], common_name: Option<&str>) -> ClientCertificate {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        ClientCertificate {
            der: Box::default(),
            sha256: [0; 32],
            not_before_s: 5,
            not_after_s: 9,
            common_name: common_name.map(str::to_owned),
            uris: texts(uris),
            dns: texts(dns),
            emails: Vec::new(),
        }
    }

    #[test]
    fn a_star_stays_in_its_segment() {
        for (pattern, text, separator, expected) in [
            ("spiffe://prod/agent/*", "spiffe://prod/agent/a1", '/', true),
            ("spiffe://prod/agent/*", "spiffe://prod/agent/", '/', false),
            ("spiffe://prod/agent/*", "spiffe://prod/agent/a/b", '/', false),
            ("spiffe://prod/agent/*", "spiffe://prod/agent", '/', false),
            ("spiffe://*/agent", "spiffe://evil/x/agent", '/', false),
            ("spiffe://prod/agent-*-eu/x", "spiffe://prod/agent-7-eu/x", '/', true),
            ("spiffe://prod/agent-*-eu/x", "spiffe://prod/agent-7-us/x", '/', false),
            ("a*b*c", "abc", '/', true),
            ("a*b*c", "a.b", '/', false),
            ("a*a", "a", '/', false),
            ("*.agents.example.com", "n1.agents.example.com", '.', true),
            ("*.agents.example.com", "n1.x.agents.example.com", '.', false),
            ("*.agents.example.com", "agents.example.com", '.', false),
            ("*", "n1", '.', true),
            ("*", "n1.example", '.', false),
            ("agent", "agent", '.', true),
            ("agent", "agents", '.', false),
            ("agent", "", '.', false),
        ] {
            assert_eq!(fits(pattern, text, separator), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rules = rules(serde_json::json!([
            {"match": {"uri": "spiffe://prod/admin"}, "name": "admin", "grant": {"scopes": ["admin"], "tenant": "*"}},
            {"match": {"dns": "*.Example.com"}, "name": "host {dns}", "grant": {"scopes": ["metrics:write"], "tenant": "7"}},
            {"match": {"common_name": "agent-*"}, "grant": {"scopes": ["traces:write"], "tenant": "8"}},
        ]));
        let names = certificate(&["spiffe://prod/x"], &["other.org", "n1.EXAMPLE.com"], Some("agent-7"));
        let grant = rules.grant_of(&names).unwrap();
        assert_eq!((&*grant.name, grant.tenants.to_string()), ("host n1.EXAMPLE.com", "7".to_owned()));
        assert_eq!((grant.not_before_s, grant.expires_s), (Some(5), Some(10)));
        let by_common_name = certificate(&["spiffe://prod/x"], &[], Some("agent-7"));
        assert_eq!(&*rules.grant_of(&by_common_name).unwrap().name, "agent-7");
        assert_eq!(rules.grant_of(&certificate(&["spiffe://prod/x"], &[], None)), Err(CertificateRefused));
        // A URI's text in another field is not that URI.
        assert_eq!(rules.grant_of(&certificate(&[], &["spiffe://prod/admin"], None)), Err(CertificateRefused));
    }

    #[test]
    fn settings_are_checked() {
        let faults = |json| serde_json::from_value::<CertificateSettings>(json).unwrap().faults().join("\n");
        let found = faults(serde_json::json!({"match": {"uri": "a", "dns": "b"}}));
        assert!(found.contains("exactly one") && found.contains("grant.tenant") && found.contains("grant.scopes"));
        let found = faults(
            serde_json::json!({"match": {"uri": "a"}, "name": "{dns}", "grant": {"scopes": ["debug"], "tenant": "7"}}),
        );
        assert!(found.contains("{dns} is not what"), "{found}");
    }
}
