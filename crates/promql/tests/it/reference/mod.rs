//! A second evaluator, slow and plain: every step and every sample afresh, straight from the definitions of the language.
//!
//! It shares no code with the engine and knows only what [`query`] can ask. What comes out of both must be the same up to
//! rounding. Names are removed at once; reset hints other than "gauge" do not occur.

pub(crate) mod data;
pub(crate) mod evaluate;
pub(crate) mod histogram;
mod pairs;
pub(crate) mod query;
mod windows;

use std::collections::BTreeMap;

pub(crate) use evaluate::evaluate;
use histogram::Naive;

/// Labels by name; the metric's name is `__name__`.
pub(crate) type Tags = BTreeMap<String, String>;

/// A sample's value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reading {
    Float(f64),
    Histogram(Naive),
}

/// An instant vector.
pub(crate) type Vector = Vec<(Tags, Reading)>;

/// The query fails at a step.
#[derive(Debug)]
pub(crate) struct Fault;

pub(crate) const NAME: &str = "__name__";

pub(crate) fn without_name(mut tags: Tags) -> Tags {
    tags.remove(NAME);
    tags
}

/// A vector holds each label set once.
pub(crate) fn distinct(vector: Vector) -> Result<Vector, Fault> {
    let tags: std::collections::BTreeSet<&Tags> = vector.iter().map(|(tags, _)| tags).collect();
    if tags.len() == vector.len() { Ok(vector) } else { Err(Fault) }
}
