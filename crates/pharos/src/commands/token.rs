//! `pharos token new|rotate|list|revoke`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use jiff::Timestamp;
use pharos_base::{Clock, HumanDuration, SystemClock};
use pharos_gateway::{AccessRules, NewToken, Revoked, Scope, TenantAccess, TokenEntry, TokenFile, TokenSecret};

use super::config::say;
use crate::cli::Failure;
use crate::data_dir::make_folder;
use crate::settings::load;

/// Names of tokens stand in logs and listings.
const NAME_CHARS_MAX: usize = 100;

/// The command line of `pharos token`.
pub(crate) fn command() -> Command {
    Command::new("token")
        .about("Make, rotate, list and revoke tokens; a running server notices within a second")
        .subcommand_required(true)
        .subcommand(
            location(Command::new("new").about("Make a token and print it, once"))
                .arg(value("name", "NAME").required(true).help("For people and logs; unique"))
                .arg(
                    value("scopes", "SCOPES")
                        .required(true)
                        .help("Comma-separated: metrics:write, metrics:read, traces:write, traces:read, admin, debug; or all"),
                )
                .arg(
                    value("tenant", "TENANT")
                        .default_value("0")
                        .help("The tenant it belongs to; several with commas, the first where a request names none; * for every tenant"),
                )
                .arg(value("expires", "DURATION").help("Stops working after this time, such as 90d; never by default"))
                .arg(value("starts", "DURATION").help("Begins to work after this time, such as 1h; at once by default"))
                .arg(
                    value("label", "NAME=VALUE")
                        .action(ArgAction::Append)
                        .help("A label for everything that is written with it; may be given several times"),
                )
                .arg(
                    value("limits", "JSON")
                        .help("How much it may, such as '{\"samples_per_second\": 10000}'"),
                )
                .arg(
                    value("rules", "JSON").help(
                        "From where, which paths, which methods: '{\"allow\": [{\"networks\": [\"10.0.0.0/8\"]}], \"deny\": [{\"paths\": \
                         [\"/api/v1/export\"]}]}'; deny beats allow",
                    ),
                ),
        )
        .subcommand(
            location(Command::new("rotate").about("Give a token a new secret and print it, once"))
                .arg(Arg::new("token").value_name("NAME").required(true).help("Which token"))
                .arg(
                    value("grace", "DURATION")
                        .default_value("24h")
                        .help("How long its other secrets still work; 0s ends them, and the browser sessions opened with them, at once"),
                ),
        )
        .subcommand(location(Command::new("list").about("List the live tokens, without their secrets")))
        .subcommand(
            location(Command::new("revoke").about("Make a token, or one of its secrets, stop working"))
                .arg(
                    Arg::new("token")
                        .value_name("NAME|ID")
                        .required(true)
                        .help("Which token by its name, or which secret by its id"),
                ),
        )
}

fn value(name: &'static str, placeholder: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(placeholder)
}

fn location(command: Command) -> Command {
    command
        .arg(
            value("config", "FILE")
                .help("Settings file that says where the data are")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(value("data-dir", "DIR").help("Data folder of the server [default: ./pharos-data]"))
        .arg(value("token-file", "FILE").help("Token file [default: tokens.json in the data folder]"))
}

/// Runs `pharos token …`.
pub(crate) fn run(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("new", matches)) => new(matches, &token_file(matches, environment)?),
        Some(("rotate", matches)) => rotate(matches, &token_file(matches, environment)?),
        Some(("list", matches)) => list(&token_file(matches, environment)?),
        Some(("revoke", matches)) => revoke(matches, &token_file(matches, environment)?),
        _ => unreachable!("clap demands a known subcommand"),
    }
}

fn token_file(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> Result<TokenFile, Failure> {
    let flags = [("data_dir", "data-dir"), ("token_file", "token-file")];
    let flags = flags
        .iter()
        .filter_map(|(key, flag)| matches.get_one::<String>(flag).map(|value| ((*key).to_owned(), value.clone())));
    let settings = load(matches.get_one::<PathBuf>("config").map(PathBuf::as_path), environment, &flags.collect())?;
    Ok(TokenFile::at(settings.token_path()))
}

fn new(matches: &ArgMatches, file: &TokenFile) -> Result<(), Failure> {
    let new = parse_new(matches, SystemClock.unix_ms() / 1_000).map_err(Failure::Start)?;
    if let Some(folder) = file.path().parent() {
        make_folder(folder).map_err(Failure::Start)?;
    }
    let (secret, entry) = file.add(new).map_err(|error| Failure::Run(error.into()))?;
    let id = entry.secrets.last().map_or("", |secret| secret.id.as_str());
    eprintln!("Token {} ({id}) made. It is shown this once; only its hash is kept.", entry.name);
    say(&format!("{}\n", secret.reveal()))
}

fn rotate(matches: &ArgMatches, file: &TokenFile) -> Result<(), Failure> {
    let name = matches.get_one::<String>("token").expect("clap demands it");
    let grace = matches.get_one::<String>("grace").expect("it has a default").parse::<HumanDuration>();
    let grace = grace.map_err(|error| Failure::Start(error.into()))?;
    let now_s = SystemClock.unix_ms() / 1_000;
    let (secret, entry) =
        file.rotate(name, now_s, grace.as_ms() / 1_000).map_err(|error| Failure::Run(error.into()))?;
    let id = entry.secrets.last().map_or("", |secret| secret.id.as_str());
    eprintln!("Token {} has a new secret ({id}). It is shown this once; only its hash is kept.", entry.name);
    let others = entry.secrets.len() - 1;
    if others > 0 {
        eprintln!(
            "Its {others} older secrets work until they expire (pharos token list), {grace} from now at the latest."
        );
    }
    say(&format!("{}\n", secret.reveal()))
}

fn parse_new(matches: &ArgMatches, now_s: i64) -> anyhow::Result<NewToken> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let name = text("name").unwrap_or_default();
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(anyhow!("a token's name has 1 to {NAME_CHARS_MAX} printable characters"));
    }
    let scopes = match text("scopes").unwrap_or_default() {
        "all" => Scope::ALL.to_vec(),
        list => list.split(',').map(|scope| scope.trim().parse()).collect::<Result<_, _>>()?,
    };
    let tenant: TenantAccess = text("tenant").unwrap_or_default().parse()?;
    let expires = text("expires").map(str::parse::<HumanDuration>).transpose()?;
    let starts = text("starts").map(str::parse::<HumanDuration>).transpose()?;
    let at = |after: HumanDuration| now_s.saturating_add(after.as_ms() / 1_000);
    let labels = matches.get_many::<String>("label").into_iter().flatten().map(|label| {
        let pair = label.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        pair.ok_or_else(|| anyhow!("--label {label}: write NAME=VALUE"))
    });
    let limits = text("limits").map(serde_json::from_str).transpose().context("--limits")?;
    let rules: Option<AccessRules> = text("rules").map(serde_json::from_str).transpose().context("--rules")?;
    Ok(NewToken {
        extra_labels: labels.collect::<Result<_, _>>()?,
        limits: limits.unwrap_or_default(),
        rules: rules.unwrap_or_default(),
        not_before: starts.map(at),
        expires_at: expires.map(at),
        ..NewToken::new(name, &scopes, tenant, now_s)
    })
}

fn list(file: &TokenFile) -> Result<(), Failure> {
    let tokens = file.read().map_err(|error| Failure::Run(error.into()))?;
    if tokens.is_empty() {
        eprintln!("There is no token in {}.", file.path().display());
        return Ok(());
    }
    let head = ["ID", "NAME", "TENANT", "EXPIRES", "SCOPES"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(tokens.iter().flat_map(rows)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..4).map(width).collect();
    let lines = rows.iter().map(|row| {
        let columns = row.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}  "));
        format!("{}{}\n", columns.collect::<String>(), row[4])
    });
    say(&lines.collect::<String>())
}

/// One line for each secret of a token.
fn rows(token: &TokenEntry) -> impl Iterator<Item = [String; 5]> {
    token.secrets.iter().map(|secret| row(token, secret))
}

fn row(token: &TokenEntry, secret: &TokenSecret) -> [String; 5] {
    let scopes = token.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",");
    let expires = [token.expires_at, secret.expires_at].into_iter().flatten().min();
    let expires = expires.and_then(|at| Timestamp::from_second(at).ok());
    let expires = expires.map_or_else(|| "never".to_owned(), |at| at.to_string());
    [secret.id.clone(), token.name.clone(), token.tenant.to_string(), expires, scopes]
}

fn revoke(matches: &ArgMatches, file: &TokenFile) -> Result<(), Failure> {
    let which = matches.get_one::<String>("token").expect("clap demands it");
    match file.remove(which).map_err(|error| Failure::Run(error.into()))? {
        Revoked::Token(token) => say(&format!("Token {} revoked.\n", token.name)),
        Revoked::Secret { name, id } => say(&format!("Secret {id} of token {name} revoked; its others still work.\n")),
    }
}
