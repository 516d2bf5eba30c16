//! How far a long command is: a bar on a terminal, a plain line every few seconds elsewhere, nothing with `--quiet`.
//!
//! All of it goes to standard error, so that standard output stays what the command answers.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use pharos_base::{Clock, SystemClock};

/// Between two lines where there is no terminal: often enough for a log, too rare to fill it.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Redraws a second on a terminal.
const REDRAWS_PER_S: u8 = 8;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes, shown as KiB, MiB and so on.
    Bytes,
    /// Anything else, by its plural: `samples`.
    Things(&'static str),
}

/// The progress of one task. Threads may share it; dropping it takes the bar away.
pub(crate) struct Progress {
    what: &'static str,
    unit: Unit,
    bar: ProgressBar,
    /// When the next plain line is due; none on a terminal or when quiet.
    next_line_at: Option<Mutex<Instant>>,
}

/// The flag that silences [`Progress`].
pub(crate) fn quiet_flag() -> Arg {
    Arg::new("quiet").long("quiet").short('q').action(ArgAction::SetTrue).help("Show no progress, only the result")
}

/// Whether [`quiet_flag`] was given.
pub(crate) fn is_quiet(matches: &ArgMatches) -> bool {
    matches.get_flag("quiet")
}

impl Progress {
    /// Begins to show `what`, such as "backing up". The total is told by [`Progress::set_total`] once it is known.
    pub(crate) fn begin(what: &'static str, unit: Unit, quiet: bool) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::no_length();
        // Hidden first: `no_length` alone would draw once before it has its style.
        bar.set_draw_target(ProgressDrawTarget::hidden());
        bar.set_style(style(unit, false));
        bar.set_message(what);
        if on_terminal && !quiet {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_S));
        }
        let next_line_at = (!on_terminal && !quiet).then(|| Mutex::new(SystemClock.monotonic() + LINE_INTERVAL));
        Self { what, unit, bar, next_line_at }
    }

    /// How much there is to do in all.
    pub(crate) fn set_total(&self, total: u64) {
        self.bar.set_length(total);
        self.bar.set_style(style(self.unit, true));
    }

    /// So much more is done.
    pub(crate) fn advance(&self, by: u64) {
        self.bar.inc(by);
        let Some(next_line_at) = &self.next_line_at else { return };
        let now = SystemClock.monotonic();
        let mut next = next_line_at.lock();
        if now >= *next {
            *next = now + LINE_INTERVAL;
            eprintln!("{}", line(self.what, self.unit, self.bar.position(), self.bar.length()));
        }
    }

    /// Writes a line to standard error without tearing the bar apart; quiet or not.
    pub(crate) fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(unit: Unit, has_total: bool) -> ProgressStyle {
    let template = match (unit, has_total) {
        (Unit::Bytes, true) => {
            "{msg} [{bar:30}] {percent}% {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left"
        }
        (Unit::Bytes, false) => "{msg} {spinner} {binary_bytes}, {binary_bytes_per_sec}",
        (Unit::Things(_), true) => "{msg} [{bar:30}] {percent}% {human_pos} of {human_len}, {per_sec}, {eta} left",
        (Unit::Things(_), false) => "{msg} {spinner} {human_pos}, {per_sec}",
    };
    ProgressStyle::with_template(template).expect("the templates are sound").progress_chars("=> ")
}

fn line(what: &str, unit: Unit, done: u64, total: Option<u64>) -> String {
    let shown = |count: u64| match unit {
        Unit::Bytes => HumanBytes(count).to_string(),
        Unit::Things(plural) => format!("{} {plural}", HumanCount(count)),
    };
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let percent = u128::from(done.min(total)) * 100 / u128::from(total);
            format!("{what}: {} of {} ({percent} %)", shown(done), shown(total))
        }
        None => format!("{what}: {}", shown(done)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_says_how_far_it_is() {
        assert_eq!(line("backing up", Unit::Bytes, 512, Some(2048)), "backing up: 512 B of 2.00 KiB (25 %)");
        assert_eq!(line("importing", Unit::Things("samples"), 12_345, None), "importing: 12,345 samples");
        assert_eq!(line("importing", Unit::Things("samples"), 7, Some(0)), "importing: 7 samples");
    }

    #[test]
    fn every_style_is_sound_and_a_bar_counts_from_many_threads() {
        for unit in [Unit::Bytes, Unit::Things("series")] {
            let progress = Progress::begin("testing", unit, true);
            progress.advance(1);
            progress.set_total(10);
            progress.advance(2);
            assert_eq!((progress.bar.position(), progress.bar.length()), (3, Some(10)));
        }
    }
}
