//! The programs of `examples/`: how each is built, started and told where to send.
//!
//! Owns nothing of Pharos: a program learns its address and token from the standard `OTEL_EXPORTER_OTLP_*` variables,
//! as a user's service does. Toolchains and packages come from `make sdks`; a missing one fails the test and says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The languages whose SDK a program in `examples/` uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Go,
    Rust,
    Python,
    Node,
}

impl Language {
    /// The name of its folder and the end of its services' names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Node => "node",
        }
    }

    /// Every protocol its program can speak.
    pub(crate) fn protocols(self) -> &'static [Protocol] {
        match self {
            Self::Go | Self::Rust | Self::Python => &[Protocol::Grpc, Protocol::HttpProtobuf],
            Self::Node => &[Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson],
        }
    }
}

/// A way to carry OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    HttpProtobuf,
    HttpJson,
}

impl Protocol {
    /// The value of `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
            Self::HttpJson => "http/json",
        }
    }
}

/// One program, ready to start.
#[derive(Clone)]
pub(crate) struct Program {
    executable: PathBuf,
    arguments: Vec<PathBuf>,
    flag: &'static str,
    certificate: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
    variables: Vec<(&'static str, &'static str)>,
}

impl Program {
    /// Builds the program where its language is compiled; `scratch` may take the result.
    pub(crate) fn build(language: Language, scratch: &Path) -> Self {
        let folder = examples().join(language.name());
        let (executable, arguments) = match language {
            Language::Go => {
                let executable = scratch.join("example-go");
                run(Command::new("go").arg("build").arg("-o").arg(&executable).arg(".").current_dir(&folder));
                (executable, Vec::new())
            }
            Language::Rust => (build_rust(), Vec::new()),
            Language::Python => (environment("PHAROS_PYTHON").into(), vec![folder.join("example.py")]),
            Language::Node => {
                assert!(folder.join("node_modules").is_dir(), "no packages in {}: run `make sdks`", folder.display());
                ("node".into(), vec![folder.join("example.js")])
            }
        };
        let flag = if language == Language::Go { "-emit-reference" } else { "--emit-reference" };
        Self { executable, arguments, flag, certificate: None, client: None, variables: Vec::new() }
    }

    /// Lets it trust one certificate more, as behind a proxy with TLS of its own.
    pub(crate) fn trusting(mut self, certificate: &Path) -> Self {
        self.certificate = Some(certificate.to_owned());
        self
    }

    /// Lets it show a certificate of its own; the second file is its key.
    pub(crate) fn showing(mut self, certificate: &Path, key: &Path) -> Self {
        self.client = Some((certificate.to_owned(), key.to_owned()));
        self
    }

    /// Sets a variable more of those that SDKs read.
    pub(crate) fn with(mut self, variable: (&'static str, &'static str)) -> Self {
        self.variables.push(variable);
        self
    }

    /// Sends the reference workload once, without a token if that is empty; on success `file` says what was sent.
    pub(crate) fn send(&self, protocol: Protocol, endpoint: &str, token: &str, file: &Path) -> Output {
        Command::new(&self.executable)
            .args(&self.arguments)
            .arg(self.flag)
            .arg(file)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.name())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .envs(
                (!token.is_empty()).then(|| ("OTEL_EXPORTER_OTLP_HEADERS", format!("Authorization=Bearer%20{token}"))),
            )
            // Behind a company's proxy the loopback address must still be reached directly.
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env("no_proxy", "127.0.0.1,localhost")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(self.variables.iter().copied())
            .envs(self.certificate.as_ref().map(|path| ("OTEL_EXPORTER_OTLP_CERTIFICATE", path)))
            // Python's requests takes this, where a machine has set it, before what the SDK says.
            .envs(self.certificate.as_ref().map(|path| ("REQUESTS_CA_BUNDLE", path)))
            .envs(self.client.as_ref().map(|(certificate, _)| ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate)))
            .envs(self.client.as_ref().map(|(_, key)| ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key)))
            .output()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}; run `make sdks`", self.executable.display()))
    }
}

/// Asks cargo for the Rust program; chosen in the whole workspace, so that shared crates are compiled once.
fn build_rust() -> PathBuf {
    let output = run(Command::new(env!("CARGO"))
        .args(["build", "--locked", "--workspace", "--bin", "pharos-example-rust", "--message-format", "json"])
        .current_dir(examples()));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable it built")
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}; run `make sdks`"));
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[expect(clippy::disallowed_methods, reason = "tests learn from the Makefile where its tools are")]
fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make sdks`, and the tests through make"))
}
