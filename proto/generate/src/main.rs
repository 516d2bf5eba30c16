//! Writes the Rust side of the services in `proto/` to `crates/proto/src`, and their descriptors for gRPC's reflection; see
//! `proto/README.md`.
//!
//! Usage: `cargo run -- OTLP_PROTO_DIR`, where the directory holds `opentelemetry/proto/…`.

use std::path::Path;

use prost::Message as _;

/// A package: its files, and its Rust module, which is also the file it goes to.
struct Package {
    name: &'static str,
    protos: &'static [&'static str],
    module: &'static str,
}

const PACKAGES: [Package; 7] = [
    Package {
        name: "jaeger.expression.v1",
        protos: &["jaeger/expression/v1/expression.proto"],
        module: "jaeger/expression_v1",
    },
    Package {
        name: "jaeger.api_v3",
        protos: &["jaeger/api_v3/query_service.proto", "jaeger/api_v3/capabilities.proto"],
        module: "jaeger/api_v3",
    },
    Package {
        name: "jaeger.storage.v2",
        protos: &[
            "jaeger/storage/v2/trace_storage.proto",
            "jaeger/storage/v2/dependency_storage.proto",
            "jaeger/storage/v2/capabilities.proto",
        ],
        module: "jaeger/storage_v2",
    },
    Package {
        name: "jaeger.api_v2",
        protos: &["jaeger/api_v2/model.proto", "jaeger/api_v2/query.proto"],
        module: "jaeger/api_v2",
    },
    Package {
        name: "jaeger.api_v2.metrics",
        protos: &["jaeger/api_v2/metrics/metricsquery.proto"],
        module: "jaeger/metrics",
    },
    Package { name: "grpc.health.v1", protos: &["grpc/health/v1/health.proto"], module: "health/v1" },
    Package { name: "pharos.query.v1", protos: &["pharos/query/v1/query.proto"], module: "query/v1" },
];

/// Services whose Rust side is in other crates; only their descriptors are written here.
const OTHERS: [&str; 3] = [
    "opentelemetry/proto/collector/trace/v1/trace_service.proto",
    "opentelemetry/proto/collector/metrics/v1/metrics_service.proto",
    "opentelemetry/proto/collector/logs/v1/logs_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let otlp = std::env::args().nth(1).ok_or("usage: cargo run -- OTLP_PROTO_DIR")?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (sources, target) = (here.join(".."), here.join("../../crates/proto/src"));
    let includes = [sources.as_path(), Path::new(&otlp)];
    let raw = std::env::temp_dir().join("pharos-proto-generate");
    std::fs::create_dir_all(&raw)?;
    for package in &PACKAGES {
        let mut builder = tonic_prost_build::configure()
            .btree_map(".")
            .build_transport(false)
            .extern_path(".opentelemetry.proto", "::opentelemetry_proto::tonic")
            .out_dir(&raw);
        // A path stands for everything below it: a package must not be named by one that it lies in.
        for other in PACKAGES.iter().filter(|other| !package.name.starts_with(other.name)) {
            let module = format!("crate::{}", other.module.replace('/', "::"));
            builder = builder.extern_path(format!(".{}", other.name), module);
        }
        builder.compile_fds(protox::compile(package.protos, includes)?)?;
        let placed = target.join(package.module).with_extension("rs");
        std::fs::create_dir_all(placed.parent().ok_or("no folder")?)?;
        std::fs::copy(raw.join(format!("{}.rs", package.name)), placed)?;
    }
    let all = PACKAGES.iter().flat_map(|package| package.protos).chain(&OTHERS);
    let mut descriptors = protox::compile(all, includes)?;
    // Comments are for readers of the files, not for every binary.
    descriptors.file.iter_mut().for_each(|file| file.source_code_info = None);
    std::fs::write(target.join("descriptors.bin"), descriptors.encode_to_vec())?;
    Ok(())
}
