//! Values of a span and constants, and how they compare: rules F4 and F5.

use std::borrow::Cow;
use std::cmp::Ordering;

use pharos_model::AttributeValue;

use super::{Comparison, SpanConstant};
use crate::render_attribute_value;

/// A value on one side of a comparison.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(Number),
    Bool(bool),
    /// Bytes, arrays, maps, nothing: shown as text, in no order.
    Shown(&'a AttributeValue),
    /// An untyped constant.
    Any(&'a str),
}

/// A number as it was written: no rounding to the other type.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Whole(i128),
    Double(f64),
}

impl Number {
    /// A number in decimal; Rust and Go agree on these.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Ok(whole) = text.parse::<i64>() {
            return Some(Self::Whole(whole.into()));
        }
        text.parse::<f64>().ok().filter(|number| !number.is_nan()).map(Self::Double)
    }

    /// `None` beside a `NaN`.
    fn order(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(&b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(&b),
            (Self::Whole(a), Self::Double(b)) => order_mixed(a, b),
            (Self::Double(a), Self::Whole(b)) => order_mixed(b, a).map(Ordering::reverse),
        }
    }
}

/// Exact: the double's whole part is compared as a whole number, what is behind its point decides between equals.
fn order_mixed(whole: i128, double: f64) -> Option<Ordering> {
    // Beyond this no whole number here reaches, and below it the cast is exact.
    const LIMIT: f64 = 1e30;
    if double.is_nan() {
        return None;
    }
    if double.abs() >= LIMIT {
        return Some(if double > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and below the limit")]
    let floor = double.floor() as i128;
    Some(whole.cmp(&floor).then(if double > double.floor() { Ordering::Less } else { Ordering::Equal }))
}

impl<'a> Value<'a> {
    pub(super) fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    pub(super) fn whole(number: impl Into<i128>) -> Self {
        Self::Number(Number::Whole(number.into()))
    }

    pub(super) fn of_attribute(value: &'a AttributeValue) -> Self {
        match value {
            AttributeValue::String(text) => Self::text(text),
            AttributeValue::Bool(truth) => Self::Bool(*truth),
            AttributeValue::Int(number) => Self::whole(*number),
            AttributeValue::Double(number) => Self::Number(Number::Double(*number)),
            AttributeValue::Empty | AttributeValue::Bytes(_) | AttributeValue::Array(_) | AttributeValue::Map(_) => {
                Self::Shown(value)
            }
        }
    }

    pub(super) fn of_constant(constant: &'a SpanConstant) -> Self {
        match constant {
            SpanConstant::Any(text) => Self::Any(text),
            SpanConstant::Text(text) => Self::text(text),
            SpanConstant::Int(number) | SpanConstant::DurationNs(number) => Self::whole(*number),
            SpanConstant::Double(number) => Self::Number(Number::Double(*number)),
            SpanConstant::Bool(truth) => Self::Bool(*truth),
            SpanConstant::TimeNs(time_ns) => Self::whole(*time_ns),
        }
    }

    /// As Jaeger shows it.
    pub(super) fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Any(text) => Cow::Borrowed(text),
            Self::Number(Number::Whole(number)) => Cow::Owned(number.to_string()),
            Self::Number(Number::Double(number)) => {
                Cow::Owned(render_attribute_value(&AttributeValue::Double(*number)).into_owned())
            }
            Self::Bool(truth) => Cow::Borrowed(if *truth { "true" } else { "false" }),
            Self::Shown(value) => render_attribute_value(value),
        }
    }

    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any(text), value) | (value, Self::Any(text)) => {
                value.shown() == *text || Self::Any(text).order(value) == Some(Ordering::Equal)
            }
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Shown(a), Self::Shown(b)) => a == b,
            _ => self.order(other) == Some(Ordering::Equal),
        }
    }

    /// `None` where the two have no order.
    fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Number(a), Self::Number(b)) => a.order(*b),
            (Self::Any(a), Self::Any(b)) => match (Number::parse(a), Number::parse(b)) {
                (Some(a), Some(b)) => a.order(b),
                _ => Some(a.cmp(b)),
            },
            (Self::Any(text), Self::Text(value)) => Some((*text).cmp(value)),
            (Self::Text(value), Self::Any(text)) => Some(value.as_ref().cmp(text)),
            (Self::Any(text), Self::Number(number)) => Number::parse(text)?.order(*number),
            (Self::Number(number), Self::Any(text)) => number.order(Number::parse(text)?),
            _ => None,
        }
    }

    /// Any comparison but `Ne`, which is no test of a single pair.
    pub(super) fn compares(&self, comparison: Comparison, other: &Self) -> bool {
        match comparison {
            Comparison::Eq => self.equals(other),
            Comparison::Ne => !self.equals(other),
            Comparison::Gt => self.order(other).is_some_and(Ordering::is_gt),
            Comparison::Lt => self.order(other).is_some_and(Ordering::is_lt),
            Comparison::Gte => self.order(other).is_some_and(Ordering::is_ge),
            Comparison::Lte => self.order(other).is_some_and(Ordering::is_le),
        }
    }
}
