//! `pharos healthcheck`: for containers, which have no curl.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Arg, ArgMatches, Command};

use crate::cli::Failure;

/// The command line of `pharos healthcheck`.
pub(crate) fn command() -> Command {
    Command::new("healthcheck").about("Ask a running server whether it is ready; exit code 0 if it is").arg(
        Arg::new("address")
            .long("address")
            .value_name("HOST:PORT")
            .default_value("127.0.0.1:9090")
            .help("Where it listens"),
    )
}

/// Asks `/-/ready`.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let address = matches.get_one::<String>("address").expect("it has a default");
    let status = ask(address).with_context(|| format!("cannot ask {address}")).map_err(Failure::Run)?;
    if status.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(Failure::Run(anyhow!("not ready: {status}"))) }
}

fn ask(address: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /-/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 << 10).read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
