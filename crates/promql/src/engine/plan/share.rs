//! Common sub-expressions: which parts of a plan stand in it more than once.
//!
//! Two parts are alike if they differ in nothing but where they stand in the text, and are evaluated at the same steps:
//! both within the same kind of subqueries, both once for all steps or both not. Selectors are left alone (operators
//! above look at them), and so is what an aggregation may leave to the store.

use std::fmt::Write as _;

use hashbrown::HashMap;

use super::{Node, RangeSource};
use crate::ast::ValueType;
use crate::engine::leaf::{aggregation, range_function};

/// Plans with more nodes are taken as they are: telling their parts apart costs the square of it.
const NODES_MAX: usize = 300;

/// Marks what stands in the plan more than once.
pub(super) fn share(node: &mut Node) {
    if count(node) > NODES_MAX {
        return;
    }
    let mut found = HashMap::new();
    walk(node, "", false, &mut |node, key| {
        *found.entry(key).or_insert(0_u32) += u32::from(is_worth_it(node));
        true
    });
    let mut numbers: HashMap<String, usize> = HashMap::new();
    walk(node, "", false, &mut |node, key| {
        if !is_worth_it(node) || found.get(&key).is_none_or(|times| *times < 2) {
            return true;
        }
        let next = numbers.len();
        let number = *numbers.entry(key).or_insert(next);
        let inner = std::mem::replace(node, Node::Number(0.0));
        *node = Node::Shared { number, node: Box::new(inner) };
        // What is inside is evaluated with it.
        false
    });
}

fn is_worth_it(node: &Node) -> bool {
    matches!(node, Node::Aggregate(_) | Node::Binary(_) | Node::Call(_)) && node.value_type() == ValueType::Vector
}

fn count(node: &Node) -> usize {
    let mut nodes = 1;
    for_each_child(node, &mut |child| nodes += count(child));
    nodes
}

fn for_each_child(node: &Node, visit: &mut dyn FnMut(&Node)) {
    match node {
        Node::Number(_) | Node::Text(_) | Node::Selector(_) => {}
        Node::Range(range) => {
            if let RangeSource::Subquery { node, .. } = &range.source {
                visit(node);
            }
        }
        Node::Call(call) => call.args.iter().for_each(visit),
        Node::Aggregate(aggregate) => {
            visit(&aggregate.input);
            aggregate.param.iter().for_each(|param| visit(param));
        }
        Node::Binary(binary) => {
            visit(&binary.lhs);
            visit(&binary.rhs);
        }
        Node::Negate(node) | Node::Once(node) | Node::Shared { node, .. } => visit(node),
    }
}

/// Shows each node with its key to `visit`, from the top; into a node it goes only if `visit` says so. `times` tells
/// apart at which steps nodes are evaluated; `in_store` that the node may be left to the store.
fn walk(node: &mut Node, times: &str, in_store: bool, visit: &mut impl FnMut(&mut Node, String) -> bool) {
    let is_left = in_store && is_leaf_call(node);
    if !is_left && !visit(node, key_of(node, times)) {
        return;
    }
    match node {
        Node::Number(_) | Node::Text(_) | Node::Selector(_) => {}
        Node::Range(range) => {
            let (length_ms, time) = (range.length_ms, range.time);
            if let RangeSource::Subquery { node, step_ms, .. } = &mut range.source {
                walk(node, &format!("{times}[{length_ms}:{step_ms}]{time:?}"), false, visit);
            }
        }
        Node::Call(call) => call.args.iter_mut().for_each(|arg| walk(arg, times, false, visit)),
        Node::Aggregate(aggregate) => {
            walk(&mut aggregate.input, times, aggregation(aggregate.op).is_some(), visit);
            if let Some(param) = &mut aggregate.param {
                walk(param, times, false, visit);
            }
        }
        Node::Binary(binary) => {
            walk(&mut binary.lhs, times, false, visit);
            walk(&mut binary.rhs, times, false, visit);
        }
        Node::Negate(node) | Node::Shared { node, .. } => walk(node, times, false, visit),
        Node::Once(node) => walk(node, &format!("{times}@"), false, visit),
    }
}

/// A function of the windows of a selector that stores may compute.
fn is_leaf_call(node: &Node) -> bool {
    matches!(node, Node::Call(call) if range_function(call.function.id).is_some())
}

fn key_of(node: &Node, times: &str) -> String {
    let mut key = format!("{times}|");
    write_key(node, &mut key);
    key
}

/// All that makes a node what it is, but for its place in the text.
fn write_key(node: &Node, key: &mut String) {
    // Writing to a text cannot fail.
    let _ = match node {
        Node::Number(value) => write!(key, "#{:x}", value.to_bits()),
        Node::Text(text) => write!(key, "{text:?}"),
        Node::Selector(selector) => {
            let super::Selector { hints, scope, matchers, time, edge, span: _ } = selector;
            write!(key, "{matchers:?}{time:?}{edge:?}{hints:?}{:?}", scope.of_any_subquery())
        }
        Node::Range(range) => {
            let super::Range { source, length_ms, hints, scope, time, edge, span: _ } = range;
            let told = write!(key, "[{length_ms}{time:?}{edge:?}{hints:?}{:?}", scope.of_any_subquery());
            match source {
                RangeSource::Samples(matchers) => told.and_then(|()| write!(key, "{matchers:?}]")),
                RangeSource::Subquery { step_ms, .. } => told.and_then(|()| write!(key, ":{step_ms}]")),
            }
        }
        Node::Call(call) => write!(key, "{}/{}", call.function.name, call.args.len()),
        Node::Aggregate(aggregate) => {
            let super::Aggregate { op, without, labels, param, .. } = aggregate;
            write!(key, "{op:?}{without}{labels:?}{}", param.is_some())
        }
        Node::Binary(binary) => {
            let super::Binary { op, matching, return_bool, .. } = binary;
            write!(key, "{op:?}{matching:?}{return_bool}")
        }
        Node::Negate(_) => write!(key, "-"),
        Node::Once(_) => write!(key, "@"),
        Node::Shared { .. } => Ok(()),
    };
    key.push('(');
    for_each_child(node, &mut |child| {
        write_key(child, key);
        key.push(',');
    });
    key.push(')');
}
