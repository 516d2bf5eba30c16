//! Blocks of generated spans, and what searches find in them by hand.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use pharos_model::{Span, TraceId};
use pharos_storage::conformance::traces::{SpanGenerator, random_predicate, random_query};
use pharos_storage::{TraceQuery, span_passes};

use super::evaluate::OriginSource;
use crate::TraceStoreError;
use crate::block::BlockBuilder;
use crate::codec::{Origin, OriginHash, RowBuilder, RowReader, encode_origin};

pub(crate) const NOW_NS: u64 = 1_795_230_000_000_000_000;

/// Spans in the order of their block, with what they come from.
pub(crate) struct Sample {
    pub(crate) bytes: Bytes,
    pub(crate) spans: Vec<(OriginHash, Span)>,
    pub(crate) origins: Origins,
}

pub(crate) struct Origins(pub(crate) HashMap<OriginHash, Arc<Origin>>);

impl OriginSource for Origins {
    fn origin(&self, hash: OriginHash) -> Result<Arc<Origin>, TraceStoreError> {
        Ok(Arc::clone(&self.0[&hash]))
    }
}

pub(crate) fn sample(generator: &mut SpanGenerator, batches: usize) -> Sample {
    let mut traces: BTreeMap<TraceId, Vec<(OriginHash, Span)>> = BTreeMap::new();
    let mut origins = HashMap::new();
    for group in (0..batches).flat_map(|_| generator.batch().groups) {
        let (hash, _) = encode_origin(&group.resource, &group.scope);
        origins.insert(hash, Arc::new(Origin { resource: group.resource, scope: group.scope }));
        for span in group.spans {
            traces.entry(span.trace_id).or_default().push((hash, span));
        }
    }
    let mut builder = BlockBuilder::new();
    for (trace_id, spans) in &traces {
        builder.begin_trace(*trace_id);
        let mut row = RowBuilder::default();
        for (hash, span) in spans {
            row.push_group(*hash, origins[hash].resource.service_name(), &[span], 0);
        }
        let row = row.finish();
        for span in RowReader::new(&row, 0).unwrap().spans_with_details() {
            let (span, details) = span.unwrap();
            builder.push(span.origin, span.service, &span.skeleton, details).unwrap();
        }
    }
    let spans = traces.into_values().flatten().collect();
    Sample { bytes: builder.finish().into(), spans, origins: Origins(origins) }
}

pub(crate) fn queries(generator: &mut SpanGenerator, count: usize) -> Vec<TraceQuery> {
    (0..count)
        .map(|number| {
            let predicate = (number % 3 > 0).then(|| random_predicate(generator, 0));
            TraceQuery { predicate, ..random_query(generator) }
        })
        .map(|query| if query.predicate.is_some() { plain_but_for_predicate(query) } else { query })
        .collect()
}

/// Plain tests beside a tree let little pass.
fn plain_but_for_predicate(query: TraceQuery) -> TraceQuery {
    TraceQuery {
        service: None,
        operation: None,
        filters: query.filters.into_iter().take(1).collect(),
        duration_min_ns: None,
        ..query
    }
}

pub(crate) fn passing_by_hand(sample: &Sample, query: &TraceQuery) -> Vec<usize> {
    let passes = |(hash, span): &(OriginHash, Span)| {
        let origin = &sample.origins.0[hash];
        span_passes(query, &origin.resource, &origin.scope, span)
    };
    (0..sample.spans.len()).filter(|span| passes(&sample.spans[*span])).collect()
}
