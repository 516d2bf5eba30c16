//! How long what is kept: the retention of all, of single tenants, and of series that matchers name.
//!
//! Of the rules with matchers that fit a series and its tenant, the shortest counts. Where none fits, the rule
//! of the tenant without matchers counts, and without one the retention of all.
//!
//! A rule is applied like a cut-off in time that each series has for itself: reads hide what is older at
//! once (`masks.rs`), merging leaves it out, and parts of which nothing is left to see are deleted whole.

use std::sync::Arc;

use pharos_base::HumanDuration;
use pharos_model::{MatchOp, Matcher, TenantId};
use serde::{Deserialize, Serialize};

use crate::TsdbError;

/// Rules of retention; more would cost every look at old data.
const RULES_MAX: usize = 100;
/// No retention is shorter.
pub(crate) const RETENTION_MIN_MS: i64 = 3_600_000;

/// One rule of retention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionRule {
    /// Whose series; every tenant's if absent.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// Which series, all must fit: `env="dev"`, `__name__=~"debug_.*"`. All series of the tenant if there are none.
    #[serde(default)]
    pub matchers: Vec<String>,
    /// Samples older than this are deleted. Minimum 1h.
    pub keep: HumanDuration,
}

/// What is in force.
#[derive(Debug)]
pub(crate) struct Retention {
    default_ms: i64,
    /// Rules without matchers.
    of_tenants: Vec<(TenantId, i64)>,
    /// Rules with matchers, the shortest first.
    rules: Vec<SeriesRule>,
}

/// A rule with matchers.
#[derive(Debug, Clone)]
pub(crate) struct SeriesRule {
    tenant: Option<TenantId>,
    keep_ms: i64,
    /// One set.
    pub(crate) matcher_sets: Arc<[Vec<Matcher>]>,
}

/// The instants before which series are hidden, as of one moment, for one tenant.
#[derive(Debug, Clone)]
pub(crate) struct CutOffs {
    /// Before which all series are hidden.
    pub(crate) oldest_ms: i64,
    /// Before which some series are hidden; `oldest_ms` where there are no rules.
    pub(crate) newest_ms: i64,
    /// For series that no rule names.
    pub(crate) default_ms: i64,
    /// Number of the rule, the rule, its instant: the newest instant first.
    pub(crate) rules: Vec<(usize, SeriesRule, i64)>,
}

impl Default for CutOffs {
    fn default() -> Self {
        Self { oldest_ms: i64::MIN, newest_ms: i64::MIN, default_ms: i64::MIN, rules: Vec::new() }
    }
}

impl Retention {
    /// Reads the rules.
    ///
    /// # Errors
    /// [`TsdbError::Settings`] for the first rule that says nothing, contradicts another or cannot be read.
    pub(crate) fn build(default: HumanDuration, rules: &[RetentionRule]) -> Result<Self, TsdbError> {
        let mut built = Self { default_ms: default.as_ms(), of_tenants: Vec::new(), rules: Vec::new() };
        if rules.len() > RULES_MAX {
            return Err(refuse(format!("{} rules are more than the limit of {RULES_MAX}", rules.len())));
        }
        for (number, rule) in rules.iter().enumerate() {
            built.add(rule).map_err(|reason| refuse(format!("rule {}: {reason}", number + 1)))?;
        }
        built.rules.sort_by_key(|rule| rule.keep_ms);
        Ok(built)
    }

    fn add(&mut self, rule: &RetentionRule) -> Result<(), String> {
        let keep_ms = rule.keep.as_ms();
        if keep_ms < RETENTION_MIN_MS {
            return Err(format!("keep {} is below the minimum 1h", rule.keep));
        }
        let matchers = rule.matchers.iter().map(|text| parse_matcher(text)).collect::<Result<Vec<_>, _>>()?;
        if matchers.is_empty() {
            let Some(tenant) = &rule.tenant else {
                return Err("it names neither tenant nor series: say `retention` instead".to_owned());
            };
            if self.of_tenants.iter().any(|(known, _)| known == tenant) {
                return Err(format!("there is another one for tenant {tenant}"));
            }
            self.of_tenants.push((tenant.clone(), keep_ms));
            return Ok(());
        }
        if matchers.iter().all(Matcher::matches_empty) {
            return Err("one of its matchers must reject the empty string".to_owned());
        }
        self.rules.push(SeriesRule { tenant: rule.tenant.clone(), keep_ms, matcher_sets: [matchers].into() });
        Ok(())
    }

    /// What holds for series of a tenant that no rule names.
    pub(crate) fn default_ms(&self, tenant: &TenantId) -> i64 {
        let own = self.of_tenants.iter().find(|(known, _)| known == tenant);
        own.map_or(self.default_ms, |(_, keep_ms)| *keep_ms)
    }

    /// The cut-offs of a tenant at an instant.
    pub(crate) fn cut_offs(&self, tenant: &TenantId, now_ms: i64) -> CutOffs {
        let before = |keep_ms: i64| now_ms.saturating_sub(keep_ms);
        let default_ms = before(self.default_ms(tenant));
        let of_tenant = |rule: &SeriesRule| rule.tenant.as_ref().is_none_or(|own| own == tenant);
        let rules: Vec<_> = self
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| of_tenant(rule))
            .map(|(number, rule)| (number, rule.clone(), before(rule.keep_ms)))
            .collect();
        CutOffs {
            oldest_ms: rules.iter().fold(default_ms, |oldest, (.., at_ms)| oldest.min(*at_ms)),
            newest_ms: rules.iter().fold(default_ms, |newest, (.., at_ms)| newest.max(*at_ms)),
            default_ms,
            rules,
        }
    }
}

fn refuse(reason: String) -> TsdbError {
    TsdbError::Settings { setting: "retention_rules", reason }
}

/// Reads `name="value"` with `=`, `!=`, `=~` or `!~`; in the value, `\"` and `\\` stand for themselves.
fn parse_matcher(text: &str) -> Result<Matcher, String> {
    let bad = |reason: &str| format!("matcher `{text}`: {reason}; write it as in `env=\"dev\"` or `job=~\"a|b\"`");
    let at = text.find(['=', '!']).ok_or_else(|| bad("it has no operator"))?;
    let (name, rest) = (text[..at].trim(), &text[at..]);
    let ops = [("=~", MatchOp::Regex), ("!~", MatchOp::NotRegex), ("!=", MatchOp::NotEqual), ("=", MatchOp::Equal)];
    let (sign, op) = ops.into_iter().find(|(sign, _)| rest.starts_with(sign)).ok_or_else(|| bad("unknown operator"))?;
    if name.is_empty() || name.contains('"') {
        return Err(bad("its label name is none"));
    }
    let quoted = rest[sign.len()..].trim();
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let inner = inner.ok_or_else(|| bad("its value stands in double quotes"))?;
    let (mut value, mut characters) = (String::new(), inner.chars());
    while let Some(character) = characters.next() {
        match character {
            '"' => return Err(bad("a double quote inside of the value is written \\\"")),
            '\\' => match characters.next() {
                Some(escaped @ ('"' | '\\')) => value.push(escaped),
                _ => return Err(bad("a backslash is written \\\\")),
            },
            other => value.push(other),
        }
    }
    Matcher::new(op, name, value).map_err(|error| bad(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn rule(tenant: Option<&str>, matchers: &[&str], days: i64) -> RetentionRule {
        let matchers = matchers.iter().map(|text| (*text).to_owned()).collect();
        let keep = HumanDuration::from_ms((days * DAY_MS) as u64);
        RetentionRule { tenant: tenant.map(|name| name.parse().unwrap()), matchers, keep }
    }

    fn build(rules: &[RetentionRule]) -> Result<Retention, TsdbError> {
        Retention::build(HumanDuration::from_ms(30 * DAY_MS as u64), rules)
    }

    #[test]
    fn matchers_are_read_strictly() {
        for (text, expected) in [
            (r#"env="dev""#, r#"env="dev""#),
            (r#" env != "" "#, r#"env!="""#),
            (r#"__name__=~"a\\.b|\"c\"""#, r#"__name__=~"a\\.b|\"c\"""#),
            (r#"a!~"=!""#, r#"a!~"=!""#),
        ] {
            assert_eq!(parse_matcher(text).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "env", "env=dev", r#"env="dev"#, r#"="x""#, r#"a!"x""#, r#"a=~"(""#, r#"a="b"c""#, r#"a="\n""#]
        {
            assert!(parse_matcher(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rules_that_say_nothing_or_contradict_are_refused() {
        for (rules, part) in [
            (vec![rule(None, &[], 5)], "rule 1: it names neither"),
            (vec![rule(Some("a"), &[], 5), rule(Some("a"), &[], 6)], "rule 2: there is another one for tenant a"),
            (vec![rule(None, &[r#"a=~".*""#], 5)], "reject the empty string"),
            (vec![rule(None, &["a"], 5)], "no operator"),
            (vec![rule(Some("a"), &[], 0)], "below the minimum"),
            (vec![rule(None, &[r#"a="b""#], 5); 101], "limit of 100"),
        ] {
            let error = build(&rules).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("retention_rules"), "{error}");
        }
    }

    #[test]
    fn the_shortest_rule_that_fits_counts_before_the_tenants_own() {
        let rules = [rule(Some("a"), &[], 90), rule(Some("a"), &[r#"x="1""#], 400), rule(None, &[r#"x=~".+""#], 7)];
        let retention = build(&rules).unwrap();
        let (a, b): (TenantId, TenantId) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!((retention.default_ms(&a), retention.default_ms(&b)), (90 * DAY_MS, 30 * DAY_MS));
        let of_a = retention.cut_offs(&a, 1000 * DAY_MS);
        assert_eq!((of_a.oldest_ms, of_a.newest_ms, of_a.default_ms), (600 * DAY_MS, 993 * DAY_MS, 910 * DAY_MS));
        assert_eq!(of_a.rules.iter().map(|(.., at_ms)| at_ms / DAY_MS).collect::<Vec<_>>(), [993, 600]);
        let of_b = retention.cut_offs(&b, 1000 * DAY_MS);
        assert_eq!((of_b.oldest_ms, of_b.newest_ms, of_b.rules.len()), (970 * DAY_MS, 993 * DAY_MS, 1));
    }
}
