//! `pharos import prometheus|victoriametrics|openmetrics`: brings what others keep to a running server.
//!
//! Every source is read piece by piece, translated here and sent by remote write; what the server has already changes
//! nothing, so that an import that was interrupted is simply run again. Exit code 1 says that something was left out.

mod delivery;
mod encode;
mod prometheus;
mod selection;
mod text;
mod victoriametrics;

use std::collections::BTreeMap;

use anyhow::anyhow;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::client::{ServerClient, server_flags};
use super::config::say;
use super::progress::{Progress, Unit, is_quiet, quiet_flag};
use super::serve::runtime;
use crate::cli::Failure;
use delivery::Delivery;
use selection::selection_flags;
pub(crate) use selection::{Selection, range_flags, selectors};

/// The command line of `pharos import`.
pub(crate) fn command() -> Command {
    Command::new("import")
        .about("Bring metrics of Prometheus, VictoriaMetrics or a file to a running server (token with scope metrics:write)")
        .long_about(
            "Bring metrics of Prometheus, VictoriaMetrics or a file to a running server.\n\n\
             Samples go through the server's own door, so it may serve others meanwhile. What is there already stays as it is: \
             an import that was interrupted is run again, whole or from the time it names. Samples older than the server's \
             retention are refused, so set --retention-metrics first.\n\n\
             The token needs the scope metrics:write. Exit code 0: everything is stored; 1: something was left out, and was told; \
             2: nothing could begin.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(flags(prometheus::command()))
        .subcommand(flags(victoriametrics::command()))
        .subcommand(flags(text::command()))
}

fn flags(command: Command) -> Command {
    let tenant = Arg::new("tenant")
        .long("tenant")
        .value_name("TENANT")
        .help("Write for this tenant, if the token may [default: the token's own]");
    let dry =
        Arg::new("dry-run").long("dry-run").action(ArgAction::SetTrue).help("Read and check everything, send nothing");
    selection_flags(server_flags(command)).arg(tenant).arg(dry).arg(quiet_flag())
}

/// Runs `pharos import …`.
pub(crate) fn run(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> Result<(), Failure> {
    let (source, matches) = matches.subcommand().expect("clap demands a subcommand");
    let server = ServerClient::new(matches, environment).map_err(Failure::Start)?;
    let selection = Selection::new(matches).map_err(Failure::Start)?;
    let progress = Progress::begin("importing", Unit::Things("samples"), is_quiet(matches));
    let tenant = matches.get_one::<String>("tenant").cloned();
    let mut delivery = Delivery::new(server, tenant, selection, matches.get_flag("dry-run"), progress);
    runtime().map_err(Failure::Start)?.block_on(async {
        let outcome = match source {
            "prometheus" => prometheus::import(matches, &mut delivery).await,
            "victoriametrics" => victoriametrics::import(matches, environment, &mut delivery).await,
            _ => text::import(matches, &mut delivery).await,
        };
        let outcome = match delivery.drain().await {
            Ok(()) => outcome,
            Err(error) => Err(outcome.err().unwrap_or(error)),
        };
        let report = delivery.finish();
        say(&format!("{}\n", report.summary()))?;
        match outcome {
            Err(error) => Err(Failure::Run(error)),
            Ok(()) if report.is_whole() => Ok(()),
            Ok(()) => Err(Failure::Run(anyhow!("not everything was imported; the lines above say what was left out"))),
        }
    })
}
