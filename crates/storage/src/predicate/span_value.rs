//! One value of a span against one constant: for engines that keep values by column and test each once.

use std::borrow::Cow;

use pharos_model::{AttributeValue, SearchPattern, SpanKind, StatusCode};

use super::evaluate::{kind_word, status_word};
use super::implied::only_text;
use super::value::{Number, Value};
use super::{Comparison, SpanConstant};

/// A value of a span: an attribute's, or what a field of [`crate::SpanField`] says.
#[derive(Debug, Clone)]
pub struct SpanValue<'a>(Value<'a>);

impl<'a> SpanValue<'a> {
    /// A text.
    #[must_use]
    pub fn text(text: &'a str) -> Self {
        Self(Value::text(text))
    }

    /// A whole number, a time in Unix nanoseconds, a duration in nanoseconds.
    #[must_use]
    pub fn whole(number: impl Into<i128>) -> Self {
        Self(Value::whole(number))
    }

    /// A double.
    #[must_use]
    pub fn double(number: f64) -> Self {
        Self(Value::Number(Number::Double(number)))
    }

    /// A truth value.
    #[must_use]
    pub fn truth(truth: bool) -> Self {
        Self(Value::Bool(truth))
    }

    /// An attribute's value.
    #[must_use]
    pub fn of_attribute(value: &'a AttributeValue) -> Self {
        Self(Value::of_attribute(value))
    }

    /// What [`crate::SpanField::Kind`] says.
    #[must_use]
    pub fn of_kind(kind: SpanKind) -> SpanValue<'static> {
        SpanValue(Value::text(kind_word(kind)))
    }

    /// What [`crate::SpanField::Status`] says.
    #[must_use]
    pub fn of_status(status: StatusCode) -> SpanValue<'static> {
        SpanValue(Value::text(status_word(status)))
    }

    /// Whether the comparison holds between this value, on the left, and the constant. `Ne` is here no more than "not equal":
    /// over several values it holds if it holds for each (rule F2).
    #[must_use]
    pub fn compares(&self, comparison: Comparison, constant: &SpanConstant) -> bool {
        self.0.compares(comparison, &Value::of_constant(constant))
    }

    /// The same with the constant on the left.
    #[must_use]
    pub fn is_compared_by(&self, constant: &SpanConstant, comparison: Comparison) -> bool {
        Value::of_constant(constant).compares(comparison, &self.0)
    }

    /// As Jaeger shows it.
    #[must_use]
    pub fn shown(&self) -> Cow<'_, str> {
        self.0.shown()
    }

    /// Whether Jaeger shows it as this text.
    #[must_use]
    pub fn is_shown_as(&self, text: &str) -> bool {
        self.0.shown() == text
    }

    /// Whether the pattern occurs in it as Jaeger shows it.
    #[must_use]
    pub fn matches(&self, pattern: &SearchPattern) -> bool {
        pattern.is_in(&self.0.shown())
    }
}

impl SpanConstant {
    /// The one text that all values equal to the constant are shown as, if there is only one. Not so for zero (`0`, `-0`), for
    /// numbers so large that a double shows other digits than an integer, and for spellings that are not the shown one.
    #[must_use]
    pub fn only_text(&self) -> Option<String> {
        only_text(self)
    }
}
