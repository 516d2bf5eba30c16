//! Pieces of work done by several threads and taken up in their order.
//!
//! The caller's thread takes the results up and works itself while the next one is not there. Nobody works more than
//! `window` pieces ahead of what was taken up: that bounds the results that wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard};
use pharos_base::run_with_helpers;

/// Threads that may help callers, of all callers together.
#[derive(Debug)]
pub(crate) struct Helpers {
    free: AtomicUsize,
}

/// Some of the [`Helpers`]; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Lent {
    helpers: Arc<Helpers>,
    pub(crate) count: usize,
}

impl Helpers {
    /// So many, for callers that are none of them.
    pub(crate) fn new(count: usize) -> Self {
        Self { free: AtomicUsize::new(count) }
    }

    /// As many as are free, at most `wanted`, perhaps none. Nobody waits for them. `busy` others are at work on their
    /// own and leave as many fewer cores.
    pub(crate) fn lend(self: &Arc<Self>, wanted: usize, busy: usize) -> Lent {
        let lent = |free: usize| free.saturating_sub(busy).min(wanted);
        let take = |free: usize| Some(free - lent(free));
        let before = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        Lent { helpers: Arc::clone(self), count: lent(before) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.helpers.free.fetch_add(self.count, Ordering::Relaxed);
    }
}

/// How pieces become results.
pub(crate) trait Work: Sync {
    type Piece: Send;
    /// What a thread keeps from piece to piece.
    type Bench;
    type Done: Send;
    type Error: Send;

    fn bench(&self) -> Self::Bench;
    fn work(&self, bench: &mut Self::Bench, piece: Self::Piece) -> Result<Self::Done, Self::Error>;
}

struct Line<'a, W: Work, P> {
    work: &'a W,
    window: usize,
    state: Mutex<State<W, P>>,
    changed: Condvar,
}

struct State<W: Work, P> {
    /// What nobody began; `None` if nothing is left.
    pieces: Option<P>,
    begun: usize,
    /// From the first that was not taken up on; `None` where it is not done.
    done: VecDeque<Option<Result<W::Done, W::Error>>>,
    taken_up: usize,
    /// Nobody shall begin anything any more.
    ended: bool,
}

/// Ends the line when the one who takes up, or a helper in a panic, leaves it.
struct EndOnDrop<'a, 'b, W: Work, P>(&'a Line<'b, W, P>);

impl<W: Work, P> Drop for EndOnDrop<'_, '_, W, P> {
    fn drop(&mut self) {
        self.0.state.lock().ended = true;
        self.0.changed.notify_all();
    }
}

/// Works on all pieces with the help of `helpers` threads, and calls `take_up` with the results in the order of the
/// pieces. A piece is asked for when somebody is free for it, by one thread at a time.
///
/// # Errors
/// The first error in that order, of the pieces, the work or `take_up`.
pub(crate) fn in_order<W: Work>(
    work: &W,
    pieces: impl Iterator<Item = Result<W::Piece, W::Error>> + Send,
    helpers: usize,
    window: usize,
    mut take_up: impl FnMut(W::Done) -> Result<(), W::Error>,
) -> Result<(), W::Error> {
    let state = State { pieces: Some(pieces), begun: 0, done: VecDeque::new(), taken_up: 0, ended: false };
    let line = Line { work, window: window.max(1), state: Mutex::new(state), changed: Condvar::new() };
    run_with_helpers(
        "tsdb-read",
        helpers,
        || line.help(),
        || {
            let _end = EndOnDrop(&line);
            let mut bench = None;
            // Without a result all is done, or a helper panicked, which goes on in this thread as soon as it leaves.
            while let Some(done) = line.next_done(&mut bench) {
                take_up(done?)?;
            }
            Ok(())
        },
    )
}

impl<W: Work, P: Iterator<Item = Result<W::Piece, W::Error>>> Line<'_, W, P> {
    fn help(&self) {
        let end = EndOnDrop(self);
        let mut bench = None;
        let mut state = self.state.lock();
        while !state.ended && state.pieces.is_some() {
            if let Some((number, piece)) = self.begin(&mut state) {
                let done = MutexGuard::unlocked(&mut state, || self.piece(&mut bench, piece));
                self.finish(&mut state, number, done);
            } else {
                self.changed.wait(&mut state);
            }
        }
        drop(state);
        std::mem::forget(end);
    }

    /// The next result to be taken up; `None` if there will be none.
    fn next_done(&self, bench: &mut Option<W::Bench>) -> Option<Result<W::Done, W::Error>> {
        let mut state = self.state.lock();
        loop {
            if let Some(Some(_)) = state.done.front() {
                state.taken_up += 1;
                self.changed.notify_all();
                return state.done.pop_front().flatten();
            }
            let all_taken_up = state.begun == state.taken_up;
            if state.ended || all_taken_up && state.pieces.is_none() {
                return None;
            }
            if let Some((number, piece)) = self.begin(&mut state) {
                let done = MutexGuard::unlocked(&mut state, || self.piece(bench, piece));
                self.finish(&mut state, number, done);
            } else if !all_taken_up {
                self.changed.wait(&mut state);
            }
        }
    }

    fn piece(&self, bench: &mut Option<W::Bench>, piece: P::Item) -> Result<W::Done, W::Error> {
        self.work.work(bench.get_or_insert_with(|| self.work.bench()), piece?)
    }

    fn begin(&self, state: &mut State<W, P>) -> Option<(usize, P::Item)> {
        if state.begun >= state.taken_up + self.window {
            return None;
        }
        let Some(piece) = state.pieces.as_mut()?.next() else {
            state.pieces = None;
            self.changed.notify_all();
            return None;
        };
        state.begun += 1;
        state.done.push_back(None);
        Some((state.begun - 1, piece))
    }

    fn finish(&self, state: &mut State<W, P>, number: usize, done: Result<W::Done, W::Error>) {
        let place = number - state.taken_up;
        state.done[place] = Some(done);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// Squares; remembers how far ahead of what was taken up anybody began.
    struct Squares {
        taken_up: AtomicU64,
        ahead: AtomicU64,
        fails_at: u64,
        panics_at: u64,
    }

    impl Work for Squares {
        type Piece = u64;
        type Bench = ();
        type Done = u64;
        type Error = u64;

        fn bench(&self) {}

        fn work(&self, (): &mut (), piece: u64) -> Result<u64, u64> {
            assert_ne!(piece, self.panics_at, "on purpose");
            let ahead = (piece + 1).saturating_sub(self.taken_up.load(Ordering::SeqCst));
            self.ahead.fetch_max(ahead, Ordering::SeqCst);
            if piece >= self.fails_at { Err(piece) } else { Ok(piece * piece) }
        }
    }

    fn run(helpers: usize, fails_at: u64, panics_at: u64) -> (Result<(), u64>, Vec<u64>, u64) {
        let work = Squares { taken_up: AtomicU64::new(0), ahead: AtomicU64::new(0), fails_at, panics_at };
        let mut found = Vec::new();
        let result = in_order(&work, (0..200).map(Ok), helpers, 3, |square| {
            found.push(square);
            work.taken_up.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        (result, found, work.ahead.load(Ordering::SeqCst))
    }

    #[test]
    fn results_come_in_order_and_nobody_works_far_ahead() {
        for helpers in 0..4 {
            let (result, found, ahead) = run(helpers, u64::MAX, u64::MAX);
            assert_eq!((result, found), (Ok(()), (0..200).map(|n| n * n).collect()));
            // One more: what was taken up is counted here after it was there.
            assert!(ahead <= 4, "{ahead} ahead");
        }
    }

    #[test]
    fn the_first_error_in_order_ends_it() {
        for helpers in 0..4 {
            let (result, found, _) = run(helpers, 50, u64::MAX);
            assert_eq!((result, found.len()), (Err(50), 50));
        }
    }

    #[test]
    fn a_panic_of_a_helper_goes_on_here_and_nobody_waits_for_it() {
        for helpers in 0..4 {
            assert!(std::panic::catch_unwind(|| run(helpers, u64::MAX, 50)).is_err());
        }
    }

    #[test]
    fn helpers_are_lent_while_there_are_some() {
        let helpers = Arc::new(Helpers::new(3));
        let first = helpers.lend(2, 0);
        let second = helpers.lend(2, 0);
        assert_eq!((first.count, second.count, helpers.lend(2, 0).count), (2, 1, 0));
        drop(first);
        assert_eq!(helpers.lend(5, 0).count, 2);
        assert_eq!(helpers.lend(5, 1).count, 1, "one other is at work");
        assert_eq!(helpers.lend(5, 9).count, 0);
    }
}
