//! Writes the Rust side of the services in `proto/` to `crates/proto/src`; see `proto/README.md`.
//!
//! Usage: `cargo run -- OTLP_PROTO_DIR`, where the directory holds `opentelemetry/proto/…`.

use std::path::Path;

/// Each file, and where its Rust side goes.
const FILES: [(&str, &str, &str); 3] = [
    ("jaeger/api_v3/query_service.proto", "jaeger.api_v3.rs", "jaeger/api_v3.rs"),
    ("grpc/health/v1/health.proto", "grpc.health.v1.rs", "health/v1.rs"),
    ("pharos/query/v1/query.proto", "pharos.query.v1.rs", "query/v1.rs"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let otlp = std::env::args().nth(1).ok_or("usage: cargo run -- OTLP_PROTO_DIR")?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (sources, target) = (here.join(".."), here.join("../../crates/proto/src"));
    let raw = std::env::temp_dir().join("pharos-proto-generate");
    std::fs::create_dir_all(&raw)?;
    for (proto, generated, placed) in FILES {
        let descriptors = protox::compile([proto], [sources.as_path(), Path::new(&otlp)])?;
        tonic_prost_build::configure()
            .btree_map(".")
            .build_transport(false)
            .extern_path(".opentelemetry.proto", "::opentelemetry_proto::tonic")
            .out_dir(&raw)
            .compile_fds(descriptors)?;
        let placed = target.join(placed);
        std::fs::create_dir_all(placed.parent().ok_or("no folder")?)?;
        std::fs::copy(raw.join(generated), placed)?;
    }
    Ok(())
}
