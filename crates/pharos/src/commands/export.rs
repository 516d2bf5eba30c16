//! `pharos export`: series of a running server as JSON lines, to standard output or a file, as they arrive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Arg, ArgMatches, Command, value_parser};
use pharos_model::TimeRange;
use reqwest::Method;

use super::client::{ServerClient, server_flags};
use super::import::{Selection, range_flags, selectors};
use super::progress::{Progress, Unit, is_quiet, quiet_flag};
use super::serve::runtime;
use crate::cli::Failure;

/// The command line of `pharos export`.
pub(crate) fn command() -> Command {
    let command = Command::new("export")
        .about("Write series of a running server as JSON lines (token with scope metrics:read)")
        .long_about(
            "Write series of a running server as JSON lines, one series a line:\n\n  \
             {\"metric\":{\"__name__\":\"up\",\"job\":\"api\"},\"values\":[1,1],\"timestamps\":[1700000000000,1700000015000]}\n\n\
             VictoriaMetrics writes and reads the same (/api/v1/export, /api/v1/import); `pharos import openmetrics --format json` \
             and this server's /api/v1/import read it, too. Native histograms have no form in these lines: `pharos backup` keeps them.",
        )
        .arg(
            Arg::new("output")
                .long("output")
                .short('o')
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Write here instead of to standard output; the file must not be there yet"),
        );
    range_flags(server_flags(command)).arg(quiet_flag())
}

/// Runs `pharos export`.
pub(crate) fn run(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> Result<(), Failure> {
    let server = ServerClient::new(matches, environment).map_err(Failure::Start)?;
    let range = Selection::new(matches).map_err(Failure::Start)?.range;
    let mut query: Vec<(&str, String)> = selectors(matches).map(|text| ("match[]", text.to_owned())).collect();
    if query.is_empty() {
        query.push(("match[]", "{__name__!=\"\"}".to_owned()));
    }
    query.extend(instants(range));
    let path = matches.get_one::<PathBuf>("output");
    let progress = Progress::begin("exporting", Unit::Bytes, is_quiet(matches));
    runtime().map_err(Failure::Start)?.block_on(async {
        let request = server.request(Method::GET, "api/v1/export").map_err(Failure::Start)?.query(&query);
        let mut answer = server.send(request).await.map_err(Failure::Run)?;
        // Only now: an export that was refused leaves no empty file behind.
        let mut out = open(path).map_err(Failure::Start)?;
        loop {
            let piece = answer.chunk().await.context("the export was cut: what was written is not all");
            let Some(piece) = piece.map_err(Failure::Run)? else { break };
            progress.advance(piece.len() as u64);
            if let Err(error) = out.write_all(&piece) {
                return ended(error);
            }
        }
        out.flush().or_else(|error| match ended(error) {
            Ok(()) => Ok(()),
            Err(failure) => Err(failure),
        })
    })
}

/// A reader that went away, such as `head`, is no failure.
fn ended(error: std::io::Error) -> Result<(), Failure> {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(Failure::Run(anyhow!(error).context("cannot write the export")))
}

fn open(path: Option<&PathBuf>) -> anyhow::Result<Box<dyn Write>> {
    Ok(match path {
        Some(path) => {
            let file = File::create_new(path).with_context(|| format!("cannot make {}", path.display()))?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(std::io::stdout()),
    })
}

/// The arguments `start` and `end`, both inside.
fn instants(range: TimeRange) -> Vec<(&'static str, String)> {
    let seconds = |ms: i64| format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000));
    let mut found = Vec::new();
    if range.start_ms > i64::MIN {
        found.push(("start", seconds(range.start_ms)));
    }
    if range.end_ms < i64::MAX {
        found.push(("end", seconds(range.end_ms - 1)));
    }
    found
}
