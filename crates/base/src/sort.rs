//! Sorting that can be stopped: a million texts take a second, which is longer than who waits for its end should wait.

use std::cmp::Ordering;

/// Elements between two questions: some milliseconds, even where long texts are compared.
const ELEMENTS_BETWEEN_CHECKS: usize = 1 << 14;

/// Sorts as [`slice::sort_by`] does, equal elements in their order, and asks `check` now and then whether to go on.
///
/// # Errors
/// The first that `check` answers; the list is gone then.
pub fn sort_checked<T, E>(
    mut list: Vec<T>,
    mut compare: impl FnMut(&T, &T) -> Ordering,
    mut check: impl FnMut() -> Result<(), E>,
) -> Result<Vec<T>, E> {
    if list.len() <= ELEMENTS_BETWEEN_CHECKS {
        list.sort_by(compare);
        return Ok(list);
    }
    let mut runs = Vec::with_capacity(list.len().div_ceil(ELEMENTS_BETWEEN_CHECKS));
    while !list.is_empty() {
        check()?;
        // From the end, so that what is left stays where it is.
        let mut run = list.split_off((list.len() - 1) / ELEMENTS_BETWEEN_CHECKS * ELEMENTS_BETWEEN_CHECKS);
        run.sort_by(&mut compare);
        runs.push(run);
    }
    runs.reverse();
    while runs.len() > 1 {
        let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
        let mut pairs = runs.into_iter();
        while let Some(first) = pairs.next() {
            merged.push(match pairs.next() {
                Some(second) => merge(first, second, &mut compare, &mut check)?,
                None => first,
            });
        }
        runs = merged;
    }
    Ok(runs.pop().unwrap_or_default())
}

/// One run of two, those of `first` before their equals of `second`.
fn merge<T, E>(
    first: Vec<T>,
    second: Vec<T>,
    compare: &mut impl FnMut(&T, &T) -> Ordering,
    check: &mut impl FnMut() -> Result<(), E>,
) -> Result<Vec<T>, E> {
    let mut merged = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    while let (Some(a), Some(b)) = (first.peek(), second.peek()) {
        if merged.len() % ELEMENTS_BETWEEN_CHECKS == 0 {
            check()?;
        }
        let next = if compare(a, b).is_le() { first.next() } else { second.next() };
        merged.extend(next);
    }
    merged.extend(first);
    merged.extend(second);
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Numbers with many equals, each with its place.
    fn shuffled(len: usize) -> Vec<(usize, usize)> {
        (0..len).map(|at| (at.wrapping_mul(0x9E37_79B9) % 1_009, at)).collect()
    }

    #[test]
    fn the_order_is_that_of_a_stable_sort() {
        for len in [0, 1, 2, 16_383, 16_384, 16_385, 32_768, 100_001] {
            let (list, mut expected) = (shuffled(len), shuffled(len));
            expected.sort_by_key(|(number, _)| *number);
            let sorted = sort_checked(list, |a, b| a.0.cmp(&b.0), || Ok::<_, Infallible>(()));
            assert!(sorted == Ok(expected), "{len}");
        }
    }

    #[test]
    fn it_stops_wherever_it_is_told_to() {
        let mut checks = 0_usize;
        let mut counted = |stop_at: usize| {
            checks = 0;
            let check = || {
                checks += 1;
                if checks > stop_at { Err(checks) } else { Ok(()) }
            };
            let sorted = sort_checked(shuffled(200_000), |a, b| a.0.cmp(&b.0), check);
            sorted.map(|list| list.len())
        };
        assert_eq!(counted(usize::MAX), Ok(200_000));
        for stop_at in [0, 5, 12, 20, 40] {
            assert_eq!(counted(stop_at), Err(stop_at + 1));
        }
        // Sixteen thousand elements or fewer lie between two questions, in each of the four passes of merging, too.
        counted(usize::MAX).unwrap();
        assert!(checks >= 200_000 / ELEMENTS_BETWEEN_CHECKS * 4, "{checks}");
    }
}
