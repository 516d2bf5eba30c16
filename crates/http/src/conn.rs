//! What a connection may cost: limits, who holds a place, and when a connection ends.
//!
//! A connection counts as a stranger's until a request with a valid credential came over it
//! ([`Connection::admit`]). Strangers are few per address, and give up their places first; whoever showed a
//! credential is never cut for others' sake.
//!
//! Invariants
//! - C1 Every wait for a peer has a deadline with a name in [`ConnectionSettings`]; a peer that does nothing is gone
//!   after it, whatever the protocol.
//! - C2 Time counts against the peer only while the peer is the slow side.
//! - C3 A connection without a valid credential never keeps out one that has one, for longer than
//!   `CHANCE` in `gate.rs`.

mod body;
mod drive;
mod gate;
mod metrics;
mod seldom;
mod settings;
mod vitals;
mod watched;

use std::net::SocketAddr;
use std::sync::Arc;

pub use body::BodyTooSlow;
pub(crate) use body::{PacedBody, ServedBody};
pub(crate) use drive::{Ends, drive};
pub use gate::ConnectionGate;
pub(crate) use gate::Place;
pub use metrics::ConnectionMetrics;
pub(crate) use seldom::Seldom;
pub use settings::ConnectionSettings;
pub(crate) use vitals::{Limits, Vitals, Why};
pub(crate) use watched::WatchedIo;

use crate::tls::ClientCertificate;

/// The connection a request came on: in the extensions of every request.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(crate) peer: SocketAddr,
    pub(crate) over_tls: bool,
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    pub(crate) place: Arc<Place>,
}

impl Connection {
    /// The other end.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether it is encrypted on our own port; behind a proxy that ends TLS it is not.
    #[must_use]
    pub fn over_tls(&self) -> bool {
        self.over_tls
    }

    /// What the peer proved to hold the key of, where the port asks for certificates.
    #[must_use]
    pub fn certificate(&self) -> Option<&Arc<ClientCertificate>> {
        self.certificate.as_ref()
    }

    /// A request of it showed a valid credential: it is no stranger's from now on.
    pub fn admit(&self) {
        self.place.admit();
    }
}
