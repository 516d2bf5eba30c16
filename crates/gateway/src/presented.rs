//! What a request shows of its sender, before anything of it is believed.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, Method};
use ipnet::IpNet;
use pharos_http::{ClientCertificate, Connection, PeerAddress};

/// Addresses of one `X-Forwarded-For` that are looked at; a longer chain ends there.
const FORWARDED_HOPS_MAX: usize = 32;

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
    /// What the other end proved to hold the key of.
    pub certificate: Option<&'r ClientCertificate>,
}

impl<'r> Presented<'r> {
    /// What a request shows, but for its body.
    #[must_use]
    pub fn of(parts: &'r Parts) -> Self {
        Self {
            method: &parts.method,
            path: parts.uri.path(),
            headers: &parts.headers,
            peer: parts.extensions.get::<PeerAddress>().map(|peer| peer.0.ip().to_canonical()),
            over_tls: parts.extensions.get::<Connection>().is_some_and(Connection::over_tls),
            certificate: parts.extensions.get::<Connection>().and_then(Connection::certificate).map(|shared| &**shared),
        }
    }

    /// The sender's own address: the other end of the connection or, if that is a proxy in one of the `trusted` networks, whom it
    /// speaks for. `X-Forwarded-For` is read from the right, as each proxy appends whom it saw, up to the first address that is no
    /// trusted proxy itself; what stands left of it the sender may have made up. `X-Real-IP` counts where there is no chain.
    #[must_use]
    pub fn client(&self, trusted: &[IpNet]) -> Option<IpAddr> {
        let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
        let mut client = self.peer?;
        if !is_trusted(&client) {
            return Some(client);
        }
        let lines = || self.headers.get_all("x-forwarded-for").iter().rev().map(|value| value.to_str().unwrap_or(""));
        if lines().next().is_none() {
            let real = self.headers.get("x-real-ip").and_then(|value| address(value.to_str().ok()?));
            return Some(real.unwrap_or(client));
        }
        for hop in lines().flat_map(|line| line.rsplit(',')).take(FORWARDED_HOPS_MAX) {
            // Past a hop that is no address nothing is known.
            let Some(hop) = address(hop) else { break };
            client = hop;
            if !is_trusted(&client) {
                break;
            }
        }
        Some(client)
    }

    /// Whether the sender's connection is encrypted: to us, or to a proxy of the `trusted` networks that says so.
    #[must_use]
    pub fn is_encrypted(&self, trusted: &[IpNet]) -> bool {
        let by_proxy = || self.peer.is_some_and(|peer| trusted.iter().any(|network| network.contains(&peer)));
        let says_so = || self.headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https");
        self.over_tls || (by_proxy() && says_so())
    }
}

/// `10.0.0.1`, `10.0.0.1:80`, `fd00::1` or `[fd00::1]:80`.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.parse().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    bare.or_else(with_port).or_else(in_brackets).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_say_whom_they_speak_for() {
        let trusted = ["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        for (peer, forwarded, real_ip, expected) in [
            ("192.0.2.1", &["203.0.113.9"][..], None, "192.0.2.1"),
            ("127.0.0.1", &[], None, "127.0.0.1"),
            ("127.0.0.1", &["203.0.113.9"], None, "203.0.113.9"),
            // The sender made the first up.
            ("127.0.0.1", &["198.51.100.1, 203.0.113.9"], None, "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1", "203.0.113.9"], None, "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1, 203.0.113.9, 10.1.1.1"], None, "203.0.113.9"),
            ("127.0.0.1", &["10.2.2.2, 10.1.1.1"], None, "10.2.2.2"),
            ("127.0.0.1", &["203.0.113.9, unknown, 10.1.1.1"], None, "10.1.1.1"),
            ("127.0.0.1", &["[2001:db8::1]:443"], None, "2001:db8::1"),
            ("127.0.0.1", &[], Some("203.0.113.7"), "203.0.113.7"),
            ("127.0.0.1", &["203.0.113.9"], Some("203.0.113.7"), "203.0.113.9"),
            ("192.0.2.1", &[], Some("203.0.113.7"), "192.0.2.1"),
        ] {
            let mut headers = HeaderMap::new();
            for line in forwarded {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            if let Some(real_ip) = real_ip {
                headers.insert("x-real-ip", real_ip.parse().unwrap());
            }
            let peer = peer.parse().ok();
            let presented = Presented {
                method: &Method::GET,
                path: "/",
                headers: &headers,
                peer,
                over_tls: false,
                certificate: None,
            };
            assert_eq!(presented.client(&trusted), expected.parse().ok(), "{peer:?} {forwarded:?} {real_ip:?}");
        }
    }

    #[test]
    fn only_our_own_tls_and_trusted_proxies_make_a_connection_encrypted() {
        let trusted = ["127.0.0.0/8".parse().unwrap()];
        let headers = HeaderMap::from_iter([("x-forwarded-proto".parse().unwrap(), "https".parse().unwrap())]);
        for (peer, over_tls, expected) in
            [("127.0.0.1", false, true), ("192.0.2.1", false, false), ("192.0.2.1", true, true)]
        {
            let peer = peer.parse().ok();
            let presented =
                Presented { method: &Method::GET, path: "/", headers: &headers, peer, over_tls, certificate: None };
            assert_eq!(presented.is_encrypted(&trusted), expected, "{peer:?}");
        }
    }
}
