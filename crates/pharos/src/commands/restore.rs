//! `pharos restore`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use indicatif::BinaryBytes;
use pharos_base::{Clock, SystemClock};

use super::backup::backup_flag;
use super::config::say;
use super::progress::quiet_flag;
use super::repository::{PLACES, Watch, concurrency_flag, count, location, open, place_flags, warn_left_out};
use super::serve::runtime;
use crate::cli::Failure;
use crate::data_dir::DataDir;

/// The command line of `pharos restore`.
pub(crate) fn command() -> Command {
    let command = Command::new("restore")
        .about("Bring a backup back into a new data folder")
        .long_about(format!(
            "Bring a backup back into a new data folder.\n\n\
             The folder must be new or empty; nothing is ever overwritten. Every file is checked against the hash that it had \
             when it was backed up. A server does not start on a folder whose restore did not end; run the same command again then.\n\n\
             {PLACES}"
        ))
        .arg(
            Arg::new("data-dir")
                .long("data-dir")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Data folder to make"),
        )
        .arg(backup_flag("Which backup, as `pharos backup list` prints them [default: the newest]"))
        .arg(concurrency_flag())
        .arg(quiet_flag());
    place_flags(command, "from", "Where the backups are")
}

/// Runs `pharos restore`.
pub(crate) fn run(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> Result<(), Failure> {
    let repository = open(matches, &location(matches, "from", environment)?)?;
    let target = matches.get_one::<PathBuf>("data-dir").expect("clap demands it");
    let name = matches.get_one::<String>("backup").map(String::as_str);
    let began = SystemClock.monotonic();
    let _held = DataDir::open_unfinished(target).map_err(Failure::Start)?;
    let watch = Watch::new("restoring", matches);
    let restoring = watch.over(async { Ok(repository.restore(name, target, watch.as_ref()).await?) });
    let restored = runtime().map_err(Failure::Start)?.block_on(restoring).map_err(Failure::Run)?;
    drop(watch);
    warn_left_out(&restored.left_out);
    say(&format!(
        "backup {} restored to {}: {}, {}, {:.1} s\n",
        restored.name,
        target.display(),
        count(restored.files, "file"),
        BinaryBytes(restored.bytes),
        (SystemClock.monotonic() - began).as_secs_f64(),
    ))
}
