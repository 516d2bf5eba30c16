//! The ports: opened before anything else, served when all is ready; TLS and places of connections are shared.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use pharos_base::Clock;
use pharos_http::{
    ConnectionGate, ConnectionMetrics, ListenerSettings, TlsMetrics, TlsSettings, TlsSource, bind, serve,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::doors::Routers;
use crate::open_files::{connections_within, raise_limit};
use crate::settings::{Port, PortName, Settings};

/// Where one port is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub(crate) socket: SocketAddr,
    pub(crate) speaks_tls: bool,
}

impl Address {
    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.speaks_tls { "https" } else { "http" }
    }
}

/// As the log shows it: host and port, and that it speaks TLS.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.speaks_tls { write!(f, "https://{}", self.socket) } else { self.socket.fmt(f) }
    }
}

/// Where the server listens; `None` where a port is off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) main: Address,
    pub(crate) otlp_grpc: Option<Address>,
    pub(crate) otlp_http: Option<Address>,
    pub(crate) jaeger: Option<Address>,
    pub(crate) jaeger_grpc: Option<Address>,
}

/// The open ports.
pub(crate) struct Listeners {
    open: Vec<OpenPort>,
    gate: Arc<ConnectionGate>,
    metrics: ConnectionMetrics,
}

struct OpenPort {
    name: PortName,
    socket: TcpListener,
    tls: Option<Arc<TlsSource>>,
}

impl Listeners {
    /// Reads certificates and opens the ports that are not off. Ports with equal settings of TLS share what is read.
    pub(crate) async fn bind(settings: &Settings, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let mut sources: Vec<(TlsSettings, Arc<TlsSource>)> = Vec::new();
        let mut open = Vec::new();
        for name in PortName::ALL {
            let (port, purpose) = port_of(settings, name);
            let Some(address) = port.address() else { continue };
            let tls = settings.tls_of(name).map(|wanted| source_of(wanted, &mut sources, clock)).transpose()?;
            open.push(OpenPort { name, socket: bind(address, purpose).await?, tls });
        }
        let metrics = ConnectionMetrics::default();
        let mut connections = settings.connections.clone();
        connections.max = connections_within(connections.max, raise_limit());
        Ok(Self { open, gate: ConnectionGate::new(connections, metrics.clone()), metrics })
    }

    /// Where they are.
    pub(crate) fn addresses(&self) -> anyhow::Result<Addresses> {
        let of = |name: PortName| -> anyhow::Result<Option<Address>> {
            let Some(port) = self.open.iter().find(|port| port.name == name) else { return Ok(None) };
            Ok(Some(Address { socket: port.socket.local_addr()?, speaks_tls: port.tls.is_some() }))
        };
        Ok(Addresses {
            main: of(PortName::Listen)?.ok_or_else(|| anyhow::anyhow!("listen: the main address cannot be off"))?,
            otlp_grpc: of(PortName::OtlpGrpc)?,
            otlp_http: of(PortName::OtlpHttp)?,
            jaeger: of(PortName::Jaeger)?,
            jaeger_grpc: of(PortName::JaegerGrpc)?,
        })
    }

    /// What TLS is read from, each with the names of the ports that use it.
    pub(crate) fn tls_sources(&self) -> Vec<(String, Arc<TlsSource>)> {
        let mut sources: Vec<(String, Arc<TlsSource>)> = Vec::new();
        for (name, source) in self.ports_with_tls() {
            match sources.iter_mut().find(|(_, known)| Arc::ptr_eq(known, &source)) {
                Some((names, _)) => *names = format!("{names}, {name}"),
                None => sources.push((name.to_owned(), source)),
            }
        }
        sources
    }

    fn ports_with_tls(&self) -> Vec<(&'static str, Arc<TlsSource>)> {
        let with_tls = |port: &OpenPort| port.tls.clone().map(|tls| (port.name.as_str(), tls));
        self.open.iter().filter_map(with_tls).collect()
    }

    /// Shows connections and certificates in `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
        TlsMetrics::register(self.ports_with_tls(), registry);
    }

    /// Serves until `stop`.
    pub(crate) fn serve(self, routers: &Routers, tasks: &TaskTracker, stop: &CancellationToken) {
        for port in self.open {
            let router: Router = match port.name {
                PortName::Listen => routers.main.clone(),
                PortName::OtlpGrpc => routers.otlp_grpc.clone(),
                PortName::OtlpHttp => routers.otlp_http.clone(),
                PortName::Jaeger => routers.jaeger.clone(),
                PortName::JaegerGrpc => routers.jaeger_grpc.clone(),
            };
            let settings = ListenerSettings { port: port.name.as_str(), tls: port.tls, gate: Arc::clone(&self.gate) };
            tasks.spawn(serve(port.socket, router, settings, stop.clone()));
        }
    }
}

/// The source of these settings: one that another port has already, or a new one.
fn source_of(
    wanted: TlsSettings,
    sources: &mut Vec<(TlsSettings, Arc<TlsSource>)>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Arc<TlsSource>> {
    if let Some((_, source)) = sources.iter().find(|(known, _)| *known == wanted) {
        return Ok(Arc::clone(source));
    }
    let source = Arc::new(TlsSource::open(wanted.clone(), Arc::clone(clock))?);
    sources.push((wanted, Arc::clone(&source)));
    Ok(source)
}

fn port_of(settings: &Settings, name: PortName) -> (&Port, &'static str) {
    match name {
        PortName::Listen => (&settings.listen, "the main port (change it with --listen)"),
        PortName::OtlpGrpc => (&settings.otlp_grpc, "OTLP/gRPC (change it with --otlp-grpc, or turn it off)"),
        PortName::OtlpHttp => (&settings.otlp_http, "OTLP/HTTP (change it with --otlp-http, or turn it off)"),
        PortName::Jaeger => (&settings.jaeger, "Jaeger queries (change it with --jaeger, or turn it off)"),
        PortName::JaegerGrpc => {
            (&settings.jaeger_grpc, "Jaeger gRPC queries (change it with --jaeger-grpc, or turn it off)")
        }
    }
}
