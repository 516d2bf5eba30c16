//! The line in which pieces wait, are worked on and are taken up.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::Work;

pub(super) struct Line<W: Work, P> {
    pub(super) work: W,
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
pub(super) struct EndOnDrop<'a, W: Work, P>(pub(super) &'a Line<W, P>);

impl<W: Work, P> Drop for EndOnDrop<'_, W, P> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<W: Work, P> std::fmt::Debug for Line<W, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("window", &self.window).finish_non_exhaustive()
    }
}

impl<W: Work, P> Line<W, P> {
    pub(super) fn new(work: W, pieces: P, window: usize) -> Self {
        let state = State { pieces: Some(pieces), begun: 0, done: VecDeque::new(), taken_up: 0, ended: false };
        Self { work, window: window.max(1), state: Mutex::new(state), changed: Condvar::new() }
    }

    /// How many results wait to be taken up.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().done.iter().flatten().count()
    }

    /// From now on nobody begins anything.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }
}

impl<W: Work, P: Iterator<Item = Result<W::Piece, W::Error>>> Line<W, P> {
    /// Works until there is nothing left to begin.
    pub(super) fn help(&self) {
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
    pub(super) fn next_done(&self, bench: &mut Option<W::Bench>) -> Option<Result<W::Done, W::Error>> {
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
