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
mod listeners;
mod open_files;
mod reload;
mod self_metrics;
mod settings;
mod span_metrics;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Freed memory goes back to the system after a quarter of a second rather than ten, by a thread of jemalloc's own, and few
/// arenas share what is free: a burst of spans, a flush or a merge does not stay in the resident size. Against a whole second that
/// costs two or three hundredths of the CPU and saves a tenth of the memory under overload. RocksDB has it from here, too: jemalloc
/// takes the names of the C library's functions.
#[cfg(feature = "jemalloc")]
#[expect(unsafe_code, reason = "jemalloc reads this symbol before main; the name is its own")]
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8; 69] = b"background_thread:true,dirty_decay_ms:250,muzzy_decay_ms:0,narenas:4\0";

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os(), std::env::vars_os())
}
