//! Reads as queries that are listed while they run, hold a part of the memory of all queries, and stream their answer
//! once it is large.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::StreamExt;
use futures::stream;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use parking_lot::Mutex;
use pharos_base::{CancelToken, Clock, MemoryBudget, SystemClock};
use pharos_http::{Asked, QueryLoad, Refusal, RunningQuery, Watched};
use pharos_storage::{ReadContext, StorageError};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::call::refusal_of;
use crate::grpc_stream::{Outlet, Pace};
use crate::rendering::{Rendered, Rendering};
use crate::routes::JaegerApi;

/// Pieces that wait for a slow client.
const WAITING_MAX: usize = 2;

/// A read under way.
pub(crate) struct Listed {
    query: Arc<RunningQuery>,
    holds: Arc<Holds>,
}

/// What a read holds.
struct Holds {
    memory: MemoryBudget,
    refusal: Mutex<Option<Duration>>,
}

impl Watched for Holds {
    fn load(&self) -> QueryLoad {
        QueryLoad {
            memory_bytes: self.memory.used_bytes(),
            memory_bytes_peak: self.memory.peak_bytes(),
            refusal: *self.refusal.lock(),
            ..QueryLoad::default()
        }
    }
}

impl Listed {
    /// Announces a read.
    pub(crate) fn begin(api: &JaegerApi, asked: Asked) -> Self {
        let bytes_max = asked.limits.memory_within(api.memory_bytes_max);
        let memory = api.memory.part_of(asked.tenant.as_str(), bytes_max);
        let holds = Arc::new(Holds { memory, refusal: Mutex::default() });
        Self { query: api.pool.queries().begin(asked, Arc::clone(&holds) as Arc<dyn Watched>), holds }
    }

    /// Runs it on the pool, and ends its listing; `refuse` says what a failure of it is to callers.
    ///
    /// # Errors
    /// Why there is no result.
    pub(crate) async fn run<T: Send + 'static, E: Send + 'static>(
        self,
        api: Arc<JaegerApi>,
        read: impl FnOnce(&ReadContext) -> Result<T, E> + Send + 'static,
        refuse: fn(E) -> Refusal,
    ) -> Result<T, Refusal> {
        let (shared, holds) = (Arc::clone(&api), Arc::clone(&self.holds));
        let work = move |cancel: CancelToken| {
            let context = shared.context(&cancel, holds.memory.clone());
            let begun_at = SystemClock.monotonic();
            read(&context).inspect_err(|_| {
                let now = SystemClock.monotonic();
                let crossed_at = context.crossed_at(now).map(|at| at.max(begun_at));
                *holds.refusal.lock() = crossed_at.map(|at| now.saturating_duration_since(at));
            })
        };
        let done = api.pool.run_query(&self.query, work).await;
        let result = done.and_then(|result| result.map_err(refuse));
        self.query.finish(result.as_ref().err().map(Refusal::class));
        result.map_err(|refusal| self.query.explain(refusal))
    }
}

/// Runs a read and answers what it renders, whole if it is small. A large answer is under way to the client before its
/// end is known: if the read fails then, the connection is cut, and whoever reads it sees that the answer is not whole.
///
/// # Errors
/// Why there is no answer.
pub(crate) async fn render(
    api: &Arc<JaegerApi>,
    asked: Asked,
    render: impl FnOnce(&Rendering<'_>) -> Result<Option<Rendered>, StorageError> + Send + 'static,
) -> Result<Option<Response>, Refusal> {
    let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
    let (runtime, pool) = (Handle::current(), api.pool.clone());
    let render = move |context: &ReadContext| {
        let deadline = context.cancel.deadline().map(Instant::from_std);
        render(&Rendering::new(context, Outlet::new(sender, Pace { runtime, pool, deadline })))
    };
    let work = Listed::begin(api, asked).run(Arc::clone(api), render, |error: StorageError| refusal_of(&error));
    let mut work = Box::pin(work);
    let first = tokio::select! {
        biased;
        first = receiver.recv() => first,
        done = &mut work => return done.map(|rendered| rendered.map(|rendered| whole(rendered, receiver))),
    };
    let Some(first) = first else {
        // The channel closes before the work is told to be done.
        return work.await.map(|rendered| rendered.map(|rendered| whole(rendered, receiver)));
    };
    let end = stream::once(work).filter_map(async |done: Result<_, Refusal>| {
        let refusal = done.err()?;
        Some(Err(io::Error::other(refusal.message().to_owned())))
    });
    let pieces = stream::iter([Ok(first)]).chain(pieces(receiver).map(Ok)).chain(end);
    Ok(Some(json(Body::from_stream(pieces))))
}

/// The pieces that are sent, to their end.
fn pieces(receiver: mpsc::Receiver<Bytes>) -> impl futures::Stream<Item = Bytes> {
    stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    })
}

/// The answer of work that is done.
fn whole(rendered: Rendered, receiver: mpsc::Receiver<Bytes>) -> Response {
    match rendered {
        Rendered::Held(mut held) => match held.pop() {
            // With one piece the length of the body is known beforehand.
            Some(only) if held.is_empty() => json(Body::from(only)),
            last => json(Body::from_stream(stream::iter(held.into_iter().chain(last).map(Ok::<_, Infallible>)))),
        },
        Rendered::Sent => json(Body::from_stream(pieces(receiver).map(Ok::<_, Infallible>))),
    }
}

fn json(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
