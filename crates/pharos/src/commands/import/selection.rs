//! What is imported or exported: selectors, times, labels that are added.

use anyhow::{Context, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command};
use jiff::Timestamp;
use pharos_model::{Labels, LabelsBuilder, Matcher, TimeRange, matches_labels};
use pharos_promql::parse_selector;

/// Which samples pass, and what becomes of their labels.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    sets: Vec<Vec<Matcher>>,
    /// Instants that pass.
    pub(crate) range: TimeRange,
    labels: Vec<(String, String)>,
}

/// Adds `--match`, `--start`, `--end`.
pub(crate) fn range_flags(command: Command) -> Command {
    let selector = Arg::new("match")
        .long("match")
        .value_name("SELECTOR")
        .action(ArgAction::Append)
        .help("Only series that it finds, such as 'up{job=\"api\"}'; may be given several times [default: all]");
    let time = |name: &'static str, help: &'static str| Arg::new(name).long(name).value_name("TIME").help(help);
    command
        .arg(selector)
        .arg(time("start", "Only samples from this time on: 2026-01-31T12:00:00Z or Unix seconds"))
        .arg(time("end", "Only samples up to this time, included"))
}

/// Adds the flags of [`range_flags`] and `--label`.
pub(crate) fn selection_flags(command: Command) -> Command {
    let label = Arg::new("label")
        .long("label")
        .value_name("NAME=VALUE")
        .action(ArgAction::Append)
        .help("Put this label on every series, in place of its own of that name; may be given several times");
    range_flags(command).arg(label)
}

impl Selection {
    /// Reads the flags.
    pub(crate) fn new(matches: &ArgMatches) -> anyhow::Result<Self> {
        let sets = selectors(matches).map(|text| {
            let matchers = parse_selector(text).map_err(|error| anyhow!("--match {text:?}: {error}"))?;
            if matchers.iter().all(Matcher::matches_empty) {
                return Err(anyhow!(
                    "--match {text:?}: at least one non-empty matcher; for everything leave the flag out"
                ));
            }
            Ok(matchers)
        });
        let labels = matches.try_get_many::<String>("label").ok().flatten().into_iter().flatten();
        let labels = labels.map(|pair| {
            let found = pair.split_once('=').filter(|(name, _)| !name.is_empty());
            let (name, value) = found.with_context(|| format!("--label {pair:?} is not NAME=VALUE"))?;
            Ok((name.to_owned(), value.to_owned()))
        });
        let start_ms = time(matches, "start")?.unwrap_or(i64::MIN);
        let end_ms = time(matches, "end")?.unwrap_or(i64::MAX);
        if start_ms > end_ms {
            return Err(anyhow!("--start is after --end"));
        }
        Ok(Self {
            sets: sets.collect::<anyhow::Result<_>>()?,
            range: TimeRange::inclusive(start_ms, end_ms),
            labels: labels.collect::<anyhow::Result<_>>()?,
        })
    }

    /// Whether a series is asked for.
    pub(crate) fn admits(&self, labels: &Labels) -> bool {
        self.sets.is_empty() || self.sets.iter().any(|set| matches_labels(set, labels))
    }

    /// The labels a series is stored with.
    pub(crate) fn relabel(&self, labels: &Labels) -> anyhow::Result<Labels> {
        if self.labels.is_empty() {
            return Ok(labels.clone());
        }
        let mut builder = LabelsBuilder::default();
        labels.iter().for_each(|(name, value)| builder.push(name, value));
        self.labels.iter().for_each(|(name, value)| builder.set(name, value));
        Ok(builder.build()?)
    }
}

/// The texts of `--match`.
pub(crate) fn selectors(matches: &ArgMatches) -> impl Iterator<Item = &str> {
    matches.get_many::<String>("match").into_iter().flatten().map(String::as_str)
}

/// An instant in Unix milliseconds.
fn time(matches: &ArgMatches, name: &str) -> anyhow::Result<Option<i64>> {
    let Some(text) = matches.get_one::<String>(name) else { return Ok(None) };
    let seconds = text.parse::<f64>().ok().map(|seconds| (seconds * 1_000.0).round());
    if let Some(ms) = seconds.filter(|ms| ms.is_finite() && ms.abs() < 9e15) {
        return Ok(Some(ms as i64));
    }
    let parsed: Result<Timestamp, _> = text.parse();
    let parsed =
        parsed.map_err(|_| anyhow!("--{name} {text:?} is no time such as 2026-01-31T12:00:00Z or Unix seconds"))?;
    Ok(Some(parsed.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> anyhow::Result<Selection> {
        let command = selection_flags(Command::new("test"));
        Selection::new(&command.try_get_matches_from([&["test"], arguments].concat()).unwrap())
    }

    #[test]
    fn flags_say_which_samples_pass_and_what_is_added() {
        let arguments =
            ["--match", "up{job=\"a\"}", "--match", "down", "--start", "10.5", "--end", "1970-01-01T00:00:20Z"];
        let selection = parsed(&[&arguments[..], &["--label", "dc=x=y", "--label", "job="]].concat()).unwrap();
        let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).unwrap();
        let up = labels(&[("__name__", "up"), ("job", "a")]);
        assert!(selection.admits(&up) && selection.admits(&labels(&[("__name__", "down")])));
        assert!(!selection.admits(&labels(&[("__name__", "up")])));
        assert_eq!(selection.range, TimeRange::new(10_500, 20_001));
        assert_eq!(selection.relabel(&up).unwrap().to_string(), "up{dc=\"x=y\"}");
        assert!(parsed(&[]).unwrap().admits(&up));
    }

    #[test]
    fn wrong_flags_are_named() {
        for (arguments, part) in [
            (&["--match", "up{"][..], "--match"),
            (&["--match", "{a=~\".*\"}"], "at least one non-empty matcher"),
            (&["--start", "noon"], "--start \"noon\" is no time"),
            (&["--start", "5", "--end", "4"], "after --end"),
            (&["--label", "x"], "NAME=VALUE"),
        ] {
            let error = parsed(arguments).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
