//! `pharos healthcheck`: for containers, which have no curl.

use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Arg, ArgMatches, Command};
use reqwest::Client;
use tokio::runtime::Builder;

use crate::cli::Failure;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The command line of `pharos healthcheck`.
pub(crate) fn command() -> Command {
    Command::new("healthcheck")
        .about("Ask a running server whether it is ready; exit code 0 if it is")
        .long_about(
            "Ask a running server whether it is ready; exit code 0 if it is.\n\n\
             Over https the server's certificate is not checked: it names the public host, not where a health check looks, \
             and nothing secret is asked or sent. A port that requires certificates of clients answers no health checks.",
        )
        .arg(
            Arg::new("address")
                .long("address")
                .value_name("HOST:PORT")
                .default_value("127.0.0.1:9090")
                .help("Where it listens; https://HOST:PORT if that port speaks TLS"),
        )
}

/// Asks `/-/ready`.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let address = matches.get_one::<String>("address").expect("it has a default");
    let url = if address.contains("://") { address.clone() } else { format!("http://{address}") };
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the async runtime");
    let status = runtime.map_err(Failure::Start)?.block_on(ask(&url));
    let status = status.with_context(|| format!("cannot ask {url}")).map_err(Failure::Run)?;
    if status.is_success() { Ok(()) } else { Err(Failure::Run(anyhow!("not ready: {status}"))) }
}

async fn ask(url: &str) -> anyhow::Result<reqwest::StatusCode> {
    let client = Client::builder().timeout(TIMEOUT).no_proxy().tls_danger_accept_invalid_certs(true).build()?;
    Ok(client.get(format!("{}/-/ready", url.trim_end_matches('/'))).send().await?.status())
}
