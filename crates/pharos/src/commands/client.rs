//! A running server as a command sees it: its URL, a token, and clear words when either is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Arg, ArgMatches, Command};
use pharos_base::Secret;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate, Client, ClientBuilder, Identity, Method, RequestBuilder, Response, StatusCode, Url};

const URL_VARIABLE: &str = "PHAROS_URL";
const TOKEN_VARIABLE: &str = "PHAROS_TOKEN";
const CA_VARIABLE: &str = "PHAROS_CA_FILE";
const CERTIFICATE_VARIABLE: &str = "PHAROS_CLIENT_CERTIFICATE_FILE";
const DEFAULT_URL: &str = "http://127.0.0.1:9090";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Of an answer that is a failure, so much is read and shown.
const REFUSAL_BYTES_MAX: usize = 4 << 10;

/// Adds `--url`, `--token`, `--ca-file` and `--client-certificate-file`.
pub(crate) fn server_flags(command: Command) -> Command {
    let url = Arg::new("url")
        .long("url")
        .value_name("URL")
        .help(format!("Where the server listens, such as {DEFAULT_URL} [variable: {URL_VARIABLE}]"));
    let token = Arg::new("token").long("token").value_name("TOKEN").help(format!(
        "A token of that server; the variable keeps it out of the list of processes [variable: {TOKEN_VARIABLE}]"
    ));
    let file = |name: &'static str| Arg::new(name).long(name).value_name("FILE");
    let authorities = file("ca-file").help(format!(
        "Believe certificates of these authorities (PEM) beside those of the system [variable: {CA_VARIABLE}]"
    ));
    let certificate = file("client-certificate-file")
        .help(format!("Show this certificate; its key is in the same file (PEM) [variable: {CERTIFICATE_VARIABLE}]"));
    command.arg(url).arg(token).arg(authorities).arg(certificate)
}

/// What a client of `https` needs beside the URL, as PEM.
#[derive(Debug, Default)]
pub(crate) struct ClientTls {
    authorities: Vec<Certificate>,
    identity: Option<Identity>,
}

impl ClientTls {
    /// The files that flags or environment name.
    ///
    /// # Errors
    /// One cannot be read, or is not what it should be.
    pub(crate) fn new(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let read = |name: &str, variable: &str| -> anyhow::Result<Option<(String, Vec<u8>)>> {
            let Some(path) = matches.get_one::<String>(name).or_else(|| environment.get(variable)) else {
                return Ok(None);
            };
            let pem = std::fs::read(path).with_context(|| format!("cannot read {path} (--{name} or {variable})"))?;
            Ok(Some((path.clone(), pem)))
        };
        let mut tls = Self::default();
        if let Some((path, pem)) = read("ca-file", CA_VARIABLE)? {
            tls.authorities = Certificate::from_pem_bundle(&pem).with_context(|| format!("{path} is no PEM"))?;
            if tls.authorities.is_empty() {
                return Err(anyhow!("{path} holds no certificate in PEM"));
            }
        }
        if let Some((path, pem)) = read("client-certificate-file", CERTIFICATE_VARIABLE)? {
            let what = || format!("{path} does not hold a certificate and its key in PEM");
            tls.identity = Some(Identity::from_pem(&pem).with_context(what)?);
        }
        Ok(tls)
    }

    /// Adds them to a client.
    pub(crate) fn apply(self, builder: ClientBuilder) -> ClientBuilder {
        let builder = builder.tls_certs_merge(self.authorities);
        match self.identity {
            Some(identity) => builder.identity(identity),
            None => builder,
        }
    }
}

/// Asks one server.
#[derive(Debug, Clone)]
pub(crate) struct ServerClient {
    http: Client,
    base: Url,
    token: Option<Secret>,
}

impl ServerClient {
    /// The server that flags or environment name, else the one on this machine.
    ///
    /// # Errors
    /// The URL is none.
    pub(crate) fn new(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let url = named_url(matches, environment).unwrap_or(DEFAULT_URL);
        let token = matches.get_one::<String>("token").or_else(|| environment.get(TOKEN_VARIABLE));
        let tls = ClientTls::new(matches, environment)?;
        Self::at(url, token.map(|token| Secret::new(token.trim().to_owned())), tls)
    }

    fn at(url: &str, token: Option<Secret>, tls: ClientTls) -> anyhow::Result<Self> {
        let mut base: Url = url.parse().with_context(|| format!("{url:?} is no URL such as {DEFAULT_URL}"))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(anyhow!("{url:?} is no URL such as {DEFAULT_URL}"));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // No limit for the whole of an answer: an export may take hours.
        let http = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("pharos/", env!("CARGO_PKG_VERSION")));
        let http = tls.apply(http).build().context("cannot make an HTTP client")?;
        Ok(Self { http, base, token })
    }

    /// The server's URL.
    pub(crate) fn url(&self) -> &Url {
        &self.base
    }

    /// A request to `path` (no leading slash) below the URL, with the token.
    pub(crate) fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let url = self.base.join(path.trim_start_matches('/')).context("the path is no part of a URL")?;
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        })
    }

    /// Sends a request; an answer that is no success becomes an error that says what to do about it.
    ///
    /// # Errors
    /// Nobody answers, or the answer is a refusal.
    pub(crate) async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let answer = request.send().await.with_context(|| {
            let whom = if self.base.scheme() == "https" {
                format!("; --ca-file or {CA_VARIABLE} whom to believe")
            } else {
                String::new()
            };
            format!(
                "no answer from {}: does the server run there? (--url or {URL_VARIABLE} says where{whom})",
                self.base
            )
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(self.complaint(answer).await)
    }

    /// What the server says of a request that it does not take.
    pub(crate) async fn refusal(&self, answer: Response) -> String {
        refusal(answer).await
    }

    /// An answer that is no success, as an error that says what to do about it.
    pub(crate) async fn complaint(&self, answer: Response) -> anyhow::Error {
        let (status, message) = (answer.status(), refusal(answer).await);
        match status {
            StatusCode::UNAUTHORIZED if self.token.is_none() => {
                anyhow!("{} asks for a token: give --token or set {TOKEN_VARIABLE}", self.base)
            }
            StatusCode::UNAUTHORIZED => anyhow!("{} does not know this token, or it has expired", self.base),
            StatusCode::FORBIDDEN => anyhow!("the token may not do this: {message}"),
            status => anyhow!("{} answers {status}: {message}", self.base),
        }
    }
}

/// The URL that flags or environment name, if any does.
pub(crate) fn named_url<'a>(matches: &'a ArgMatches, environment: &'a BTreeMap<String, String>) -> Option<&'a str> {
    matches.get_one::<String>("url").or_else(|| environment.get(URL_VARIABLE)).map(String::as_str)
}

/// The message of a refusal: `error` or `msg` of a JSON body, else the first line of the text.
async fn refusal(mut answer: Response) -> String {
    let is_json = answer
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/json"));
    let mut body = Vec::new();
    while let Ok(Some(piece)) = answer.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > REFUSAL_BYTES_MAX {
            break;
        }
    }
    body.truncate(REFUSAL_BYTES_MAX);
    let text = String::from_utf8_lossy(&body);
    if is_json && let Ok(object) = serde_json::from_str::<serde_json::Value>(&text) {
        let message = ["error", "msg", "message"].into_iter().find_map(|key| object[key].as_str());
        if let Some(message) = message {
            return message.to_owned();
        }
    }
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_below_the_url_and_a_url_that_is_none_is_named() {
        for (base, expected) in [
            ("http://127.0.0.1:9090", "http://127.0.0.1:9090/snapshot/list"),
            ("http://h/metrics/", "http://h/metrics/snapshot/list"),
            ("https://h/metrics", "https://h/metrics/snapshot/list"),
        ] {
            let client = ServerClient::at(base, Some(Secret::new("secret".to_owned())), ClientTls::default()).unwrap();
            let request = client.request(Method::GET, "/snapshot/list").unwrap().build().unwrap();
            assert_eq!(request.url().as_str(), expected);
            assert_eq!(request.headers()["authorization"], "Bearer secret");
        }
        for wrong in ["127.0.0.1:9090", "localhost:9090", "ftp://h/", ""] {
            let error = format!("{:#}", ServerClient::at(wrong, None, ClientTls::default()).unwrap_err());
            assert!(error.contains("is no URL such as"), "{error}");
        }
    }
}
