//! What is read again while the server runs: tokens, keys of issuers, the files of TLS, and of the settings the limits of tenants and
//! what pairs of senders are recognised by; at SIGHUP and `POST /-/reload`.

use std::sync::Arc;

use pharos_base::full_message;
use pharos_gateway::{Authenticator, Identities, Quotas};
use pharos_http::TlsSource;
use pharos_ingest::HaRules;

use crate::settings::{Settings, SettingsError, tenants};

/// Reads file, environment and flags anew.
#[derive(Clone)]
pub(crate) struct SettingsSource(Arc<dyn Fn() -> Result<Settings, SettingsError> + Send + Sync>);

impl SettingsSource {
    pub(crate) fn new(read: impl Fn() -> Result<Settings, SettingsError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl std::fmt::Debug for SettingsSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SettingsSource")
    }
}

/// Everything that can be read again.
#[derive(Debug, Clone)]
pub(crate) struct Reloader {
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) identities: Arc<Identities>,
    /// Each with the ports that use it.
    pub(crate) tls: Vec<(String, Arc<TlsSource>)>,
    /// What tenants and credentials may.
    pub(crate) quotas: Arc<Quotas>,
    /// What their pairs of senders are recognised by.
    pub(crate) ha: Arc<HaRules>,
    pub(crate) settings: SettingsSource,
}

/// What became of it: one line a part.
pub(crate) struct Reloaded {
    pub(crate) lines: Vec<String>,
    pub(crate) has_failed: bool,
}

impl Reloader {
    /// Reads all parts; one that cannot be used stays as it was and keeps none of the others back. Blocks on the disk.
    pub(crate) fn reload(&self) -> Reloaded {
        let mut reloaded = Reloaded { lines: Vec::new(), has_failed: false };
        let mut tell = |part: String, outcome: Result<&str, String>| {
            reloaded.has_failed |= outcome.is_err();
            let said = outcome.map_or_else(|error| format!("kept as it was: {error}"), str::to_owned);
            reloaded.lines.push(format!("{part}: {said}"));
        };
        tell(
            "tokens".to_owned(),
            self.authenticator.reload().map(|()| "reloaded").map_err(|error| full_message(&error)),
        );
        if self.identities.has_issuers() {
            let outcome = self.identities.reload().map(|()| "reloaded").map_err(|error| error.to_string());
            tell("keys of issuers".to_owned(), outcome);
        }
        tell("limits".to_owned(), self.reload_limits());
        for (ports, source) in &self.tls {
            let outcome = source.reload().map(|is_new| if is_new { "reloaded" } else { "unchanged" });
            tell(format!("tls of {ports}"), outcome.map_err(|error| full_message(&error)));
        }
        reloaded
    }

    /// Takes the limits of tenants, and what their pairs are recognised by, from the settings; all else of these stays as it was at the start.
    fn reload_limits(&self) -> Result<&'static str, String> {
        let settings = (self.settings.0)().map_err(|error| full_message(&error))?;
        self.quotas.reload(&settings.limits, &tenants::limits(&settings.tenants));
        self.ha.reload(&settings.ingest.ha, tenants::ha(&settings.tenants));
        Ok("reloaded")
    }
}
