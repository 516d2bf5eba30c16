//! What of Jaeger's APIs can be chosen.

use pharos_base::{ByteSize, HumanDuration};
use serde::{Deserialize, Serialize};

use crate::adjust::Adjusting;

/// Settings of Jaeger's query APIs; the names are Jaeger's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Spans of a trace that are shown; the first has a warning if there are more. 0, the default, shows all. Traces that
    /// are asked for as they came are not cut.
    pub max_trace_size: u64,
    /// The furthest that times of a span are moved where the clock of its host seems wrong. 0, the default, moves none.
    /// Of spans that cannot be compared with their parent, or would have to be moved further, a warning says so.
    pub max_clock_skew_adjust: HumanDuration,
    /// Largest body of `POST /api/transform`, which turns OTLP into Jaeger's form. Default 64 MiB. Above: 413.
    pub transform_body_max: ByteSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_trace_size: 0,
            max_clock_skew_adjust: HumanDuration::default(),
            transform_body_max: ByteSize::mib(64),
        }
    }
}

impl Settings {
    /// What makes no sense, in words.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self) -> Result<(), String> {
        if self.transform_body_max < ByteSize(1 << 10) {
            return Err("transform_body_max: must be at least 1KiB".to_owned());
        }
        Ok(())
    }

    pub(crate) fn adjusting(&self) -> Adjusting {
        Adjusting { clock_skew_max: self.max_clock_skew_adjust, trace_spans_max: self.max_trace_size }
    }
}
