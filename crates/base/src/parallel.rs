//! Pieces of work done by several threads and taken up in their order.
//!
//! Who takes the results up works himself while the next one is not there. Nobody works more than a window of pieces
//! ahead of what was taken up: that bounds the results that wait. What comes out does not depend on how many threads
//! are at work, nor on which of them is faster.
//!
//! Two ways: [`in_order`] borrows what it works on and returns when all is done; [`InOrder`] owns it and is an iterator,
//! which may be dropped before its end.

mod helpers;
mod line;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread::JoinHandle;

pub use helpers::{Helpers, Lent};
use line::{EndOnDrop, Line};

use crate::threads::{run_with_helpers, spawn_named};

/// How pieces become results.
pub trait Work: Sync {
    /// What is worked on.
    type Piece: Send;
    /// What a thread keeps from piece to piece.
    type Bench;
    /// What becomes of a piece.
    type Done: Send;
    /// Why nothing becomes of it.
    type Error: Send;

    /// Called once by each thread, before its first piece.
    fn bench(&self) -> Self::Bench;

    /// Does one piece.
    ///
    /// # Errors
    /// Those of the work; the first of them, in the order of the pieces, ends all of it.
    fn work(&self, bench: &mut Self::Bench, piece: Self::Piece) -> Result<Self::Done, Self::Error>;
}

impl<W: Work> Work for &W {
    type Piece = W::Piece;
    type Bench = W::Bench;
    type Done = W::Done;
    type Error = W::Error;

    fn bench(&self) -> W::Bench {
        W::bench(self)
    }

    fn work(&self, bench: &mut W::Bench, piece: W::Piece) -> Result<W::Done, W::Error> {
        W::work(self, bench, piece)
    }
}

/// Works on all pieces with the help of `helpers` threads called `name`, and calls `take_up` with the results in the
/// order of the pieces. A piece is asked for when somebody is free for it, by one thread at a time.
///
/// # Errors
/// The first error in that order, of the pieces, the work or `take_up`.
pub fn in_order<W: Work>(
    name: &str,
    work: &W,
    pieces: impl Iterator<Item = Result<W::Piece, W::Error>> + Send,
    (helpers, window): (usize, usize),
    mut take_up: impl FnMut(W::Done) -> Result<(), W::Error>,
) -> Result<(), W::Error> {
    let line = Line::new(work, pieces, window);
    run_with_helpers(
        name,
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

/// The results of pieces in the order of the pieces, worked on ahead by helpers. After the first error it ends. When it
/// is dropped its threads are joined, and what they have done is dropped.
#[derive(Debug)]
pub struct InOrder<W: Work, P> {
    line: Arc<Line<W, P>>,
    bench: Option<W::Bench>,
    threads: Vec<JoinHandle<()>>,
    /// An error or the end was given out. What helpers did beyond an error stays in the line.
    over: bool,
    _lent: Lent,
}

impl<W, P> InOrder<W, P>
where
    W: Work<Piece: 'static, Done: 'static, Error: 'static> + Send + 'static,
    P: Iterator<Item = Result<W::Piece, W::Error>> + Send + 'static,
{
    /// Puts all that was lent to work, as threads called `name`; those that the system will not start are done without.
    /// Nobody is more than `window` pieces ahead.
    pub fn spawn(name: &str, work: W, pieces: P, lent: Lent, window: usize) -> Self {
        let line = Arc::new(Line::new(work, pieces, window));
        let mut threads = Vec::with_capacity(lent.count());
        for _ in 0..lent.count() {
            let helped = Arc::clone(&line);
            let Ok(thread) = spawn_named(name, move || helped.help()) else { break };
            threads.push(thread);
        }
        Self { line, bench: None, threads, over: false, _lent: lent }
    }
}

impl<W: Work, P> InOrder<W, P> {
    /// The work.
    pub fn work(&self) -> &W {
        &self.line.work
    }

    /// Ends the work and waits for the threads; a panic of one of them goes on here.
    fn join(&mut self) {
        self.line.end();
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join()
                && !std::thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl<W: Work, P: Iterator<Item = Result<W::Piece, W::Error>>> Iterator for InOrder<W, P> {
    type Item = Result<W::Done, W::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let done = self.line.next_done(&mut self.bench);
        if !matches!(done, Some(Ok(_))) {
            self.over = true;
            self.join();
        }
        done
    }
}

impl<W: Work, P: Iterator<Item = Result<W::Piece, W::Error>>> std::iter::FusedIterator for InOrder<W, P> {}

impl<W: Work, P> Drop for InOrder<W, P> {
    fn drop(&mut self) {
        self.join();
    }
}
