//! Cancellation asked in proportion to work: often enough to stop in time, seldom enough to cost nothing.

use pharos_base::Interrupted;
use pharos_storage::ReadContext;

/// Values looked at between two questions: some milliseconds, even where they are sorted.
const WORK_MAX: usize = 1 << 16;

/// For loops whose turns differ in cost.
#[derive(Debug)]
pub(super) struct Pace<'a> {
    context: &'a ReadContext,
    work: usize,
}

impl<'a> Pace<'a> {
    pub(super) fn new(context: &'a ReadContext) -> Self {
        Self { context, work: 0 }
    }

    /// Notes that so many values are looked at.
    ///
    /// # Errors
    /// [`Interrupted`] if the query shall stop.
    pub(super) fn spend(&mut self, values: usize) -> Result<(), Interrupted> {
        // A turn without values is a turn.
        self.work += values.max(1);
        if self.work < WORK_MAX {
            return Ok(());
        }
        self.work = 0;
        self.context.check()
    }
}
