//! A client that hangs up, over a real connection.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pharos_base::{Clock, Interrupted, SystemClock};
use pharos_gateway::Principal;
use pharos_http::{ListenerSettings, serve};
use pharos_model::{Matcher, MetricBatch, MetricMetadata, TenantId, TimeRange};
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{
    AppendOutcome, BatchId, Capabilities, CardinalityStatus, Completion, ExemplarSeries, LabelQuery, LeafPlan,
    LeafStream, MetricStore, MetricStoreStats, ReadContext, SeriesStream, StorageError,
};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::testing::router_for;

/// Longer than a query is tried on the thread of its connection.
const TRIED_MAX: Duration = Duration::from_millis(30);

/// A store whose reads go on until they are interrupted. It tells that one is under way, and that one was cancelled.
struct Endless {
    rest: MemoryMetricStore,
    begun: Mutex<Option<oneshot::Sender<()>>>,
    ended: Mutex<Option<oneshot::Sender<()>>>,
}

impl MetricStore for Endless {
    fn capabilities(&self) -> Capabilities {
        Capabilities::raw()
    }

    fn leaf(&self, _: &TenantId, _: &LeafPlan, context: &ReadContext) -> Result<LeafStream, StorageError> {
        let since = SystemClock.monotonic();
        loop {
            if let Err(interrupted) = context.check() {
                if interrupted == Interrupted::Cancelled {
                    self.ended.lock().take().map(|ended| ended.send(()));
                }
                return Err(interrupted.into());
            }
            // A query is tried where it arrives first, and would not last so long there.
            if SystemClock.monotonic() - since > TRIED_MAX {
                self.begun.lock().take().map(|begun| begun.send(()));
            }
            std::thread::yield_now();
        }
    }

    fn append(
        &self,
        tenant: &TenantId,
        batch: MetricBatch,
        id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        self.rest.append(tenant, batch, id)
    }

    fn series(
        &self,
        tenant: &TenantId,
        sets: &[Vec<Matcher>],
        range: TimeRange,
        context: &ReadContext,
    ) -> Result<SeriesStream, StorageError> {
        self.rest.series(tenant, sets, range, context)
    }

    fn label_names(&self, _: &TenantId, _: &LabelQuery, _: &ReadContext) -> Result<Vec<String>, StorageError> {
        Ok(Vec::new())
    }

    fn label_values(
        &self,
        _: &TenantId,
        _: &str,
        _: &LabelQuery,
        _: &ReadContext,
    ) -> Result<Vec<String>, StorageError> {
        Ok(Vec::new())
    }

    fn exemplars(
        &self,
        _: &TenantId,
        _: &[Vec<Matcher>],
        _: TimeRange,
        _: &ReadContext,
    ) -> Result<Vec<ExemplarSeries>, StorageError> {
        Ok(Vec::new())
    }

    fn metadata(&self, _: &TenantId, _: Option<&str>, _: usize) -> Result<Vec<MetricMetadata>, StorageError> {
        Ok(Vec::new())
    }

    fn cardinality(&self, _: &TenantId, _: usize) -> Result<CardinalityStatus, StorageError> {
        Ok(CardinalityStatus::default())
    }

    fn flush(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn compact(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn stats(&self) -> MetricStoreStats {
        MetricStoreStats::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_cancels_what_the_store_reads_for_it() {
    for path in
        ["/api/v1/query?query=x", "/api/v1/query_range?query=sum(x)&start=1&end=9&step=1", "/federate?match[]=x"]
    {
        let ((begun, on_begin), (ended, on_end)) = (oneshot::channel(), oneshot::channel());
        let rest = MemoryMetricStore::new();
        let store = Endless { rest, begun: Mutex::new(Some(begun)), ended: Mutex::new(Some(ended)) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (router, stop) = (router_for(Arc::new(store), Principal::anonymous()), CancellationToken::new());
        let mut server = tokio::task::JoinSet::new();
        server.spawn(serve(listener, router, ListenerSettings::default(), stop.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        on_begin.await.unwrap();
        drop(client);
        on_end.await.expect("the read is cancelled");
        stop.cancel();
        server.join_next().await;
    }
}
