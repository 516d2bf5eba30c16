//! `pharos demo`: the server with a simulated shop that uses its real doors.

use std::path::PathBuf;

use anyhow::anyhow;
use pharos_base::{Clock, Secret, SystemClock, full_message};
use pharos_demo::{Shop, ShopSettings};
use pharos_gateway::{NewToken, Scope, TenantAccess, TokenFile};
use pharos_model::TenantId;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::serve::{StopSignals, greet, runtime, start_log};
use crate::app::App;
use crate::cli::Failure;
use crate::data_dir::make_folder;
use crate::reload::SettingsSource;
use crate::settings::{Settings, Switch};

/// The name of the demo's token.
const TOKEN_NAME: &str = "demo";

/// Where the demo keeps its data unless told otherwise: never among real ones.
const DATA_DIR: &str = "./pharos-demo-data";

/// Runs server and shop until SIGTERM or SIGINT.
pub(crate) fn run(settings: &Settings, source: SettingsSource) -> Result<(), Failure> {
    start_log(&settings.log).map_err(Failure::Start)?;
    let mut settings = settings.clone();
    if settings.data_dir == Settings::default().data_dir {
        settings.data_dir = PathBuf::from(DATA_DIR);
    }
    let token = DemoToken::make(&settings).map_err(Failure::Start)?;
    let outcome = runtime().map_err(Failure::Start)?.block_on(run_shop(&settings, source, &token));
    token.revoke();
    outcome
}

async fn run_shop(settings: &Settings, source: SettingsSource, token: &DemoToken) -> Result<(), Failure> {
    let signals = StopSignals::listen().map_err(Failure::Start)?;
    let app = App::start(settings, source).await.map_err(Failure::Start)?;
    if app.addresses().main.speaks_tls {
        return Err(Failure::Start(anyhow!("the demo's shop speaks plain HTTP: leave TLS of the main port off")));
    }
    greet(&app);
    let stop = CancellationToken::new();
    let shop = Shop::new(ShopSettings {
        endpoint: format!("http://{}", app.addresses().main),
        token: token.secret.as_ref().map(|secret| secret.reveal().to_owned()),
    });
    let mut selling = JoinSet::new();
    selling.spawn(shop.run(stop.clone()));
    invite(&app, token.secret.as_ref());
    signals.wait().await;
    stop.cancel();
    if let Some(Err(error)) = selling.join_next().await {
        tracing::error!(%error, "the shop did not end well");
    }
    app.stop().await.map_err(Failure::Run)?;
    tracing::info!("stopped");
    Ok(())
}

/// The token that the shop sends with and visitors log in with; it lives as long as the demo.
struct DemoToken {
    file: TokenFile,
    secret: Option<Secret>,
}

impl DemoToken {
    fn make(settings: &Settings) -> anyhow::Result<Self> {
        let file = TokenFile::at(settings.token_path());
        if settings.auth == Switch::Off {
            return Ok(Self { file, secret: None });
        }
        if let Some(folder) = file.path().parent() {
            make_folder(folder)?;
        }
        // Left over from a demo that was killed.
        if file.read()?.iter().any(|token| token.name == TOKEN_NAME) {
            file.remove(TOKEN_NAME)?;
        }
        let scopes = [Scope::MetricsWrite, Scope::MetricsRead, Scope::TracesWrite, Scope::TracesRead];
        let tenant = TenantAccess::One(TenantId::default());
        let new = NewToken::new(TOKEN_NAME, &scopes, tenant, SystemClock.unix_ms() / 1_000);
        let (secret, _) = file.add(new)?;
        Ok(Self { file, secret: Some(secret) })
    }

    fn revoke(&self) {
        if self.secret.is_some()
            && let Err(error) = self.file.remove(TOKEN_NAME)
        {
            tracing::warn!(error = full_message(&error), "the demo's token could not be revoked");
        }
    }
}

fn invite(app: &App, token: Option<&Secret>) {
    let main = app.addresses().main;
    eprintln!("\n  The demo shop is open. Look at it: http://{main}/");
    if let Some(token) = token {
        eprintln!("  Log in with this token:            {}", token.reveal());
    }
    eprintln!("  Stop it with Ctrl-C.\n");
}
