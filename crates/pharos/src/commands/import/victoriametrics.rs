//! `pharos import victoriametrics URL`: its export API, slice of time by slice of time, so that neither side collects
//! more of a series than one slice.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Arg, ArgMatches, Command};
use jiff::Timestamp;
use pharos_base::{Clock, HumanDuration, SystemClock};
use pharos_ingest::Encoding;
use pharos_ingest::text::TextFormat;
use reqwest::{Client, RequestBuilder, Response};

use super::delivery::Delivery;
use super::selection::selectors;
use super::text::TextReader;

const TOKEN_VARIABLE: &str = "PHAROS_SOURCE_TOKEN";
const PASSWORD_VARIABLE: &str = "PHAROS_SOURCE_PASSWORD";
/// Without `--start`, data are looked for from 2015 on, a window at a time.
const FIRST_MS: i64 = 1_420_070_400_000;
const PROBE_WINDOW_MS: i64 = 30 * 86_400_000;
/// Samples may be a little ahead of the clock.
const FUTURE_MS: i64 = 2 * 86_400_000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which an export is given up.
const READ_TIMEOUT: Duration = Duration::from_mins(5);

/// The command line of `pharos import victoriametrics`.
pub(super) fn command() -> Command {
    let flag = |name: &'static str, value: &'static str| Arg::new(name).long(name).value_name(value);
    Command::new("victoriametrics")
        .about("Import from a running VictoriaMetrics over its export API")
        .long_about(
            "Import from a running VictoriaMetrics over its export API (/api/v1/export), one day at a time, oldest first. \
             For a cluster give the URL of vmselect with the tenant: http://vmselect:8481/select/0/prometheus.\n\n\
             If the import ends early it says from which --start to go on. VictoriaMetrics writes every NaN as null, so \
             staleness markers arrive as ordinary NaNs.",
        )
        .arg(
            Arg::new("source")
                .value_name("URL")
                .required(true)
                .help("Where VictoriaMetrics answers queries, such as http://victoria:8428"),
        )
        .arg(flag("slice", "DURATION").default_value("1d").help("Time exported with one request; smaller needs less memory there"))
        .arg(flag("source-token", "TOKEN").help(format!("Bearer token of the source [variable: {TOKEN_VARIABLE}]")))
        .arg(flag("source-user", "NAME").help("User of the source, for basic authentication"))
        .arg(flag("source-password", "PASSWORD").help(format!("Password of that user [variable: {PASSWORD_VARIABLE}]")))
}

/// Imports what the source exports.
pub(super) async fn import(
    matches: &ArgMatches,
    environment: &BTreeMap<String, String>,
    delivery: &mut Delivery,
) -> anyhow::Result<()> {
    let source = Source::new(matches, environment)?;
    let slice: HumanDuration =
        matches.get_one::<String>("slice").expect("it has a default").parse().context("--slice")?;
    let slice_ms = slice.as_ms().max(1_000);
    let range = delivery.selection.range;
    let now_ms = SystemClock.unix_ms();
    let end_ms = range.end_ms.min(now_ms + FUTURE_MS);
    let mut next_ms = if range.start_ms == i64::MIN { FIRST_MS } else { range.start_ms };
    while next_ms < end_ms {
        // A window without any series costs one small question, not thirty exports.
        let window_end_ms = (next_ms + PROBE_WINDOW_MS.max(slice_ms)).min(end_ms);
        if !source.has_series(next_ms, window_end_ms).await? {
            next_ms = window_end_ms;
            continue;
        }
        while next_ms < window_end_ms {
            let slice_end_ms = (next_ms + slice_ms).min(window_end_ms);
            copy_slice(&source, next_ms, slice_end_ms, delivery).await.map_err(|error| {
                let from =
                    Timestamp::from_millisecond(next_ms).map_or_else(|_| next_ms.to_string(), |at| at.to_string());
                error.context(format!("everything before {from} is imported; go on with --start {from}"))
            })?;
            next_ms = slice_end_ms;
        }
    }
    Ok(())
}

async fn copy_slice(source: &Source, start_ms: i64, end_ms: i64, delivery: &mut Delivery) -> anyhow::Result<()> {
    let mut answer = source.export(start_ms, end_ms).await?;
    let name = format!("the export of {}", Timestamp::from_millisecond(start_ms)?);
    let mut reader = TextReader::new(TextFormat::JsonLines, Encoding::Identity, &name)?;
    while let Some(piece) = answer.chunk().await.with_context(|| format!("{name} was cut"))? {
        reader.feed(piece, delivery).await?;
    }
    reader.finish(delivery).await?;
    // What is told to be imported must be stored, not under way.
    delivery.drain().await
}

/// A VictoriaMetrics to read from.
struct Source {
    http: Client,
    base: String,
    token: Option<String>,
    user: Option<(String, Option<String>)>,
    selectors: Vec<String>,
}

impl Source {
    fn new(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let flag = |name: &str, variable: &str| {
            matches.get_one::<String>(name).or_else(|| environment.get(variable)).map(|text| text.trim().to_owned())
        };
        let base = matches.get_one::<String>("source").expect("clap demands it").trim_end_matches('/').to_owned();
        let password = flag("source-password", PASSWORD_VARIABLE);
        let mut found: Vec<_> = selectors(matches).map(str::to_owned).collect();
        if found.is_empty() {
            found.push("{__name__!=\"\"}".to_owned());
        }
        Ok(Self {
            http: Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build()?,
            base,
            token: flag("source-token", TOKEN_VARIABLE),
            user: matches.get_one::<String>("source-user").map(|user| (user.clone(), password)),
            selectors: found,
        })
    }

    /// Whether any series has samples in `[start_ms, end_ms)`, perhaps.
    async fn has_series(&self, start_ms: i64, end_ms: i64) -> anyhow::Result<bool> {
        let answer = self.ask("series", start_ms, end_ms, &[("limit", "1")]).await?;
        let answer: serde_json::Value =
            answer.json().await.context("the source does not answer as VictoriaMetrics does")?;
        Ok(answer["data"].as_array().is_none_or(|series| !series.is_empty()))
    }

    /// The samples in `[start_ms, end_ms)`, a line for each series.
    ///
    /// Without `reduce_mem_usage=1`, which would spare the source the memory of one slice of a few series: after an export
    /// without it, VictoriaMetrics (1.79.5, Debian's) answers one with it with values of one series under the labels of
    /// another, as its pooled blocks then share their buffers.
    async fn export(&self, start_ms: i64, end_ms: i64) -> anyhow::Result<Response> {
        self.ask("export", start_ms, end_ms, &[]).await
    }

    async fn ask(&self, what: &str, start_ms: i64, end_ms: i64, more: &[(&str, &str)]) -> anyhow::Result<Response> {
        // Both ends are inside there.
        let seconds = |ms: i64| format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000));
        let (start, end) = (seconds(start_ms), seconds(end_ms - 1));
        let mut query: Vec<(&str, &str)> =
            self.selectors.iter().map(|selector| ("match[]", selector.as_str())).collect();
        query.extend([("start", start.as_str()), ("end", end.as_str())]);
        query.extend(more);
        let request = self.authorized(self.http.get(format!("{}/api/v1/{what}", self.base)).query(&query));
        let answer = request.send().await.with_context(|| format!("no answer from {}", self.base))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
        Err(anyhow!("{} answers {status} to {what}: {}", self.base, text.lines().next().unwrap_or_default()))
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match (&self.token, &self.user) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some((user, password))) => request.basic_auth(user, password.as_ref()),
            (None, None) => request,
        }
    }
}
