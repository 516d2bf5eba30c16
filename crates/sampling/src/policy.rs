//! Policies judge a trace.
//!
//! A rule answers at which threshold of the trace's randomness it keeps the trace: 0 where it wants it anyway, none where it
//! does not. `and` asks for the highest, several policies for the lowest. So the probability with which a trace was kept is
//! known however probabilistic rules are combined with others. Not so where a limit decides: policies with limits are asked
//! last, for what no other wants, and nothing is recorded of what they let through but the draw of a probabilistic rule beside them.
//!
//! Invariants
//! - P1 A limit counts what its policy keeps and nothing else: rules only look at what is left of it, and it is taken when the
//!   trace is kept.

use std::time::Instant;

use pharos_model::{
    AttributeValue, MatchOp, Matcher, SAMPLING_THRESHOLDS, Span, SpanGroup, StatusCode, sampling_randomness,
    trace_state_member,
};

use crate::ottl::Conditions;
use crate::settings::{Policy, Rule, Status};
use crate::trace::WaitingTrace;
use crate::trace_state::threshold_of;

/// What becomes of a trace: kept, with the threshold to be recorded, or dropped.
pub(crate) type Decision = Option<u64>;

/// Policies with what they remember.
#[derive(Debug)]
pub(crate) struct Policies {
    drops: Vec<Vec<Judge>>,
    keeps: Vec<Judge>,
    /// Those of which a limit is part.
    limited: Vec<Judge>,
}

/// A rule with what it remembers.
#[derive(Debug)]
struct Judge {
    rule: Rule,
    patterns: Vec<Matcher>,
    conditions: Conditions,
    inner: Vec<Judge>,
    allowances: Vec<Allowance>,
}

/// So much in a second.
#[derive(Debug)]
struct Allowance {
    per_second: u64,
    since: Option<Instant>,
    left: u64,
}

impl Allowance {
    fn new(per_second: u64) -> Self {
        Self { per_second, since: None, left: per_second }
    }

    /// Whether `amount` is left of the second that `now` is in.
    fn has(&mut self, amount: u64, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since).as_secs() > 0) {
            self.since = Some(now);
            self.left = self.per_second;
        }
        amount <= self.left
    }

    fn take(&mut self, amount: u64) {
        self.left = self.left.saturating_sub(amount);
    }
}

/// A trace to be judged.
#[derive(Clone, Copy)]
struct Asked<'a> {
    trace: &'a WaitingTrace,
    /// Its randomness.
    drawn: u64,
    now: Instant,
}

impl Policies {
    /// Of settings that were checked.
    pub(crate) fn new(policies: &[Policy]) -> Self {
        let mut built = Self { drops: Vec::new(), keeps: Vec::new(), limited: Vec::new() };
        for policy in policies {
            match &policy.rule {
                Rule::Drop { rules } => built.drops.push(rules.iter().map(Judge::new).collect()),
                rule if rule.has_limit() => built.limited.push(Judge::new(rule)),
                rule => built.keeps.push(Judge::new(rule)),
            }
        }
        built
    }

    /// Judges a trace.
    pub(crate) fn decide(&mut self, trace: &WaitingTrace, now: Instant) -> Decision {
        let first_state = trace.spans().map(|(_, span)| span.trace_state.as_str()).find(|state| !state.is_empty());
        let drawn = sampling_randomness(trace.trace_id, first_state.unwrap_or(""));
        let asked = Asked { trace, drawn, now };
        if self.drops.iter_mut().any(|rules| rules.iter_mut().all(|judge| judge.holds(asked).is_some())) {
            return None;
        }
        let mut lowest: Decision = None;
        for judge in &mut self.keeps {
            if let Some(threshold) = judge.threshold(asked) {
                lowest = Some(lowest.map_or(threshold, |lowest| lowest.min(threshold)));
            }
            if lowest == Some(0) {
                break;
            }
        }
        lowest.filter(|threshold| drawn >= *threshold).or_else(|| {
            self.limited.iter_mut().find_map(|judge| {
                let threshold = judge.holds(asked)?;
                judge.take(asked);
                Some(threshold)
            })
        })
    }
}

impl Judge {
    fn new(rule: &Rule) -> Self {
        let pattern = |key: &str, value: &String, op| Matcher::new(op, key, value).ok();
        let (mut patterns, mut inner, mut allowances) = (Vec::new(), Vec::new(), Vec::new());
        let mut conditions = Conditions::default();
        match rule {
            Rule::StringAttribute { key, values, regex } => {
                let op = if *regex { MatchOp::Regex } else { MatchOp::Equal };
                patterns = values.iter().filter_map(|value| pattern(key, value, op)).collect();
            }
            Rule::OttlCondition { span, spanevent } => {
                conditions = Conditions::parse(span, spanevent).unwrap_or_default();
            }
            Rule::RateLimit { spans_per_second } => allowances.push(Allowance::new(*spans_per_second)),
            Rule::BytesLimit { bytes_per_second } => allowances.push(Allowance::new(bytes_per_second.0)),
            Rule::And { rules } | Rule::Drop { rules } => inner = rules.iter().map(Self::new).collect(),
            Rule::Not { rule } => inner.push(Self::new(rule)),
            Rule::Composite { spans_per_second, parts } => {
                inner = parts.iter().map(|part| Self::new(&part.rule)).collect();
                allowances =
                    parts.iter().map(|part| Allowance::new(part.spans_per_second(*spans_per_second))).collect();
            }
            _ => {}
        }
        Self { rule: rule.clone(), patterns, conditions, inner, allowances }
    }

    /// The threshold, if the trace is kept at it.
    fn holds(&mut self, asked: Asked<'_>) -> Decision {
        self.threshold(asked).filter(|threshold| asked.drawn >= *threshold)
    }

    /// The threshold at which the trace would be kept, as far as limits are not used up.
    fn threshold(&mut self, asked: Asked<'_>) -> Decision {
        let Asked { trace, now, .. } = asked;
        let spans = trace.span_count as u64;
        let holds = match &self.rule {
            Rule::Always => true,
            Rule::Latency { min, max } => {
                let took_ns = trace.duration_ns();
                let ns =
                    |duration: &pharos_base::HumanDuration| duration.as_ms().unsigned_abs().saturating_mul(1_000_000);
                took_ns >= ns(min) && max.as_ref().is_none_or(|max| took_ns <= ns(max))
            }
            Rule::NumericAttribute { key, min, max } => any_attribute(trace, key, |value| {
                matches!(value, AttributeValue::Int(number)
                    if min.is_none_or(|min| *number >= min) && max.is_none_or(|max| *number <= max))
            }),
            Rule::StringAttribute { key, .. } => any_attribute(
                trace,
                key,
                |value| matches!(value, AttributeValue::String(text) if self.patterns.iter().any(|pattern| pattern.matches(text))),
            ),
            Rule::BooleanAttribute { key, value: wanted } => {
                any_attribute(trace, key, |value| *value == AttributeValue::Bool(*wanted))
            }
            Rule::Probabilistic { percent } => {
                let threshold = threshold_of(percent.share());
                return (threshold < SAMPLING_THRESHOLDS).then_some(threshold);
            }
            Rule::StatusCode { codes } => any_span(trace, |_, span| codes.iter().any(|code| code.is(span.status.code))),
            Rule::TraceState { key, values } => any_span(trace, |_, span| {
                trace_state_member(&span.trace_state, key)
                    .is_some_and(|found| values.iter().any(|value| value == found))
            }),
            Rule::Sampled => any_span(trace, |_, span| span.flags & 1 == 1),
            Rule::SpanCount { min, max } => spans >= *min && max.is_none_or(|max| spans <= max),
            Rule::RateLimit { .. } => self.allowances.iter_mut().all(|allowance| allowance.has(spans, now)),
            Rule::BytesLimit { .. } => {
                self.allowances.iter_mut().all(|allowance| allowance.has(trace.bytes as u64, now))
            }
            Rule::OttlCondition { .. } => self.conditions.hold(trace),
            Rule::And { .. } | Rule::Drop { .. } => {
                let mut highest = 0;
                for judge in &mut self.inner {
                    highest = highest.max(judge.threshold(asked)?);
                }
                return Some(highest);
            }
            // What is kept at a threshold is left out below it; that is no threshold, but a draw of its own.
            Rule::Not { .. } => !self.inner.iter_mut().any(|judge| judge.holds(asked).is_some()),
            Rule::Composite { .. } => {
                let (_, allowance, threshold) = self.first_part(asked)?;
                return allowance.has(spans, now).then_some(threshold);
            }
        };
        holds.then_some(0)
    }

    /// Of `composite`: the first part that holds, its share, and its threshold.
    fn first_part(&mut self, asked: Asked<'_>) -> Option<(&mut Self, &mut Allowance, u64)> {
        self.inner.iter_mut().zip(&mut self.allowances).find_map(|(judge, allowance)| {
            let threshold = judge.holds(asked)?;
            Some((judge, allowance, threshold))
        })
    }

    /// The trace is kept by this rule: limits count it.
    fn take(&mut self, asked: Asked<'_>) {
        let spans = asked.trace.span_count as u64;
        match &self.rule {
            Rule::RateLimit { .. } => self.allowances.iter_mut().for_each(|allowance| allowance.take(spans)),
            Rule::BytesLimit { .. } => {
                self.allowances.iter_mut().for_each(|allowance| allowance.take(asked.trace.bytes as u64));
            }
            Rule::And { .. } => self.inner.iter_mut().for_each(|judge| judge.take(asked)),
            Rule::Composite { .. } => {
                if let Some((judge, allowance, _)) = self.first_part(asked) {
                    judge.take(asked);
                    allowance.take(spans);
                }
            }
            _ => {}
        }
    }
}

fn any_span(trace: &WaitingTrace, mut holds: impl FnMut(&SpanGroup, &Span) -> bool) -> bool {
    trace.spans().any(|(group, span)| holds(group, span))
}

fn any_attribute(trace: &WaitingTrace, key: &str, mut holds: impl FnMut(&AttributeValue) -> bool) -> bool {
    any_span(trace, |group, span| {
        let all = span.attributes.iter().chain(&group.resource.attributes);
        all.filter(|attribute| attribute.key == key).any(|attribute| holds(&attribute.value))
    })
}

impl Status {
    fn is(self, code: StatusCode) -> bool {
        match self {
            Self::Unset => code == StatusCode::Unset,
            Self::Ok => code == StatusCode::Ok,
            Self::Error => code == StatusCode::Error,
        }
    }
}
