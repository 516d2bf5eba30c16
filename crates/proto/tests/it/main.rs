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
    let mut expected = of_proto(proto);
    let mut found = of_rust(rust);
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
    check(proto, include_str!("../../src/remote_read.rs"));
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

/// The messages of a generated file, without its services.
fn generated_messages(source: &str) -> &str {
    source.split_once("/// Generated client implementations").unwrap().0
}

#[test]
fn services_follow_their_files() {
    let api_v3 = include_str!("../../src/jaeger/api_v3.rs");
    let proto = include_str!("../../../../proto/jaeger/api_v3/query_service.proto");
    check(proto, generated_messages(api_v3));
    let health = include_str!("../../src/health/v1.rs");
    check(include_str!("../../../../proto/grpc/health/v1/health.proto"), generated_messages(health));
    let query = include_str!("../../src/query/v1.rs");
    let query_proto = include_str!("../../../../proto/pharos/query/v1/query.proto");
    check(query_proto, generated_messages(query));
    for method in query_proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next()) {
        assert!(query.contains(&format!("\"/pharos.query.v1.QueryService/{method}\" =>")), "{method} is served");
    }
    for method in proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next()) {
        assert!(api_v3.contains(&format!("\"/jaeger.api_v3.QueryService/{method}\" =>")), "{method} is served");
    }
}
