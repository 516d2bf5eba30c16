//! The pool on which queries run: a bounded number at a time, tenant by tenant in turn, cancelled when their client leaves.
//!
//! Most queries of a dashboard take less time than waking a thread and being woken by it, which costs some
//! 30 µs of CPU. Work that can be repeated is therefore tried where it arrives, for [`INLINE_MAX`] at most, and begun
//! anew on a thread of its own if it needs longer. What did is remembered and not tried again.

use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pharos_base::{CancelToken, Clock, ErrorClass, Interrupted, SystemClock};
use pharos_model::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fair::{FairPlaces, LaneLimits, LimitOf, NoPlace};
use crate::{Queries, Refusal, RunningQuery};

/// How long work may hold up the other connections of its thread.
const INLINE_MAX: Duration = Duration::from_millis(1);
/// Kinds of work remembered as long; a power of two.
const LONG_KINDS: usize = 1024;

/// When to come again to a pool that is busy.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs blocking work, at most so many at once; a short queue waits, the rest is refused. Tenants share it as [`FairPlaces`] has it.
#[derive(Debug, Clone)]
pub struct QueryPool {
    places: FairPlaces,
    /// Work that waits for its client.
    held_up: Arc<Semaphore>,
    wait_max: Duration,
    long: Arc<LongKinds>,
    queries: Queries,
    /// What is told who finds the queue full or waits too long.
    busy: Arc<str>,
}

/// Hashes of the kinds of work that took longer than [`INLINE_MAX`] the last time; one forgets the other of its slot.
#[derive(Debug)]
struct LongKinds {
    hasher: std::hash::RandomState,
    slots: Box<[AtomicU64]>,
}

impl LongKinds {
    fn new() -> Self {
        Self { hasher: std::hash::RandomState::new(), slots: (0..LONG_KINDS).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The slot of a kind and what it holds if the kind is long.
    fn of(&self, kind: &(impl Hash + ?Sized)) -> (&AtomicU64, u64) {
        let hash = self.hasher.hash_one(kind).max(1);
        (&self.slots[hash as usize % LONG_KINDS], hash)
    }
}

/// Cancels the work if the handler's future is dropped, which is what hanging up does.
struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl QueryPool {
    /// At most `running_max` at once and ten times as many in the queue, each for `wait_max` at most.
    #[must_use]
    pub fn new(running_max: usize, wait_max: Duration) -> Self {
        Self {
            places: FairPlaces::new(running_max, running_max * 10),
            held_up: Arc::new(Semaphore::new((running_max / 2).max(1))),
            wait_max,
            long: Arc::new(LongKinds::new()),
            queries: Queries::default(),
            busy: format!(
                "too many queries at once, query.concurrency_max = {running_max} run and ten times as many wait; try again, or raise it"
            )
            .into(),
        }
    }

    /// For work on the stores themselves: one at a time, ten in the queue, each for `wait_max` at most.
    #[must_use]
    pub fn upkeep(wait_max: Duration) -> Self {
        let busy = "another snapshot or deletion is under way, and 1 may be at a time; try again later";
        Self { busy: busy.into(), ..Self::new(1, wait_max) }
    }

    /// The same pool, whose queries are kept in `queries`.
    #[must_use]
    pub fn with_queries(self, queries: Queries) -> Self {
        Self { queries, ..self }
    }

    /// Leave for work that runs here to wait for a slow client, until it is dropped: at most half of what runs at once gets
    /// it, so that slow clients never keep all others out.
    #[must_use]
    pub fn wait_for_client(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.held_up).try_acquire_owned().ok()
    }

    /// The queries under way, and what remains of those that ended.
    #[must_use]
    pub fn queries(&self) -> &Queries {
        &self.queries
    }

    /// Runs `work` where it is if it is short, else as [`QueryPool::run_query`] does: `work` must look at the token it is given, may be
    /// run twice, and `timed_out` tells of a result that it only exists because the token's deadline passed.
    ///
    /// Work that was long is not tried again while its `kind` (a query without its times) is remembered.
    ///
    /// # Errors
    /// As [`QueryPool::run`].
    pub async fn run_short<T: Send + 'static>(
        &self,
        query: &Arc<RunningQuery>,
        kind: &(impl Hash + ?Sized),
        work: impl Fn(CancelToken) -> T + Send + 'static,
        timed_out: impl Fn(&T) -> bool,
    ) -> Result<T, Refusal> {
        let (slot, hash) = self.long.of(kind);
        let (tenant, limits) = (&query.asked().tenant, query.asked().limits.lane());
        let place = if slot.load(Ordering::Relaxed) == hash { None } else { self.places.try_take(tenant, limits) };
        if let Some(place) = place {
            let deadline = SystemClock.monotonic() + INLINE_MAX;
            let token = query.cancel_token().with_deadline_at(deadline);
            query.starts();
            let tried = catch_unwind(AssertUnwindSafe(|| work(token)));
            drop(place);
            let result = tried.map_err(|_| panicked())?;
            if SystemClock.monotonic() >= deadline {
                slot.store(hash, Ordering::Relaxed);
            }
            if !timed_out(&result) {
                return Ok(result);
            }
        }
        let begun = SystemClock.monotonic();
        let result = self.run_query(query, work).await;
        if SystemClock.monotonic() - begun < INLINE_MAX / 2 {
            slot.store(0, Ordering::Relaxed);
        }
        result
    }

    /// Runs the work of a listed query as [`QueryPool::run`] does. The thread keeps the query listed until it is done.
    ///
    /// # Errors
    /// As [`QueryPool::run`].
    pub async fn run_query<T: Send + 'static>(
        &self,
        query: &Arc<RunningQuery>,
        work: impl FnOnce(CancelToken) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let listed = Arc::clone(query);
        let work = move |token| {
            listed.starts();
            work(token)
        };
        let lane = (&query.asked().tenant, query.asked().limits.lane());
        self.run_until(lane, query.cancel_token().clone(), query.cancelled(), work).await
    }

    /// Runs `work` for a tenant on a thread of its own and awaits it. `work` must look at the token it is given.
    ///
    /// # Errors
    /// A [`Refusal`] if the queue is full or the wait too long, or if `work` panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        work: impl FnOnce(CancelToken) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let lane = (tenant, LaneLimits::default());
        self.run_until(lane, CancelToken::new(), std::future::pending(), work).await
    }

    /// What is told who finds no place; `reached`: whose limit is the reason, and how many queries that allows.
    fn busy(&self, reached: Option<(LimitOf, u32)>) -> Refusal {
        let message = match reached {
            None => self.busy.to_string(),
            Some((of, max)) => format!(
                "as many queries of this {0} run as may, limits.queries_in_flight = {max}: ask fewer at a time, or raise it for this {0}",
                of.as_str()
            ),
        };
        Refusal::new(ErrorClass::Unavailable, message).with_retry_after(Some(RETRY_AFTER))
    }

    /// Runs `work` unless `cancelled` comes before its turn does.
    async fn run_until<T: Send + 'static>(
        &self,
        (tenant, limits): (&TenantId, LaneLimits),
        token: CancelToken,
        cancelled: impl Future<Output = ()>,
        work: impl FnOnce(CancelToken) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let left = token.deadline().map(|deadline| deadline.saturating_duration_since(SystemClock.monotonic()));
        let wait_max = left.map_or(self.wait_max, |left| left.min(self.wait_max));
        let turn = tokio::time::timeout(wait_max, self.places.take(tenant, limits));
        let taken = tokio::select! {
            biased;
            taken = turn => taken.ok(),
            () = cancelled => None,
        };
        let place = match taken {
            Some(Ok(place)) => place,
            Some(Err(NoPlace::QueueFull)) => return Err(self.busy(None)),
            Some(Err(NoPlace::TooManyWait { of, waiting_max })) => return Err(too_many_wait(of, waiting_max)),
            None => {
                return Err(match token.check() {
                    Err(Interrupted::Cancelled) => {
                        Refusal::new(ErrorClass::Cancelled, "query was canceled in query queue")
                    }
                    Err(Interrupted::DeadlineExceeded) => {
                        Refusal::new(ErrorClass::Timeout, "query timed out in query queue")
                    }
                    Ok(()) => self.busy(self.places.limit_reached(tenant, limits)),
                });
            }
        };
        let _cancel = CancelOnDrop(token.clone());
        let task = tokio::task::spawn_blocking(move || {
            let result = work(token);
            drop(place);
            result
        });
        task.await.map_err(|error| {
            tracing::error!(%error, "a query thread panicked");
            panicked()
        })
    }
}

/// What a client is told whose own queue is full.
fn too_many_wait(of: LimitOf, waiting_max: u32) -> Refusal {
    let message = format!(
        "as many queries of this {0} wait as may, limits.queries_queued = {waiting_max}: ask fewer at a time, or raise it for this {0}",
        of.as_str()
    );
    Refusal::new(ErrorClass::Unavailable, message).with_retry_after(Some(RETRY_AFTER))
}

/// What a client is told of a panic; the panic itself is in the log.
fn panicked() -> Refusal {
    Refusal::new(ErrorClass::Internal, "the query failed inside the server; its log says more")
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;
    use std::time::Instant;

    use super::*;
    use crate::{Asked, OwnLimits, QueryKind, QueryLoad, Watched};
    use parking_lot::Mutex;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_dropped_request_cancels_its_query() {
        let pool = QueryPool::new(1, Duration::from_secs(5));
        let (started, on_start) = oneshot::channel();
        let (ended, on_end) = oneshot::channel();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let work = move |token: CancelToken| {
                started.send(()).unwrap();
                while token.check().is_ok() {
                    std::thread::yield_now();
                }
                ended.send(()).unwrap();
            };
            pool.run(&TenantId::default(), work).await.unwrap();
        });
        on_start.await.unwrap();
        tasks.abort_all();
        on_end.await.unwrap();
    }

    struct Nothing;

    impl Watched for Nothing {
        fn load(&self) -> QueryLoad {
            QueryLoad::default()
        }
    }

    fn listed(pool: &QueryPool) -> Arc<RunningQuery> {
        listed_until(pool, None)
    }

    fn listed_until(pool: &QueryPool, deadline: Option<Instant>) -> Arc<RunningQuery> {
        listed_with(pool, deadline, crate::QueryLimits::default())
    }

    fn listed_with(pool: &QueryPool, deadline: Option<Instant>, limits: crate::QueryLimits) -> Arc<RunningQuery> {
        let asked = Asked {
            kind: QueryKind::Instant,
            text: "up".to_owned(),
            steps: None,
            tenant: pharos_model::TenantId::default(),
            principal: Arc::from("test"),
            remote_address: String::new(),
            deadline,
            limits,
        };
        pool.queries().begin(asked, Arc::new(Nothing))
    }

    #[tokio::test]
    async fn who_waits_for_a_turn_is_cancelled_and_late_at_once() {
        let pool = QueryPool::new(1, Duration::from_hours(1));
        let (free, held) = std::sync::mpsc::sync_channel(1);
        let (started, on_start) = oneshot::channel();
        let (shared, mut tasks) = (pool.clone(), tokio::task::JoinSet::new());
        tasks.spawn(async move {
            let work = move |_| {
                started.send(()).unwrap();
                held.recv().unwrap();
            };
            shared.run(&TenantId::default(), work).await.unwrap();
        });
        on_start.await.unwrap();
        let query = listed(&pool);
        assert!(pool.queries().cancel(query.id(), None, "root"));
        let refused = pool.run_query(&query, |_| ()).await.unwrap_err();
        assert_eq!((refused.class(), refused.message()), (ErrorClass::Cancelled, "query was canceled in query queue"));
        let query = listed_until(&pool, Some(SystemClock.monotonic()));
        let refused = pool.run_query(&query, |_| ()).await.unwrap_err();
        assert_eq!((refused.class(), refused.message()), (ErrorClass::Timeout, "query timed out in query queue"));
        free.send(()).unwrap();
        tasks.join_next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_is_kept_waiting_by_a_limit_is_told_whose_it_is() {
        let pool = QueryPool::new(4, Duration::from_millis(1));
        let own = |waiting_max| Some(OwnLimits { whose: 1, held_max: Some(0), waiting_max });
        let none = crate::QueryLimits::default();
        for (limits, told) in [
            (crate::QueryLimits { own: own(None), ..none }, ["this credential run", "limits.queries_in_flight = 0"]),
            (crate::QueryLimits { own: own(Some(0)), ..none }, ["this credential wait", "limits.queries_queued = 0"]),
            (crate::QueryLimits { in_flight: Some(0), ..none }, ["this tenant run", "limits.queries_in_flight = 0"]),
        ] {
            let refused = pool.run_query(&listed_with(&pool, None, limits), |_| ()).await.unwrap_err();
            assert!(told.iter().all(|told| refused.message().contains(told)), "{}", refused.message());
            assert_eq!((refused.class(), refused.retry_after()), (ErrorClass::Unavailable, Some(RETRY_AFTER)));
        }
        assert!(pool.run_query(&listed(&pool), |_| ()).await.is_ok());
    }

    #[tokio::test]
    async fn a_query_whose_client_left_is_listed_until_its_work_has_ended() {
        let pool = QueryPool::new(1, Duration::from_secs(5));
        let (started, on_start) = oneshot::channel();
        let (told, on_told) = std::sync::mpsc::sync_channel(1);
        let (ended, on_end) = oneshot::channel();
        let mut tasks = tokio::task::JoinSet::new();
        let shared = pool.clone();
        tasks.spawn(async move {
            let query = listed(&shared);
            let work = move |token: CancelToken| {
                started.send(()).unwrap();
                on_told.recv().unwrap();
                ended.send(token.check()).unwrap();
            };
            shared.run_query(&query, work).await.unwrap();
        });
        on_start.await.unwrap();
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        assert_eq!(pool.queries().running(None).len(), 1);
        told.send(()).unwrap();
        assert_eq!(on_end.await.unwrap(), Err(Interrupted::Cancelled));
        // The next one gets its place when the first has let go of everything.
        pool.run(&TenantId::default(), |_| ()).await.unwrap();
        assert!(pool.queries().running(None).is_empty());
    }

    /// Work that takes as long as it is let, but at most `most`; tells on which threads it ran.
    async fn run_for(pool: &QueryPool, most: Duration) -> (Result<(), Interrupted>, Vec<ThreadId>) {
        let threads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&threads);
        let work = move |token: CancelToken| {
            seen.lock().push(std::thread::current().id());
            let end = SystemClock.monotonic() + most;
            while SystemClock.monotonic() < end {
                token.check()?;
            }
            Ok(())
        };
        let timed_out = |result: &Result<(), Interrupted>| result.is_err();
        let result = pool.run_short(&listed(pool), "busy", work, timed_out).await.unwrap();
        let threads = std::mem::take(&mut *threads.lock());
        (result, threads)
    }

    #[tokio::test]
    async fn short_work_runs_where_it_is_and_long_work_on_a_thread_of_its_own() {
        let here = std::thread::current().id();
        let pool = QueryPool::new(1, Duration::from_secs(5));
        assert_eq!(run_for(&pool, Duration::ZERO).await, (Ok(()), vec![here]));
        let (result, threads) = run_for(&pool, INLINE_MAX * 3).await;
        assert_eq!((result, threads[0] == here, threads.len()), (Ok(()), true, 2), "tried, then begun anew");
        assert_ne!(threads[1], here);
        let (result, threads) = run_for(&pool, INLINE_MAX * 3).await;
        assert_eq!((result, threads.contains(&here)), (Ok(()), false), "known to be long");
    }

    #[tokio::test]
    async fn a_panic_in_short_work_is_an_answer_and_gives_its_place_back() {
        let pool = QueryPool::new(1, Duration::from_secs(5));
        let panicked: Result<u8, Refusal> =
            pool.run_short(&listed(&pool), "bad", |_| panic!("on purpose"), |_| false).await;
        assert!(panicked.is_err());
        assert_eq!(pool.run_short(&listed(&pool), "good", |_| 7, |_| false).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_in_a_query_is_an_answer_not_an_end() {
        let pool = QueryPool::new(1, Duration::from_secs(5));
        let panicked: Result<u8, Refusal> = pool.run(&TenantId::default(), |_| panic!("on purpose")).await;
        assert!(panicked.is_err());
        assert_eq!(pool.run(&TenantId::default(), |_| 7).await.unwrap(), 7);
    }
}
