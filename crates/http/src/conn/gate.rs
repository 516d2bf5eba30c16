//! Who holds a place: all connections of all listeners.
//!
//! When places run out, the connection that is a stranger's for longest gives up its own; it had its chance if it is
//! older than [`CHANCE`]. Younger ones are left alone, or a crowd that comes at once would cut its own handshakes and
//! nobody would get in.
//!
//! Invariants
//! - G1 `open` is the number of places handed out and not left or evicted; it is never above `max`.
//! - G2 An id is in `strangers` exactly if it is in `by_address`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ConnectionMetrics, ConnectionSettings};

/// So long, or as long as a head may take, a stranger's connection is safe from being cut for another's sake.
const CHANCE: Duration = Duration::from_secs(1);
/// What an HTTP/2 connection may send ahead by the protocol, bytes.
const WINDOW_MIN: u32 = 65_535;
/// What one may send ahead at most, bytes.
const WINDOW_MAX: u32 = 4 << 20;
/// The part of what is left that one connection gets.
const WINDOW_SHARE: u64 = 16;

/// Hands out places. One for all listeners.
#[derive(Debug)]
pub struct ConnectionGate {
    settings: ConnectionSettings,
    metrics: ConnectionMetrics,
    books: Mutex<Books>,
    freed: Notify,
}

#[derive(Debug)]
struct Books {
    open: usize,
    next_id: u64,
    /// By age, as ids ascend.
    strangers: BTreeMap<u64, Stranger>,
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
    windows_left: u64,
}

#[derive(Debug)]
struct Stranger {
    address: IpAddr,
    since: Instant,
    evict: CancellationToken,
}

/// A place of a connection; dropped, it is free.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<ConnectionGate>,
    id: u64,
    port: &'static str,
    window: u32,
    evict: CancellationToken,
    is_admitted: AtomicBool,
}

/// Why there is no place.
enum Full {
    /// The address has its share of strangers.
    Address,
    /// All places are taken; it may be worth another look then.
    Wait(Option<Instant>),
}

impl ConnectionGate {
    /// A gate through which nobody came yet.
    #[must_use]
    pub fn new(settings: ConnectionSettings, metrics: ConnectionMetrics) -> Arc<Self> {
        let books = Books {
            open: 0,
            next_id: 0,
            strangers: BTreeMap::new(),
            by_address: HashMap::new(),
            windows_left: settings.windows_memory_max.0,
        };
        Arc::new(Self { settings, metrics, books: Mutex::new(books), freed: Notify::new() })
    }

    /// Places that are taken.
    #[cfg(test)]
    pub(crate) fn open(&self) -> usize {
        self.books.lock().open
    }

    pub(crate) fn settings(&self) -> &ConnectionSettings {
        &self.settings
    }

    pub(crate) fn metrics(&self) -> &ConnectionMetrics {
        &self.metrics
    }

    /// Waits for a place; `None` if the address has too many without a credential.
    pub(crate) async fn enter(self: &Arc<Self>, port: &'static str, peer: IpAddr) -> Option<Place> {
        let mut has_waited = false;
        loop {
            let freed = self.freed.notified();
            match self.try_enter(port, network_of(peer)) {
                Ok(place) => {
                    if has_waited {
                        // Two places that came free at once wake one: it passes the word on.
                        self.freed.notify_one();
                    }
                    return Some(place);
                }
                Err(Full::Address) => {
                    self.metrics.cut(port, "per_address_max");
                    return None;
                }
                Err(Full::Wait(None)) => freed.await,
                Err(Full::Wait(Some(at))) => {
                    let _ = tokio::time::timeout_at(at, freed).await;
                }
            }
            has_waited = true;
        }
    }

    fn try_enter(self: &Arc<Self>, port: &'static str, address: IpAddr) -> Result<Place, Full> {
        let mut books = self.books.lock();
        let now = Instant::now();
        let chance = CHANCE.min(self.settings.head_timeout.0);
        let of_address = books.by_address.get(&address);
        if of_address.is_some_and(|ids| ids.len() >= self.settings.per_address_max) {
            let oldest = of_address.and_then(BTreeSet::first).copied().ok_or(Full::Address)?;
            if books.strangers[&oldest].since + chance > now {
                return Err(Full::Address);
            }
            books.evict(oldest);
        }
        if books.open >= self.settings.max {
            let (oldest, ripe_at) =
                books.strangers.first_key_value().map(|(id, who)| (*id, who.since + chance)).ok_or(Full::Wait(None))?;
            if ripe_at > now {
                return Err(Full::Wait(Some(ripe_at)));
            }
            books.evict(oldest);
        }
        let evict = CancellationToken::new();
        let id = books.next_id;
        books.next_id += 1;
        books.open += 1;
        books.strangers.insert(id, Stranger { address, since: now, evict: evict.clone() });
        books.by_address.entry(address).or_default().insert(id);
        let window = books.take_window();
        drop(books);
        self.metrics.opened(port);
        Ok(Place { gate: Arc::clone(self), id, port, window, evict, is_admitted: AtomicBool::new(false) })
    }
}

impl Books {
    /// Strikes a connection off the list of strangers.
    fn strike(&mut self, id: u64) -> Option<Stranger> {
        let stranger = self.strangers.remove(&id)?;
        if let Some(ids) = self.by_address.get_mut(&stranger.address) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_address.remove(&stranger.address);
            }
        }
        Some(stranger)
    }

    fn evict(&mut self, id: u64) {
        if let Some(stranger) = self.strike(id) {
            stranger.evict.cancel();
            self.open -= 1;
        }
    }

    /// A share of what is left: the first connections get all that one can use, and a crowd gets what it must.
    fn take_window(&mut self) -> u32 {
        let share = u32::try_from(self.windows_left / WINDOW_SHARE).unwrap_or(u32::MAX).clamp(WINDOW_MIN, WINDOW_MAX);
        let beyond = u64::from(share - WINDOW_MIN);
        let granted = if beyond <= self.windows_left { beyond } else { 0 };
        self.windows_left -= granted;
        WINDOW_MIN + granted as u32
    }
}

impl Place {
    /// A valid credential came over the connection.
    pub(super) fn admit(&self) {
        if self.is_admitted.load(Ordering::Relaxed) || self.is_admitted.swap(true, Ordering::Relaxed) {
            return;
        }
        self.gate.books.lock().strike(self.id);
    }

    /// Bytes that its peer may send ahead over HTTP/2.
    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    /// Cancelled when the place goes to another.
    pub(crate) fn evict(&self) -> &CancellationToken {
        &self.evict
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut books = self.gate.books.lock();
        books.strike(self.id);
        books.windows_left += u64::from(self.window - WINDOW_MIN);
        if !self.evict.is_cancelled() {
            books.open -= 1;
        }
        drop(books);
        self.gate.metrics.closed(self.port);
        self.gate.freed.notify_one();
    }
}

/// Who counts as one: an address, and of IPv6 the network that one host has by itself.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pharos_base::ByteSize;

    fn gate(max: usize, per_address_max: usize) -> Arc<ConnectionGate> {
        let settings = ConnectionSettings { max, per_address_max, ..ConnectionSettings::default() };
        ConnectionGate::new(settings, ConnectionMetrics::default())
    }

    fn host(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_share_of_strangers_and_no_limit_of_those_it_is_known_for() {
        let gate = gate(100, 2);
        let known = gate.enter("test", host(1)).await.unwrap();
        known.admit();
        let (first, second) = (gate.enter("test", host(1)).await.unwrap(), gate.enter("test", host(1)).await.unwrap());
        assert!(gate.enter("test", host(1)).await.is_none(), "two strangers of this address are young");
        let other = gate.enter("test", host(2)).await.unwrap();
        tokio::time::advance(CHANCE).await;
        let third = gate.enter("test", host(1)).await.expect("the oldest stranger had its chance");
        assert!(first.evict().is_cancelled());
        for kept in [&known, &second, &other, &third] {
            assert!(!kept.evict().is_cancelled());
        }
        drop((known, first, second, other, third));
        let books = gate.books.lock();
        assert_eq!((books.open, books.by_address.len(), books.strangers.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_house_cuts_strangers_and_never_those_it_knows() {
        let gate = gate(2, 2);
        let known = gate.enter("test", host(1)).await.unwrap();
        known.admit();
        let stranger = gate.enter("test", host(2)).await.unwrap();
        let begun = Instant::now();
        let next = gate.enter("test", host(3)).await.unwrap();
        assert_eq!(begun.elapsed(), CHANCE, "it waits until the stranger had its chance");
        assert!(stranger.evict().is_cancelled() && !known.evict().is_cancelled());
        drop(stranger);
        next.admit();
        assert_eq!(gate.books.lock().open, 2, "what was evicted is not given back twice");
        let mut waiting = tokio::task::JoinSet::new();
        let entering = Arc::clone(&gate);
        waiting.spawn(async move { entering.enter("test", host(4)).await.map(drop) });
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(waiting.try_join_next().is_none(), "everyone inside is known");
        drop(known);
        assert!(waiting.join_next().await.unwrap().unwrap().is_some());
    }

    #[tokio::test]
    async fn windows_together_stay_within_their_memory() {
        let memory = 64 << 20;
        let settings = ConnectionSettings { windows_memory_max: ByteSize(memory), ..ConnectionSettings::default() };
        let gate = ConnectionGate::new(settings, ConnectionMetrics::default());
        let mut places = Vec::new();
        for number in 0..4_000_u32 {
            let place = gate.enter("test", IpAddr::from(number.to_be_bytes())).await.unwrap();
            place.admit();
            places.push(place);
        }
        let beyond: u64 = places.iter().map(|place| u64::from(place.window() - WINDOW_MIN)).sum();
        assert_eq!(places[0].window(), WINDOW_MAX);
        assert_eq!(places[3_999].window(), WINDOW_MIN);
        assert!(beyond <= memory, "{beyond}");
        drop(places);
        assert_eq!(gate.books.lock().windows_left, memory);
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let of = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:10.1.2.3"), "10.1.2.3");
        assert_eq!(of("10.1.2.3"), "10.1.2.3");
    }
}
