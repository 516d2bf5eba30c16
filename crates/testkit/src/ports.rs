//! Ports of loopback that nobody uses at the moment.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports that the kernel does not give to outgoing connections (its default range begins at 32768). A server that is killed
/// and started again on such a port finds it free: no connection of another test can have taken it meanwhile.
const PORTS: Range<u16> = 10_000..32_000;

static ASKED: AtomicU32 = AtomicU32::new(0);

/// An address of 127.0.0.1 where nobody listens. Every call answers another port, as long as there are some; processes begin
/// at different ones.
///
/// # Panics
/// If no port is free.
#[must_use]
pub fn free_address() -> SocketAddr {
    let count = u32::from(PORTS.end - PORTS.start);
    // Neighbouring process ids begin far apart.
    let begin = std::process::id().wrapping_mul(7_919);
    let found = (0..count).find_map(|_| {
        let offset = begin.wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + u16::try_from(offset).expect("an offset is below the count");
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
    });
    found.expect("a port of loopback is free").local_addr().expect("a bound socket has an address")
}
