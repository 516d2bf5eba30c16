//! `pharos test promql`: promqltest scripts on the real store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use pharos_base::SystemClock;
use pharos_promql::script::{ScriptRunner, ScriptStore};
use pharos_storage::MetricStore;
use pharos_tsdb::{Components, Tsdb};

use super::config::say;
use crate::cli::Failure;

/// Where the stores of scripts live; several runs at once do not meet.
const FOLDER_PREFIX: &str = "pharos-test";

/// Longest script: it is read as a whole.
const SCRIPT_BYTES_MAX: u64 = 64 << 20;

const HELP: &str = "\
Run scripts in the language of Prometheus' promqltest, unchanged, each on an empty store:

  load 1m
    requests_total{job=\"api\"} 0+60x10

  eval instant at 10m rate(requests_total[5m])
    {job=\"api\"} 1

Beyond what is written, an instant query must give the same answer with `@` printed into its selectors and
evaluated at other times, and as a step of a range query; all experimental parts of the language are on.

What fails is told as FILE:LINE with what was expected and what was found.
Exit code: 0 if everything passed, 1 if something failed, 2 if a script could not be read.";

/// The command line of `pharos test`.
pub(crate) fn command() -> Command {
    Command::new("test").about("Run tests").subcommand_required(true).subcommand(
        Command::new("promql")
            .about("Run promqltest scripts; exit code 0 if everything passed")
            .long_about(HELP)
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
    let clock = SystemClock::shared();
    let files: Vec<&PathBuf> = matches.get_many("file").expect("clap demands files").collect();
    // What cannot be read is told before the first script runs.
    files.iter().try_for_each(|file| readable(file)).map_err(Failure::Start)?;
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        let began = clock.monotonic();
        let script = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))
            .map_err(Failure::Start)?;
        let report = ScriptRunner::new(DiskStores { folder: &folder, made: 0 }).run(&script);
        if !matches.get_flag("quiet") {
            for failure in &report.failures {
                let reason = failure.reason.replace('\n', "\n    ");
                say(&format!("{}:{}: {}\n    {reason}\n", file.display(), failure.line, failure.command))?;
            }
        }
        let counts = format!("{} passed, {} failed", report.passed, report.failures.len());
        let seconds = clock.monotonic().saturating_duration_since(began).as_secs_f64();
        say(&format!("{}: {counts} in {seconds:.2} s\n", file.display()))?;
        passed += report.passed;
        failed += report.failures.len();
        folder.empty();
    }
    say(&format!("{passed} passed, {failed} failed\n"))?;
    if failed == 0 { Ok(()) } else { Err(Failure::Told) }
}

fn readable(file: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot read {}", file.display());
    let found = std::fs::metadata(file).with_context(cannot)?;
    if found.is_dir() {
        bail!("{}: it is a folder", cannot());
    }
    if found.len() > SCRIPT_BYTES_MAX {
        bail!("{}: it has {} bytes, at most {SCRIPT_BYTES_MAX} are read", cannot(), found.len());
    }
    std::fs::File::open(file).with_context(cannot).map(|_| ())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_script_is_told_before_anything_runs() {
        let folder = ScratchFolder::new().unwrap();
        let refusal = |path: &Path| readable(path).err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(refusal(&folder.0).ends_with(": it is a folder"));
        assert!(refusal(&folder.0.join("absent")).contains("cannot read"));
        let large = folder.0.join("large");
        std::fs::File::create(&large).unwrap().set_len(SCRIPT_BYTES_MAX + 1).unwrap();
        assert!(refusal(&large).ends_with("at most 67108864 are read"));
        std::fs::File::create(&large).unwrap().set_len(1).unwrap();
        assert_eq!(refusal(&large), "");
    }
}
