//! What `pharos backup` and `pharos restore` share: where the backups are, how far it is, and how it ends early.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use pharos_backup::{Location, Observer, Repository, RepositorySettings, S3Options};
use pharos_base::SystemClock;
use tokio::signal::unix::{SignalKind, signal};

use super::progress::{Progress, Unit, is_quiet};
use crate::cli::Failure;

/// What every help text about places says.
pub(crate) const PLACES: &str = "A place is a folder, such as /mnt/backups/pharos, or S3-compatible storage as s3://BUCKET/PREFIX. \
     For S3 the usual variables count: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL_S3, \
     and the roles of containers and machines at Amazon. The bucket must exist.";

/// Adds the flag that names the place, and those that say how to reach it.
pub(crate) fn place_flags(command: Command, flag: &'static str, help: &'static str) -> Command {
    let text = |name: &'static str, placeholder: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(placeholder).help(help).help_heading("S3")
    };
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help).help_heading("S3")
    };
    command
        .arg(Arg::new(flag).long(flag).value_name("PLACE").required(true).help(help))
        .arg(text("s3-endpoint", "URL", "Server other than Amazon's, such as https://minio.example:9000"))
        .arg(text("s3-region", "REGION", "Region of the bucket [default: AWS_REGION, else us-east-1]"))
        .arg(switch("s3-virtual-hosted", "The bucket is part of the host's name (BUCKET.host) and not of the path"))
        .arg(switch("s3-allow-http", "Allow an endpoint without encryption"))
}

/// Adds the flag that says how much is done at once.
pub(crate) fn concurrency_flag() -> Arg {
    Arg::new("concurrency")
        .long("concurrency")
        .value_name("N")
        .value_parser(value_parser!(u8).range(1..=64))
        .default_value("4")
        .help("Files under way at once; each takes up to 16 MiB of memory")
}

/// Reads the place that [`place_flags`] names.
pub(crate) fn location(
    matches: &ArgMatches,
    flag: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Location, Failure> {
    let variables = environment.iter().filter(|(name, _)| name.starts_with("AWS_"));
    let options = S3Options {
        variables: variables.map(|(name, value)| (name.clone(), value.clone())).collect(),
        endpoint: matches.get_one::<String>("s3-endpoint").cloned(),
        region: matches.get_one::<String>("s3-region").cloned(),
        virtual_hosted: matches.get_flag("s3-virtual-hosted"),
        allow_http: matches.get_flag("s3-allow-http"),
    };
    let place = matches.get_one::<String>(flag).expect("clap demands it");
    Location::parse(place, options).map_err(|error| Failure::Start(error.into()))
}

/// Opens the place.
pub(crate) fn open(matches: &ArgMatches, location: &Location) -> Result<Repository, Failure> {
    let told = matches.try_get_one::<u8>("concurrency").ok().flatten();
    let settings =
        told.map_or_else(RepositorySettings::default, |told| RepositorySettings { concurrency: usize::from(*told) });
    Repository::open(location, settings, SystemClock::shared()).map_err(|error| Failure::Start(error.into()))
}

/// Shows progress and remembers that somebody wants the end.
pub(crate) struct Watch {
    progress: Progress,
    is_interrupted: AtomicBool,
}

impl Watch {
    /// Begins to watch over `what`.
    pub(crate) fn new(what: &'static str, matches: &ArgMatches) -> Arc<Self> {
        let progress = Progress::begin(what, Unit::Bytes, is_quiet(matches));
        Arc::new(Self { progress, is_interrupted: AtomicBool::new(false) })
    }

    /// Runs `task`. SIGINT, SIGTERM and SIGHUP (a terminal that closes) ask it to end in order; a second one ends it at once.
    pub(crate) async fn over<T>(&self, task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let on = |kind| signal(kind).context("cannot listen to signals");
        let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
        let mut hang_up = on(SignalKind::hangup())?;
        tokio::pin!(task);
        loop {
            tokio::select! {
                outcome = &mut task => return outcome,
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hang_up.recv() => {}
            }
            if self.is_interrupted.swap(true, Ordering::Relaxed) {
                return Err(anyhow!("given up at once; a lock may be left, see `pharos backup unlock`"));
            }
            self.progress.say("ending after the files under way; once more to give up at once");
        }
    }
}

impl Observer for Watch {
    fn total(&self, bytes: u64) {
        self.progress.set_total(bytes);
    }

    fn done(&self, bytes: u64) {
        self.progress.advance(bytes);
    }

    fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::Relaxed)
    }
}

/// "A file", "2 files".
pub(crate) fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{} {thing}s", indicatif::HumanCount(number)) }
}

/// What is missing in a backup, as a warning.
pub(crate) fn warn_left_out(left_out: &[String]) {
    if !left_out.is_empty() {
        eprintln!("pharos: NOT in this backup: {}", left_out.join(", "));
    }
}
