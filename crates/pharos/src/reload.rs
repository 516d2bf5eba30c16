//! What is read again while the server runs: tokens, keys of issuers and the files of TLS, at SIGHUP and `POST /-/reload`.

use std::sync::Arc;

use pharos_base::full_message;
use pharos_gateway::{Authenticator, Identities};
use pharos_http::TlsSource;

/// Everything that can be read again.
#[derive(Debug, Clone)]
pub(crate) struct Reloader {
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) identities: Arc<Identities>,
    /// Each with the ports that use it.
    pub(crate) tls: Vec<(String, Arc<TlsSource>)>,
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
        for (ports, source) in &self.tls {
            let outcome = source.reload().map(|is_new| if is_new { "reloaded" } else { "unchanged" });
            tell(format!("tls of {ports}"), outcome.map_err(|error| full_message(&error)));
        }
        reloaded
    }
}
