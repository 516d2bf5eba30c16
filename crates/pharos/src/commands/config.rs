//! `pharos config` and `pharos check config`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::ArgMatches;

use crate::cli::Failure;
use crate::settings::{default_yaml, load};

/// Prints every setting with its default.
pub(crate) fn print_defaults() -> Result<(), Failure> {
    say(&default_yaml())
}

/// Checks a settings file.
pub(crate) fn check(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> Result<(), Failure> {
    let file = matches.subcommand_matches("config").and_then(|matches| matches.get_one::<PathBuf>("FILE"));
    let file = file.expect("clap demands FILE");
    load(Some(file), environment, &BTreeMap::new())?;
    say(&format!("{} is valid\n", file.display()))
}

/// Writes to standard output; a reader that went away is no failure.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Run(error.into())),
        _ => Ok(()),
    }
}
