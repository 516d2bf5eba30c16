//! `pharos serve`.

use std::io::IsTerminal;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::app::{App, BUILD};
use crate::cli::Failure;
use crate::listeners::{Address, Addresses};
use crate::reload::SettingsSource;
use crate::settings::{Log, LogFormat, Settings};

/// Runs the server until SIGTERM or SIGINT; SIGHUP reads again what may change while it runs.
pub(crate) fn run(settings: &Settings, source: SettingsSource) -> Result<(), Failure> {
    start_log(&settings.log).map_err(Failure::Start)?;
    runtime().map_err(Failure::Start)?.block_on(async move {
        let signals = StopSignals::listen().map_err(Failure::Start)?;
        let mut reload = reload_signal().map_err(Failure::Start)?;
        let app = App::start(settings, source).await.map_err(Failure::Start)?;
        greet(&app);
        let mut stop = pin!(signals.wait());
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = reload.recv() => {
                    tracing::info!("SIGHUP: reading tokens, limits and the files of TLS again");
                    app.reload().await;
                }
            }
        }
        app.stop().await.map_err(Failure::Run)?;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Starts the log on standard error.
pub(crate) fn start_log(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level).with_context(|| format!("log.level: {:?} is no filter", log.level))?;
    let in_colour = std::io::stderr().is_terminal();
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(in_colour).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => subscriber.with_target(false).try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    started.map_err(|error| anyhow!("cannot start the log: {error}"))
}

/// The async runtime; its blocking threads carry queries and decoding.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .thread_name("pharos-async")
        .max_blocking_threads(256)
        .thread_keep_alive(Duration::from_secs(10))
        .build()
        .context("cannot start the async runtime")
}

/// Tells where the server is, and the first token, once.
pub(crate) fn greet(app: &App) {
    let Addresses { main, otlp_grpc, otlp_http, jaeger, jaeger_grpc } = app.addresses();
    let shown = |address: Option<Address>| address.map_or("off".to_owned(), |address| address.to_string());
    tracing::info!(
        version = BUILD.version,
        listen = %main,
        otlp_grpc = shown(otlp_grpc),
        otlp_http = shown(otlp_http),
        jaeger = shown(jaeger),
        jaeger_grpc = shown(jaeger_grpc),
        "pharos is up"
    );
    if let Some(token) = app.first_token() {
        eprintln!("\n  First start: this token opens everything. It is shown this once; keep it safe.\n");
        eprintln!("      {}\n", token.reveal());
        eprintln!(
            "  Senders and Grafana use it as a bearer token; the UI asks for it at {}://{}/\n",
            main.scheme(),
            main.socket
        );
    }
}

/// SIGHUP, listened to from before the start: it asks to read tokens, limits and certificates again, and never ends the server.
fn reload_signal() -> anyhow::Result<Signal> {
    signal(SignalKind::hangup()).context("cannot listen to SIGHUP")
}

/// SIGTERM and SIGINT, listened to from before the start: a signal during the replay of a log stops the server
/// in order as well, once it is up.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Begins to listen.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    /// Waits for one of them.
    pub(crate) async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
    }
}
