//! Fuzz targets: functions that take any bytes and panic where a promise is broken.
//!
//! `make fuzz TARGET=log SECONDS=1200` lets libFuzzer look for such bytes; `cargo test -p pharos-fuzz` replays what
//! it found worth keeping, `corpus/<target>`, on an ordinary build. `seeds` writes the inputs to begin with.
//!
//! Promises: no panic, no allocation beyond what an input of that size calls for (libFuzzer's limit is 512 MiB), and
//! whatever decodes is encoded and decoded again without loss. Checksums are no obstacle: targets make them right.

mod blocks;
mod chunk;
mod gateway;
mod ingest;
mod promql;
mod remote_read;
mod text;
mod traceql;

use std::path::{Path, PathBuf};

pub use chunk::chunk;
use pharos_tracestore::internals;
use pharos_tsdb::{Resolution, TsdbError, fuzzing};

/// A target: a folder for scratch files of its own, and the input.
pub type Target = fn(&Path, &[u8]);

/// All targets by name, which is that of their corpus.
pub const TARGETS: [(&str, Target); 26] = [
    ("blocks", |_, bytes| blocks::blocks(bytes)),
    ("certificate", |_, bytes| pharos_gateway::fuzzing::certificate(bytes)),
    ("chunk", |_, bytes| chunk(bytes)),
    ("exposition", |_, bytes| text::exposition(bytes)),
    ("forwarded", |_, bytes| pharos_gateway::fuzzing::forwarded(bytes)),
    ("grpc-frame", |_, bytes| pharos_api_ingest::fuzzing::grpc_frame(bytes)),
    ("index", fuzzing::index),
    ("inflate", |_, bytes| text::inflated(bytes)),
    ("json-lines", |_, bytes| text::json_lines(bytes)),
    ("log", fuzzing::log),
    ("otlp-json", |_, bytes| ingest::otlp_json(bytes)),
    ("otlp-metrics", |_, bytes| ingest::otlp_metrics(bytes)),
    ("otlp-traces", |_, bytes| ingest::otlp_traces(bytes)),
    ("part", fuzzing::part),
    ("promql", |_, bytes| promql::promql(bytes)),
    ("remote-read", |_, bytes| remote_read::remote_read(bytes)),
    ("remote-write-1", |_, bytes| ingest::remote_write_1(bytes)),
    ("remote-write-2", |_, bytes| ingest::remote_write_2(bytes)),
    ("rollup", fuzzing::rollup),
    ("sampling-log", |_, bytes| pharos_sampling::fuzzing::log(bytes)),
    ("small-files", fuzzing::small_files),
    ("span-log", internals::segment),
    ("span-record", |_, bytes| internals::record(bytes)),
    ("token-file", |_, bytes| pharos_gateway::fuzzing::token_file(bytes)),
    ("traceql", |_, bytes| traceql::traceql(bytes)),
    ("web-token", |_, bytes| pharos_gateway::fuzzing::web_token(bytes)),
];

/// The target of a name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

/// Where inputs are kept, each target's in a folder of its name.
#[must_use]
pub fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Inputs to begin with: what a store wrote, for every file below `dir` the target's name and the input.
///
/// # Errors
/// [`TsdbError`] if a file is damaged.
pub fn seeds(dir: &Path) -> Result<Vec<(&'static str, Vec<u8>)>, TsdbError> {
    let mut found = chunk::seeds();
    found.extend(blocks::seeds());
    found.extend(blocks::log_seeds());
    found.extend(gateway::seeds());
    found.extend(ingest::seeds());
    found.extend(text::seeds());
    found.extend(promql::seeds());
    found.extend(remote_read::seeds());
    found.extend(traceql::seeds());
    found.extend(pharos_sampling::fuzzing::log_inputs().into_iter().map(|input| ("sampling-log", input)));
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            match path.file_name().and_then(|name| name.to_str()).unwrap_or_default() {
                _ if path.is_dir() => folders.push(path),
                "index" => {
                    found.push(("index", fuzzing::index_input(&path)?));
                    found.push(("part", fuzzing::part_input(&folder)?));
                }
                "rollup-5m" => found.push(("rollup", fuzzing::rollup_input(&folder, Resolution::FiveMinutes)?)),
                "rollup-1h" => found.push(("rollup", fuzzing::rollup_input(&folder, Resolution::Hour)?)),
                "metadata" | "meta.json" | "tombstones" => {
                    found.push(("small-files", fuzzing::small_file_input(&path)?));
                }
                _ if path.extension().is_some_and(|kind| kind == "log") => {
                    found.push(("log", fuzzing::log_input(&path)?));
                }
                _ => {}
            }
        }
    }
    Ok(found)
}
