//! Ports of loopback that nobody uses at the moment.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A free address of 127.0.0.1. Between this call and the use another process may take it, which the
/// kernel makes unlikely by handing out ports in turn.
///
/// # Panics
/// If no port is free.
#[must_use]
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback is free");
    listener.local_addr().expect("a bound socket has an address")
}
