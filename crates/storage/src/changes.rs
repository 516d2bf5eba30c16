//! What changed since a read: for caches of answers.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use pharos_model::{MetricBatch, TimeRange};

/// Changes are told apart by spans of this length, ms.
const SPAN_MS: i64 = 10_000;
/// Spans with a change of their own: a day of appends. Older ones are known together.
const SPANS_MAX: usize = 8_640;

/// A point in the history of a tenant's samples, as the store that gave it counts. Means nothing to another store or
/// after a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeMark(pub u64);

/// A tenant's history of changes, for stores that see all of them.
///
/// A store calls [`ChangeLog::appended`] after samples have become visible and before it acknowledges them.
#[derive(Debug, Default)]
pub struct ChangeLog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    count: u64,
    /// Number of the last change within a span, by the span's number.
    spans: BTreeMap<i64, u64>,
    /// Number of the last change to what the spans before the first one hold.
    before_spans: u64,
    /// Number of the last change to everything.
    everywhere: u64,
}

impl ChangeLog {
    /// A history without changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the history stands.
    #[must_use]
    pub fn mark(&self) -> ChangeMark {
        ChangeMark(self.state.lock().count)
    }

    /// Notes the instants of a batch's samples.
    pub fn appended(&self, batch: &MetricBatch) {
        let mut spans = Vec::new();
        let mut last = TimeRange::new(0, 0);
        let floats = batch.samples.iter().map(|sample| sample.timestamp_ms);
        for time_ms in floats.chain(batch.histograms.iter().map(|sample| sample.timestamp_ms)) {
            if !last.contains(time_ms) {
                let span = time_ms.div_euclid(SPAN_MS);
                last = TimeRange::new(span.saturating_mul(SPAN_MS), span.saturating_add(1).saturating_mul(SPAN_MS));
                spans.push(span);
            }
        }
        spans.sort_unstable();
        spans.dedup();
        self.state.lock().note(&spans);
    }

    /// Notes a change whose instants are not known: a deletion, parts that retention took.
    pub fn changed_everywhere(&self) {
        let mut state = self.state.lock();
        state.count += 1;
        state.everywhere = state.count;
    }

    /// The first instant of `range` with a change after `mark`, rounded down to what is told apart.
    #[must_use]
    pub fn since(&self, mark: ChangeMark, range: TimeRange) -> Option<i64> {
        if range.is_empty() {
            return None;
        }
        let state = self.state.lock();
        let first_span = range.start_ms.div_euclid(SPAN_MS);
        let last_span = (range.end_ms - 1).div_euclid(SPAN_MS);
        let is_old = state.spans.first_key_value().is_some_and(|(first, _)| first_span < *first);
        if state.everywhere > mark.0 || (is_old && state.before_spans > mark.0) {
            return Some(range.start_ms);
        }
        let mut later = state.spans.range(first_span..=last_span).filter(|(_, change)| **change > mark.0);
        later.next().map(|(span, _)| span.saturating_mul(SPAN_MS).max(range.start_ms))
    }
}

impl State {
    /// Notes one change to these spans, which ascend.
    fn note(&mut self, spans: &[i64]) {
        if spans.is_empty() {
            return;
        }
        self.count += 1;
        for span in spans.iter().rev().take(SPANS_MAX) {
            let first = self.spans.first_key_value().map(|(first, _)| *first);
            if self.spans.len() >= SPANS_MAX && first.is_some_and(|first| *span < first) {
                // This one and all before it lie where nothing is told apart any more.
                self.before_spans = self.count;
                break;
            }
            self.spans.insert(*span, self.count);
            if self.spans.len() > SPANS_MAX
                && let Some((_, change)) = self.spans.pop_first()
            {
                self.before_spans = self.before_spans.max(change);
            }
        }
        if spans.len() > SPANS_MAX {
            self.before_spans = self.count;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use pharos_model::{BatchBuilder, Labels, Sample};
    use proptest::prelude::*;

    use super::*;

    fn batch(times_ms: &[i64]) -> MetricBatch {
        let mut builder = BatchBuilder::new();
        for timestamp_ms in times_ms {
            builder.push_sample(Sample { timestamp_ms: *timestamp_ms, value: 1.0 }, 0);
        }
        builder.finish_series_encoded(&Labels::from_pairs([("__name__", "up")]).unwrap());
        builder.build()
    }

    #[test]
    fn a_change_is_told_to_those_who_read_before_it_only() {
        let log = ChangeLog::new();
        let before = log.mark();
        log.appended(&batch(&[25_000, 47_000]));
        let after = log.mark();
        assert_eq!(log.since(before, TimeRange::new(0, 100_000)), Some(20_000));
        assert_eq!(log.since(before, TimeRange::new(26_000, 100_000)), Some(26_000), "never before the range");
        assert_eq!(log.since(before, TimeRange::new(30_000, 40_000)), None);
        assert_eq!(log.since(after, TimeRange::ALL), None);
        log.changed_everywhere();
        assert_eq!(log.since(after, TimeRange::new(0, 1)), Some(0));
    }

    #[test]
    fn instants_at_the_ends_of_time_are_noted() {
        let log = ChangeLog::new();
        let before = log.mark();
        log.appended(&batch(&[i64::MIN, i64::MAX]));
        assert_eq!(log.since(before, TimeRange::ALL), Some(i64::MIN));
        assert!(log.since(before, TimeRange::new(i64::MAX - 5, i64::MAX)).is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Nothing that changed may be missed, however far apart in time; what did not change may be told as changed.
        #[test]
        fn no_change_is_missed(changes in proptest::collection::vec((0_i64..40_000, 1_usize..40), 1..60)) {
            let log = ChangeLog::new();
            let mut changed_at: HashMap<i64, ChangeMark> = HashMap::new();
            let mut marks = vec![log.mark()];
            for (span, count) in changes {
                let times: Vec<i64> = (0..count as i64).map(|n| (span + n * 997) * SPAN_MS).collect();
                log.appended(&batch(&times));
                marks.push(log.mark());
                changed_at.extend(times.into_iter().map(|time| (time, log.mark())));
            }
            for mark in marks {
                for (time, changed) in &changed_at {
                    let told = log.since(mark, TimeRange::inclusive(*time, *time)).is_some();
                    prop_assert!(told || *changed <= mark);
                }
                let first = changed_at.iter().filter(|(_, changed)| **changed > mark).map(|(time, _)| *time).min();
                let told = log.since(mark, TimeRange::new(0, i64::MAX));
                prop_assert!(told.is_some() == first.is_some() && told <= first.or(told));
            }
        }
    }
}
