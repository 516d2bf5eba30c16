//! `pharos demo`: the server with a simulated shop that uses its real doors.

use pharos_demo::{Shop, ShopSettings};
use pharos_gateway::{NewToken, Scope, TenantAccess, TokenFile};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::serve::{StopSignals, greet, runtime, start_log};
use crate::app::App;
use crate::cli::Failure;
use crate::settings::{Settings, Switch};
use pharos_base::{Clock, Secret, SystemClock};

/// The name of the token that the shop sends with and visitors log in with; made anew at each start.
const TOKEN_NAME: &str = "demo";

/// Runs server and shop until SIGTERM or SIGINT.
pub(crate) fn run(settings: &Settings) -> Result<(), Failure> {
    start_log(&settings.log).map_err(Failure::Start)?;
    runtime().map_err(Failure::Start)?.block_on(async move {
        let signals = StopSignals::listen().map_err(Failure::Start)?;
        let app = App::start(settings).await.map_err(Failure::Start)?;
        greet(&app);
        let token = demo_token(settings).map_err(Failure::Start)?;
        let stop = CancellationToken::new();
        let shop = Shop::new(ShopSettings {
            endpoint: format!("http://{}", app.addresses().main),
            token: token.as_ref().map(|token| token.reveal().to_owned()),
        });
        let mut selling = JoinSet::new();
        selling.spawn(shop.run(stop.clone()));
        invite(&app, token.as_ref());
        signals.wait().await;
        stop.cancel();
        if let Some(Err(error)) = selling.join_next().await {
            tracing::error!(%error, "the shop did not end well");
        }
        app.stop().await.map_err(Failure::Run)
    })
}

fn demo_token(settings: &Settings) -> anyhow::Result<Option<Secret>> {
    if settings.auth == Switch::Off {
        return Ok(None);
    }
    let file = TokenFile::at(settings.token_path());
    if file.read()?.iter().any(|token| token.name == TOKEN_NAME) {
        file.remove(TOKEN_NAME)?;
    }
    let new = NewToken {
        name: TOKEN_NAME.to_owned(),
        scopes: vec![Scope::MetricsWrite, Scope::MetricsRead, Scope::TracesWrite, Scope::TracesRead],
        tenant: TenantAccess::One(pharos_model::TenantId::default()),
        created_at: SystemClock.unix_ms() / 1_000,
        expires_at: None,
    };
    Ok(Some(file.add(new)?.0))
}

fn invite(app: &App, token: Option<&Secret>) {
    let main = app.addresses().main;
    eprintln!("\n  The demo shop is open. Look at it: http://{main}/");
    if let Some(token) = token {
        eprintln!("  Log in with this token:            {}", token.reveal());
    }
    eprintln!("  Stop it with Ctrl-C.\n");
}
