//! Pharos: metrics and traces in one binary.
//!
//! The composition root: reads settings, wires engines to doors, starts and stops them in order. Only this
//! crate reads the environment and settings files, and only it ends the process. Exit codes: 0 done, 1 failed
//! while running or tests failed, 2 could not begin (wrong settings, taken port, unusable data folder).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod app;
mod cli;
mod commands;
mod data_dir;
mod doors;
mod self_metrics;
mod settings;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os(), std::env::vars_os())
}
