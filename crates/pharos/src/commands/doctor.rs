//! `pharos doctor`.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use pharos_tracestore::SpanStore;

use super::config::say;
use crate::app::{SAMPLING_FOLDER, TRACES_FOLDER};
use crate::cli::Failure;
use crate::data_dir::DataDir;

/// The command line of `pharos doctor`.
pub(crate) fn command() -> Command {
    Command::new("doctor")
        .about("Read every sealed span of a data folder and say what is damaged")
        .long_about(
            "Read every sealed span of a data folder and say what is damaged.\n\n\
             No server may run on the folder. Nothing is changed but, if asked for, the search indexes: these are derived from the \
             spans. Exit code 1 if something is damaged.",
        )
        .arg(
            Arg::new("data-dir")
                .long("data-dir")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Data folder to look through"),
        )
        .arg(
            Arg::new("rebuild-index")
                .long("rebuild-index")
                .action(ArgAction::SetTrue)
                .help("Build the search indexes of traces anew, but of days with damage"),
        )
}

/// Runs `pharos doctor`.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let folder = matches.get_one::<PathBuf>("data-dir").expect("clap demands it");
    let traces = folder.join(TRACES_FOLDER);
    if !traces.is_dir() {
        return Err(Failure::Start(anyhow!("{} has no traces: {} is not there", folder.display(), traces.display())));
    }
    let _held = DataDir::open(folder).map_err(Failure::Start)?;
    let settings = pharos_tracestore::Settings::default();
    let examined = SpanStore::examine(&traces, &settings, matches.get_flag("rebuild-index"))
        .with_context(|| format!("cannot look through {}", traces.display()))
        .map_err(Failure::Run)?;
    let sampling = folder.join(SAMPLING_FOLDER);
    let waiting = if sampling.is_dir() {
        let looked = pharos_sampling::examine(&sampling);
        looked.with_context(|| format!("cannot look through {}", sampling.display())).map_err(Failure::Run)?
    } else {
        pharos_sampling::Examined::default()
    };
    for line in examined.damage.iter().chain(&waiting.damage) {
        say(&format!("damaged: {line}\n"))?;
    }
    say(&format!(
        "traces: {} days, {} segments, {} blocks, {} spans; {} damaged; {} search indexes built anew\n",
        examined.days,
        examined.segments,
        examined.blocks,
        examined.spans,
        examined.damage.len(),
        examined.rebuilt_days,
    ))?;
    if sampling.is_dir() {
        say(&format!(
            "log of tail sampling: {} files, {} requests, {} spans; {} damaged\n",
            waiting.files,
            waiting.requests,
            waiting.spans,
            waiting.damage.len(),
        ))?;
    }
    if examined.damage.is_empty() && waiting.damage.is_empty() { Ok(()) } else { Err(Failure::Told) }
}
