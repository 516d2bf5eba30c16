//! Scripts in the language of promqltest: load series, evaluate queries, compare with what is expected.
//!
//! ```text
//! load 1m
//!   requests_total{job="api"} 0+60x10
//!
//! eval instant at 10m rate(requests_total[5m])
//!   {job="api"} 1
//! ```
//!
//! Owns the language and the comparison; series live in the store that a [`ScriptStore`] makes, queries run on
//! [`crate::Engine`]. A block ends at a blank line or a comment. What cannot be read fails its own block only.
//!
//! Beyond what is written, each instant query must give the same answer again (a) with `@ t` printed into each selector,
//! evaluated at other times, and (b) as the middle step of a range query; and every query the same to the last bit where
//! the store computes nothing by itself.
//!
//! Source: documentation of Prometheus' `promqltest` package.

mod command;
mod compare;
mod expectation;
mod histogram;
mod load;
mod nhcb;
mod run;
mod scan;
mod series;
mod variants;

use std::fmt;
use std::sync::Arc;

use pharos_storage::MetricStore;
use pharos_storage::memory::MemoryMetricStore;

pub use run::ScriptRunner;

/// Where a script's series live.
pub trait ScriptStore {
    /// A store without any series, for the start of a script and after each `clear`.
    ///
    /// # Errors
    /// A message, if no store can be made.
    fn fresh(&mut self) -> Result<Arc<dyn MetricStore>, String>;
}

/// Stores in memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryScriptStore;

impl ScriptStore for MemoryScriptStore {
    fn fresh(&mut self) -> Result<Arc<dyn MetricStore>, String> {
        Ok(Arc::new(MemoryMetricStore::new()))
    }
}

/// How a script went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScriptReport {
    /// Evaluations that met their expectation.
    pub passed: usize,
    /// Evaluations that did not, and blocks that could not be read or loaded.
    pub failures: Vec<ScriptFailure>,
}

/// One evaluation or block that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptFailure {
    /// Line of the command, from 1.
    pub line: usize,
    /// The command as written.
    pub command: String,
    /// What went wrong.
    pub reason: String,
}

impl fmt::Display for ScriptFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}\n    {}", self.line, self.command, self.reason.replace('\n', "\n    "))
    }
}

impl fmt::Display for ScriptReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "{failure}")?;
        }
        write!(f, "{} passed, {} failed", self.passed, self.failures.len())
    }
}
