//! Times of spans whose host's clock seems wrong: a child that does not lie within its parent, and comes from another
//! host, is moved into it, and so is everything below it on that host.
//!
//! What was moved, or would have been, is told as a warning.

use std::collections::HashMap;

use pharos_base::HumanDuration;
use pharos_model::{AttributeValue, Resource, Span, SpanGroup, SpanId};
use pharos_storage::render_attribute_value;

use super::warn;
use crate::duration::render_go_duration;

/// Moves spans by at most `skew_max`; zero leaves everything as it is, and says nothing.
pub(super) fn correct(groups: &mut [SpanGroup], skew_max: HumanDuration) {
    let max_ns = i64::try_from(skew_max.0.as_nanos()).unwrap_or(i64::MAX);
    if max_ns == 0 {
        return;
    }
    let mut nodes = nodes(groups);
    let roots = find_children(&mut nodes);
    let mut skews: Vec<(usize, Option<usize>, Skew)> =
        roots.iter().map(|&root| (root, None, Skew { host: nodes[root].host.clone(), delta_ns: 0 })).collect();
    // Parents come before their children: a child is compared with its moved parent.
    while let Some((index, parent, mut skew)) = skews.pop() {
        let node = &nodes[index];
        if let Some(parent) = parent.filter(|_| node.host != skew.host || node.host.is_empty()) {
            let delta_ns = needed_delta(Times::of(nodes[index].span), Times::of(nodes[parent].span));
            skew = Skew { host: node.host.clone(), delta_ns };
        }
        let node = &mut nodes[index];
        shift(node.span, skew.delta_ns, max_ns);
        skews.extend(node.children.iter().map(|&child| (child, Some(index), skew.clone())));
    }
}

/// How far clocks differ, and whose clock it is.
#[derive(Clone)]
struct Skew {
    host: std::rc::Rc<str>,
    delta_ns: i64,
}

struct Node<'a> {
    span: &'a mut Span,
    children: Vec<usize>,
    /// What tells hosts apart; empty where it is unknown, and then it is another one each time.
    host: std::rc::Rc<str>,
}

/// The spans with unique ids; the first of equal ones.
fn nodes(groups: &mut [SpanGroup]) -> Vec<Node<'_>> {
    let (mut nodes, mut seen) = (Vec::new(), std::collections::HashSet::new());
    for SpanGroup { resource, spans, .. } in groups {
        let host: std::rc::Rc<str> = host_key(resource).into();
        for span in spans {
            if seen.insert(span.span_id) {
                nodes.push(Node { span, children: Vec::new(), host: host.clone() });
            } else {
                warn(span, "duplicate span IDs; skipping clock skew adjustment".to_owned());
            }
        }
    }
    nodes
}

/// Id, else first address, else name of the host.
fn host_key(resource: &Resource) -> String {
    let value = |key: &str| resource.attributes.iter().find(|attribute| attribute.key == key).map(|found| &found.value);
    let text = |value: Option<&AttributeValue>| match value {
        Some(AttributeValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    if let Some(id) = value("host.id") {
        return text(Some(id));
    }
    match value("host.ip") {
        Some(AttributeValue::String(address)) => return address.clone(),
        Some(AttributeValue::Array(addresses)) => {
            if let Some(first) = addresses.first() {
                return render_attribute_value(first).into_owned();
            }
        }
        _ => {}
    }
    text(value("host.name"))
}

/// Hangs children below their parents; returns those without a parent in the trace.
fn find_children(nodes: &mut [Node<'_>]) -> Vec<usize> {
    let by_id: HashMap<SpanId, usize> =
        nodes.iter().enumerate().map(|(index, node)| (node.span.span_id, index)).collect();
    let mut roots = Vec::new();
    for index in 0..nodes.len() {
        let parent = nodes[index].span.parent_span_id;
        match by_id.get(&parent) {
            _ if parent.is_zero() => roots.push(index),
            Some(&parent) => nodes[parent].children.push(index),
            None => {
                let warning = format!("parent span ID={parent} is not in the trace; skipping clock skew adjustment");
                warn(nodes[index].span, warning);
                roots.push(index);
            }
        }
    }
    roots
}

#[derive(Clone, Copy)]
struct Times {
    start_ns: i64,
    end_ns: i64,
}

impl Times {
    fn of(span: &Span) -> Self {
        let ns = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        Self { start_ns: ns(span.start_ns), end_ns: ns(span.end_ns) }
    }

    fn duration_ns(self) -> i64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// How far a child must be moved to lie within its parent.
fn needed_delta(child: Times, parent: Times) -> i64 {
    if child.duration_ns() > parent.duration_ns() {
        // It went on without its parent, which did not wait or gave up: it shall only not begin earlier.
        return parent.start_ns.saturating_sub(child.start_ns).max(0);
    }
    if child.start_ns >= parent.start_ns && child.end_ns <= parent.end_ns {
        return 0;
    }
    // Way there and way back are taken to be equally long.
    let latency_ns = parent.duration_ns().saturating_sub(child.duration_ns()) / 2;
    parent.start_ns.saturating_add(latency_ns).saturating_sub(child.start_ns)
}

fn shift(span: &mut Span, delta_ns: i64, max_ns: i64) {
    if delta_ns == 0 {
        return;
    }
    let delta = render_go_duration(delta_ns);
    if delta_ns.unsigned_abs() > max_ns.unsigned_abs() {
        let warning = format!(
            "max clock skew adjustment delta of {} exceeded; not applying calculated delta of {delta}",
            render_go_duration(max_ns)
        );
        warn(span, warning);
        return;
    }
    span.start_ns = span.start_ns.saturating_add_signed(delta_ns);
    span.end_ns = span.end_ns.saturating_add_signed(delta_ns);
    for event in &mut span.events {
        event.time_ns = event.time_ns.saturating_add_signed(delta_ns);
    }
    warn(span, format!("This span's timestamps were adjusted by {delta}"));
}
