//! `pharos snapshot create|list|delete`: asks a running server.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command};
use reqwest::Method;
use serde_json::Value;

use super::client::{ServerClient, server_flags};
use super::config::say;
use super::serve::runtime;
use crate::cli::Failure;

/// The command line of `pharos snapshot`.
pub(crate) fn command() -> Command {
    Command::new("snapshot")
        .about("Make, list and delete snapshots of a running server (token with scope admin)")
        .long_about(
            "Make, list and delete snapshots of a running server.\n\n\
             A snapshot is the data as they are now, kept by hard links in snapshots/NAME of the metrics and traces folders \
             below the data folder. It costs no space until the server drops or merges what it holds on to, so delete what \
             you no longer need. A snapshot lies on the same disk: `pharos backup` makes a copy that survives the disk.\n\n\
             The token needs the scope admin.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(server_flags(Command::new("create").about("Make a snapshot and print its name")))
        .subcommand(server_flags(Command::new("list").about("Print the names of all snapshots, oldest first")))
        .subcommand(
            server_flags(Command::new("delete").about("Delete snapshots"))
                .arg(
                    Arg::new("name")
                        .value_name("NAME")
                        .num_args(1..)
                        .required_unless_present("all")
                        .help("Which, as `pharos snapshot list` prints them"),
                )
                .arg(Arg::new("all").long("all").action(ArgAction::SetTrue).conflicts_with("name").help("All of them")),
        )
}

/// Runs `pharos snapshot …`.
pub(crate) fn run(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> Result<(), Failure> {
    let (action, matches) = matches.subcommand().expect("clap demands a subcommand");
    let server = Snapshots(ServerClient::new(matches, environment).map_err(Failure::Start)?);
    runtime().map_err(Failure::Start)?.block_on(async {
        match action {
            "create" => say(&format!("{}\n", server.create().await.map_err(Failure::Run)?)),
            "list" => {
                let names = server.list().await.map_err(Failure::Run)?;
                say(&names.into_iter().map(|name| name + "\n").collect::<String>())
            }
            "delete" if matches.get_flag("all") => server.delete_all().await.map_err(Failure::Run),
            "delete" => {
                for name in matches.get_many::<String>("name").into_iter().flatten() {
                    server.delete(name).await.map_err(Failure::Run)?;
                }
                Ok(())
            }
            _ => unreachable!("clap demands a known subcommand"),
        }
    })
}

/// The snapshots of a server.
pub(crate) struct Snapshots(pub(crate) ServerClient);

impl Snapshots {
    /// Makes one of everything acknowledged so far and returns its name.
    pub(crate) async fn create(&self) -> anyhow::Result<String> {
        let answer = self.ask("snapshot/create", &[]).await?;
        answer["snapshot"].as_str().map(str::to_owned).with_context(|| format!("this is no snapshot: {answer}"))
    }

    /// All names, oldest first.
    pub(crate) async fn list(&self) -> anyhow::Result<Vec<String>> {
        let answer = self.ask("snapshot/list", &[]).await?;
        let names =
            answer["snapshots"].as_array().with_context(|| format!("this is no list of snapshots: {answer}"))?;
        Ok(names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Deletes one.
    pub(crate) async fn delete(&self, name: &str) -> anyhow::Result<()> {
        self.ask("snapshot/delete", &[("snapshot", name)]).await.map(|_| ())
    }

    async fn delete_all(&self) -> anyhow::Result<()> {
        self.ask("snapshot/delete_all", &[]).await.map(|_| ())
    }

    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        let request = self.0.request(Method::POST, path)?.query(query);
        let answer: Value = self
            .0
            .send(request)
            .await?
            .json()
            .await
            .with_context(|| format!("{} does not answer as a Pharos does", self.0.url()))?;
        match answer["status"].as_str() {
            Some("ok") => Ok(answer),
            _ => Err(anyhow!("{} answers {answer}", self.0.url())),
        }
    }
}
