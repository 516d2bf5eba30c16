//! How a search goes: whether it may go on, and what the reader of its answer should know.

use std::time::{Duration, Instant};

use pharos_base::{Clock, HumanDuration};
use pharos_storage::{ReadContext, StorageError};

use crate::TraceStoreError;
use crate::record::Day;
use crate::unreadable::Unreadable;

/// The end of the time that a search by patterns may take: there is no index of what a pattern may match.
struct TimeBox<'a> {
    clock: &'a dyn Clock,
    ends_at: Instant,
    length: HumanDuration,
    is_over: bool,
}

/// One search on its way through days, tails and blocks.
pub(crate) struct Progress<'a> {
    context: &'a ReadContext,
    time_box: Option<TimeBox<'a>>,
    unreadable: Unreadable,
    /// Days that are set aside and that the search would have looked at.
    days_aside: Vec<Day>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(context: &'a ReadContext) -> Self {
        Self { context, time_box: None, unreadable: Unreadable::default(), days_aside: Vec::new() }
    }

    /// The search looks no further once it took `length`.
    pub(crate) fn within(mut self, clock: &'a dyn Clock, length: HumanDuration) -> Self {
        let ends_at = clock.monotonic() + length.0.min(Duration::from_hours(24));
        self.time_box = Some(TimeBox { clock, ends_at, length, is_over: false });
        self
    }

    /// Whether to look at more; once `false`, always.
    ///
    /// # Errors
    /// [`StorageError::Interrupted`].
    pub(crate) fn goes_on(&mut self) -> Result<bool, StorageError> {
        self.context.check()?;
        let Some(time_box) = &mut self.time_box else { return Ok(true) };
        time_box.is_over = time_box.is_over || time_box.clock.monotonic() >= time_box.ends_at;
        Ok(!time_box.is_over)
    }

    /// What the search may hold in memory.
    pub(crate) fn context(&self) -> &'a ReadContext {
        self.context
    }

    /// A block was left out.
    pub(crate) fn note_unreadable(&mut self, error: TraceStoreError) {
        self.unreadable.note(error);
    }

    /// A whole day was left out.
    pub(crate) fn note_day_aside(&mut self, day: Day) {
        if !self.days_aside.contains(&day) {
            self.days_aside.push(day);
        }
    }

    /// What stands beside the hits.
    pub(crate) fn into_warnings(self) -> Vec<String> {
        let mut warnings = Vec::new();
        warnings.extend(self.unreadable.warning("traces may be missing: blocks of spans that cannot be read"));
        if !self.days_aside.is_empty() {
            let days: Vec<_> = self.days_aside.iter().map(ToString::to_string).collect();
            warnings.push(format!(
                "traces are missing: damaged days that are set aside until `pharos doctor --repair` reads them: {}",
                days.join(", ")
            ));
        }
        if let Some(TimeBox { length, is_over: true, .. }) = self.time_box {
            warnings.push(format!(
                "older traces may be missing: the search by patterns was ended after {length} \
                 (tracestore.pattern_time_max); narrow the time range or name a service"
            ));
        }
        warnings
    }
}
