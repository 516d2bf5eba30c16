//! `pharos doctor`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use pharos_base::SystemClock;
use pharos_tracestore::{Examination, Repair, SpanStore};

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
             No server may run on the folder. Nothing is changed but what is asked for: search indexes, which are derived from the \
             spans, and days with damage. Exit code 1 if something is damaged.",
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
        .arg(
            Arg::new("repair")
                .long("repair")
                .action(ArgAction::SetTrue)
                .help("First store again what can be read of days of traces that are damaged or set aside"),
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
    if matches.get_flag("repair") {
        let components = pharos_tracestore::Components { clock: Arc::new(SystemClock) };
        let repaired = SpanStore::repair(&traces, &settings, components)
            .with_context(|| format!("cannot repair {}", traces.display()))
            .map_err(Failure::Run)?;
        tell_repair(&repaired)?;
    }
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
    say(&traces_line(&examined))?;
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

fn tell_repair(repaired: &Repair) -> Result<(), Failure> {
    for line in &repaired.lost {
        say(&format!("lost: {line}\n"))?;
    }
    for path in &repaired.kept {
        say(&format!("kept for inspection, to be removed by hand or by retention: {}\n", path.display()))?;
    }
    say(&format!(
        "repair: {} days read, {} spans stored again, {} not taken; {} places lost\n",
        repaired.days,
        repaired.spans,
        repaired.rejected,
        repaired.lost.len(),
    ))
}

fn traces_line(examined: &Examination) -> String {
    format!(
        "traces: {} days, {} segments, {} blocks, {} spans; {} records in the log; {} damaged; {} search indexes built anew\n",
        examined.days,
        examined.segments,
        examined.blocks,
        examined.spans,
        examined.log_records,
        examined.damage.len(),
        examined.rebuilt_days,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_was_counted_is_told() {
        let damage = vec!["a".to_owned(), "b".to_owned()];
        let examined =
            Examination { days: 3, segments: 4, blocks: 5, spans: 6, log_records: 7, damage, rebuilt_days: 1 };
        assert_eq!(
            traces_line(&examined),
            "traces: 3 days, 4 segments, 5 blocks, 6 spans; 7 records in the log; 2 damaged; 1 search indexes built anew\n"
        );
    }
}
