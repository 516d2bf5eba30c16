//! Constants of a filter: from their text to what they are compared as.

use jiff::Timestamp;
use pharos_storage::SpanConstant;

use super::fields::FieldType;
use crate::duration::parse_go_duration;

/// Sorts of values; those of different sorts are never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Domain {
    Number,
    Duration,
    Time,
    Text,
    Bool,
}

impl Domain {
    /// Of a type that a constant declares and [`typed_value`] knows.
    pub(super) fn of_declared(declared: &str) -> Self {
        match declared {
            "int" | "double" => Self::Number,
            "bool" => Self::Bool,
            _ => Self::Text,
        }
    }
}

/// A constant by the type it declares.
pub(super) fn typed_value(text: &str, declared: &str) -> Result<SpanConstant, String> {
    let unreadable = |what: &str| format!("it is no {what}");
    Ok(match declared {
        "" => SpanConstant::Any(text.to_owned()),
        "string" => SpanConstant::Text(text.to_owned()),
        "int" => SpanConstant::Int(text.parse().map_err(|_| unreadable("64-bit integer"))?),
        "double" => SpanConstant::Double(text.parse().map_err(|_| unreadable("number"))?),
        // As Go reads them.
        "bool" => SpanConstant::Bool(match text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
            "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
            _ => return Err(unreadable("truth value")),
        }),
        other => return Err(format!("unknown type {other:?}")),
    })
}

/// A constant by the field it stands beside.
pub(super) fn field_value(field: FieldType, text: &str) -> Result<SpanConstant, String> {
    let word_of = |words: &[&str]| {
        let known = words.contains(&text).then(|| SpanConstant::Text(text.to_owned()));
        known.ok_or_else(|| format!("it is none of {}", words.join(", ")))
    };
    match field {
        FieldType::Text => Ok(SpanConstant::Text(text.to_owned())),
        FieldType::Kind => word_of(&["unspecified", "internal", "server", "client", "producer", "consumer"]),
        FieldType::Status => word_of(&["unset", "ok", "error"]),
        FieldType::Duration => parse_go_duration(text).map(SpanConstant::DurationNs),
        FieldType::Time => {
            let time: Timestamp = text.parse().map_err(|_| "it is no RFC 3339 time")?;
            let ns = u64::try_from(time.as_nanosecond()).map_err(|_| "it lies before 1970 or too far ahead")?;
            Ok(SpanConstant::TimeNs(ns))
        }
    }
}
