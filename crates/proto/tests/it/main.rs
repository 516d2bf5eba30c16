//! The Rust messages against the `.proto` files: same fields, same numbers, same types.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

/// Field name → (number, type, repeated), by message.
type Messages = BTreeMap<String, BTreeMap<String, (u32, String, bool)>>;

/// Messages of a `.proto` file, nested ones by their own name; enumerations count as `enum`.
fn of_proto(text: &str) -> Messages {
    let (mut messages, mut open): (Messages, Vec<(String, String)>) = Default::default();
    let enums: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("enum ")?.split(' ').next()).collect();
    for line in text.lines().map(|line| line.split("//").next().unwrap_or("").trim()) {
        if let Some((kind, name)) = line.strip_suffix('{').and_then(|head| head.trim().split_once(' ')) {
            open.push((kind.to_owned(), name.to_owned()));
            if kind == "message" {
                messages.insert(name.to_owned(), BTreeMap::new());
            }
        } else if line == "}" {
            open.pop();
        } else if let Some((declaration, number)) = line.strip_suffix(';').and_then(|line| line.split_once(" = ")) {
            let Some((_, message)) = open.iter().rfind(|(kind, _)| kind != "oneof") else { continue };
            let words: Vec<&str> = declaration.split(' ').collect();
            let (repeated, kind, name) = match words[..] {
                ["repeated", kind, name] => (true, kind, name),
                [kind, name] | ["optional", kind, name] => (false, kind, name),
                _ => continue,
            };
            let scalar = kind.starts_with(|c: char| c.is_ascii_lowercase()) && !kind.contains('.');
            let kind = if kind.starts_with("map<") {
                "map"
            } else if scalar {
                kind
            } else if enums.contains(&kind) {
                "enum"
            } else {
                "message"
            };
            messages
                .get_mut(message)
                .unwrap()
                .insert(name.to_owned(), (number.parse().unwrap(), kind.to_owned(), repeated));
        }
    }
    messages
}

/// Messages of Rust source with prost's attributes; the variants of a oneof belong to the message before it.
fn of_rust(text: &str) -> Messages {
    let mut messages = Messages::new();
    let mut attribute: Option<(u32, String, bool)> = None;
    let mut message = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("pub struct ") {
            name.trim_end_matches([' ', '{', '}']).clone_into(&mut message);
            messages.entry(message.clone()).or_default();
        } else if let Some(inner) = line.strip_prefix("#[prost(").and_then(|line| line.strip_suffix(")]")) {
            let number =
                inner.split("tag = \"").nth(1).and_then(|rest| rest.split('"').next()).and_then(|tag| tag.parse().ok());
            let kind = inner.split([',', ' ']).next().unwrap_or("").to_owned();
            let kind = match kind.as_str() {
                "enumeration" => "enum".to_owned(),
                "btree_map" => "map".to_owned(),
                _ => kind,
            };
            attribute = number.map(|number| (number, kind, inner.contains("repeated")));
        } else if let Some(found) = attribute.take() {
            let name = line.trim_start_matches("pub ").trim_start_matches("r#").split([':', '(']).next().unwrap_or("");
            messages.get_mut(&message).unwrap().insert(snake_case(name), found);
        }
    }
    messages
}

fn snake_case(name: &str) -> String {
    name.chars().enumerate().fold(String::new(), |mut out, (at, c)| {
        if c.is_ascii_uppercase() && at > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
        out
    })
}

fn check(proto: &str, rust: &str) {
    check_without(proto, rust, &[]);
}

/// As [`check`], for messages of which some are left out, and the fields of these messages with them.
fn check_without(proto: &str, rust: &str, left_out: &[&str]) {
    // prost writes names in its own case: `TraceID` becomes `TraceId`.
    let lower = |messages: Messages| -> Messages {
        messages.into_iter().map(|(name, fields)| (name.to_ascii_lowercase(), fields)).collect()
    };
    let (mut expected, mut found) = (lower(of_proto(proto)), lower(of_rust(rust)));
    for message in left_out {
        assert!(expected.remove(&message.to_ascii_lowercase()).is_some(), "{message} is in the file");
        let is_of_it = |declaration: &str| declaration.split_whitespace().any(|word| word == *message);
        let fields: Vec<_> = proto.lines().filter(|line| line.contains('=') && is_of_it(line)).collect();
        assert!(!fields.is_empty(), "{message} is a field's");
        let names = fields.iter().filter_map(|line| line.split_once('=')?.0.split_whitespace().next_back());
        names.for_each(|name| expected.values_mut().for_each(|fields| _ = fields.remove(name)));
    }
    // What is no message has no numbers.
    found.retain(|name, fields| !fields.is_empty() || expected.contains_key(name));
    assert!(expected.len() > 1, "the file was read: {expected:?}");
    for fields in expected.values_mut().chain(found.values_mut()) {
        for (_, kind, _) in fields.values_mut() {
            // `bytes = "vec"` and the attribute's word order say the same.
            *kind = kind.split('=').next().unwrap_or("").trim().to_owned();
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn remote_write_follows_its_files() {
    let source = include_str!("../../src/remote_write.rs");
    let (v1, v2) = source.split_once("pub mod v2").unwrap();
    check(include_str!("../../../../proto/prometheus/remote_write_v1.proto"), v1);
    // Version 2 shares the spans and the choices of version 1.
    let oneofs = "#[prost(uint64, tag = \"1\")]\nCountInt(\n#[prost(double, tag = \"2\")]\nCountFloat(\n\
                  #[prost(uint64, tag = \"6\")]\nZeroCountInt(\n#[prost(double, tag = \"7\")]\nZeroCountFloat(\n";
    let span = v1.split_once("pub struct BucketSpan").unwrap().1.split_once('}').unwrap().0;
    assert!(v1.contains("CountInt(u64)") && v2.contains("pub use super::v1::BucketSpan"));
    check(
        include_str!("../../../../proto/prometheus/remote_write_v2.proto"),
        &format!("{v2}\n{oneofs}\npub struct BucketSpan{span}"),
    );
}

#[test]
fn remote_read_follows_its_file() {
    let proto = include_str!("../../../../proto/prometheus/remote_read.proto");
    // Of no use to us: not decoded.
    check_without(proto, include_str!("../../src/remote_read.rs"), &["ReadHints"]);
}

#[test]
fn the_exposition_format_follows_its_file() {
    let proto = include_str!("../../../../proto/prometheus/metrics.proto");
    check(proto, include_str!("../../src/exposition.rs"));
}

#[test]
fn rpc_follows_its_file() {
    check(include_str!("../../../../proto/google/rpc/status.proto"), include_str!("../../src/rpc.rs"));
}

/// The messages of a generated file, without the modules of its services.
fn generated_messages(source: &str) -> String {
    let mut is_service = false;
    let messages = source.lines().filter(|line| {
        is_service |= line.starts_with("pub mod ") && (line.ends_with("_client {") || line.ends_with("_server {"));
        let is_message = !is_service;
        is_service &= *line != "}";
        is_message
    });
    messages.collect::<Vec<_>>().join("\n")
}

#[test]
fn services_follow_their_files() {
    macro_rules! file {
        ($path:literal) => {
            include_str!(concat!("../../../../", $path))
        };
    }
    let storage = [
        file!("proto/jaeger/storage/v2/trace_storage.proto"),
        file!("proto/jaeger/storage/v2/dependency_storage.proto"),
        file!("proto/jaeger/storage/v2/capabilities.proto"),
    ];
    let api_v2 = [file!("proto/jaeger/api_v2/model.proto"), file!("proto/jaeger/api_v2/query.proto")];
    let api_v3 = [file!("proto/jaeger/api_v3/query_service.proto"), file!("proto/jaeger/api_v3/capabilities.proto")];
    let packages: [(&str, &[&str], &str); 7] = [
        ("jaeger.api_v3", &api_v3, include_str!("../../src/jaeger/api_v3.rs")),
        ("jaeger.storage.v2", &storage, include_str!("../../src/jaeger/storage_v2.rs")),
        ("jaeger.api_v2", &api_v2, include_str!("../../src/jaeger/api_v2.rs")),
        (
            "jaeger.expression.v1",
            &[file!("proto/jaeger/expression/v1/expression.proto")],
            include_str!("../../src/jaeger/expression_v1.rs"),
        ),
        (
            "jaeger.api_v2.metrics",
            &[file!("proto/jaeger/api_v2/metrics/metricsquery.proto")],
            include_str!("../../src/jaeger/metrics.rs"),
        ),
        ("grpc.health.v1", &[file!("proto/grpc/health/v1/health.proto")], include_str!("../../src/health/v1.rs")),
        ("pharos.query.v1", &[file!("proto/pharos/query/v1/query.proto")], include_str!("../../src/query/v1.rs")),
    ];
    for (package, protos, rust) in packages {
        check(&protos.join("\n"), &generated_messages(rust));
        let mut service = "";
        for line in protos.iter().flat_map(|proto| proto.lines()).map(str::trim) {
            if let Some(name) = line.strip_prefix("service ") {
                service = name.trim_end_matches([' ', '{']);
            } else if let Some(method) = line.strip_prefix("rpc ").and_then(|line| line.split('(').next()) {
                let path = format!("/{package}.{service}/{method}");
                assert!(rust.contains(&format!("\"{path}\" =>")) || package.starts_with("grpc."), "{path} is served");
                assert!(told(&format!("{package}.{service}")) && told(method), "reflection tells {path}");
            }
        }
    }
    assert!(told("opentelemetry.proto.collector.trace.v1") && told("TraceService"));
}

/// Whether the descriptors hold all parts of a name; packages and services are told apart there.
fn told(name: &str) -> bool {
    let has = |part: &str| pharos_proto::DESCRIPTORS.windows(part.len()).any(|bytes| bytes == part.as_bytes());
    has(name) || name.rsplit_once('.').is_some_and(|(package, service)| has(package) && has(service))
}
