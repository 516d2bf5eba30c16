//! Prometheus' text exposition format, line by line.
//!
//! Source: Prometheus' "Exposition formats" and OpenMetrics 1.0. As in VictoriaMetrics, a timestamp in
//! ±2³¹ is OpenMetrics' (seconds, with a fraction), any other is in milliseconds.

use pharos_model::{Exemplar, LabelsBuilder, METRIC_NAME, MetricKind, Sample};

use super::{LineError, ORDINARY_NAN_BITS, Output, bad};
use crate::IngestError;
use crate::sink::exemplar_labels;

/// Timestamps of smaller magnitude are seconds: as milliseconds they would lie in January 1970.
const SECONDS_BELOW: f64 = 2_147_483_648.0;

/// Reads lines; metadata of a family is collected until the next family begins.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    family: Option<Family>,
    scratch: LabelsBuilder,
    /// Of OpenMetrics: whether `# EOF` was there.
    ended: Option<bool>,
}

#[derive(Debug, Default)]
struct Family {
    name: String,
    kind: MetricKind,
    help: String,
    unit: String,
}

impl Exposition {
    /// Reads OpenMetrics, by the letter where the two formats differ.
    pub(super) fn open_metrics() -> Self {
        Self { ended: Some(false), ..Self::default() }
    }

    /// What is wrong with the end of the text.
    pub(super) fn missing_end(&self) -> Option<&'static str> {
        (self.ended == Some(false)).then_some("the text does not end with \"# EOF\": its end may be missing")
    }

    /// Reads one line without its end; not empty.
    pub(super) fn line(&mut self, line: &str, output: &mut Output<'_>) -> Result<(), LineError> {
        if self.ended == Some(true) {
            return Err(bad("nothing may follow \"# EOF\""));
        }
        if let Some(comment) = line.strip_prefix('#') {
            if self.ended.is_some() && comment == " EOF" {
                self.ended = Some(true);
            }
            return Ok(self.comment(comment, output)?);
        }
        let read = self.sample(line, output);
        if read.is_err() {
            // Nothing of the line may stay behind for the next.
            output.sink.labels.clear();
        }
        read
    }

    /// Hands out the last family's metadata.
    ///
    /// # Errors
    /// [`IngestError::BatchTooLarge`]: the block takes more memory than it may.
    pub(super) fn finish(&mut self, output: &mut Output<'_>) -> Result<(), IngestError> {
        match self.family.take() {
            Some(Family { name, kind, help, unit }) => output.sink.push_metadata(&name, kind, &help, &unit),
            None => Ok(()),
        }
    }

    /// `TYPE`, `HELP` and `UNIT`; every other comment says nothing to us.
    fn comment(&mut self, comment: &str, output: &mut Output<'_>) -> Result<(), IngestError> {
        let Some((keyword, rest)) = split_word(comment) else { return Ok(()) };
        if !matches!(keyword, "TYPE" | "HELP" | "UNIT") {
            return Ok(());
        }
        let rest = rest.trim_start();
        let mut cursor = Cursor(rest);
        let name = if rest.starts_with('"') { cursor.quoted().ok() } else { Some(cursor.word().to_owned()) };
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(()) };
        let text = cursor.0.trim();
        if self.family.as_ref().is_none_or(|family| family.name != name) {
            self.finish(output)?;
        }
        let family = self.family.get_or_insert_with(|| Family { name, ..Family::default() });
        match keyword {
            "TYPE" => family.kind = kind(text),
            "HELP" => family.help = unescape(text),
            _ => text.clone_into(&mut family.unit),
        }
        Ok(())
    }

    fn sample(&mut self, line: &str, output: &mut Output<'_>) -> Result<(), LineError> {
        let mut cursor = Cursor(line);
        let name = cursor.bare_name();
        if !name.is_empty() {
            output.sink.labels.push(METRIC_NAME, name);
        }
        cursor.skip_space();
        if cursor.take('{') {
            labels(&mut cursor, &mut output.sink.labels, true)?;
        } else if name.is_empty() {
            return Err(bad("a metric name is missing; names beyond [a-zA-Z0-9_:] are quoted, within braces"));
        }
        cursor.skip_space();
        let value = value(cursor.word())?;
        cursor.skip_space();
        let timestamp_ms = match cursor.0.chars().next() {
            None | Some('#') => output.options.timestamp_ms,
            Some(_) => self.timestamp_ms(cursor.word())?,
        };
        cursor.skip_space();
        let exemplar = if cursor.take('#') { Some(self.exemplar(&mut cursor, timestamp_ms)?) } else { None };
        cursor.skip_space();
        if !cursor.0.is_empty() {
            return Err(bad(format!("unexpected {:?} after the sample", start(cursor.0))));
        }
        output.sink.push_sample(Sample { timestamp_ms, value }, 0);
        match exemplar {
            Some(Some(exemplar)) => output.sink.push_exemplar(exemplar)?,
            Some(None) => output.sink.drop_exemplar(),
            None => {}
        }
        output.finish_series()
    }

    fn timestamp_ms(&self, word: &str) -> Result<i64, LineError> {
        if self.ended.is_some() { seconds_ms(word) } else { timestamp_ms(word) }
    }

    /// `{labels} value [timestamp]`; `None` where the labels are no label set.
    fn exemplar(&mut self, cursor: &mut Cursor<'_>, sample_ms: i64) -> Result<Option<Exemplar>, LineError> {
        cursor.skip_space();
        if !cursor.take('{') {
            return Err(bad("an exemplar begins with its labels in braces"));
        }
        self.scratch.clear();
        labels(cursor, &mut self.scratch, false)?;
        cursor.skip_space();
        let value = value(cursor.word())?;
        cursor.skip_space();
        let timestamp_ms = if cursor.0.is_empty() { sample_ms } else { self.timestamp_ms(cursor.word())? };
        Ok(exemplar_labels(&mut self.scratch).map(|labels| Exemplar { labels, timestamp_ms, value }))
    }
}

/// Labels up to and with the closing brace; a quoted text without a value is the metric's name.
fn labels(cursor: &mut Cursor<'_>, labels: &mut LabelsBuilder, may_name: bool) -> Result<(), LineError> {
    loop {
        cursor.skip_space();
        if cursor.take('}') {
            return Ok(());
        }
        let quoted = cursor.0.starts_with('"');
        let name = if quoted { cursor.quoted()? } else { cursor.bare_name().to_owned() };
        if name.is_empty() {
            return Err(bad(format!("a label name is missing before {:?}", start(cursor.0))));
        }
        cursor.skip_space();
        if cursor.take('=') {
            cursor.skip_space();
            let value = cursor.quoted()?;
            labels.push(&name, &value);
        } else if quoted && may_name && !labels.contains(METRIC_NAME) {
            labels.push(METRIC_NAME, &name);
        } else {
            return Err(bad(format!("label {:?} has no value", start(&name))));
        }
        cursor.skip_space();
        if !cursor.take(',') && !cursor.0.starts_with('}') {
            return Err(bad(format!("expected a comma or a closing brace before {:?}", start(cursor.0))));
        }
    }
}

/// What is left of a line.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn take(&mut self, expected: char) -> bool {
        let rest = self.0.strip_prefix(expected);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Up to the next space.
    fn word(&mut self) -> &'a str {
        self.split(self.0.find([' ', '\t']).unwrap_or(self.0.len()))
    }

    /// A name that needs no quotes.
    fn bare_name(&mut self) -> &'a str {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
        let end = self.0.bytes().position(|byte| !allowed(byte)).unwrap_or(self.0.len());
        if self.0.starts_with(|first: char| first.is_ascii_digit()) { "" } else { self.split(end) }
    }

    /// A text in double quotes, unescaped.
    fn quoted(&mut self) -> Result<String, LineError> {
        if !self.take('"') {
            return Err(bad(format!("expected a quoted text before {:?}", start(self.0))));
        }
        let mut escaped = false;
        let end = self.0.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let end = end.ok_or_else(|| bad("a quoted text does not end on its line"))?;
        let text = unescape(self.split(end));
        self.take('"');
        Ok(text)
    }

    fn split(&mut self, at: usize) -> &'a str {
        let (front, rest) = self.0.split_at(at);
        self.0 = rest;
        front
    }
}

/// `\\`, `\"` and `\n`; a backslash before anything else stands for itself.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            out.push(char);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some(plain @ ('\\' | '"')) => out.push(plain),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

fn value(word: &str) -> Result<f64, LineError> {
    match word.parse::<f64>() {
        Ok(value) if value.is_nan() => Ok(f64::from_bits(ORDINARY_NAN_BITS)),
        Ok(value) => Ok(value),
        Err(_) if word.is_empty() => Err(bad("the value is missing")),
        Err(_) => Err(bad(format!("{:?} is no number", start(word)))),
    }
}

fn timestamp_ms(word: &str) -> Result<i64, LineError> {
    let wrong = || bad(format!("{:?} is no timestamp", start(word)));
    if let Ok(ms) = word.parse::<i64>()
        && (ms as f64).abs() >= SECONDS_BELOW
    {
        return Ok(ms);
    }
    let number: f64 = word.parse().map_err(|_| wrong())?;
    let ms = if number.abs() < SECONDS_BELOW { (number * 1_000.0).round() } else { number.round() };
    if ms.is_finite() && ms.abs() < 9.2e18 { Ok(ms as i64) } else { Err(wrong()) }
}

/// OpenMetrics' timestamps: seconds, whatever their size.
fn seconds_ms(word: &str) -> Result<i64, LineError> {
    let ms = word.parse::<f64>().ok().map(|seconds| (seconds * 1_000.0).round());
    let ms = ms.filter(|ms| ms.abs() < 9.2e18);
    ms.map(|ms| ms as i64).ok_or_else(|| bad(format!("{:?} is no timestamp in seconds", start(word))))
}

fn kind(text: &str) -> MetricKind {
    match text {
        "counter" => MetricKind::Counter,
        "gauge" => MetricKind::Gauge,
        "histogram" => MetricKind::Histogram,
        "gaugehistogram" => MetricKind::GaugeHistogram,
        "summary" => MetricKind::Summary,
        "info" => MetricKind::Info,
        "stateset" => MetricKind::StateSet,
        _ => MetricKind::Unknown,
    }
}

fn split_word(text: &str) -> Option<(&str, &str)> {
    text.trim_start().split_once([' ', '\t'])
}

/// The start of a text, for a message.
fn start(text: &str) -> &str {
    crate::limits::cut(text, 32)
}
