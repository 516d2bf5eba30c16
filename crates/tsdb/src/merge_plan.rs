//! Which parts are merged next: a decision on numbers alone.
//!
//! Every merge writes its samples once more, so a run of neighbours is merged only if that is worth it: the *gain*
//! is its total size over its largest part. Runs in a window that is over need a small gain, as nothing will join
//! them; in windows that still grow only many parts are merged. A straggler of a few samples never makes a large
//! part be written again: it waits for others of its size, or for the next larger window.
//!
//! With a flush every two hours a sample is written by the flush, by the merge of its 8 hours and by that of its
//! three days. How much that is in bytes is measured by the test `amplification`.
//!
//! A merged part takes the highest sequence of its sources, so a run may be merged only if no other part that
//! overlaps it stands between its sequences: precedence (S2) must not change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pharos_model::TimeRange;

use crate::part::Part;
use crate::windows;

/// Parts in a window that still grows from which on they are merged.
const GROWING_PARTS: usize = 12;
/// Gain that a merge in a growing window needs, in tenths.
const GROWING_GAIN: u64 = 40;
/// Gain that a merge in a window that is over needs, in tenths.
const OVER_GAIN: u64 = 20;
/// A merge has one cursor open on each of its sources: more wait for the next merge.
const SOURCES_MAX: usize = 64;

/// What the decision needs to know of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    sequence: u64,
    bytes: u64,
    first_ms: i64,
    last_ms: i64,
    window: TimeRange,
    unmergeable: bool,
}

/// The next merge of these parts, by sequence ascending, and the window of its result. `over_ms`: windows that end
/// by then get no more samples but stragglers.
pub(crate) fn next_merge(parts: &[Arc<Part>], ladder: &[i64], over_ms: i64) -> Option<(Vec<Arc<Part>>, TimeRange)> {
    let candidates: Vec<_> = parts.iter().map(|part| candidate(part)).collect();
    let (chosen, window) = choose(&candidates, ladder, over_ms)?;
    Some((chosen.into_iter().map(|index| Arc::clone(&parts[index])).collect(), window))
}

/// Whether these may become one part among `all`: nothing that overlaps them stands between them in precedence, and
/// none is known not to merge.
pub(crate) fn may_merge(all: &[Arc<Part>], chosen: &[Arc<Part>]) -> bool {
    let candidates: Vec<_> = all.iter().map(|part| candidate(part)).collect();
    let is_chosen = |part: &Arc<Part>| chosen.iter().any(|one| one.meta.number == part.meta.number);
    let indexes: Vec<_> = (0..all.len()).filter(|index| is_chosen(&all[*index])).collect();
    is_allowed(&candidates, &indexes)
}

/// Parts that lie within one window of the length and may be merged, by its start; each by sequence ascending.
pub(crate) fn by_window(parts: &[Arc<Part>], length_ms: i64) -> BTreeMap<i64, Vec<Arc<Part>>> {
    let parts: Vec<_> = parts.iter().filter(|part| !part.unmergeable.load(Ordering::Relaxed)).collect();
    let candidates: Vec<_> = parts.iter().map(|part| candidate(part)).collect();
    let groups = group(&candidates, length_ms).into_iter();
    groups.map(|(start, group)| (start, group.into_iter().map(|index| Arc::clone(parts[index])).collect())).collect()
}

fn candidate(part: &Part) -> Candidate {
    let meta = &part.meta;
    Candidate {
        sequence: meta.sequence,
        bytes: meta.file_bytes(),
        first_ms: meta.min_time_ms,
        last_ms: meta.max_time_ms,
        window: TimeRange::new(meta.window_start_ms, meta.window_end_ms),
        unmergeable: part.unmergeable.load(Ordering::Relaxed),
    }
}

fn group(parts: &[Candidate], length_ms: i64) -> BTreeMap<i64, Vec<usize>> {
    let mut groups: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (index, part) in parts.iter().enumerate() {
        let window = windows::window_of(part.window.start_ms, length_ms);
        if part.window.end_ms <= window.end_ms {
            groups.entry(window.start_ms).or_default().push(index);
        }
    }
    groups
}

fn choose(parts: &[Candidate], ladder: &[i64], over_ms: i64) -> Option<(Vec<usize>, TimeRange)> {
    for (step, length_ms) in ladder.iter().enumerate() {
        for (start_ms, group) in group(parts, *length_ms) {
            let window = windows::window_of(start_ms, *length_ms);
            let growing = step == 0 || window.end_ms > over_ms;
            // The largest windows are long: while they grow, the smaller ones in them do the work.
            if growing && step > 1 {
                continue;
            }
            let (count_min, gain_min) = if growing { (GROWING_PARTS, GROWING_GAIN) } else { (2, OVER_GAIN) };
            if group.len() >= count_min
                && let Some(run) = best_run(parts, &group, count_min, gain_min)
            {
                return Some((run, window));
            }
        }
    }
    None
}

/// The run of neighbours with the largest gain that may be merged.
fn best_run(parts: &[Candidate], group: &[usize], count_min: usize, gain_min: u64) -> Option<Vec<usize>> {
    let mut runs = Vec::new();
    for from in 0..group.len() {
        let (mut total, mut largest) = (0, 0);
        for to in from..group.len().min(from + SOURCES_MAX) {
            let part = &parts[group[to]];
            if part.unmergeable {
                break;
            }
            total += part.bytes.max(1);
            largest = part.bytes.max(1).max(largest);
            let gain = total.saturating_mul(10) / largest;
            if to + 1 - from >= count_min && gain >= gain_min {
                runs.push((gain, from, to + 1));
            }
        }
    }
    runs.sort_unstable_by(|a, b| b.cmp(a));
    runs.into_iter().map(|(_, from, to)| group[from..to].to_vec()).find(|run| is_allowed(parts, run))
}

fn is_allowed(all: &[Candidate], chosen: &[usize]) -> bool {
    let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else { return false };
    let between = all[*first].sequence..=all[*last].sequence;
    let overlap = |a: &Candidate, b: &Candidate| a.first_ms <= b.last_ms && b.first_ms <= a.last_ms;
    chosen.iter().all(|index| !all[*index].unmergeable)
        && !all.iter().enumerate().any(|(index, other)| {
            between.contains(&other.sequence)
                && !chosen.contains(&index)
                && chosen.iter().any(|part| overlap(&all[*part], other))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::HOUR_MS;

    fn part(sequence: u64, bytes: u64, from_hour: i64, hours: i64) -> Candidate {
        let window = TimeRange::new(from_hour * HOUR_MS, (from_hour + hours) * HOUR_MS);
        let (first_ms, last_ms) = (window.start_ms, window.end_ms - 1);
        Candidate { sequence, bytes, first_ms, last_ms, window, unmergeable: false }
    }

    fn chosen(parts: &[Candidate], now_hour: i64) -> Option<Vec<u64>> {
        let ladder = windows::ladder(30 * 24 * HOUR_MS);
        choose(parts, ladder, now_hour * HOUR_MS)
            .map(|(run, _)| run.into_iter().map(|index| parts[index].sequence).collect())
    }

    #[test]
    fn parts_of_eight_hours_become_one_when_they_are_over() {
        let parts: Vec<_> = (0..4).map(|i| part(i as u64, 100, i * 2, 2)).collect();
        assert_eq!(chosen(&parts, 7), None);
        assert_eq!(chosen(&parts, 8), Some(vec![0, 1, 2, 3]));
        assert_eq!(chosen(&parts[..1], 8), None);
    }

    #[test]
    fn many_parts_are_merged_while_their_window_grows() {
        let parts: Vec<_> = (0..12).map(|i| part(i, 100, 0, 2)).collect();
        assert_eq!(chosen(&parts[..11], 1), None);
        assert_eq!(chosen(&parts, 1).map(|run| run.len()), Some(12));
    }

    #[test]
    fn a_straggler_does_not_make_a_large_part_be_written_again() {
        let mut parts = vec![part(1, 10_000, 0, 72), part(2, 10, 0, 2)];
        assert_eq!(chosen(&parts, 200), None);
        parts.push(part(3, 12, 0, 2));
        assert_eq!(chosen(&parts, 200), None, "nor do two of which one is larger");
        parts.push(part(4, 12, 2, 2));
        assert_eq!(chosen(&parts, 200), Some(vec![2, 3, 4]), "they join one another");
    }

    #[test]
    fn precedence_and_damage_stand_between() {
        // The third covers both but belongs to no window of theirs.
        let parts = [part(1, 10, 0, 2), part(2, 10, 0, 648), part(3, 10, 2, 2), part(4, 10, 4, 2)];
        assert_eq!(chosen(&parts, 20), Some(vec![3, 4]));
        let mut parts: Vec<_> = (0..4).map(|i| part(i as u64, 100, i * 2, 2)).collect();
        parts[1].unmergeable = true;
        assert_eq!(chosen(&parts, 20), Some(vec![2, 3]));
    }

    /// Whatever order and sizes parts come in, merging ends, and leaves few.
    #[test]
    fn merging_ends_with_parts_of_ever_larger_sizes() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut parts: Vec<_> = (0..400).map(|i| part(i, 1 + random(1000), (random(36) * 2) as i64, 2)).collect();
        let ladder = windows::ladder(30 * 24 * HOUR_MS);
        let (mut merges, mut written) = (0, 0);
        while let Some((run, window)) = choose(&parts, ladder, 1000 * HOUR_MS) {
            let bytes = run.iter().map(|index| parts[*index].bytes).sum();
            let merged = Candidate {
                sequence: run.iter().map(|index| parts[*index].sequence).max().unwrap(),
                bytes,
                first_ms: run.iter().map(|index| parts[*index].first_ms).min().unwrap(),
                last_ms: run.iter().map(|index| parts[*index].last_ms).max().unwrap(),
                window,
                unmergeable: false,
            };
            let mut index = 0;
            parts.retain(|_| {
                index += 1;
                !run.contains(&(index - 1))
            });
            parts.push(merged);
            parts.sort_by_key(|part| part.sequence);
            merges += 1;
            written += bytes;
            assert!(merges < 1000, "it ends");
        }
        let total: u64 = parts.iter().map(|part| part.bytes).sum();
        assert!(parts.len() < 12, "{} parts are left", parts.len());
        assert!(written < 4 * total, "{written} bytes written for {total}");
    }
}
