//! Policies judge a trace.
//!
//! A rule answers at which threshold of the trace's randomness it keeps the trace: 0 where it wants it anyway, none where it
//! does not. `and` asks for the highest, several policies for the lowest. So the probability with which a trace was kept is
//! known however probabilistic rules are combined with others.

use pharos_model::{AttributeValue, MatchOp, Matcher, Span, SpanGroup, StatusCode};

use crate::settings::{Policy, Rule, Status};
use crate::trace_state::{member, randomness, threshold_of};
use crate::waiting::WaitingTrace;

/// What becomes of a trace: kept, with the threshold to be recorded, or dropped.
pub(crate) type Decision = Option<u64>;

/// Policies with what they remember.
#[derive(Debug)]
pub(crate) struct Policies {
    drops: Vec<Vec<Judge>>,
    keeps: Vec<Judge>,
}

/// A rule with what it remembers.
#[derive(Debug)]
struct Judge {
    rule: Rule,
    patterns: Vec<Matcher>,
    inner: Vec<Judge>,
    allowances: Vec<Allowance>,
}

/// So much in a second.
#[derive(Debug)]
struct Allowance {
    per_second: u64,
    second: i64,
    left: u64,
}

impl Allowance {
    fn new(per_second: u64) -> Self {
        Self { per_second, second: i64::MIN, left: per_second }
    }

    /// Takes `amount` of what is left; nothing if that is less.
    fn take(&mut self, amount: u64, now_ms: i64) -> bool {
        let second = now_ms.div_euclid(1_000);
        if second != self.second {
            self.second = second;
            self.left = self.per_second;
        }
        let is_enough = amount <= self.left;
        if is_enough {
            self.left -= amount;
        }
        is_enough
    }
}

impl Policies {
    /// Of settings that were checked.
    pub(crate) fn new(policies: &[Policy]) -> Self {
        let mut built = Self { drops: Vec::new(), keeps: Vec::new() };
        for policy in policies {
            match &policy.rule {
                Rule::Drop { rules } => built.drops.push(rules.iter().map(Judge::new).collect()),
                rule => built.keeps.push(Judge::new(rule)),
            }
        }
        built
    }

    /// Judges a trace. Every policy is asked until one wants it anyway, so that limits count what they let through only.
    pub(crate) fn decide(&mut self, trace: &WaitingTrace, now_ms: i64) -> Decision {
        let first_state = trace.spans().map(|(_, span)| span.trace_state.as_str()).find(|state| !state.is_empty());
        let drawn = randomness(trace.trace_id, first_state.unwrap_or(""));
        let holds =
            |judge: &mut Judge| judge.threshold(trace, drawn, now_ms).is_some_and(|threshold| drawn >= threshold);
        if self.drops.iter_mut().any(|rules| rules.iter_mut().all(holds)) {
            return None;
        }
        let mut lowest: Decision = None;
        for judge in &mut self.keeps {
            if let Some(threshold) = judge.threshold(trace, drawn, now_ms) {
                lowest = Some(lowest.map_or(threshold, |lowest| lowest.min(threshold)));
            }
            if lowest == Some(0) {
                break;
            }
        }
        lowest.filter(|threshold| drawn >= *threshold)
    }
}

impl Judge {
    fn new(rule: &Rule) -> Self {
        let pattern = |key: &str, value: &String, op| Matcher::new(op, key, value).ok();
        let (mut patterns, mut inner, mut allowances) = (Vec::new(), Vec::new(), Vec::new());
        match rule {
            Rule::StringAttribute { key, values, regex } => {
                let op = if *regex { MatchOp::Regex } else { MatchOp::Equal };
                patterns = values.iter().filter_map(|value| pattern(key, value, op)).collect();
            }
            Rule::RateLimit { spans_per_second } => allowances.push(Allowance::new(*spans_per_second)),
            Rule::BytesLimit { bytes_per_second } => allowances.push(Allowance::new(bytes_per_second.0)),
            Rule::And { rules } | Rule::Drop { rules } => inner = rules.iter().map(Self::new).collect(),
            Rule::Not { rule } => inner.push(Self::new(rule)),
            Rule::Composite { spans_per_second, parts } => {
                inner = parts.iter().map(|part| Self::new(&part.rule)).collect();
                let allowance = |share: f64| Allowance::new((*spans_per_second as f64 * share).floor() as u64);
                allowances = parts.iter().map(|part| allowance(part.percent.share())).collect();
            }
            _ => {}
        }
        Self { rule: rule.clone(), patterns, inner, allowances }
    }

    fn threshold(&mut self, trace: &WaitingTrace, drawn: u64, now_ms: i64) -> Decision {
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
                return (threshold < crate::trace_state::THRESHOLDS).then_some(threshold);
            }
            Rule::StatusCode { codes } => any_span(trace, |_, span| codes.iter().any(|code| code.is(span.status.code))),
            Rule::TraceState { key, values } => any_span(trace, |_, span| {
                member(&span.trace_state, key).is_some_and(|found| values.iter().any(|value| value == found))
            }),
            Rule::Sampled => any_span(trace, |_, span| span.flags & 1 == 1),
            Rule::SpanCount { min, max } => spans >= *min && max.is_none_or(|max| spans <= max),
            Rule::RateLimit { .. } => self.allowances.iter_mut().all(|allowance| allowance.take(spans, now_ms)),
            Rule::BytesLimit { .. } => {
                self.allowances.iter_mut().all(|allowance| allowance.take(trace.bytes as u64, now_ms))
            }
            Rule::And { .. } | Rule::Drop { .. } => {
                let mut highest = 0;
                for judge in &mut self.inner {
                    highest = highest.max(judge.threshold(trace, drawn, now_ms)?);
                }
                return Some(highest);
            }
            Rule::Not { .. } => {
                // What is kept at a threshold is left out below it; that is no threshold, but a draw of its own.
                !self.inner.iter_mut().any(|judge| judge.threshold(trace, drawn, now_ms).is_some_and(|at| drawn >= at))
            }
            Rule::Composite { .. } => {
                let parts = self.inner.iter_mut().zip(&mut self.allowances);
                for (judge, allowance) in parts {
                    if let Some(threshold) =
                        judge.threshold(trace, drawn, now_ms).filter(|threshold| drawn >= *threshold)
                    {
                        return allowance.take(spans, now_ms).then_some(threshold);
                    }
                }
                false
            }
        };
        holds.then_some(0)
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
