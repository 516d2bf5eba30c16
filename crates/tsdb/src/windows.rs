//! Aligned windows of time: how parts are cut and how far they are merged.

use pharos_model::TimeRange;

/// Lengths of windows; each is a multiple of the one before, and all start at multiples of themselves,
/// so that windows nest.
pub(crate) const WINDOWS_MS: [i64; 6] =
    [2 * HOUR_MS, 8 * HOUR_MS, 24 * HOUR_MS, 72 * HOUR_MS, 216 * HOUR_MS, 648 * HOUR_MS];

pub(crate) const HOUR_MS: i64 = 3_600_000;
/// The ladders: which lengths are merged to, by their largest.
const LADDERS: [&[i64]; 4] = [
    &[WINDOWS_MS[0], WINDOWS_MS[1], WINDOWS_MS[2]],
    &[WINDOWS_MS[0], WINDOWS_MS[1], WINDOWS_MS[3]],
    &[WINDOWS_MS[0], WINDOWS_MS[1], WINDOWS_MS[3], WINDOWS_MS[4]],
    &[WINDOWS_MS[0], WINDOWS_MS[1], WINDOWS_MS[3], WINDOWS_MS[5]],
];

/// Samples older than this go straight into the largest windows: a backfill of years must not make
/// thousands of parts.
const RECENT_MS: i64 = 24 * HOUR_MS;
/// The largest windows hold at most this share of retention, as whole parts are deleted.
const RETENTION_SHARE: i64 = 10;

/// The lengths in use, ascending: as few steps as possible, as each writes every sample once more.
pub(crate) fn ladder(retention_ms: i64) -> &'static [i64] {
    let max = (retention_ms / RETENTION_SHARE).max(WINDOWS_MS[2]);
    LADDERS.iter().rev().find(|ladder| ladder.last().is_some_and(|largest| *largest <= max)).unwrap_or(&LADDERS[0])
}

/// The window of `length_ms` around an instant; the outermost are cut at the ends of time.
pub(crate) fn window_of(at_ms: i64, length_ms: i64) -> TimeRange {
    let start = at_ms.div_euclid(length_ms).saturating_mul(length_ms);
    TimeRange::new(start, start.saturating_add(length_ms))
}

/// The window that a sample is flushed to.
pub(crate) fn flush_window(at_ms: i64, now_ms: i64, retention_ms: i64) -> TimeRange {
    let ladder = ladder(retention_ms);
    let recent = at_ms >= now_ms.saturating_sub(RECENT_MS);
    window_of(at_ms, if recent { ladder[0] } else { ladder[ladder.len() - 1] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_nest() {
        for pair in WINDOWS_MS.windows(2) {
            assert_eq!(pair[1] % pair[0], 0);
        }
        let inner = window_of(-1, WINDOWS_MS[0]);
        let outer = window_of(-1, WINDOWS_MS[1]);
        assert!(outer.start_ms <= inner.start_ms && inner.end_ms <= outer.end_ms);
        assert_eq!(inner, TimeRange::new(-2 * HOUR_MS, 0));
    }

    #[test]
    fn the_largest_window_follows_retention() {
        assert_eq!(ladder(30 * 24 * HOUR_MS).last(), Some(&(72 * HOUR_MS)));
        assert_eq!(ladder(HOUR_MS).last(), Some(&(24 * HOUR_MS)));
        assert_eq!(ladder(i64::MAX).last(), WINDOWS_MS.last());
    }
}
