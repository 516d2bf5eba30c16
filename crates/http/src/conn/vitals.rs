//! What is known of a connection while it lives, and what follows from it.
//!
//! Times are milliseconds since the connection began. Written by the connection's own task and, over HTTP/2, by those of
//! its requests; each value by itself is right, and a moment's disagreement between two only moves a deadline by that
//! moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::ConnectionSettings;

/// Stands for "not".
const NEVER: u64 = u64::MAX;

/// See the file's header.
#[derive(Debug)]
pub(crate) struct Vitals {
    pub(super) began: Instant,
    in_flight: AtomicU64,
    had_request: AtomicBool,
    is_http2: AtomicBool,
    /// When the last request ended.
    idle_since: AtomicU64,
    /// When the first byte came of a head that is not complete.
    head_since: AtomicU64,
    /// Since when the socket takes nothing.
    blocked_since: AtomicU64,
    /// Answers of which a piece was handed over and the next not asked for.
    answers_waiting: AtomicU64,
    /// When a piece of an answer was asked for last.
    asked_at: AtomicU64,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Vitals>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now_ms(), Relaxed);
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Vitals {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            in_flight: AtomicU64::new(0),
            had_request: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(NEVER),
            blocked_since: AtomicU64::new(NEVER),
            answers_waiting: AtomicU64::new(0),
            asked_at: AtomicU64::new(0),
        })
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// A request's head is complete; it is under way until its answer is written or given up.
    pub(crate) fn begin_request(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        self.had_request.store(true, Relaxed);
        self.head_since.store(NEVER, Relaxed);
        InFlight(Arc::clone(self))
    }

    pub(super) fn bytes_came(&self) {
        if self.in_flight.load(Relaxed) == 0 && self.head_since.load(Relaxed) == NEVER {
            self.head_since.store(self.now_ms(), Relaxed);
        }
    }

    pub(super) fn speaks_http2(&self) {
        self.is_http2.store(true, Relaxed);
    }

    pub(super) fn write_is_blocked(&self, is_blocked: bool) {
        let was_blocked = self.blocked_since.load(Relaxed) != NEVER;
        if is_blocked != was_blocked {
            self.blocked_since.store(if is_blocked { self.now_ms() } else { NEVER }, Relaxed);
        }
    }

    pub(super) fn answer_handed_over(&self) {
        self.asked_at.store(self.now_ms(), Relaxed);
        self.answers_waiting.fetch_add(1, Relaxed);
    }

    pub(super) fn answer_taken(&self) {
        self.asked_at.store(self.now_ms(), Relaxed);
        self.answers_waiting.fetch_sub(1, Relaxed);
    }

    fn read(&self) -> Reading {
        let since = |at: &AtomicU64| Some(at.load(Relaxed)).filter(|at| *at != NEVER);
        let is_waiting = self.answers_waiting.load(Relaxed) > 0;
        let handed_over = is_waiting.then(|| self.asked_at.load(Relaxed));
        Reading {
            is_busy: self.in_flight.load(Relaxed) > 0,
            is_new: !self.had_request.load(Relaxed),
            is_http2: self.is_http2.load(Relaxed),
            idle_since: self.idle_since.load(Relaxed),
            head_since: since(&self.head_since),
            unread_since: [since(&self.blocked_since), handed_over].into_iter().flatten().min(),
        }
    }

    /// What is due at `now`; `closing_since` is when the peer was told that the connection ends.
    pub(super) fn judge(&self, now_ms: u64, limits: &Limits, closing_since: Option<u64>) -> Step {
        self.read().judge(now_ms, limits, closing_since)
    }
}

/// [`Vitals`] at one moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    is_busy: bool,
    is_new: bool,
    is_http2: bool,
    idle_since: u64,
    head_since: Option<u64>,
    unread_since: Option<u64>,
}

/// Limits of one connection, milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(super) head: u64,
    pub(super) idle: u64,
    pub(super) age: u64,
    pub(super) grace: u64,
    pub(super) write_stall: u64,
}

impl Limits {
    /// `spread` is any number that differs between connections: it moves the age by up to a tenth. `lifetime_max` is how
    /// long the peer's certificate is good for.
    pub(crate) fn new(settings: &ConnectionSettings, spread: u64, lifetime_max: Option<Duration>) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4);
        let age = ms(settings.age_max.0);
        // Multiplied by the golden ratio, neighbouring ports are far from each other.
        let tenths = spread.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let age = age - age / 10 + ((u128::from(age / 5) * u128::from(tenths)) >> 32) as u64;
        Self {
            head: ms(settings.head_timeout.0),
            idle: ms(settings.idle_max.0),
            age: age.min(lifetime_max.map_or(u64::MAX, ms)),
            grace: ms(settings.age_grace.0),
            write_stall: ms(settings.write_stall_max.0),
        }
    }
}

/// Why a connection is ended from our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// `head_timeout`.
    Head,
    /// `idle_max`.
    Idle,
    /// `age_max`, or the end of the peer's certificate.
    Age,
    /// `age_grace`: it was told to close and did not.
    Grace,
    /// `write_stall_max`.
    WriteStall,
    /// Others need its place, and no valid credential came over it.
    Place,
    /// The server stops, and `drain_max` is over.
    Stop,
}

impl Why {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head_timeout",
            Self::Idle => "idle_max",
            Self::Age => "age_max",
            Self::Grace => "age_grace",
            Self::WriteStall => "write_stall_max",
            Self::Place => "place_taken",
            Self::Stop => "drain_max",
        }
    }
}

/// What a connection needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing before this moment, milliseconds.
    Wait(u64),
    /// To be told that it ends.
    Close(Why),
    /// To end now.
    Cut(Why),
}

impl Reading {
    fn judge(&self, now: u64, limits: &Limits, closing_since: Option<u64>) -> Step {
        let stalled = self.unread_since.map(|since| (since + limits.write_stall, Step::Cut(Why::WriteStall)));
        let is_quiet = !self.is_busy;
        // Over HTTP/2 bytes come without a request, too: only its first ones are a head.
        let head_since = if self.is_new { Some(0) } else { self.head_since };
        let head = head_since.filter(|_| is_quiet && !self.is_http2);
        let rest = match closing_since {
            Some(since) => {
                let grace = since.max(self.idle_since) + limits.grace;
                [is_quiet.then_some((grace, Step::Cut(Why::Grace))), None, None]
            }
            None => [
                head.map(|since| (since + limits.head, Step::Cut(Why::Head))),
                is_quiet.then_some((self.idle_since + limits.idle, Step::Close(Why::Idle))),
                Some((limits.age, Step::Close(Why::Age))),
            ],
        };
        let (at, step) = stalled
            .into_iter()
            .chain(rest.into_iter().flatten())
            .min_by_key(|(at, _)| *at)
            .unwrap_or((NEVER, Step::Wait(NEVER)));
        if at <= now { step } else { Step::Wait(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { head: 10, idle: 100, age: 1_000, grace: 50, write_stall: 30 };
    const QUIET: Reading = Reading {
        is_busy: false,
        is_new: false,
        is_http2: false,
        idle_since: 200,
        head_since: None,
        unread_since: None,
    };

    #[track_caller]
    fn check(reading: Reading, closing: Option<u64>, due: u64, step: Step) {
        assert_eq!(reading.judge(due - 1, &LIMITS, closing), Step::Wait(due), "{reading:?}");
        assert_eq!(reading.judge(due, &LIMITS, closing), step, "{reading:?}");
    }

    #[test]
    fn every_wait_for_a_peer_ends() {
        check(Reading { is_new: true, idle_since: 0, ..QUIET }, None, 10, Step::Cut(Why::Head));
        check(Reading { head_since: Some(250), ..QUIET }, None, 260, Step::Cut(Why::Head));
        check(QUIET, None, 300, Step::Close(Why::Idle));
        check(
            Reading { is_http2: true, is_new: true, idle_since: 0, head_since: Some(1), ..QUIET },
            None,
            100,
            Step::Close(Why::Idle),
        );
        check(Reading { is_busy: true, ..QUIET }, None, 1_000, Step::Close(Why::Age));
        check(Reading { is_busy: true, unread_since: Some(220), ..QUIET }, None, 250, Step::Cut(Why::WriteStall));
        check(QUIET, Some(400), 450, Step::Cut(Why::Grace));
        check(Reading { idle_since: 600, ..QUIET }, Some(400), 650, Step::Cut(Why::Grace));
        check(Reading { is_busy: true, unread_since: Some(500), ..QUIET }, Some(400), 530, Step::Cut(Why::WriteStall));
    }

    #[test]
    fn a_request_under_way_outlives_the_age_of_its_connection() {
        let busy = Reading { is_busy: true, ..QUIET };
        assert_eq!(busy.judge(1 << 40, &LIMITS, Some(1_000)), Step::Wait(NEVER));
    }

    #[test]
    fn ages_spread_by_a_tenth_to_both_sides_and_end_with_the_certificate() {
        let settings = ConnectionSettings::default();
        let ages: Vec<_> = (40_000..40_200).map(|port| Limits::new(&settings, port, None).age).collect();
        let (min, max) = (*ages.iter().min().unwrap(), *ages.iter().max().unwrap());
        assert!((3_240_000..3_300_000).contains(&min) && (3_900_000..=3_960_000).contains(&max), "{min} {max}");
        assert_eq!(Limits::new(&settings, 1, Some(Duration::from_secs(5))).age, 5_000);
    }
}
