//! Who looks at spans on their way into a store.

use std::fmt::Debug;

use pharos_base::Completion;
use pharos_model::{SpanBatch, TenantId};

use crate::{AppendOutcome, StorageError};

/// Looks at every batch of spans before it is handed to the store, and learns whether the store took it.
pub trait SpanTap: Send + Sync {
    /// Takes from the batch what it needs. Counts for nothing before [`NoticedSpans::stored`]; dropping the answer
    /// forgets the batch, which was then refused and may be sent again.
    fn notice(&self, tenant: &TenantId, batch: &SpanBatch) -> Box<dyn NoticedSpans>;
}

/// What was taken of one batch.
pub trait NoticedSpans: Debug + Send {
    /// The batch is in the store. Must be quick: it may run where futures are polled.
    fn stored(self: Box<Self>);

    /// Whoever sent the batch does not wait for the store's `answer` any more: the batch is in the store if and when it says
    /// so. Must be quick, too.
    fn stored_if(self: Box<Self>, answer: Completion<Result<AppendOutcome, StorageError>>);
}

/// A request of spans as it came: what a gate that must keep it writes down.
#[derive(Debug, Clone, Copy)]
pub struct SpanRequest<'a> {
    /// What the body is written in, as ingest numbers it.
    pub form: u8,
    /// The body, inflated.
    pub body: &'a [u8],
}

/// Stands in a trace store's place where spans come in, and hands to the store what it wants, when it wants.
pub trait SpanGate: Send + Sync {
    /// Takes spans; completes when they are durable, be it at the store or at the gate. They are visible when the store has
    /// them.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if that is not possible now.
    fn append(
        &self,
        tenant: &TenantId,
        batch: SpanBatch,
        request: SpanRequest<'_>,
    ) -> Completion<Result<AppendOutcome, StorageError>>;
}
