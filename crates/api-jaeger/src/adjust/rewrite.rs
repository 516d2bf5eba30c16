//! Attributes and links in the form that pages want.

use std::net::Ipv4Addr;
use std::sync::Arc;

use pharos_model::{Attribute, AttributeValue, Attributes, Span, SpanGroup};

use super::{spans, warn};

/// Keys under which old clients send an address as a number.
const ADDRESSES: [&str; 2] = ["ip", "peer.ipv4"];
/// What some senders put on every span and is a property of their process.
const OF_LIBRARY: [&str; 5] = [
    "telemetry.sdk.language",
    "telemetry.sdk.name",
    "telemetry.sdk.version",
    "telemetry.distro.name",
    "telemetry.distro.version",
];

/// Writes addresses that came as numbers as texts: `10.0.0.1`.
pub(super) fn normalize_addresses(groups: &mut [SpanGroup]) {
    for group in groups {
        if group.resource.attributes.iter().any(|attribute| address(attribute).is_some()) {
            normalize(&mut Arc::make_mut(&mut group.resource).attributes);
        }
        group.spans.iter_mut().for_each(|span| normalize(&mut span.attributes));
    }
}

fn normalize(attributes: &mut Attributes) {
    for attribute in attributes {
        if let Some(address) = address(attribute) {
            attribute.value = AttributeValue::String(address.to_string());
        }
    }
}

/// The address that an attribute holds as a number: its lowest 32 bits, as Jaeger takes them.
fn address(attribute: &Attribute) -> Option<Ipv4Addr> {
    if !ADDRESSES.contains(&attribute.key.as_str()) {
        return None;
    }
    let number = match attribute.value {
        AttributeValue::Int(number) => number,
        AttributeValue::Double(number) => number as i64,
        _ => return None,
    };
    Some(Ipv4Addr::from_bits((number & i64::from(u32::MAX)) as u32))
}

/// Moves attributes of the library from spans to their resource.
pub(super) fn move_library_attributes(groups: &mut [SpanGroup]) {
    for SpanGroup { resource, spans, .. } in groups {
        for span in spans.iter_mut() {
            if !span.attributes.iter().any(is_of_library) {
                continue;
            }
            let resource = &mut Arc::make_mut(resource).attributes;
            for attribute in std::mem::take(&mut span.attributes) {
                if !is_of_library(&attribute) {
                    span.attributes.push(attribute);
                } else if let Some(known) = resource.iter().find(|known| known.key == attribute.key) {
                    if !are_equal_texts(&known.value, &attribute.value) {
                        keep_conflicting(span, attribute);
                    }
                } else {
                    resource.push(attribute);
                }
            }
        }
    }
}

fn is_of_library(attribute: &Attribute) -> bool {
    OF_LIBRARY.contains(&attribute.key.as_str())
}

/// The conventions know texts only: values of other types are a conflict, whatever they are.
fn are_equal_texts(a: &AttributeValue, b: &AttributeValue) -> bool {
    matches!((a, b), (AttributeValue::String(a), AttributeValue::String(b)) if a == b)
}

fn keep_conflicting(span: &mut Span, attribute: Attribute) {
    let warning = format!("conflicting values between Span and Resource for attribute {}", attribute.key);
    span.attributes.push(attribute);
    warn(span, warning);
}

/// Drops links that lead nowhere.
pub(super) fn drop_empty_links(groups: &mut [SpanGroup]) {
    for span in spans(groups) {
        let before = span.links.len();
        span.links.retain(|link| !link.trace_id.is_zero());
        for _ in span.links.len()..before {
            warn(span, "Invalid span link removed".to_owned());
        }
    }
}
