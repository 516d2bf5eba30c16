//! The life of a series, from its first span to the mark of its end: what is written of it at a flush, and what becomes of
//! that once the metrics store has answered.
//!
//! Invariants
//! - F1 The zero at the beginning and the mark of the end are written at every flush until the store took one of them.
//! - F2 A series ends only after the store took its last values: idle or not, they are written until then.
//! - F3 What comes after a mark of the end was written begins from a zero, after the mark.

/// Where a series stands.
#[derive(Debug)]
pub(crate) struct Life {
    created_ms: i64,
    seen_ms: i64,
    /// The store has its beginning.
    has_begun: bool,
    /// Something was counted that the store does not have.
    is_behind: bool,
    written: Written,
}

/// What was written and not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Nothing,
    Values { at_ms: i64 },
    End { at_ms: i64 },
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing was counted so far.
    Nothing,
    /// Where it stands; `begins` if a zero at its beginning goes before.
    Values { begins: bool },
    /// That it has ended.
    End,
    /// Nothing: it was never counted, and is to be forgotten.
    Forget,
}

/// What the store has since its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Nothing new.
    Nothing,
    /// The values of this instant.
    Values { at_ms: i64 },
    /// The end: it is to be forgotten.
    Ended,
}

impl Life {
    pub(crate) fn new(now_ms: i64) -> Self {
        Self { created_ms: now_ms, seen_ms: now_ms, has_begun: false, is_behind: false, written: Written::Nothing }
    }

    /// When its counters were zero.
    pub(crate) fn created_ms(&self) -> i64 {
        self.created_ms
    }

    /// A span of it is on its way: it stays for as long as it may be idle.
    #[inline]
    pub(crate) fn see(&mut self, now_ms: i64) {
        self.seen_ms = self.seen_ms.max(now_ms);
    }

    /// A span is about to be counted; true if the counters begin anew, and are to be set to zero before (F3).
    #[inline]
    #[must_use]
    pub(crate) fn count(&mut self, now_ms: i64) -> bool {
        let ended_ms = match self.written {
            Written::End { at_ms } => Some(at_ms),
            _ => None,
        };
        if let Some(ended_ms) = ended_ms {
            *self = Self::new(now_ms.max(ended_ms.saturating_add(1)));
        }
        self.see(now_ms);
        self.is_behind = true;
        ended_ms.is_some()
    }

    /// What to write at `now_ms`, if series that were last seen before `idle_since_ms` are to end.
    pub(crate) fn step(&mut self, now_ms: i64, idle_since_ms: i64) -> Step {
        // No answer to the last flush is as good as a refusal.
        self.settle(false);
        let is_idle = self.seen_ms < idle_since_ms;
        match (self.is_behind, self.has_begun) {
            (false, false) if is_idle => Step::Forget,
            (false, false) => Step::Nothing,
            (false, true) if is_idle => {
                self.written = Written::End { at_ms: now_ms };
                Step::End
            }
            _ => {
                self.is_behind = false;
                self.written = Written::Values { at_ms: now_ms };
                Step::Values { begins: !self.has_begun && self.created_ms < now_ms }
            }
        }
    }

    /// The store's answer to what was written last.
    pub(crate) fn settle(&mut self, is_stored: bool) -> Settled {
        match std::mem::replace(&mut self.written, Written::Nothing) {
            Written::Values { at_ms } if is_stored => {
                self.has_begun = true;
                Settled::Values { at_ms }
            }
            Written::Values { .. } => {
                self.is_behind = true;
                Settled::Nothing
            }
            Written::End { .. } if is_stored => Settled::Ended,
            Written::End { .. } | Written::Nothing => Settled::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_beginning_and_end_are_repeated_until_they_are_stored() {
        let mut life = Life::new(0);
        assert_eq!(life.step(5, 0), Step::Nothing);
        assert!(!life.count(1));
        assert_eq!(life.step(10, 0), Step::Values { begins: true });
        assert_eq!(life.settle(false), Settled::Nothing);
        assert_eq!(life.step(20, 15), Step::Values { begins: true }, "F2: idle, but not stored");
        assert_eq!(life.settle(true), Settled::Values { at_ms: 20 });
        for now_ms in [30, 40] {
            assert_eq!(life.step(now_ms, 15), Step::End);
            assert_eq!(life.settle(now_ms == 40) == Settled::Ended, now_ms == 40);
        }
    }

    #[test]
    fn f2_what_is_counted_while_values_are_written_is_written_before_the_end() {
        let mut life = Life::new(0);
        assert!(!life.count(1));
        assert_eq!(life.step(10, 0), Step::Values { begins: true });
        assert!(!life.count(2));
        assert_eq!(life.settle(true), Settled::Values { at_ms: 10 });
        assert_eq!(life.step(90, 50), Step::Values { begins: false });
        assert_eq!(life.settle(true), Settled::Values { at_ms: 90 });
        assert_eq!(life.step(100, 50), Step::End);
    }

    #[test]
    fn f3_what_is_counted_while_the_end_is_written_begins_anew() {
        for is_stored in [true, false] {
            let mut life = Life::new(0);
            assert!(!life.count(1));
            life.step(10, 0);
            life.settle(true);
            assert_eq!(life.step(100, 50), Step::End);
            assert!(life.count(99), "noticed before the end was written");
            assert_eq!(life.created_ms(), 101);
            assert_eq!(life.settle(is_stored), Settled::Nothing);
            assert_eq!(life.step(110, 60), Step::Values { begins: true });
        }
    }

    #[test]
    fn what_is_seen_and_never_counted_is_forgotten() {
        let mut life = Life::new(0);
        life.see(40);
        assert_eq!(life.step(50, 40), Step::Nothing);
        assert_eq!(life.step(60, 50), Step::Forget);
    }
}
