//! The contract's suite, once for each state the spans can be in.

use pharos_storage::TraceStore;
use pharos_storage::conformance::traces::{TraceSubject, check_all};

use crate::support::{Fixture, NOW_NS, settings};

struct Subject {
    fixture: Fixture,
    settle: fn(&mut Fixture),
}

impl TraceSubject for Subject {
    fn store(&self) -> &dyn TraceStore {
        self.fixture.store()
    }

    fn settle(&mut self) {
        (self.settle)(&mut self.fixture);
    }
}

fn check(settle: fn(&mut Fixture)) {
    check_all(NOW_NS, &mut || Box::new(Subject { fixture: Fixture::new(settings()), settle }));
}

#[test]
fn in_memory() {
    check(|_| {});
}

#[test]
fn after_flush() {
    check(|fixture| fixture.store().flush().unwrap());
}

#[test]
fn after_compaction() {
    check(|fixture| {
        fixture.store().flush().unwrap();
        fixture.store().compact().unwrap();
    });
}

#[test]
fn after_closing_and_opening() {
    check(Fixture::reopen);
}

#[test]
fn after_replay_of_the_log() {
    check(Fixture::crash);
}

#[test]
fn after_a_power_cut() {
    check(Fixture::cut_power);
}
