//! nginx's own errors, read as each kind of client reads them.

use std::fmt::Write;
use std::path::Path;

use pharos_proto::rpc;
use pharos_testkit::assert_golden;
use prost::Message;
use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use serde_json::Value;

use super::server::Nginx;

/// Whose pages may read what nginx says.
pub(crate) const ORIGIN: &str = "https://app.example.com";
const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// A kind of client: where it asks, and what it understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    OtlpProtobuf,
    OtlpJson,
    RemoteWrite,
    Prometheus,
    Jaeger,
    JaegerV3,
    /// A person at a browser.
    Page,
}

impl Reader {
    pub(crate) const ALL: [Self; 7] = [
        Self::OtlpProtobuf,
        Self::OtlpJson,
        Self::RemoteWrite,
        Self::Prometheus,
        Self::Jaeger,
        Self::JaegerV3,
        Self::Page,
    ];

    /// The paths that it asks, and the content type of its requests.
    pub(crate) fn asks(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::OtlpProtobuf => {
                (&["/v1/traces", "/v1/metrics", "/opentelemetry/v1/traces", "/api/v1/otlp/v1/metrics"], PROTOBUF)
            }
            Self::OtlpJson => {
                (&["/v1/traces", "/insert/0/opentelemetry/v1/metrics"], "Application/JSON; charset=utf-8")
            }
            Self::RemoteWrite => (
                &[
                    "/api/v1/write",
                    "/insert/0/prometheus/api/v1/write",
                    "/insert/0/prometheus",
                    "/prometheus/api/v1/write",
                ],
                PROTOBUF,
            ),
            Self::Prometheus => {
                (&["/api/v1/query?query=1", "/select/dev/prometheus/api/v1/labels", "/federate?match[]=up"], JSON)
            }
            Self::Jaeger => (&["/api/traces?service=a", "/jaeger/api/services"], JSON),
            Self::JaegerV3 => (&["/api/v3/services"], JSON),
            Self::Page => (&["/"], "text/plain"),
        }
    }

    /// Whether it asks by POST, with a body.
    fn writes(self) -> bool {
        matches!(self, Self::OtlpProtobuf | Self::OtlpJson | Self::RemoteWrite)
    }

    /// Asks as such a client does.
    pub(crate) async fn ask(self, nginx: &Nginx, path: &str, token: Option<&str>) -> Response {
        let (_, content_type) = self.asks();
        let method = if self.writes() { Method::POST } else { Method::GET };
        let body = if self.writes() { b"{}".to_vec() } else { Vec::new() };
        let request = nginx.request(method, path, token).header("content-type", content_type);
        request.header("origin", ORIGIN).body(body).send().await.expect("nginx answers")
    }

    /// Reads a refusal, and checks that it says `status` in every place where this client looks.
    pub(crate) async fn check(self, answer: Response, status: u16, what: &str) {
        let what = format!("{self:?} {what}");
        assert_eq!(answer.status().as_u16(), status, "{what}");
        let headers = answer.headers().clone();
        let body = answer.bytes().await.expect("a refusal is short");
        check_headers(&headers, status, &what);
        let json =
            || serde_json::from_slice::<Value>(&body).unwrap_or_else(|error| panic!("{what}: {error}: {body:?}"));
        let content_type = headers["content-type"].to_str().unwrap();
        let says = |text: Option<&str>| assert!(text.is_some_and(|text| !text.is_empty()), "{what}: {body:?}");
        match self {
            Self::OtlpProtobuf => {
                assert_eq!(content_type, PROTOBUF, "{what}");
                let read =
                    rpc::Status::decode(body.clone()).unwrap_or_else(|error| panic!("{what}: {error}: {body:?}"));
                assert_eq!(read.code, code(status), "{what}");
                says(Some(&read.message));
                check_retry(&read, status, &what);
            }
            Self::OtlpJson => {
                assert_eq!(content_type, JSON, "{what}");
                assert_eq!(json()["code"], code(status), "{what}");
                says(json()["message"].as_str());
            }
            Self::Prometheus => {
                assert!(content_type.starts_with(JSON), "{what}: {content_type}");
                assert_eq!(json()["status"], "error", "{what}");
                says(json()["errorType"].as_str());
                says(json()["error"].as_str());
            }
            Self::Jaeger => {
                assert_eq!(json()["errors"][0]["code"], status, "{what}");
                says(json()["errors"][0]["msg"].as_str());
            }
            Self::JaegerV3 => {
                assert_eq!(
                    (&json()["error"]["httpCode"], &json()["error"]["grpcCode"]),
                    (&status.into(), &code(status).into())
                );
                says(json()["error"]["message"].as_str());
            }
            Self::RemoteWrite | Self::Page => {
                assert!(
                    content_type.starts_with("text/plain") && body.ends_with(b"\n"),
                    "{what}: {content_type} {body:?}"
                );
                assert!(!String::from_utf8_lossy(&body).contains("<html"), "{what}: {body:?}");
            }
        }
        let written = |kind: &str| headers.get(format!("x-prometheus-remote-write-{kind}-written"));
        for kind in ["samples", "histograms", "exemplars"] {
            assert_eq!(written(kind).is_some_and(|count| count == "0"), self == Self::RemoteWrite, "{what}: {kind}");
        }
    }
}

/// gRPC's code for a status of HTTP.
fn code(status: u16) -> i32 {
    match status {
        401 => 16,
        403 => 7,
        413 | 429 => 8,
        503 => 14,
        _ => 3,
    }
}

fn check_headers(headers: &HeaderMap, status: u16, what: &str) {
    for (header, expected) in
        [("strict-transport-security", "max-age=31536000"), ("access-control-allow-origin", ORIGIN)]
    {
        let found: Vec<_> = headers.get_all(header).into_iter().collect();
        assert_eq!(found, [expected], "{what}: {header}");
    }
    let exposed = headers["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.contains("retry-after"), "{what}: {exposed}");
    assert_eq!(headers.contains_key("retry-after"), matches!(status, 429 | 503), "{what}: {headers:?}");
    assert!(status != 401 || headers.contains_key("www-authenticate"), "{what}: {headers:?}");
}

/// What passes by itself says when, in the words of OTLP's clients.
fn check_retry(read: &rpc::Status, status: u16, what: &str) {
    let told = read.details.iter().find(|detail| detail.type_url.ends_with(rpc::RetryInfo::NAME));
    let delay = told.map(|detail| rpc::RetryInfo::decode(&*detail.value).unwrap().retry_delay.unwrap().seconds);
    assert_eq!(delay.is_some_and(|seconds| seconds >= 1), matches!(status, 429 | 503), "{what}: {read:?}");
}

/// The two maps of one file, and the bytes made of them in another.
#[test]
fn what_nginx_says_in_protobuf_is_what_it_says_in_words() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nginx");
    let source = std::fs::read_to_string(folder.join("conf.d/pharos-errors.conf")).unwrap();
    let map = |name: &str| {
        let (_, rest) = source.split_once(&format!("map $status ${name} {{")).unwrap();
        let (lines, _) = rest.split_once("\n}").unwrap();
        let pairs = lines.lines().filter_map(|line| line.trim().trim_end_matches(';').split_once(' '));
        pairs.map(|(status, value)| (status.to_owned(), value.trim_matches('"').to_owned())).collect::<Vec<_>>()
    };
    let value = |name: &str, status: &str| map(name).into_iter().find(|(of, _)| of == status).map(|(_, value)| value);
    let mut text = String::from(
        "# nginx's own errors as google.rpc.Status in protobuf, for OTLP over HTTP. Goes into /etc/nginx/conf.d/.\n\
         # The values are bytes, among them some that no editor shows: copy this file, never its text. It is made of the words and\n\
         # codes in pharos-errors.conf by a test of tests/it/nginx/errors.rs, with UPDATE_GOLDEN=1.\n\n\
         map $status $pharos_error_protobuf {\n    volatile;\n",
    );
    for (status, words) in map("pharos_error_words") {
        let code = value("pharos_error_code", &status).expect("every status has a code").parse().unwrap();
        let retry = value("pharos_retry_after", &status).map(|seconds| {
            let after = std::time::Duration::from_secs(seconds.parse().unwrap());
            rpc::Any::pack(rpc::RetryInfo::NAME, &rpc::RetryInfo::after(after))
        });
        let bytes = rpc::Status { code, message: words, details: retry.into_iter().collect() }.encode_to_vec();
        let bytes = String::from_utf8(bytes).expect("nothing in it is as long as 128 bytes");
        assert!(!bytes.contains(['$', '\0']), "nginx would read it as something else: {bytes:?}");
        let escaped = bytes.replace('\\', "\\\\").replace('"', "\\\"").replace('\t', "\\t").replace('\r', "\\r");
        writeln!(text, "    {status} \"{}\";", escaped.replace('\n', "\\n")).unwrap();
    }
    assert_golden(&folder.join("conf.d/pharos-errors-protobuf.conf"), &(text + "}\n"));
}
