//! Fetches an issuer's keys. The one file that knows the HTTP client.
//!
//! Invariant: of a URL only scheme, host, port and path are shown, in errors as in faults; a name, a password and parameters may be
//! secrets.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, Url, redirect};
use serde::Deserialize;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte sent to the last one read.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest document of discovery, bytes.
const DISCOVERY_BYTES_MAX: usize = 64 << 10;
/// The largest set of keys, bytes.
pub(super) const JWKS_BYTES_MAX: usize = 1 << 20;
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0}")]
    Url(String),
    #[error("cannot get {url}")]
    Get { url: String, source: reqwest::Error },
    #[error("{url} answers {status}")]
    Status { url: String, status: u16 },
    #[error("{url} answers more than {bytes_max} bytes")]
    TooLarge { url: String, bytes_max: usize },
    #[error("{url} is no document of OpenID discovery")]
    Discovery { url: String, source: serde_json::Error },
    #[error("{url} is of another issuer: {found:?}")]
    OtherIssuer { url: String, found: String },
    #[error(transparent)]
    Keys(#[from] super::key::KeyError),
}

/// Where the key set is.
pub(super) enum Location {
    /// Here.
    Url(Url),
    /// Where this issuer says.
    Discovery { issuer: String },
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(f, "Url({})", shown(url)),
            Self::Discovery { issuer } => write!(f, "Discovery({})", shown_text(issuer)),
        }
    }
}

/// Gets documents of one issuer.
#[derive(Debug)]
pub(super) struct Fetcher {
    client: Client,
    location: Location,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// https, or http to this machine: keys that come over a wire in clear are anyone's keys.
pub(super) fn allowed_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{:?} is no URL: {error}", shown_text(text)))?;
    match url.scheme() {
        "https" if url.host_str().is_some() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(format!("{:?} must begin with https:// (http:// is for loopback only)", shown_text(text))),
    }
}

/// What may be seen of a URL.
fn shown(url: &Url) -> String {
    let (host, path) = (url.host_str().unwrap_or(""), url.path());
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{host}{port}{path}", url.scheme())
}

/// What may be seen of a text that should be such a URL: nothing before an `@`, and nothing from the first `?` or `#` on. The cuts may
/// take more than secrets; they leave none.
fn shown_text(text: &str) -> String {
    let front = text.split(['?', '#']).next().unwrap_or(text);
    match text.rfind('@') {
        // A password may have a question mark in it that nobody encoded: the last @ of all is what ends it.
        Some(at) => format!("…{}", front.get(at..).unwrap_or("")),
        None => front.to_owned(),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Fetcher {
    pub(super) fn open(location: Location, ca_file: Option<&Path>) -> Result<Self, String> {
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .no_gzip()
            .user_agent(concat!("pharos/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = ca_file {
            let pem = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            let authorities = Certificate::from_pem_bundle(&pem)
                .ok()
                .filter(|authorities| !authorities.is_empty())
                .ok_or_else(|| format!("{} holds no certificates in PEM", path.display()))?;
            builder = builder.tls_certs_only(authorities);
        }
        let begin = match &location {
            Location::Url(url) => url.clone(),
            Location::Discovery { issuer } => allowed_url(issuer)?,
        };
        if is_loopback(&begin) {
            builder = builder.no_proxy();
            if begin.scheme() == "http" {
                // No authority is asked, and a machine without any is no fault then.
                builder = builder.tls_certs_only([]);
            }
        }
        let client = builder.build().map_err(|error| format!("cannot make a client for {}: {error}", shown(&begin)))?;
        Ok(Self { client, location })
    }

    /// The key set's bytes.
    pub(super) async fn key_set(&self) -> Result<Vec<u8>, FetchError> {
        match &self.location {
            Location::Url(url) => self.get(url, JWKS_BYTES_MAX).await,
            Location::Discovery { issuer } => {
                let url = allowed_url(&format!("{}{WELL_KNOWN}", issuer.trim_end_matches('/')));
                let url = url.map_err(FetchError::Url)?;
                let document = self.get(&url, DISCOVERY_BYTES_MAX).await?;
                let document: Discovery = serde_json::from_slice(&document)
                    .map_err(|source| FetchError::Discovery { url: shown(&url), source })?;
                if document.issuer != *issuer {
                    let found = document.issuer.chars().take(200).collect();
                    return Err(FetchError::OtherIssuer { url: shown(&url), found });
                }
                self.get(&allowed_url(&document.jwks_uri).map_err(FetchError::Url)?, JWKS_BYTES_MAX).await
            }
        }
    }

    async fn get(&self, url: &Url, bytes_max: usize) -> Result<Vec<u8>, FetchError> {
        // The client's own words name the whole URL.
        let failed = |source: reqwest::Error| FetchError::Get { url: shown(url), source: source.without_url() };
        let mut answer = self.client.get(url.clone()).send().await.map_err(failed)?;
        if answer.status() != http::StatusCode::OK {
            return Err(FetchError::Status { url: shown(url), status: answer.status().as_u16() });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > bytes_max {
                return Err(FetchError::TooLarge { url: shown(url), bytes_max });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_nothing_is_shown_that_may_be_secret() {
        for (text, expected) in [
            ("https://idp.example.com/keys", "https://idp.example.com/keys"),
            ("https://idp.example.com:8443/a/b?token=hunter2&x=a@b", "https://idp.example.com:8443/a/b"),
            ("https://idp.example.com/keys#hunter2", "https://idp.example.com/keys"),
            ("https://user:hunter2@idp.example.com/keys?token=hunter2", "https://idp.example.com/keys"),
        ] {
            assert_eq!(shown(&allowed_url(text).unwrap()), expected);
        }
        for (text, expected) in [
            ("user:hunter2@idp.example.com/keys?token=hunter2", "…@idp.example.com/keys"),
            ("https://user:hunter2@hunter2@idp.example.com", "…@idp.example.com"),
            ("https://user:p?hunter2@idp.example.com/keys", "…"),
            ("idp.example.com/keys?token=hunter2", "idp.example.com/keys"),
        ] {
            assert_eq!(shown_text(text), expected);
        }
    }

    #[tokio::test]
    async fn a_failure_names_the_place_and_no_secret() {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let url = allowed_url(&format!("http://user:hunter2@{closed}/keys?token=hunter2")).unwrap();
        let fetcher = Fetcher::open(Location::Url(url), None).unwrap();
        let error = fetcher.key_set().await.unwrap_err();
        let told = format!("{} {error:?} {fetcher:?}", pharos_base::full_message(&error));
        assert!(told.contains(&format!("{closed}/keys")) && !told.contains("hunter2"), "{told}");
        for wrong in
            ["http://user:hunter2@idp.example.com/?token=hunter2", "https://user:hunter2@:x/", "user:hunter2@x"]
        {
            let fault = allowed_url(wrong).unwrap_err();
            assert!(!fault.contains("hunter2"), "{fault}");
        }
    }
}
