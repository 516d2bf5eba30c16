//! What of Jaeger's APIs can be chosen.

use std::path::PathBuf;

use pharos_base::{ByteSize, HumanDuration};
use serde::{Deserialize, Serialize};

use crate::adjust::Adjusting;
use crate::monitor::MonitorSettings;

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
    /// A folder with a built Jaeger UI, to be served at `/` of Jaeger's port and at `/jaeger/` of the main one. None by
    /// default.
    pub ui_dir: Option<PathBuf>,
    /// The configuration of that UI: a `.json` file with an object, or a `.js` file with a function `UIConfig`. None by
    /// default.
    pub ui_config: Option<PathBuf>,
    /// Which metrics of spans the monitor reads.
    pub monitor: MonitorSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_trace_size: 0,
            max_clock_skew_adjust: HumanDuration::default(),
            transform_body_max: ByteSize::mib(64),
            ui_dir: None,
            ui_config: None,
            monitor: MonitorSettings::default(),
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
        if self.ui_config.is_some() && self.ui_dir.is_none() {
            return Err("ui_config: needs ui_dir, the folder of the UI that it configures".to_owned());
        }
        self.monitor.check()
    }

    pub(crate) fn adjusting(&self) -> Adjusting {
        Adjusting { clock_skew_max: self.max_clock_skew_adjust, trace_spans_max: self.max_trace_size }
    }
}
