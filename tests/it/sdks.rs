//! The official OpenTelemetry SDKs of Go, Rust, Python and Node send everything they can express, over every protocol they
//! speak, with a bearer token; every span comes back through both Jaeger APIs field by field, every point through PromQL.
//!
//! The senders are the programs of `examples/`: each writes down what it sent (`examples/README.md`), and what comes back is
//! compared with that, not with what Pharos thinks it got.

mod api;
mod compare;
mod jaeger_v1;
mod jaeger_v3;
mod metrics;
mod programs;
mod reference;

use pharos_testkit::Pharos;

use api::Api;
use programs::{Language, Program, Protocol};
use reference::Reference;

/// Where Pharos takes OTLP.
fn otlp(pharos: &Pharos, protocol: Protocol) -> String {
    let address = match protocol {
        Protocol::Grpc => pharos.otlp_grpc_address(),
        Protocol::HttpProtobuf | Protocol::HttpJson => pharos.otlp_http_address(),
    };
    format!("http://{address}")
}

/// Sends over every protocol of `language` and compares.
async fn check(language: Language) {
    let scratch = tempfile::tempdir().expect("a folder for the program and its file");
    let program = Program::build(language, scratch.path());
    let pharos = Pharos::builder().start().await;
    let api = Api(&pharos);
    for &protocol in language.protocols() {
        let (what, file) = (format!("{} over {}", language.name(), protocol.name()), scratch.path().join("sent.json"));
        let endpoint = otlp(&pharos, protocol);
        let refused = program.send(protocol, &endpoint, "not-the-token", &file);
        assert_eq!(refused.status.code(), Some(1), "{what}: a wrong token is noticed");
        assert!(!file.exists(), "{what}: nothing is claimed to be sent with a wrong token");

        let sent = program.send(protocol, &endpoint, pharos.token(), &file);
        assert!(sent.status.success(), "{what}: {}", String::from_utf8_lossy(&sent.stderr));
        let reference = Reference::read(&file);
        reference.assert_rich(language, protocol);
        let mut wrong = jaeger_v3::check(&api, &reference).await;
        wrong.extend(jaeger_v1::check(&api, &reference).await);
        wrong.extend(metrics::check(&api, &reference).await);
        assert!(wrong.is_empty(), "{what}: {} differences\n{}", wrong.len(), wrong.join("\n"));
        std::fs::remove_file(&file).expect("the file was there");
    }
}

#[tokio::test]
async fn what_the_go_sdk_sends_comes_back() {
    check(Language::Go).await;
}

#[tokio::test]
async fn what_the_rust_sdk_sends_comes_back() {
    check(Language::Rust).await;
}

#[tokio::test]
async fn what_the_python_sdk_sends_comes_back() {
    check(Language::Python).await;
}

#[tokio::test]
async fn what_the_node_sdk_sends_comes_back() {
    check(Language::Node).await;
}
