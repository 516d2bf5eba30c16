//! Order, errors, panics and ends of parallel work.

use std::sync::atomic::{AtomicU64, Ordering};

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
    let result = in_order("squares", &work, (0..200).map(Ok), (helpers, 3), |square| {
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
    let helpers = Helpers::new(3);
    let first = helpers.lend(2, 0);
    let second = helpers.lend(2, 0);
    assert_eq!((first.count(), second.count(), helpers.lend(2, 0).count()), (2, 1, 0));
    drop(first);
    assert_eq!(helpers.lend(5, 0).count(), 2);
    assert_eq!(helpers.lend(5, 1).count(), 1, "one other is at work");
    assert_eq!(helpers.lend(5, 9).count(), 0);
}

fn spawn(
    helpers: &Helpers,
    fails_at: u64,
    panics_at: u64,
) -> InOrder<Squares, impl Iterator<Item = Result<u64, u64>> + use<>> {
    let work = Squares { taken_up: AtomicU64::new(0), ahead: AtomicU64::new(0), fails_at, panics_at };
    InOrder::spawn("squares", work, (0..200).map(Ok), helpers.lend(usize::MAX, 0), 3)
}

#[test]
fn owned_work_comes_in_order_until_its_first_error() {
    for count in 0..4 {
        let helpers = Helpers::new(count);
        let all: Result<Vec<u64>, u64> = spawn(&helpers, u64::MAX, u64::MAX).collect();
        assert_eq!(all, Ok((0..200).map(|n| n * n).collect()));
        let mut failing = spawn(&helpers, 50, u64::MAX);
        assert_eq!(failing.by_ref().take(50).flatten().count(), 50);
        // Let the helpers do all they may beyond the piece that fails.
        while count > 0 && failing.line.waiting() < 3 {
            std::thread::yield_now();
        }
        assert_eq!((failing.next(), failing.next()), (Some(Err(50)), None));
        drop(failing);
        assert_eq!(helpers.lent(), 0, "all given back");
    }
}

#[test]
fn owned_work_that_nobody_takes_up_ends_with_its_owner() {
    let helpers = Helpers::new(2);
    let mut squares = spawn(&helpers, u64::MAX, u64::MAX);
    assert_eq!((squares.next(), squares.next()), (Some(Ok(0)), Some(Ok(1))));
    let line = Arc::clone(&squares.line);
    drop(squares);
    assert_eq!((Arc::strong_count(&line), helpers.lent()), (1, 0), "no thread is left");
    assert!(line.work.ahead.load(Ordering::SeqCst) <= 6, "nobody went on");
}

#[test]
fn a_panic_in_owned_work_goes_on_where_it_is_taken_up() {
    for count in 0..4 {
        let squares = spawn(&Helpers::new(count), u64::MAX, 50);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| squares.count())).is_err());
    }
}
