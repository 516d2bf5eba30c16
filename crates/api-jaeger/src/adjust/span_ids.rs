//! Span ids that client and server share.
//!
//! Zipkin's clients give both sides of a call one span id; pages want ids to be unique. The server's span gets a new
//! id and becomes the client's child, and what was below it moves along.

use hashbrown::HashMap;
use pharos_model::{SpanGroup, SpanId, SpanKind};

use super::{spans, warn};

/// Whether several spans bear one id.
pub(super) fn are_repeated(groups: &[SpanGroup]) -> bool {
    let mut ids: Vec<_> = groups.iter().flat_map(|group| &group.spans).map(|span| span.span_id).collect();
    ids.sort_unstable();
    ids.windows(2).any(|two| two[0] == two[1])
}

/// Gives servers ids of their own that bear those of clients.
pub(super) fn make_unique(groups: &mut [SpanGroup]) {
    // Every id in use, and whether a client's span bears it.
    let mut of_clients: HashMap<SpanId, bool> = HashMap::new();
    for span in spans(groups) {
        *of_clients.entry(span.span_id).or_default() |= span.kind == SpanKind::Client;
    }
    let (mut last, mut renamed) = (0_u64, HashMap::new());
    for span in spans(groups) {
        if span.kind != SpanKind::Server || !of_clients.get(&span.span_id).copied().unwrap_or_default() {
            continue;
        }
        match unused_after(last, &of_clients) {
            Some(id) => {
                last = id;
                let id = SpanId(id.to_be_bytes());
                renamed.insert(span.span_id, id);
                span.parent_span_id = std::mem::replace(&mut span.span_id, id);
            }
            None => warn(span, "cannot assign unique span ID, too many spans in the trace".to_owned()),
        }
    }
    if renamed.is_empty() {
        return;
    }
    for span in spans(groups) {
        if let Some(id) = renamed.get(&span.parent_span_id).filter(|id| **id != span.span_id) {
            span.parent_span_id = *id;
        }
    }
}

/// The smallest id above `last` that no span bears; there is one unless all of them are in use.
fn unused_after(last: u64, used: &HashMap<SpanId, bool>) -> Option<u64> {
    let mut id = last;
    loop {
        id = id.checked_add(1)?;
        if !used.contains_key(&SpanId(id.to_be_bytes())) {
            return Some(id);
        }
    }
}
