//! How one pair of answers compares.

use serde_json::{Value, json};

use super::catalogue::{Class, Trait};
use crate::peers::compare::{Reply, difference, unordered};

/// Of one pair of answers.
pub(super) struct Verdict {
    /// What differs, if anything does.
    pub(super) difference: Option<String>,
    /// Both are successes and have nothing in them.
    pub(super) empty: bool,
}

/// Compares what both said to a question of `class` at `path`.
pub(super) fn verdict(class: &Class, path: &str, theirs: &Reply, ours: &Reply) -> Verdict {
    let fails = class.has(Trait::Fails);
    let kind = |reply: &Reply| (reply.status, reply.body["errorType"].clone());
    let difference = if kind(theirs) != kind(ours) {
        Some(both(&[theirs.status.into(), theirs.body.clone()].into(), &[ours.status.into(), ours.body.clone()].into()))
    } else if (theirs.status != 200) != fails {
        Some(format!("both: {} {}", theirs.status, theirs.body))
    } else if fails {
        unequal(&theirs.body["error"], &ours.body["error"])
    } else {
        differing_data(class, path, &theirs.body["data"], &ours.body["data"])
    };
    let nothing = json!([]);
    let empty = !fails && (theirs.body["data"]["result"] == nothing || theirs.body["data"] == nothing);
    Verdict { difference, empty }
}

fn differing_data(class: &Class, path: &str, theirs: &Value, ours: &Value) -> Option<String> {
    if path.starts_with("/api/v1/series") {
        return unequal(&unordered(theirs), &unordered(ours));
    }
    if !path.starts_with("/api/v1/query") {
        return unequal(theirs, ours);
    }
    // The series of a range are in the order of their labels.
    let in_order = class.has(Trait::Ordered) || path.starts_with("/api/v1/query_range");
    difference(theirs, ours, in_order, class.exactness)
}

fn unequal(theirs: &Value, ours: &Value) -> Option<String> {
    (theirs != ours).then(|| both(theirs, ours))
}

fn both(theirs: &Value, ours: &Value) -> String {
    format!("theirs: {:.400}\n  ours:   {:.400}", theirs.to_string(), ours.to_string())
}
