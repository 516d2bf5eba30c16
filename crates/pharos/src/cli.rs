//! The command line: what can be asked of the binary, and its exit codes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::commands;
use crate::reload::SettingsSource;
use crate::settings::{Settings, SettingsError, keys, load};

/// Why a command ends without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not begin: exit code 2.
    Start(anyhow::Error),
    /// It began and failed: exit code 1.
    Run(anyhow::Error),
    /// It said all there is to say itself: exit code 1.
    Told,
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::Start(error.into())
    }
}

/// Runs the command line and answers the exit code.
pub(crate) fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => error.exit(),
    };
    let environment = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match dispatch(&matches, &environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Told) => ExitCode::from(1),
        Err(Failure::Run(error)) => complain(&error, 1),
        Err(Failure::Start(error)) => complain(&error, 2),
    }
}

fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    for line in format!("{error:#}").lines() {
        eprintln!("pharos: {line}");
    }
    ExitCode::from(code)
}

fn dispatch(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("serve", matches)) => {
            commands::serve::run(&settings(matches, environment)?, settings_source(matches, environment))
        }
        Some(("demo", matches)) => {
            commands::demo::run(&settings(matches, environment)?, settings_source(matches, environment))
        }
        Some(("token", matches)) => commands::token::run(matches, environment),
        Some(("backup", matches)) => commands::backup::run(matches, environment),
        Some(("restore", matches)) => commands::restore::run(matches, environment),
        Some(("snapshot", matches)) => commands::snapshot::run(matches, environment),
        Some(("test", matches)) => commands::test::run(matches),
        Some(("config", _)) => commands::config::print_defaults(),
        Some(("check", matches)) => commands::config::check(matches, environment),
        Some(("import", matches)) => commands::import::run(matches, environment),
        Some(("export", matches)) => commands::export::run(matches, environment),
        Some(("doctor", matches)) => commands::doctor::run(matches),
        Some(("healthcheck", matches)) => commands::health::run(matches),
        _ => unreachable!("clap demands a known subcommand"),
    }
}

/// The settings of a command that has all the flags.
pub(crate) fn settings(
    matches: &ArgMatches,
    environment: &BTreeMap<String, String>,
) -> Result<Settings, SettingsError> {
    let given = keys().into_iter().filter_map(|(key, _)| {
        let value = matches.get_one::<String>(key.as_str())?;
        Some((key.as_str().to_owned(), value.clone()))
    });
    let flags: BTreeMap<_, _> = given.collect();
    load(matches.get_one::<PathBuf>("config").map(PathBuf::as_path), environment, &flags)
}

/// Where a command that runs on reads its settings again.
fn settings_source(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> SettingsSource {
    let (matches, environment) = (matches.clone(), environment.clone());
    SettingsSource::new(move || settings(&matches, &environment))
}

fn command() -> Command {
    Command::new("pharos")
        .about("Metrics and traces in one binary: OTLP and Prometheus remote write in, PromQL and Jaeger out")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(Command::new("serve").about("Run the server")))
        .subcommand(with_settings(
            Command::new("demo").about("Run the server with a small simulated shop that sends live traces and metrics"),
        ))
        .subcommand(commands::token::command())
        .subcommand(commands::backup::command())
        .subcommand(commands::restore::command())
        .subcommand(commands::snapshot::command())
        .subcommand(commands::test::command())
        .subcommand(Command::new("config").about("Print every setting with its default, as a pharos.yaml"))
        .subcommand(
            Command::new("check").about("Check a file without running anything").subcommand_required(true).subcommand(
                Command::new("config").about("Check a pharos.yaml").arg(path_argument("FILE", "The file to check")),
            ),
        )
        .subcommand(commands::import::command())
        .subcommand(commands::export::command())
        .subcommand(commands::doctor::command())
        .subcommand(commands::health::command())
}

fn path_argument(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).help(help).required(true).value_parser(value_parser!(PathBuf))
}

/// Adds `--config` and one flag for each setting.
fn with_settings(command: Command) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("Settings file (pharos.yaml); see `pharos config`")
        .value_parser(value_parser!(PathBuf));
    keys().into_iter().fold(command.arg(config), |command, (key, default)| {
        let shown = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        let help = format!("{} [default: {shown}] [variable: {}]", key.help(), key.variable());
        // The engines' finer settings are for the few: they show in --help, not in -h.
        let fine = key.as_str().starts_with("tsdb.")
            || key.as_str().starts_with("tracestore.")
            || key.as_str().starts_with("ingest.");
        let flag = Arg::new(key.as_str().to_owned())
            .long(key.flag())
            .value_name("VALUE")
            .help(help)
            .action(ArgAction::Set)
            .hide_short_help(fine);
        command.arg(flag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn the_flags_that_others_rely_on_exist() {
        let flags = [
            "--data-dir",
            "--listen",
            "--otlp-grpc",
            "--otlp-http",
            "--jaeger",
            "--jaeger-grpc",
            "--auth",
            "--retention-metrics",
            "--retention-traces",
            "--sync",
        ];
        let mut arguments = vec!["pharos".to_owned(), "serve".to_owned()];
        arguments.extend(flags.iter().flat_map(|flag| [(*flag).to_owned(), "x".to_owned()]));
        command().try_get_matches_from(arguments).unwrap();
    }
}
