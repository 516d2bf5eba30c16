//! What a user tunes of tail sampling.

use pharos_base::{ByteSize, HumanDuration};
use pharos_model::Matcher;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ottl::Conditions;

/// Rules within rules within rules end here.
const NESTING_MAX: usize = 4;
/// Each file costs two syncs.
const LOG_SEGMENT_LEAST: ByteSize = ByteSize(4 << 10);

/// Settings of tail sampling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TailSamplingSettings {
    /// Whether traces are judged before they are stored. Default no: all are stored.
    pub enabled: bool,
    /// How long after its first span a trace is judged. Default 30s.
    pub decision_wait: HumanDuration,
    /// Traces that wait at a time, of all tenants; above it the oldest of the tenant with most are judged early. Default 50000.
    pub traces_max: usize,
    /// Memory of spans that wait; above it the oldest traces of the tenant that takes most are judged early. At half as much
    /// again requests of a tenant that takes most of it are answered 'unavailable', at twice as much those of all. Default
    /// 256MiB, least 1MiB.
    pub memory_max: ByteSize,
    /// Judgements that are remembered for late spans. Default 200000.
    pub decisions_max: usize,
    /// Size at which a file of the log of waiting spans is closed. Default 64MiB, least 4KiB.
    pub log_segment: ByteSize,
    /// What is kept: a trace that any policy wants, unless one that drops matches it.
    pub policies: Vec<Policy>,
}

impl Default for TailSamplingSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            decision_wait: HumanDuration::from_ms(30_000),
            traces_max: 50_000,
            memory_max: ByteSize::mib(256),
            decisions_max: 200_000,
            log_segment: ByteSize::mib(64),
            policies: Vec::new(),
        }
    }
}

/// A rule with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// For people.
    pub name: String,
    /// What it wants.
    pub rule: Rule,
}

/// What makes a trace worth keeping. Attributes are looked for in spans and in their resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// Every trace.
    Always,
    /// From the first start to the last end it took at least `min`, and at most `max`.
    Latency {
        /// At least this long.
        min: HumanDuration,
        /// At most this long.
        #[serde(default)]
        max: Option<HumanDuration>,
    },
    /// An integer attribute lies in `min..=max`.
    NumericAttribute {
        /// Its key.
        key: String,
        /// The least.
        #[serde(default)]
        min: Option<i64>,
        /// The greatest.
        #[serde(default)]
        max: Option<i64>,
    },
    /// A text attribute has one of the values, or matches one of the patterns as a whole.
    StringAttribute {
        /// Its key.
        key: String,
        /// Values.
        values: Vec<String>,
        /// Whether the values are regular expressions.
        #[serde(default)]
        regex: bool,
    },
    /// A truth value.
    BooleanAttribute {
        /// Its key.
        key: String,
        /// Its value.
        value: bool,
    },
    /// A share of all traces, the same ones whoever draws them: by the last 56 bits of the trace id, or the randomness in
    /// its trace state.
    Probabilistic {
        /// How much, in percent.
        percent: Percent,
    },
    /// A span ended in one of these ways.
    StatusCode {
        /// The ways.
        codes: Vec<Status>,
    },
    /// A member of the trace state has one of the values.
    TraceState {
        /// The member's key.
        key: String,
        /// Its values.
        values: Vec<String>,
    },
    /// A span has the flag `sampled`.
    Sampled,
    /// Traces while all those kept by this rule have no more spans in a second.
    RateLimit {
        /// How many.
        spans_per_second: u64,
    },
    /// Traces while all those kept by this rule have no more bytes in a second.
    BytesLimit {
        /// How many.
        bytes_per_second: ByteSize,
    },
    /// A condition in the OpenTelemetry Transformation Language holds for a span, or for an event of one. Supported are
    /// comparisons of paths with literals and with one another, `and`, `or`, `not`, `IsMatch` and `IsRootSpan`; anything else is
    /// refused. `docs/policies.md` has the list.
    OttlCondition {
        /// Conditions on spans; one that holds is enough.
        #[serde(default)]
        span: Vec<String>,
        /// Conditions on events of spans.
        #[serde(default)]
        spanevent: Vec<String>,
    },
    /// It has that many spans.
    SpanCount {
        /// The least.
        min: u64,
        /// The greatest.
        #[serde(default)]
        max: Option<u64>,
    },
    /// The rule does not hold.
    Not {
        /// The rule.
        rule: Box<Rule>,
    },
    /// All of the rules hold.
    And {
        /// The rules.
        rules: Vec<Rule>,
    },
    /// Where all of the rules hold, the trace goes whatever other policies want. Only as a policy's own rule.
    Drop {
        /// The rules.
        rules: Vec<Rule>,
    },
    /// The first of the parts that holds keeps the trace while its share of the rate lasts.
    Composite {
        /// Spans a second of all parts together.
        spans_per_second: u64,
        /// The parts, most important first.
        parts: Vec<Part>,
    },
}

/// A part of [`Rule::Composite`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What it wants.
    pub rule: Rule,
    /// Its share of the rate.
    pub percent: Percent,
}

impl Part {
    /// Its share of a rate.
    pub(crate) fn spans_per_second(&self, all: u64) -> u64 {
        (all as f64 * self.percent.share()).floor() as u64
    }
}

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the words of OpenTelemetry")]
pub enum Status {
    Unset,
    Ok,
    Error,
}

/// A share, 0 to 100 percent, in steps of a millionth of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(u32);

impl Percent {
    const STEPS: f64 = 1e6;

    /// From 0 to 1.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.0) / (100.0 * Self::STEPS)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / Self::STEPS)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(serde::de::Error::custom(format!("{percent} is no share: use 0 to 100 percent")));
        }
        Ok(Self((percent * Self::STEPS).round() as u32))
    }
}

/// Settings that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum SettingsError {
    #[error("tail_sampling.{setting}: must be more than 0")]
    Zero { setting: &'static str },
    #[error("tail_sampling.{setting}: {value} is below the minimum {least}")]
    Small { setting: &'static str, value: ByteSize, least: ByteSize },
    #[error("tail_sampling.policies: without a policy nothing would be kept")]
    NoPolicies,
    #[error("tail_sampling.policies: {policy}: {fault}")]
    Policy { policy: String, fault: String },
}

impl TailSamplingSettings {
    /// Checks what the types leave open.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), SettingsError> {
        for (setting, value) in [
            ("traces_max", self.traces_max),
            ("decisions_max", self.decisions_max),
            ("decision_wait", self.decision_wait.as_ms() as usize),
        ] {
            if value == 0 {
                return Err(SettingsError::Zero { setting });
            }
        }
        for (setting, value, least) in
            [("memory_max", self.memory_max, ByteSize::mib(1)), ("log_segment", self.log_segment, LOG_SEGMENT_LEAST)]
        {
            if value < least {
                return Err(SettingsError::Small { setting, value, least });
            }
        }
        if self.enabled && self.policies.iter().all(|policy| matches!(policy.rule, Rule::Drop { .. })) {
            return Err(SettingsError::NoPolicies);
        }
        for policy in &self.policies {
            let checked = match &policy.rule {
                Rule::Drop { .. } if policy.rule.has_limit() => {
                    Err("a limit counts what its policy keeps, so it cannot stand within drop".to_owned())
                }
                Rule::Drop { rules } => check_all(rules, 1),
                rule => rule.check(0),
            };
            checked.map_err(|fault| SettingsError::Policy { policy: policy.name.clone(), fault })?;
        }
        Ok(())
    }
}

fn check_all<'a>(rules: impl IntoIterator<Item = &'a Rule>, depth: usize) -> Result<(), String> {
    let mut rules = rules.into_iter().peekable();
    if rules.peek().is_none() {
        return Err("has no rules".to_owned());
    }
    rules.try_for_each(|rule| rule.check(depth))
}

impl Rule {
    /// Whether a limit is part of it: then what it keeps depends on what else came.
    pub(crate) fn has_limit(&self) -> bool {
        match self {
            Self::RateLimit { .. } | Self::BytesLimit { .. } | Self::Composite { .. } => true,
            Self::And { rules } | Self::Drop { rules } => rules.iter().any(Self::has_limit),
            Self::Not { rule } => rule.has_limit(),
            _ => false,
        }
    }

    fn check(&self, depth: usize) -> Result<(), String> {
        if depth > NESTING_MAX {
            return Err(format!("nests deeper than {NESTING_MAX}"));
        }
        match self {
            Self::And { rules } => check_all(rules, depth + 1),
            Self::Not { rule } if rule.has_limit() => {
                Err("a limit counts what its policy keeps, so it cannot stand within not".to_owned())
            }
            Self::Not { rule } => rule.check(depth + 1),
            Self::Composite { spans_per_second, parts } => {
                check_all(parts.iter().map(|part| &part.rule), depth + 1)?;
                let all: f64 = parts.iter().map(|part| part.percent.share()).sum();
                if all > 1.0 + f64::EPSILON {
                    return Err("the shares of its parts are more than 100 percent".to_owned());
                }
                match parts.iter().position(|part| part.spans_per_second(*spans_per_second) == 0) {
                    Some(at) => Err(format!("the share of part {} is less than one span a second", at + 1)),
                    None => Ok(()),
                }
            }
            Self::Drop { .. } => Err("drop is a policy's own rule, not part of another".to_owned()),
            Self::StringAttribute { values, .. } | Self::TraceState { values, .. } if values.is_empty() => {
                Err("values: none".to_owned())
            }
            Self::StringAttribute { key, values, regex: true } => values.iter().try_for_each(|value| {
                let compiled = Matcher::new(pharos_model::MatchOp::Regex, key, value);
                compiled.map(|_| ()).map_err(|error| error.to_string())
            }),
            Self::StatusCode { codes } if codes.is_empty() => Err("codes: none".to_owned()),
            Self::NumericAttribute { min: None, max: None, .. } => Err("needs min, max or both".to_owned()),
            Self::NumericAttribute { min: Some(min), max: Some(max), .. } => check_range(min, max),
            Self::SpanCount { min, max: Some(max) } => check_range(min, max),
            Self::Latency { min, max: Some(max) } => check_range(min, max),
            Self::RateLimit { spans_per_second: 0 } => Err("spans_per_second: 0 keeps nothing".to_owned()),
            Self::BytesLimit { bytes_per_second: ByteSize(0) } => Err("bytes_per_second: 0 keeps nothing".to_owned()),
            Self::OttlCondition { span, spanevent } => Conditions::parse(span, spanevent).map(|_| ()),
            _ => Ok(()),
        }
    }
}

fn check_range<T: PartialOrd + std::fmt::Display>(min: &T, max: &T) -> Result<(), String> {
    if min > max { Err(format!("min {min} is more than max {max}")) } else { Ok(()) }
}
