//! The end of the way in: what became of a request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pharos_storage::{AppendOutcome, Completion, NoticedSpans, Rejection, StorageError};

use crate::starts::AddedZeros;
use crate::{Duplicates, IngestError};

/// What became of a request; everything accepted is durable and, but for spans that wait for a sampling decision, visible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngestReport {
    /// Float samples, or spans, stored or already there.
    pub items: u64,
    /// Native histograms stored or already there.
    pub histograms: u64,
    /// Exemplars stored or already there.
    pub exemplars: u64,
    /// Exemplars left out; never a reason to refuse anything.
    pub exemplars_dropped: u64,
    /// What was left out because another replica of a pair brings it; its sender is told that it is stored.
    pub duplicates: Duplicates,
    /// What was refused, by us or by the store.
    pub rejections: Vec<Rejection>,
    /// What the sender should know although nothing was refused.
    pub warnings: Vec<String>,
}

impl IngestReport {
    /// Items refused: samples, data points or spans.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        crate::sink::rejected(&self.rejections)
    }

    /// Adds what became of another part of the same request.
    pub fn merge(&mut self, other: Self) {
        self.items += other.items;
        self.histograms += other.histograms;
        self.exemplars += other.exemplars;
        self.exemplars_dropped += other.exemplars_dropped;
        self.duplicates.merge(other.duplicates);
        let mut all = AppendOutcome { rejections: std::mem::take(&mut self.rejections), ..AppendOutcome::default() };
        for Rejection { reason, count, message } in other.rejections {
            all.reject(reason, count, || message);
        }
        self.rejections = all.rejections;
        self.warnings.extend(other.warnings);
    }

    /// All rejections and warnings in one line; empty if there are none.
    #[must_use]
    pub fn message(&self) -> String {
        let refused = self.rejections.iter().map(|Rejection { reason, count, message }| match count {
            0 => format!("what is made of points refused ({}): {message}", reason.as_str()),
            count => format!("{count} refused ({}): {message}", reason.as_str()),
        });
        refused.chain(self.warnings.iter().cloned()).collect::<Vec<_>>().join("; ")
    }
}

/// An append under way; await it, or [`wait`](Self::wait) on a plain thread.
#[derive(Debug)]
#[must_use = "the request is acknowledged only when this completes"]
pub struct PendingReport {
    completion: Completion<Result<AppendOutcome, StorageError>>,
    /// What is known before the store answers.
    ahead: IngestReport,
    /// What is to be counted of the spans once they are stored.
    noticed: Option<Box<dyn NoticedSpans>>,
    /// Samples in the batch that nobody sent.
    zeros: Option<AddedZeros>,
}

impl PendingReport {
    pub(crate) fn new(completion: Completion<Result<AppendOutcome, StorageError>>, ahead: IngestReport) -> Self {
        Self { completion, ahead, noticed: None, zeros: None }
    }

    pub(crate) fn with_zeros(mut self, zeros: Option<AddedZeros>) -> Self {
        self.zeros = zeros;
        self
    }

    pub(crate) fn with_noticed(mut self, noticed: Option<Box<dyn NoticedSpans>>) -> Self {
        self.noticed = noticed;
        self
    }

    /// Blocks until the store answers. Not on an async worker.
    ///
    /// # Errors
    /// As the future's.
    pub fn wait(mut self) -> Result<IngestReport, IngestError> {
        let nothing = Completion::ready(Ok(AppendOutcome::default()));
        let answer = std::mem::replace(&mut self.completion, nothing).wait();
        self.settle(answer)
    }

    fn settle(&mut self, answer: Option<Result<AppendOutcome, StorageError>>) -> Result<IngestReport, IngestError> {
        let noticed = self.noticed.take();
        let mut outcome = answer.ok_or(IngestError::Closing)??;
        if let Some(zeros) = self.zeros.take() {
            // What is counted is what was sent; a zero that was refused with its series was not counted.
            let (samples, histograms) = zeros.stored_but(&outcome.refused_runs);
            outcome.items = outcome.items.saturating_sub(samples);
            outcome.histograms = outcome.histograms.saturating_sub(histograms);
        }
        if let Some(noticed) = noticed {
            noticed.stored();
        }
        Ok(join(std::mem::take(&mut self.ahead), outcome))
    }
}

impl Drop for PendingReport {
    /// A sender that hung up does not take its spans back: the store may take them all the same.
    fn drop(&mut self) {
        if let Some(noticed) = self.noticed.take() {
            let nothing = Completion::ready(Ok(AppendOutcome::default()));
            noticed.stored_if(std::mem::replace(&mut self.completion, nothing));
        }
    }
}

impl Future for PendingReport {
    /// Fails with [`IngestError::Storage`] or [`IngestError::Closing`].
    type Output = Result<IngestReport, IngestError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = std::task::ready!(Pin::new(&mut self.completion).poll(context));
        Poll::Ready(self.settle(answer))
    }
}

fn join(mut report: IngestReport, outcome: AppendOutcome) -> IngestReport {
    report.items = outcome.items;
    report.histograms = outcome.histograms;
    report.exemplars = outcome.exemplars;
    let mut all = AppendOutcome { rejections: std::mem::take(&mut report.rejections), ..AppendOutcome::default() };
    for Rejection { reason, count, message } in outcome.rejections {
        all.reject(reason, count, || message);
    }
    report.rejections = all.rejections;
    report
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use pharos_base::Completer;

    use super::*;

    type Answer = Completion<Result<AppendOutcome, StorageError>>;

    /// What was said of a batch: that it is stored, or who will tell.
    #[derive(Debug, Default)]
    struct Said {
        is_stored: bool,
        answer: Option<Answer>,
    }

    #[derive(Debug)]
    struct Batch(Arc<Mutex<Said>>);

    impl NoticedSpans for Batch {
        fn stored(self: Box<Self>) {
            self.0.lock().is_stored = true;
        }

        fn stored_if(self: Box<Self>, answer: Answer) {
            self.0.lock().answer = Some(answer);
        }
    }

    fn pending() -> (PendingReport, Completer<Result<AppendOutcome, StorageError>>, Arc<Mutex<Said>>) {
        let (completer, completion) = Completion::pair();
        let said = Arc::default();
        let report = PendingReport::new(completion, IngestReport::default());
        (report.with_noticed(Some(Box::new(Batch(Arc::clone(&said))))), completer, said)
    }

    #[test]
    fn spans_are_stored_when_the_store_says_so() {
        for answer in [Ok(AppendOutcome::default()), Err(StorageError::unavailable("full"))] {
            let (report, completer, said) = pending();
            let is_ok = answer.is_ok();
            completer.complete(answer);
            assert_eq!(report.wait().is_ok(), is_ok);
            let said = said.lock();
            assert_eq!((said.is_stored, said.answer.is_none()), (is_ok, true));
        }
    }

    /// The store may still refuse: its answer is handed on, and nothing is said before.
    #[test]
    fn a_sender_that_hangs_up_leaves_the_answer_to_who_noticed_the_spans() {
        let (report, completer, said) = pending();
        drop(report);
        assert!(!said.lock().is_stored);
        completer.complete(Err(StorageError::unavailable("full")));
        let mut answer = said.lock().answer.take().unwrap();
        assert!(matches!(answer.try_take(), Some(Some(Err(_)))));
    }
}
