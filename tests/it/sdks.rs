//! The official OpenTelemetry SDKs of Go, Rust, Python and Node send everything they can express, over every protocol they
//! speak, with a bearer token; every span comes back through both Jaeger APIs field by field, every point through PromQL.
//!
//! The senders are the programs of `examples/`: each writes down what it sent (`examples/README.md`), and what comes back is
//! compared with that, not with what Pharos thinks it got: at once, after kill -9, and after compaction.

mod api;
mod compare;
mod jaeger_v1;
mod jaeger_v3;
mod metrics;
pub(crate) mod programs;
pub(crate) mod reference;

use pharos_testkit::Pharos;

use api::Api;
use programs::{Language, Program, Protocol};
use reference::Reference;

/// Where Pharos takes OTLP.
pub(crate) fn endpoint(pharos: &Pharos, protocol: Protocol) -> String {
    let address = match protocol {
        Protocol::Grpc => pharos.otlp_grpc_address(),
        Protocol::HttpProtobuf | Protocol::HttpJson => pharos.otlp_http_address(),
    };
    format!("http://{address}")
}

/// Sends over every protocol of `language` and compares: at once, after a crash, and from compacted files.
async fn check(language: Language) {
    let scratch = tempfile::tempdir().expect("a folder for the program and its files");
    let program = Program::build(language, scratch.path());
    let mut pharos = Pharos::builder().start().await;
    let mut references = Vec::new();
    for &protocol in language.protocols() {
        let what = format!("{} over {}", language.name(), protocol.name());
        let file = scratch.path().join(format!("sent-{}.json", references.len()));
        let endpoint = endpoint(&pharos, protocol);
        let refused = program.send(protocol, &endpoint, "not-the-token", &file);
        assert_eq!(refused.status.code(), Some(1), "{what}: a wrong token is noticed");
        assert!(!file.exists(), "{what}: nothing is claimed to be sent with a wrong token");

        let sent = program.send(protocol, &endpoint, pharos.token(), &file);
        assert!(sent.status.success(), "{what}: {}", String::from_utf8_lossy(&sent.stderr));
        let reference = Reference::read(&file);
        reference.assert_rich(language, protocol);
        references.push((what, reference));
    }
    compare_all(&pharos, &references, "at once").await;

    pharos.restart().await;
    compare_all(&pharos, &references, "after kill -9").await;

    for path in ["/-/flush", "/-/compact"] {
        let (status, answer) = pharos.post(path, "text/plain", "").await;
        assert!((200..300).contains(&status), "POST {path}: {status} {answer}");
    }
    compare_all(&pharos, &references, "after compaction").await;
}

/// Panics with every difference between what was sent and what both Jaeger APIs and PromQL answer.
pub(crate) async fn compare_all(pharos: &Pharos, references: &[(String, Reference)], when: &str) {
    let api = Api(pharos);
    for (what, reference) in references {
        let mut wrong = jaeger_v3::check(&api, reference).await;
        wrong.extend(jaeger_v1::check(&api, reference).await);
        wrong.extend(metrics::check(&api, reference).await);
        assert!(wrong.is_empty(), "{what}, {when}: {} differences\n{}", wrong.len(), wrong.join("\n"));
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
