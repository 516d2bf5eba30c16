//! Where an issuer's keys come from, and how they stay fresh.
//!
//! One task ([`Keys::keep`]) asks for them: at the start, every `refresh`, and when a token names a key that is not known. However many
//! tokens do so, that is one question in [`ASK_AGAIN`], whatever came of the last one. Keys that are known stay until others came.
//!
//! Invariants
//! - Q1 Between two questions for the sake of tokens lie at least [`ASK_AGAIN`].
//! - Q2 A failure changes no keys.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pharos_base::{Clock, full_message};
use tokio::sync::{Notify, watch};

use super::fetch::{Fetcher, JWKS_BYTES_MAX, Location, allowed_url};
use super::key::{KeyError, KeySet, read_bounded};
use super::settings::{IssuerSettings, JwtAlgorithm, KeyFile};

/// How soon keys are asked for again because of a token.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How often files are looked at.
const LOOK_AT_FILES: Duration = Duration::from_secs(5);
/// The first pause after a failure while no keys are known; it doubles up to [`ASK_AGAIN`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long a request waits for keys.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys {
    issuer: String,
    source: Source,
    algorithms: Vec<JwtAlgorithm>,
    refresh: Duration,
    clock: Arc<dyn Clock>,
    current: ArcSwap<KeySet>,
    attempts: Mutex<Attempts>,
    /// When they were had last, Unix seconds; 0: never.
    had_at_s: AtomicI64,
    /// How many attempts ended.
    ended: watch::Sender<u64>,
    wanted: Notify,
}

#[derive(Debug)]
enum Source {
    Files { pem: Vec<KeyFile>, secrets: Vec<KeyFile> },
    SetFile(PathBuf),
    Server(Fetcher),
}

#[derive(Debug, Default)]
struct Attempts {
    last_begun: Option<Instant>,
    is_under_way: bool,
    failures_in_a_row: u32,
}

/// What a request may hope for whose token names a key that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hope {
    /// Ask, or wait for who does. So many attempts had ended.
    Wait(u64),
    /// The issuer's server was asked, and there is no such key.
    None,
    /// It could not be asked: nobody knows.
    Later,
}

impl Keys {
    /// Reads keys in files; those of a server come with [`Keys::keep`].
    pub(super) fn open(settings: &IssuerSettings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let keys = &settings.keys;
        let ca_file = settings.ca_file.as_deref();
        let source = if keys.discovery {
            Source::Server(Fetcher::open(Location::Discovery { issuer: settings.issuer.clone() }, ca_file)?)
        } else if let Some(url) = &keys.jwks_url {
            Source::Server(Fetcher::open(Location::Url(allowed_url(url)?), ca_file)?)
        } else if let Some(path) = &keys.jwks_file {
            Source::SetFile(path.clone())
        } else {
            Source::Files { pem: keys.pem.clone(), secrets: keys.secrets.clone() }
        };
        let opened = Self {
            issuer: settings.issuer.clone(),
            source,
            algorithms: settings.algorithms.clone(),
            refresh: settings.refresh.0,
            clock,
            current: ArcSwap::default(),
            attempts: Mutex::default(),
            had_at_s: AtomicI64::new(0),
            ended: watch::Sender::new(0),
            wanted: Notify::new(),
        };
        if let Some(set) = opened.read_files() {
            opened.put(set.map_err(|error| full_message(&error))?);
        }
        Ok(opened)
    }

    /// When they were read or fetched last, changed or not, Unix seconds; `None`: never yet.
    pub(super) fn had_at_s(&self) -> Option<i64> {
        Some(self.had_at_s.load(Ordering::Relaxed)).filter(|at_s| *at_s > 0)
    }

    pub(super) fn current(&self) -> Arc<KeySet> {
        self.current.load_full()
    }

    /// Counts changes of the keys.
    pub(super) fn generation(&self) -> u64 {
        self.current.load().generation
    }

    /// What to do about a key that is not known.
    pub(super) fn hope(&self) -> Hope {
        if !matches!(self.source, Source::Server(_)) {
            return Hope::None;
        }
        let attempts = self.attempts.lock();
        let is_time = attempts.last_begun.is_none_or(|at| self.clock.monotonic().duration_since(at) >= ASK_AGAIN);
        match (attempts.is_under_way || is_time, attempts.failures_in_a_row) {
            (true, _) => Hope::Wait(*self.ended.borrow()),
            (false, 0) => Hope::None,
            (false, _) => Hope::Later,
        }
    }

    /// Asks for keys, and waits until an attempt after the first `ended` ones has ended.
    pub(super) async fn wait(&self, ended: u64) {
        self.wanted.notify_one();
        let mut watched = self.ended.subscribe();
        let _ = tokio::time::timeout(WAIT_MAX, watched.wait_for(|now| *now > ended)).await;
    }

    /// Has keys asked for soon, unless they were just now.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Reads files again; keys of a server are asked for soon.
    pub(super) fn reload(&self) -> Result<(), String> {
        match self.read_files() {
            None => self.want(),
            Some(set) => self.put(set.map_err(|error| full_message(&error))?),
        }
        Ok(())
    }

    /// Keeps the keys fresh for ever.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            if let Source::Server(fetcher) = &self.source {
                self.ask(fetcher).await;
            } else {
                let keys = Arc::clone(&self);
                if let Ok(Some(read)) = tokio::task::spawn_blocking(move || keys.read_files()).await {
                    self.ended_with(read.map_err(|error| full_message(&error)));
                }
            }
            self.pause().await;
        }
    }

    /// Until it is time, or a token makes it so.
    async fn pause(&self) {
        let pause = self.pause_length();
        let end = tokio::time::Instant::now() + pause;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                () = self.wanted.notified() => {
                    if matches!(self.hope(), Hope::Wait(_)) {
                        return;
                    }
                }
            }
        }
    }

    fn pause_length(&self) -> Duration {
        if !matches!(self.source, Source::Server(_)) {
            return LOOK_AT_FILES;
        }
        let failures = self.attempts.lock().failures_in_a_row;
        match (failures, self.current.load().len()) {
            (0, _) => self.refresh,
            (_, 0) => (FIRST_PAUSE * 2_u32.saturating_pow(failures.min(16) - 1)).min(ASK_AGAIN),
            _ => self.refresh.min(ASK_AGAIN),
        }
    }

    async fn ask(&self, fetcher: &Fetcher) {
        {
            let mut attempts = self.attempts.lock();
            attempts.is_under_way = true;
            attempts.last_begun = Some(self.clock.monotonic());
        }
        let fetched = fetcher.key_set().await.and_then(|bytes| Ok(KeySet::parse(&bytes, &self.algorithms)?));
        self.ended_with(fetched.map_err(|error| full_message(&error)));
    }

    /// Books an attempt; a failure is told when it is the first in a row.
    fn ended_with(&self, outcome: Result<KeySet, String>) {
        let mut attempts = self.attempts.lock();
        attempts.is_under_way = false;
        let issuer = self.issuer.as_str();
        match outcome {
            Ok(set) => {
                if std::mem::take(&mut attempts.failures_in_a_row) > 0 {
                    tracing::info!(issuer, "the keys of the issuer can be had again");
                }
                self.put(set);
            }
            Err(error) => {
                attempts.failures_in_a_row = attempts.failures_in_a_row.saturating_add(1);
                if attempts.failures_in_a_row == 1 {
                    let known = self.current.load().len();
                    tracing::error!(issuer, error, known, "the keys of the issuer cannot be had; those known stay");
                }
            }
        }
        drop(attempts);
        self.ended.send_modify(|ended| *ended += 1);
    }

    fn read_files(&self) -> Option<Result<KeySet, KeyError>> {
        match &self.source {
            Source::Files { pem, secrets } => Some(KeySet::read_files(pem, secrets)),
            Source::SetFile(path) => {
                let bytes = read_bounded(path, JWKS_BYTES_MAX as u64);
                Some(bytes.and_then(|bytes| KeySet::parse(&bytes, &self.algorithms)))
            }
            Source::Server(_) => None,
        }
    }

    /// Puts other keys in place, if they are others.
    fn put(&self, set: KeySet) {
        self.had_at_s.store(self.clock.unix_ms().div_euclid(1_000), Ordering::Relaxed);
        let current = self.current.load();
        if current.generation > 0 && current.fingerprint == set.fingerprint {
            return;
        }
        let generation = current.generation + 1;
        tracing::info!(issuer = self.issuer, keys = set.len(), generation, "keys of the issuer are in use");
        self.current.store(Arc::new(set.numbered(generation)));
    }
}
