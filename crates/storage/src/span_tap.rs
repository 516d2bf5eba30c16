//! Who looks at spans on their way into a store.

use std::fmt::Debug;

use pharos_model::{SpanBatch, TenantId};

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
}
