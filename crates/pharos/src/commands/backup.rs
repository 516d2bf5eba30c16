//! `pharos backup`, and `list`, `verify`, `prune`, `unlock` below it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use indicatif::BinaryBytes;
use pharos_backup::{BackupError, Location, Repository, Saved, SourceTree};
use pharos_base::{Clock, SystemClock, full_message};

use super::client::{ServerClient, named_url, server_flags};
use super::config::say;
use super::progress::quiet_flag;
use super::repository::{PLACES, Watch, concurrency_flag, count, location, open, place_flags, warn_left_out};
use super::serve::runtime;
use super::snapshot::Snapshots;
use crate::cli::Failure;
use crate::data_dir::DataDir;
use crate::settings::load;

/// The command line of `pharos backup`.
pub(crate) fn command() -> Command {
    let command = Command::new("backup")
        .about("Copy the data to another folder or to S3; also list, verify and prune such copies")
        .long_about(format!(
            "Copy the data (metrics, traces and tokens) to another folder or to S3-compatible storage.\n\n\
             A running server:  pharos backup --to PLACE --data-dir DIR --url http://127.0.0.1:9090\n\
             A stopped server:  pharos backup --to PLACE --data-dir DIR\n\n\
             With --url a snapshot is made, copied from DIR on this machine, and deleted; the server goes on meanwhile. \
             Backups in one place share what they have in common, so each sends only what is new. A backup is there once it is \
             whole. Settings files, and a token file outside the data folder, are not in it.\n\n{PLACES}"
        ))
        .args_conflicts_with_subcommands(true)
        .subcommand_negates_reqs(true)
        .subcommand(from(Command::new("list").about("Print all backups in a place, oldest first")))
        .subcommand(
            from(Command::new("verify").about("Read all backups in a place again and report damage; exit code 1 if there is any"))
                .arg(backup_flag("Only this backup"))
                .arg(concurrency_flag())
                .arg(quiet_flag()),
        )
        .subcommand(
            from(Command::new("prune").about("Remove all backups but the newest, and what no backup needs any more"))
                .arg(
                    Arg::new("keep")
                        .long("keep")
                        .value_name("N")
                        .required(true)
                        .value_parser(value_parser!(NonZeroUsize))
                        .help("How many backups stay, at least 1"),
                )
                .arg(Arg::new("dry-run").long("dry-run").action(ArgAction::SetTrue).help("Only say what would go"))
                .arg(concurrency_flag()),
        )
        .subcommand(from(
            Command::new("unlock").about("Remove the locks of backups and prunes that were killed; only while none runs"),
        ));
    let command = place_flags(command, "to", "Where the backup goes");
    server_flags(command)
        .mut_arg("url", |url| {
            url.help("The server that runs on the data folder, such as http://127.0.0.1:9090 [variable: PHAROS_URL]")
        })
        .mut_arg("token", |token| token.help("A token of that server with the scope admin [variable: PHAROS_TOKEN]"))
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Settings file that says where the data are"),
        )
        .arg(
            Arg::new("data-dir")
                .long("data-dir")
                .value_name("DIR")
                .help("Data folder of the server [default: ./pharos-data]"),
        )
        .arg(
            Arg::new("snapshot")
                .long("snapshot")
                .value_name("NAME")
                .conflicts_with("url")
                .help("Copy this snapshot, see `pharos snapshot`, and keep it"),
        )
        .arg(concurrency_flag())
        .arg(quiet_flag())
}

fn from(command: Command) -> Command {
    place_flags(command.after_help(PLACES), "from", "Where the backups are")
}

/// Which backup, where the newest is not meant.
pub(crate) fn backup_flag(help: &'static str) -> Arg {
    Arg::new("backup").long("backup").value_name("NAME").help(help)
}

/// Runs `pharos backup …`.
pub(crate) fn run(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> Result<(), Failure> {
    let Some((action, matches)) = matches.subcommand() else { return make(matches, environment) };
    let repository = open(matches, &location(matches, "from", environment)?)?;
    runtime().map_err(Failure::Start)?.block_on(async {
        match action {
            "list" => list(&repository).await,
            "verify" => verify(&repository, matches).await,
            "prune" => prune(&repository, matches).await,
            "unlock" => {
                let removed = repository.unlock().await.map_err(failed)?;
                say(&format!("{} removed\n", count(removed as u64, "lock")))
            }
            _ => unreachable!("clap demands a known subcommand"),
        }
    })
}

fn failed(error: BackupError) -> Failure {
    Failure::Run(error.into())
}

fn make(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> Result<(), Failure> {
    let place = location(matches, "to", environment)?;
    let data_dir = data_dir(matches, environment)?;
    if let Location::Folder(folder) = &place {
        check_outside(folder, &data_dir).map_err(Failure::Start)?;
    }
    let repository = open(matches, &place)?;
    let began = SystemClock.monotonic();
    let runtime = runtime().map_err(Failure::Start)?;
    let saved = if let Some(snapshot) = matches.get_one::<String>("snapshot") {
        let tree = SourceTree::of_snapshot(&data_dir, snapshot).map_err(|error| Failure::Start(error.into()))?;
        runtime.block_on(save(&repository, tree, matches)).map_err(Failure::Run)?
    } else if named_url(matches, environment).is_some() {
        let server = ServerClient::new(matches, environment).map_err(Failure::Start)?;
        runtime.block_on(save_running(&repository, &Snapshots(server), &data_dir, matches)).map_err(Failure::Run)?
    } else {
        let _held = DataDir::open(&data_dir)
            .context("a running server is backed up with --url (or --snapshot)")
            .map_err(|error| Failure::Start(swap_context(&error)))?;
        let tree = SourceTree::of_stopped(&data_dir).map_err(|error| Failure::Start(error.into()))?;
        runtime.block_on(save(&repository, tree, matches)).map_err(Failure::Run)?
    };
    warn_left_out(&saved.left_out);
    say(&format!(
        "backup {} made: {}, {} sent, {} reused, {:.1} s\n",
        saved.name,
        count(saved.files, "file"),
        BinaryBytes(saved.bytes_sent),
        BinaryBytes(saved.bytes_reused),
        (SystemClock.monotonic() - began).as_secs_f64(),
    ))
}

/// First what is wrong, then what to do.
fn swap_context(error: &anyhow::Error) -> anyhow::Error {
    anyhow!("{}: {error}", error.root_cause())
}

fn data_dir(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> Result<PathBuf, Failure> {
    let told = matches.get_one::<String>("data-dir").map(|value| ("data_dir".to_owned(), value.clone()));
    let file = matches.get_one::<PathBuf>("config").map(PathBuf::as_path);
    let path = load(file, environment, &told.into_iter().collect())?.data_dir;
    if path.is_dir() {
        return Ok(path);
    }
    Err(Failure::Start(anyhow!("there is no data folder {}; --data-dir says where it is", path.display())))
}

/// A backup inside of what it backs up would be lost with it.
fn check_outside(place: &Path, data_dir: &Path) -> anyhow::Result<()> {
    let data = data_dir.canonicalize().with_context(|| format!("cannot look at {}", data_dir.display()))?;
    let place = std::path::absolute(place).with_context(|| format!("cannot look at {}", place.display()))?;
    let existing = place.ancestors().find_map(|path| path.canonicalize().ok());
    if existing.is_some_and(|existing| existing.starts_with(&data)) {
        return Err(anyhow!("{} lies in the data folder {}: choose another", place.display(), data.display()));
    }
    Ok(())
}

async fn save_running(
    repository: &Repository,
    snapshots: &Snapshots,
    data_dir: &Path,
    matches: &ArgMatches,
) -> anyhow::Result<Saved> {
    let name = snapshots.create().await?;
    let saved = match SourceTree::of_snapshot(data_dir, &name) {
        Ok(tree) => save(repository, tree, matches).await,
        Err(error @ BackupError::NoSnapshot { .. }) => {
            Err(anyhow!(error).context("the server keeps its data elsewhere; --data-dir says where, on this machine"))
        }
        Err(error) => Err(error.into()),
    };
    if let Err(error) = snapshots.delete(&name).await {
        eprintln!("pharos: snapshot {name} is left on the server: {error:#}");
    }
    saved
}

async fn save(repository: &Repository, tree: SourceTree, matches: &ArgMatches) -> anyhow::Result<Saved> {
    let watch = Watch::new("backing up", matches);
    watch.over(async { Ok(repository.save(tree, watch.as_ref()).await?) }).await
}

async fn list(repository: &Repository) -> Result<(), Failure> {
    let backups = repository.list().await.map_err(failed)?;
    if backups.is_empty() {
        eprintln!("There is no backup there.");
    }
    let lines = backups.iter().map(|backup| match &backup.told {
        Ok(note) => {
            let left_out = if note.left_out.is_empty() {
                String::new()
            } else {
                format!("  without {}", note.left_out.join(", "))
            };
            let (files, bytes) = (count(note.files, "file"), BinaryBytes(note.bytes));
            format!("{}  {}  {files}  {bytes}{left_out}\n", backup.name, note.created_at)
        }
        Err(error) => format!("{}  UNUSABLE: {error}\n", backup.name),
    });
    say(&lines.collect::<String>())
}

async fn verify(repository: &Repository, matches: &ArgMatches) -> Result<(), Failure> {
    let name = matches.get_one::<String>("backup").map(String::as_str);
    let watch = Watch::new("verifying", matches);
    let verified = watch.over(async { Ok(repository.verify(name, watch.as_ref()).await?) }).await;
    let verified = verified.map_err(Failure::Run)?;
    drop(watch);
    for fault in &verified.faults {
        let what = if fault.file.is_empty() { String::new() } else { format!(" ({})", fault.file) };
        let backups = fault.backups.join(", ");
        say(&format!("DAMAGED {}{what}: {}; needed by {backups}\n", fault.key, fault.problem))?;
    }
    let (backups, objects) = (count(verified.backups, "backup"), count(verified.objects, "object"));
    say(&format!("{backups}, {objects}, {} read: ", BinaryBytes(verified.bytes)))?;
    if verified.faults.is_empty() {
        return say("all sound\n");
    }
    say(&format!("{}\n", count(verified.faults.len() as u64, "fault")))?;
    eprintln!("pharos: remove a damaged object, and the next backup sends it again if the file still exists");
    Err(Failure::Told)
}

async fn prune(repository: &Repository, matches: &ArgMatches) -> Result<(), Failure> {
    let keep = *matches.get_one::<NonZeroUsize>("keep").expect("clap demands it");
    let dry_run = matches.get_flag("dry-run");
    let pruned = repository.prune(keep, dry_run).await.map_err(|error| {
        let is_unknown = matches!(error, BackupError::Manifest { .. } | BackupError::Newer { .. });
        let advice = if is_unknown { "; nothing was removed, because what that backup needs is not known" } else { "" };
        Failure::Run(anyhow!("{}{advice}", full_message(&error)))
    })?;
    for name in &pruned.removed {
        say(&format!("{name}\n"))?;
    }
    say(&format!(
        "{} {}: {} {} in {}; {} left\n",
        count(pruned.removed.len() as u64, "backup"),
        if dry_run { "would go" } else { "removed" },
        if dry_run { "would free" } else { "freed" },
        BinaryBytes(pruned.bytes),
        count(pruned.objects, "object"),
        pruned.kept.len(),
    ))
}
