//! VictoriaMetrics' JSON lines, as `/api/v1/export` writes them there and here.
//!
//! A `null` is a NaN, `"Infinity"` and `"-Infinity"`, with quotes or without, are what they say. Beside VictoriaMetrics' members a line may
//! have `"nans"`, a list of `[index, "sixteen hex digits"]`: the exact bits of NaNs, staleness markers above
//! all, which a `null` cannot tell apart. Other members are skipped.

use std::fmt;

use pharos_model::{LabelsBuilder, Sample};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::{BATCH_SAMPLES_MAX, LineError, ORDINARY_NAN_BITS, Output, bad};

#[derive(Deserialize)]
struct Line {
    metric: Pairs,
    values: Vec<Value>,
    timestamps: Vec<i64>,
    #[serde(default)]
    nans: Vec<(usize, String)>,
}

/// Reads one line; not empty.
pub(super) fn line(line: &str, output: &mut Output<'_>) -> Result<(), LineError> {
    let parsed = serde_json::from_str(line).or_else(|error| match quote_bare_values(line) {
        Some(quoted) => serde_json::from_str(&quoted),
        None => Err(error),
    });
    let Line { metric, mut values, timestamps, nans } =
        parsed.map_err(|error| bad(format!("cannot read the JSON: {error}")))?;
    if values.len() != timestamps.len() {
        return Err(bad(format!("{} values for {} timestamps", values.len(), timestamps.len())));
    }
    for (index, bits) in nans {
        let value = u64::from_str_radix(&bits, 16).ok().map(f64::from_bits).filter(|value| value.is_nan());
        match (values.get_mut(index), value) {
            (Some(found), Some(value)) if found.0.is_nan() => found.0 = value,
            _ => return Err(bad(format!("\"nans\" names {bits:?} for value {index}, which is no NaN"))),
        }
    }
    for (values, timestamps) in values.chunks(BATCH_SAMPLES_MAX).zip(timestamps.chunks(BATCH_SAMPLES_MAX)) {
        for (value, timestamp_ms) in values.iter().zip(timestamps) {
            output.sink.push_sample(Sample { timestamp_ms: *timestamp_ms, value: value.0 }, 0);
        }
        metric.push_to(&mut output.sink.labels);
        output.finish_series()?;
    }
    Ok(())
}

/// The line with `+Inf`, `-Inf`, `NaN` and the like in quotes where they stand bare, which is no JSON but what older versions
/// of VictoriaMetrics write; `None` if there is none.
fn quote_bare_values(line: &str) -> Option<String> {
    const BARE: [&str; 7] = ["-Infinity", "+Infinity", "Infinity", "-Inf", "+Inf", "Inf", "NaN"];
    let mut out = String::new();
    let mut rest = line;
    let (mut is_quoted, mut is_escaped, mut found) = (false, false, false);
    while let Some(next) = rest.chars().next() {
        let bare = if is_quoted { None } else { BARE.into_iter().find(|bare| rest.starts_with(bare)) };
        if let Some(bare) = bare {
            out.extend(["\"", bare, "\""]);
            rest = &rest[bare.len()..];
            found = true;
            continue;
        }
        is_quoted ^= next == '"' && !is_escaped;
        is_escaped = is_quoted && next == '\\' && !is_escaped;
        out.push(next);
        rest = &rest[next.len_utf8()..];
    }
    found.then_some(out)
}

/// Labels in the order of the line; a name that comes twice is found by the sink.
struct Pairs(Vec<(String, String)>);

impl Pairs {
    fn push_to(&self, labels: &mut LabelsBuilder) {
        for (name, value) in &self.0 {
            labels.push(name, value);
        }
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct Value(f64);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;
        impl Visitor<'_> for ValueVisitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, null, \"Infinity\" or \"-Infinity\"")
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value(value as f64))
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value(f64::from_bits(ORDINARY_NAN_BITS)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                match text.parse::<f64>() {
                    Ok(value) if value.is_nan() => self.visit_unit(),
                    Ok(value) => Ok(Value(value)),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}
