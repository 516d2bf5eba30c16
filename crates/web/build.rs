//! Watches the built UI and says so when it is missing. It builds nothing: no npm runs in a cargo build.

use std::path::Path;

fn main() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui/dist");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", dist.display());
    if !dist.join("index.html").is_file() {
        println!(
            "cargo::warning=ui/dist is missing: a placeholder page is embedded; run `npm ci && npm run build` in ui/"
        );
    }
}
