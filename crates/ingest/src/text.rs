//! Imports in text: Prometheus' exposition format and VictoriaMetrics' JSON lines, of any length.
//!
//! [`TextImport`] is fed the body as it arrives and hands out bounded batches. A line that cannot be read is
//! counted, the first one with its number and reason, and the others go on: a dump of hours must not fail at its
//! last line. Lines hold no state for one another, metadata apart.
//!
//! Invariants
//! - I1 Memory is bounded by [`LINE_BYTES_MAX`] and the size of the pieces that are fed, whatever the body inflates to.
//! - I2 A batch holds at most [`BATCH_SAMPLES_MAX`] samples and [`BATCH_LABEL_BYTES_MAX`] bytes of labels, and one series more.

mod exposition;
mod json_lines;
mod stream;
#[cfg(test)]
mod tests;

use bytes::{Buf, Bytes};

use crate::sink::SeriesSink;
use crate::{DecodedMetrics, Encoding, IngestError, Limits, TimeWindow};
use exposition::Exposition;
use stream::StreamInflater;

/// Longest line, bytes.
pub const LINE_BYTES_MAX: usize = 16 << 20;
/// Samples after which a batch is handed out.
pub const BATCH_SAMPLES_MAX: usize = 1 << 16;
/// Bytes of label text after which a batch is handed out.
pub const BATCH_LABEL_BYTES_MAX: u64 = 8 << 20;
/// Text that is collected before it is read.
const BLOCK_BYTES: usize = 1 << 20;
/// Body bytes inflated at a time: at most a thousandfold grows out of them.
const INFLATE_BYTES: usize = 8 << 10;
/// The NaN of a `null` or `NaN`: Prometheus' ordinary one, which is no staleness marker.
const ORDINARY_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Which text it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus' text exposition format 0.0.4 with quoted UTF-8 names; of OpenMetrics, exemplars, units and
    /// timestamps in seconds.
    Exposition,
    /// OpenMetrics 1.0: as the exposition format, but every timestamp is in seconds, and the text ends with `# EOF`.
    OpenMetrics,
    /// `{"metric":{…},"values":[…],"timestamps":[…]}`, one series a line.
    JsonLines,
}

/// What the request says beside its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextOptions {
    /// The instant of samples without one, Unix milliseconds.
    pub timestamp_ms: i64,
    /// Labels of every series; they replace those of the same name.
    pub extra_labels: Vec<(String, String)>,
}

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number; the first is 1.
    pub number: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Lines that could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadLines {
    /// How many.
    pub count: u64,
    /// The first.
    pub first: Option<BadLine>,
}

/// A body on its way in.
#[derive(Debug)]
pub struct TextImport {
    options: TextOptions,
    inflater: StreamInflater,
    lines: LineReader,
    /// Inflated bytes that are no whole block yet.
    text: Vec<u8>,
    /// How much of `text` is known to hold no line's end.
    scanned: usize,
    next_line: u64,
    bad: BadLines,
}

#[derive(Debug)]
enum LineReader {
    Exposition(Exposition),
    JsonLines,
}

impl TextImport {
    /// An import that has read nothing yet.
    ///
    /// # Errors
    /// [`IngestError::Inflate`] for an encoding that cannot be read piece by piece (snappy's block format).
    pub fn new(format: TextFormat, encoding: Encoding, options: TextOptions) -> Result<Self, IngestError> {
        let lines = match format {
            TextFormat::Exposition => LineReader::Exposition(Exposition::default()),
            TextFormat::OpenMetrics => LineReader::Exposition(Exposition::open_metrics()),
            TextFormat::JsonLines => LineReader::JsonLines,
        };
        let inflater = StreamInflater::new(encoding)?;
        Ok(Self { options, inflater, lines, text: Vec::new(), scanned: 0, next_line: 1, bad: BadLines::default() })
    }

    /// Reads from the front of `body` until there is a block of text, and translates it; `body` keeps what is to
    /// be read next, and is empty when more must arrive.
    ///
    /// # Errors
    /// - [`IngestError::Inflate`]: the bytes are not what the encoding says.
    /// - [`IngestError::Decode`]: a line longer than [`LINE_BYTES_MAX`]. After an error nothing more can be read; what
    ///   was handed out before is sound.
    pub fn feed(
        &mut self,
        body: &mut Bytes,
        limits: &Limits,
        window: TimeWindow,
    ) -> Result<Vec<DecodedMetrics>, IngestError> {
        while !body.is_empty() {
            let piece = body.len().min(INFLATE_BYTES);
            let inflated = self.inflater.inflate(&body[..piece], &mut self.text)?;
            body.advance(inflated);
            if self.text.len() < BLOCK_BYTES {
                continue;
            }
            let end = self.text[self.scanned..].iter().rposition(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| self.scanned + end + 1) {
                let rest = self.text.split_off(end);
                let block = std::mem::replace(&mut self.text, rest);
                self.scanned = self.text.len();
                return self.translate(&block, limits, window, false);
            }
            self.scanned = self.text.len();
            if self.scanned > LINE_BYTES_MAX {
                return Err(self.unreadable(&format!("longer than {LINE_BYTES_MAX} bytes; split its series")));
            }
        }
        Ok(Vec::new())
    }

    /// Translates what is left after the whole body was fed; the last line needs no end.
    ///
    /// # Errors
    /// [`IngestError::Inflate`]: the body ended early.
    pub fn finish(&mut self, limits: &Limits, window: TimeWindow) -> Result<Vec<DecodedMetrics>, IngestError> {
        self.inflater.finish(&mut self.text)?;
        let block = std::mem::take(&mut self.text);
        self.translate(&block, limits, window, true)
    }

    /// Lines that could not be read so far.
    #[must_use]
    pub fn bad_lines(&self) -> &BadLines {
        &self.bad
    }

    /// Bytes held at the moment.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.text.capacity()
    }

    fn translate(
        &mut self,
        block: &[u8],
        limits: &Limits,
        window: TimeWindow,
        last: bool,
    ) -> Result<Vec<DecodedMetrics>, IngestError> {
        let mut output = Output::new(limits, window, &self.options);
        for line in block.split_inclusive(|byte| *byte == b'\n') {
            let read = match std::str::from_utf8(line.trim_ascii()) {
                Err(_) => Err(LineError::Bad("not UTF-8".to_owned())),
                Ok("") => Ok(()),
                Ok(line) => match &mut self.lines {
                    LineReader::Exposition(exposition) => exposition.line(line, &mut output),
                    LineReader::JsonLines => json_lines::line(line, &mut output),
                },
            };
            match read {
                Ok(()) => {}
                Err(LineError::Ingest(error)) => return Err(error),
                Err(LineError::Bad(reason)) => {
                    self.bad.count += 1;
                    let number = self.next_line;
                    self.bad.first.get_or_insert(BadLine { number, reason });
                }
            }
            self.next_line += 1;
        }
        if let (true, LineReader::Exposition(exposition)) = (last, &mut self.lines) {
            exposition.finish(&mut output)?;
            if let Some(reason) = exposition.missing_end() {
                self.bad.count += 1;
                self.bad.first.get_or_insert(BadLine { number: self.next_line, reason: reason.to_owned() });
            }
        }
        Ok(output.finish())
    }

    fn unreadable(&self, reason: &str) -> IngestError {
        IngestError::Decode { message_name: "text", message: format!("line {}: {reason}", self.next_line) }
    }
}

/// Why a line is not stored.
#[derive(Debug)]
enum LineError {
    /// This line only.
    Bad(String),
    /// All that follows, too.
    Ingest(IngestError),
}

impl From<IngestError> for LineError {
    fn from(error: IngestError) -> Self {
        Self::Ingest(error)
    }
}

fn bad(reason: impl Into<String>) -> LineError {
    LineError::Bad(reason.into())
}

/// Where lines go: a sink, and the batches that are full.
struct Output<'a> {
    sink: SeriesSink<'a>,
    limits: &'a Limits,
    window: TimeWindow,
    options: &'a TextOptions,
    full: Vec<DecodedMetrics>,
}

impl<'a> Output<'a> {
    fn new(limits: &'a Limits, window: TimeWindow, options: &'a TextOptions) -> Self {
        Self { sink: SeriesSink::new(limits, window), limits, window, options, full: Vec::new() }
    }

    /// Ends a series whose labels and samples are in the sink.
    fn finish_series(&mut self) -> Result<(), LineError> {
        for (name, value) in &self.options.extra_labels {
            self.sink.labels.set(name, value);
        }
        self.sink.finish()?;
        if self.sink.sample_count() >= BATCH_SAMPLES_MAX || self.sink.label_bytes() >= BATCH_LABEL_BYTES_MAX {
            let full = std::mem::replace(&mut self.sink, SeriesSink::new(self.limits, self.window));
            self.full.push(full.build());
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<DecodedMetrics> {
        self.full.push(self.sink.build());
        self.full
    }
}
