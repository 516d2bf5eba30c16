//! Binary operators: of a pair of samples, and which samples make a pair.

use std::collections::BTreeMap;

use super::histogram::Naive;
use super::query::{Matching, is_comparison};
use super::{Fault, NAME, Reading, Tags, Vector, distinct, without_name};

/// The result of a pair, and whether a comparison holds; `None` for pairs that do not go together.
pub(super) fn element(op: &str, lhs: &Reading, rhs: &Reading) -> Option<(Reading, bool)> {
    use Reading::{Float, Histogram};
    let scaled = |histogram: &Naive, by: f64, divide: bool| {
        let mut result = histogram.map(|value| if divide { value / by } else { value * by });
        result.gauge |= by < 0.0;
        if divide && by == 0.0 {
            result.positive.clear();
            result.negative.clear();
        }
        (Histogram(result), true)
    };
    Some(match (lhs, rhs) {
        (Float(a), Float(b)) => match op {
            "+" => (Float(a + b), true),
            "-" => (Float(a - b), true),
            "*" => (Float(a * b), true),
            "/" => (Float(a / b), true),
            "%" => (Float(a % b), true),
            "^" => (Float(a.powf(*b)), true),
            "==" => (lhs.clone(), a == b),
            "!=" => (lhs.clone(), a != b),
            "<" => (lhs.clone(), a < b),
            "<=" => (lhs.clone(), a <= b),
            ">" => (lhs.clone(), a > b),
            _ => (lhs.clone(), a >= b),
        },
        (Histogram(histogram), Float(number)) if op == "*" => scaled(histogram, *number, false),
        (Histogram(histogram), Float(number)) if op == "/" => scaled(histogram, *number, true),
        (Float(number), Histogram(histogram)) if op == "*" => scaled(histogram, *number, false),
        (Histogram(a), Histogram(b)) => match op {
            "+" => (Histogram(a.join(b, |a, b| a + b)?), true),
            "-" => (Histogram(Naive { gauge: true, ..a.join(b, |a, b| a - b)? }), true),
            "==" => (lhs.clone(), a.equals(b)),
            "!=" => (lhs.clone(), !a.equals(b)),
            _ => return None,
        },
        _ => return None,
    })
}

/// What is left of a pair: with `bool` whether it holds; of a comparison `kept` if it does.
pub(super) fn outcome((value, holds): (Reading, bool), op: &str, bool: bool, kept: &Reading) -> Option<Reading> {
    match (bool, is_comparison(op)) {
        (true, _) => Some(Reading::Float(f64::from(u8::from(holds)))),
        (false, true) => holds.then(|| kept.clone()),
        (false, false) => Some(value),
    }
}

pub(super) fn named(tags: Tags, op: &str, bool: bool) -> Tags {
    if bool || !is_comparison(op) { without_name(tags) } else { tags }
}

fn key(matching: &Matching, tags: &Tags) -> Tags {
    let listed = |name: &str| matching.labels.contains(&name);
    let mut key = tags.clone();
    key.retain(|name, _| if matching.on { listed(name) } else { !listed(name) && name != NAME });
    key
}

pub(super) fn set(op: &str, matching: &Matching, lhs: Vector, rhs: Vector) -> Vector {
    let keys = |vector: &Vector| vector.iter().map(|(tags, _)| key(matching, tags)).collect::<Vec<_>>();
    let (left, right) = (keys(&lhs), keys(&rhs));
    let others: Vec<_> = rhs.into_iter().filter(|(tags, _)| !left.contains(&key(matching, tags))).collect();
    match op {
        "or" => lhs.into_iter().chain(others).collect(),
        _ => lhs.into_iter().filter(|(tags, _)| right.contains(&key(matching, tags)) == (op == "and")).collect(),
    }
}

pub(super) fn matched(op: &str, bool: bool, matching: &Matching, lhs: &Vector, rhs: &Vector) -> Result<Vector, Fault> {
    let swapped = matching.group.as_ref().is_some_and(|(right, _)| *right);
    let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
    if many.is_empty() || one.is_empty() {
        return Ok(Vec::new());
    }
    let mut partners: BTreeMap<Tags, &(Tags, Reading)> = BTreeMap::new();
    for sample in one {
        if partners.insert(key(matching, &sample.0), sample).is_some() {
            return Err(Fault);
        }
    }
    let mut taken: Vec<(Tags, Tags)> = Vec::new();
    let mut results = Vector::new();
    for (tags, value) in many {
        let key = key(matching, tags);
        let Some((one_tags, other)) = partners.get(&key).copied() else { continue };
        let (left, right) = if swapped { (other, value) } else { (value, other) };
        let Some(result) = element(op, left, right) else { continue };
        let mut labels = named(tags.clone(), op, bool);
        match &matching.group {
            None => labels.retain(|name, _| matching.labels.contains(&name.as_str()) == matching.on),
            Some((_, include)) => {
                for name in include {
                    labels.remove(*name);
                    labels.extend(one_tags.get(*name).map(|value| ((*name).to_owned(), value.clone())));
                }
            }
        }
        // One to one a key is taken once; else each result is.
        let claim = (key, if matching.group.is_some() { labels.clone() } else { Tags::new() });
        if taken.contains(&claim) {
            return Err(Fault);
        }
        taken.push(claim);
        results.extend(outcome(result, op, bool, left).map(|value| (labels, value)));
    }
    distinct(results)
}
