//! What several services send: traces and summaries, in messages that every client takes.

use std::num::NonZeroUsize;

use opentelemetry_proto::tonic::trace::v1::TracesData;
use pharos_ingest::otlp::each_message;
use pharos_model::{SpanGroup, TenantId};
use pharos_storage::{ReadContext, StorageError, TraceStore};
use prost::Message;

use crate::adjust::{Adjusting, tell_on_first_span};
use crate::grpc_stream::Outlet;
use crate::rendering::too_large;
use crate::told::{Found, told_with_parts, told_with_traces};

/// Largest message of a stream. Clients take 4 MiB unless they are told otherwise.
pub(crate) const MESSAGE_BYTES_MAX: usize = 3_584 << 10;
/// Spans of a trace that are held at a time.
pub(crate) const PART_SPANS: NonZeroUsize = NonZeroUsize::new(4_096).expect("more than none");

/// Streams traces; says how many messages there were.
pub(crate) fn send_traces(
    store: &dyn TraceStore,
    tenant: &TenantId,
    found: Found,
    adjusting: Option<Adjusting>,
    (context, outlet): (&ReadContext, &Outlet<TracesData>),
) -> Result<usize, StorageError> {
    let mut sent = 0;
    each_piece(store, tenant, found, adjusting, context, |groups| {
        each_message(groups, MESSAGE_BYTES_MAX, |message| {
            sent += 1;
            outlet.send(message)
        })
    })?;
    Ok(sent)
}

/// Hands spans of one trace after the other to `send`, their warnings on the first. As they are stored they come part by
/// part; to be adjusted a trace has to be whole.
pub(crate) fn each_piece(
    store: &dyn TraceStore,
    tenant: &TenantId,
    Found { lookups, warnings }: Found,
    adjusting: Option<Adjusting>,
    context: &ReadContext,
    mut send: impl FnMut(Vec<SpanGroup>) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let mut tell_and_send = |mut groups: Vec<SpanGroup>, warnings| {
        tell_on_first_span(&mut groups, warnings);
        context.check()?;
        send(groups)
    };
    match adjusting {
        None => {
            let parts = store.trace_parts(tenant, &lookups, PART_SPANS, context)?;
            told_with_parts(parts, warnings).try_for_each(|part| {
                let part = part?;
                tell_and_send(part.groups, part.warnings)
            })
        }
        Some(adjusting) => {
            let traces = store.traces(tenant, &lookups, context)?;
            told_with_traces(traces, warnings).try_for_each(|trace| {
                let mut trace = trace?;
                adjusting.apply(&mut trace, &context.memory).map_err(too_large)?;
                tell_and_send(trace.groups, trace.warnings)
            })
        }
    }
}

/// Streams items in messages of at most [`MESSAGE_BYTES_MAX`], none of them empty.
pub(crate) fn send_batches<I: Message, M>(
    items: impl IntoIterator<Item = I>,
    message: impl Fn(Vec<I>) -> M,
    outlet: &Outlet<M>,
) -> Result<(), StorageError> {
    let (mut batch, mut batch_bytes) = (Vec::new(), 0);
    for item in items {
        // Tag and length of one item take less than 16 bytes.
        let bytes = item.encoded_len() + 16;
        if batch_bytes > 0 && batch_bytes + bytes > MESSAGE_BYTES_MAX {
            outlet.send(message(std::mem::take(&mut batch)))?;
            batch_bytes = 0;
        }
        batch_bytes += bytes;
        batch.push(item);
    }
    if batch.is_empty() { Ok(()) } else { outlet.send(message(batch)) }
}

/// The APIs count in 32 bits.
pub(crate) fn count(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
