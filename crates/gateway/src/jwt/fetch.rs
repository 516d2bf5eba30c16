//! Fetches an issuer's keys. The one file that knows the HTTP client.

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
#[derive(Debug)]
pub(super) enum Location {
    /// Here.
    Url(Url),
    /// Where this issuer says.
    Discovery { issuer: String },
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
    let url: Url = text.parse().map_err(|error| format!("{text:?} is no URL: {error}"))?;
    match url.scheme() {
        "https" if url.host_str().is_some() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(format!("{text:?} must begin with https:// (http:// is for loopback only)")),
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
        let client = builder.build().map_err(|error| format!("cannot make a client for {begin}: {error}"))?;
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
                    .map_err(|source| FetchError::Discovery { url: url.to_string(), source })?;
                if document.issuer != *issuer {
                    let found = document.issuer.chars().take(200).collect();
                    return Err(FetchError::OtherIssuer { url: url.to_string(), found });
                }
                self.get(&allowed_url(&document.jwks_uri).map_err(FetchError::Url)?, JWKS_BYTES_MAX).await
            }
        }
    }

    async fn get(&self, url: &Url, bytes_max: usize) -> Result<Vec<u8>, FetchError> {
        let failed = |source| FetchError::Get { url: url.to_string(), source };
        let mut answer = self.client.get(url.clone()).send().await.map_err(failed)?;
        if answer.status() != http::StatusCode::OK {
            return Err(FetchError::Status { url: url.to_string(), status: answer.status().as_u16() });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > bytes_max {
                return Err(FetchError::TooLarge { url: url.to_string(), bytes_max });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}
