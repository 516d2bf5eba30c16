//! Named threads: the one place that starts them.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread called `name` (at most 15 bytes show in the system's tools).
///
/// The caller owns the handle and joins it: no detached threads.
///
/// # Errors
/// What the operating system says when it will not start one.
#[expect(clippy::disallowed_methods, reason = "the one place that starts threads")]
pub fn spawn_named<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(run)
}

/// Lets others go before the calling thread, and before those that it starts: background work shall not hold up those whom somebody
/// waits for. `niceness`, 1 to 19, is added to what the process was started with; at 5 it has a third of what a busy thread beside it has, at 10 a tenth.
///
/// # Errors
/// What the operating system says when it will not; work goes on as before.
pub fn lower_priority(niceness: i32) -> io::Result<()> {
    // On Linux this means the calling thread alone.
    rustix::process::nice(niceness)?;
    Ok(())
}

/// Runs `work` on a thread of its own with a stack of `stack_bytes` and waits for it; a panic there goes on here.
///
/// For recursion whose depth is bounded, but not by the stack of just any caller.
///
/// # Errors
/// What the operating system says when it will not start one.
pub fn run_with_stack<T: Send>(name: &str, stack_bytes: usize, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let handle = Builder::new().name(name.to_owned()).stack_size(stack_bytes).spawn_scoped(scope, work)?;
        handle.join().map_err(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `work` on a thread of its own and `meanwhile` here, and waits for both; a panic there goes on here.
///
/// # Errors
/// What the operating system says when it will not start one; nothing has run then.
pub fn run_beside<T: Send, M>(
    name: &str,
    work: impl FnOnce() -> T + Send,
    meanwhile: impl FnOnce() -> M,
) -> io::Result<(T, M)> {
    std::thread::scope(|scope| {
        let handle = Builder::new().name(name.to_owned()).spawn_scoped(scope, work)?;
        let done = meanwhile();
        let worked = handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((worked, done))
    })
}

/// Runs `work` here and `help` on up to `count` other threads meanwhile; returns when all are done. A panic of any
/// of them goes on here. Threads that the system will not start are done without.
pub fn run_with_helpers<T>(name: &str, count: usize, help: impl Fn() + Sync, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let help = &help;
        for _ in 0..count {
            if Builder::new().name(name.to_owned()).spawn_scoped(scope, help).is_err() {
                break;
            }
        }
        work()
    })
}

/// How many threads can run at once here; at least 1.
#[must_use]
pub fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_is_lowered_from_where_it_was_and_for_one_thread() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let lowered = move || {
            lower_priority(2).unwrap();
            lower_priority(3).unwrap();
            niceness()
        };
        assert_eq!(spawn_named("nice", lowered).unwrap().join().unwrap(), (before + 5).min(19));
        assert_eq!(niceness(), before);
    }
}
