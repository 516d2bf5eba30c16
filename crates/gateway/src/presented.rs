//! What a request shows of its sender, before anything of it is believed.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, Method};
use pharos_http::{Connection, PeerAddress};

/// The parts of a request that tell who sent it.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'r> {
    /// What it wants to do.
    pub method: &'r Method,
    /// Where, as it stands in the URL, without the query.
    pub path: &'r str,
    /// With credentials and the tenant.
    pub headers: &'r HeaderMap,
    /// The other end of the connection, which may be a proxy; `None` where there is none.
    pub peer: Option<IpAddr>,
    /// Whether the connection is encrypted on our own port.
    pub over_tls: bool,
}

impl<'r> Presented<'r> {
    /// What a request shows, but for its body.
    #[must_use]
    pub fn of(parts: &'r Parts) -> Self {
        Self {
            method: &parts.method,
            path: parts.uri.path(),
            headers: &parts.headers,
            peer: parts.extensions.get::<PeerAddress>().map(|peer| peer.0.ip()),
            over_tls: parts.extensions.get::<Connection>().is_some_and(Connection::over_tls),
        }
    }
}
