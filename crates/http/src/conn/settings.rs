//! Limits of connections, of all listeners together.

use std::time::Duration;

use pharos_base::{ByteSize, HumanDuration};
use serde::{Deserialize, Serialize};

/// What connections may take, and how long they may take for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionSettings {
    /// Connections served at a time, of all ports; when there are as many, strangers go, else the next one waits. At least 1.
    pub max: usize,
    /// Connections of one address (of IPv6: one /64) over which no request with a valid credential came yet. At least 1.
    pub per_address_max: usize,
    /// A request's head must be complete this long after it began; on a new connection, after its start.
    pub head_timeout: HumanDuration,
    /// A TLS handshake must be complete this long after the connection was made.
    pub handshake_timeout: HumanDuration,
    /// A body may pause this long between two pieces.
    pub body_pause_max: HumanDuration,
    /// A body must come this fast, bytes a second, once it was waited for as long as a pause may be; 0 does not ask.
    pub body_rate_min: ByteSize,
    /// A connection without a request under way is closed after this.
    pub idle_max: HumanDuration,
    /// A connection takes no new requests after this, give or take a tenth: clients come again, which spreads them over
    /// servers and makes them read new certificates.
    pub age_max: HumanDuration,
    /// A connection that was told to close, and has no request under way, is cut after this.
    pub age_grace: HumanDuration,
    /// A client must take some of its answers at least this often.
    pub write_stall_max: HumanDuration,
    /// Requests one HTTP/2 connection may have under way. At least 1.
    pub streams_max: u32,
    /// What the windows of all HTTP/2 connections may let peers send ahead, beyond the 64 KiB each that the protocol demands.
    pub windows_memory_max: ByteSize,
    /// At the stop, requests under way may take this long.
    pub drain_max: HumanDuration,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        let seconds = |seconds: u64| HumanDuration(Duration::from_secs(seconds));
        Self {
            max: 4_096,
            per_address_max: 256,
            head_timeout: seconds(10),
            handshake_timeout: seconds(10),
            body_pause_max: seconds(30),
            body_rate_min: ByteSize(1 << 10),
            idle_max: seconds(120),
            age_max: seconds(3_600),
            age_grace: seconds(30),
            write_stall_max: seconds(30),
            streams_max: 256,
            windows_memory_max: ByteSize::mib(128),
            drain_max: seconds(10),
        }
    }
}

impl ConnectionSettings {
    /// Everything that makes no sense, each fault with the name of its setting.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let counts =
            [("max", self.max), ("per_address_max", self.per_address_max), ("streams_max", self.streams_max as usize)];
        for (name, count) in counts {
            if count == 0 {
                faults.push(format!("connections.{name}: must be at least 1"));
            }
        }
        for (name, time) in [
            ("head_timeout", self.head_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("body_pause_max", self.body_pause_max),
            ("idle_max", self.idle_max),
            ("age_max", self.age_max),
            ("write_stall_max", self.write_stall_max),
        ] {
            if time.0.is_zero() {
                faults.push(format!("connections.{name}: must be more than 0"));
            }
        }
        faults
    }
}
