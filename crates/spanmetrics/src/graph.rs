//! The graph of services: the two halves of each call are brought together while spans come in.
//!
//! A call has a client span and, in another service as a rule, a server span whose parent it is; a message has a producer
//! and a consumer span. The half that comes first waits for the other. What waits too long is told by who else is known:
//! a client span that names its peer called a virtual node, and a root was called by `user`; else it stays unpaired.
//!
//! Not the same as the trace store's dependencies (`TraceStore::dependencies`): those count every span whose parent is in
//! another service, of whatever kind, exactly and for as long as spans are kept. This counts requests as Tempo and the
//! OpenTelemetry collector do, with virtual nodes, failures and durations, and forgets a half after the pairing window.

mod edges;
mod waiting;

use std::sync::Arc;

use pharos_model::{SpanId, SpanKind, TraceId};

use crate::flush::Instants;
use crate::output::Output;
use edges::{Edges, Subject};
use waiting::{CallId, Waiting};

/// How client and server are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Connection {
    #[default]
    Direct,
    Messaging,
    Database,
    Virtual,
}

impl Connection {
    fn label(self) -> &'static str {
        match self {
            Self::Direct => "",
            Self::Messaging => "messaging_system",
            Self::Database => "database",
            Self::Virtual => "virtual_node",
        }
    }
}

/// What a client span says about whom it called.
#[derive(Debug, Clone, Default)]
pub(crate) enum Peer {
    /// Nothing.
    #[default]
    Unknown,
    /// A name, in case that nobody of that service tells its half.
    Named(Arc<str>),
    /// A database, which never tells.
    Database(Arc<str>),
}

/// One span, as far as calls are concerned.
#[derive(Debug)]
pub(crate) struct CallSpan {
    pub(crate) service: Arc<str>,
    pub(crate) peer: Peer,
    pub(crate) kind: SpanKind,
    pub(crate) is_failed: bool,
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) parent_span_id: SpanId,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) weight: f64,
}

/// What is known of a call by one of its sides.
#[derive(Debug, Default)]
pub(crate) struct Half {
    client: Option<Arc<str>>,
    server: Option<Arc<str>>,
    peer: Option<Arc<str>>,
    connection: Connection,
    is_failed: bool,
    client_ns: Option<u64>,
    server_ns: Option<u64>,
    client_end_ns: u64,
    server_start_ns: u64,
    weight: f64,
}

/// A call to be counted.
#[derive(Debug)]
struct Call {
    client: Arc<str>,
    server: Arc<str>,
    is_failed: bool,
    client_ns: Option<u64>,
    server_ns: Option<u64>,
    messaging_ns: Option<u64>,
    weight: f64,
}

/// What could not be told apart or brought together, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct GraphCounts {
    pub(crate) unpaired: u64,
    pub(crate) dropped: u64,
    pub(crate) overflowed: u64,
}

/// The graph of one tenant.
#[derive(Debug)]
pub(crate) struct Graph {
    waiting: Waiting,
    edges: Edges,
    window_ms: i64,
    user: Arc<str>,
    unknown: Arc<str>,
    counts: GraphCounts,
}

impl Graph {
    pub(crate) fn new(settings: &crate::ServiceGraphSettings) -> Self {
        Self {
            waiting: Waiting::new(settings.waiting_max),
            edges: Edges::new(settings.edges_max),
            window_ms: settings.pairing_window.as_ms(),
            user: Arc::from("user"),
            unknown: Arc::from(""),
            counts: GraphCounts::default(),
        }
    }

    /// How many edges there are.
    pub(crate) fn len(&self) -> usize {
        self.edges.len()
    }

    /// How many halves wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn counts(&self) -> GraphCounts {
        self.counts
    }

    /// How many places to flush.
    pub(crate) fn places(&self) -> usize {
        self.edges.places()
    }

    /// Writes place number `index`.
    pub(crate) fn flush(&mut self, index: usize, at: Instants, output: &mut Output) {
        self.edges.flush(index, at, output);
    }

    /// Learns whether the store took what was written of place number `index`.
    pub(crate) fn settle(&mut self, index: usize, is_stored: bool) {
        self.edges.settle(index, is_stored);
    }

    /// Takes a span of a call; others have none here.
    pub(crate) fn add(&mut self, span: CallSpan, now_ms: i64) {
        let is_client = matches!(span.kind, SpanKind::Client | SpanKind::Producer);
        let client_id = if is_client { span.span_id } else { span.parent_span_id };
        if client_id.is_zero() {
            // Nobody's child: nobody's half will come.
            let mut half = Half::default();
            half.learn_server(span);
            half.client = Some(Arc::clone(&self.user));
            half.connection = Connection::Virtual;
            return self.complete(half, now_ms);
        }
        let call_id = CallId::new(span.trace_id, client_id);
        if let Some(half) = self.waiting.get_mut(&call_id) {
            half.learn(span, is_client);
            if half.is_whole()
                && let Some(half) = self.waiting.remove(&call_id)
            {
                self.complete(half, now_ms);
            }
            return;
        }
        let mut half = Half::default();
        half.learn(span, is_client);
        if half.is_whole() {
            self.complete(half, now_ms);
        } else if let Err(half) = self.waiting.insert(call_id, half, now_ms.saturating_add(self.window_ms)) {
            self.counts.dropped += 1;
            self.give_up(Subject::Dropped, half, now_ms);
        }
    }

    /// Ends the wait of those whose time is over.
    pub(crate) fn expire(&mut self, now_ms: i64) {
        while let Some(mut half) = self.waiting.pop_expired(now_ms) {
            if let (Some(_), None, Some(peer)) = (&half.client, &half.server, half.peer.take()) {
                half.server = Some(peer);
                half.connection = Connection::Virtual;
                self.complete(half, now_ms);
            } else {
                self.counts.unpaired += 1;
                self.give_up(Subject::Unpaired, half, now_ms);
            }
        }
    }

    fn complete(&mut self, half: Half, now_ms: i64) {
        let subject = Subject::Requests(half.connection);
        let call = half.into_call(&self.unknown);
        self.counts.overflowed += u64::from(!self.edges.count(subject, &call, now_ms));
    }

    fn give_up(&mut self, subject: Subject, half: Half, now_ms: i64) {
        let call = Call { weight: 1.0, ..half.into_call(&self.unknown) };
        self.counts.overflowed += u64::from(!self.edges.count(subject, &call, now_ms));
    }
}

impl Half {
    fn learn(&mut self, span: CallSpan, is_client: bool) {
        if is_client { self.learn_client(span) } else { self.learn_server(span) }
    }

    fn learn_client(&mut self, span: CallSpan) {
        let duration_ns = span.end_ns.saturating_sub(span.start_ns);
        self.learn_common(&span);
        self.client = Some(span.service);
        self.client_ns = Some(duration_ns);
        self.client_end_ns = span.end_ns;
        match span.peer {
            Peer::Unknown => {}
            Peer::Named(peer) => self.peer = Some(peer),
            Peer::Database(name) => {
                self.connection = Connection::Database;
                self.server = Some(name);
                self.server_ns = Some(duration_ns);
            }
        }
    }

    fn learn_server(&mut self, span: CallSpan) {
        self.learn_common(&span);
        self.server_ns = Some(span.end_ns.saturating_sub(span.start_ns));
        self.server_start_ns = span.start_ns;
        self.server = Some(span.service);
    }

    fn learn_common(&mut self, span: &CallSpan) {
        self.is_failed |= span.is_failed;
        self.weight = self.weight.max(span.weight);
        if matches!(span.kind, SpanKind::Producer | SpanKind::Consumer) {
            self.connection = Connection::Messaging;
        }
    }

    fn is_whole(&self) -> bool {
        self.client.is_some() && self.server.is_some()
    }

    fn into_call(self, unknown: &Arc<str>) -> Call {
        let between = self.connection == Connection::Messaging && self.client_end_ns != 0 && self.server_start_ns != 0;
        Call {
            client: self.client.unwrap_or_else(|| Arc::clone(unknown)),
            server: self.server.unwrap_or_else(|| Arc::clone(unknown)),
            is_failed: self.is_failed,
            client_ns: self.client_ns,
            server_ns: self.server_ns,
            messaging_ns: between.then(|| self.server_start_ns.saturating_sub(self.client_end_ns)),
            weight: self.weight,
        }
    }
}
