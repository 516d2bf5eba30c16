//! `pharos test promql`: promqltest scripts on the real store.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use pharos_promql::script::{ScriptRunner, ScriptStore};
use pharos_storage::MetricStore;
use pharos_tsdb::{Components, Tsdb};

use super::config::say;
use crate::cli::Failure;

/// Where the stores of scripts live; several runs at once do not meet.
const FOLDER_PREFIX: &str = "pharos-test";

/// The command line of `pharos test`.
pub(crate) fn command() -> Command {
    Command::new("test").about("Run tests").subcommand_required(true).subcommand(
        Command::new("promql")
            .about("Run promqltest scripts; exit code 0 if everything passed")
            .arg(
                Arg::new("file")
                    .value_name("FILE")
                    .required(true)
                    .num_args(1..)
                    .value_parser(value_parser!(PathBuf))
                    .help("Scripts in the language of Prometheus' promqltest"),
            )
            .arg(Arg::new("quiet").long("quiet").short('q').action(ArgAction::SetTrue).help("Counts only")),
    )
}

/// Runs the scripts and tells what failed.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let matches = matches.subcommand_matches("promql").expect("clap demands a known subcommand");
    let folder = ScratchFolder::new().map_err(Failure::Start)?;
    let (mut passed, mut failed) = (0, 0);
    for file in matches.get_many::<PathBuf>("file").expect("clap demands files") {
        let script = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))
            .map_err(Failure::Start)?;
        let report = ScriptRunner::new(DiskStores { folder: &folder, made: 0 }).run(&script);
        if !matches.get_flag("quiet") {
            for failure in &report.failures {
                say(&format!("{}: {failure}\n", file.display()))?;
            }
        }
        say(&format!("{}: {} passed, {} failed\n", file.display(), report.passed, report.failures.len()))?;
        passed += report.passed;
        failed += report.failures.len();
        folder.empty();
    }
    say(&format!("{passed} passed, {failed} failed\n"))?;
    if failed == 0 { Ok(()) } else { Err(Failure::Told) }
}

/// A folder that goes away with its owner.
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    fn new() -> anyhow::Result<Self> {
        let name = format!("{FOLDER_PREFIX}-{:016x}", u64::from_le_bytes(pharos_base::random_bytes()));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|error| anyhow!("cannot make the folder {}: {error}", path.display()))?;
        Ok(Self(path))
    }

    fn empty(&self) {
        let _ = std::fs::remove_dir_all(&self.0);
        let _ = std::fs::create_dir(&self.0);
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Each store is the one the server uses, in a folder of its own.
struct DiskStores<'a> {
    folder: &'a ScratchFolder,
    made: usize,
}

impl ScriptStore for DiskStores<'_> {
    fn fresh(&mut self) -> Result<Arc<dyn MetricStore>, String> {
        self.made += 1;
        let folder = self.folder.0.join(self.made.to_string());
        let store = Tsdb::open(&folder, pharos_tsdb::Settings::for_tests(), Components::default());
        store.map(|store| Arc::new(store) as Arc<dyn MetricStore>).map_err(|error| error.to_string())
    }
}
