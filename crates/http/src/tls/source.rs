//! The configuration of TLS in use, and the files it comes from.
//!
//! Files are looked at by their content: what swaps links (Kubernetes), renames over, or writes in place is noticed
//! alike. They are read until two reads agree, so that a certificate and its key come from one moment.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use pharos_base::{Clock, full_message};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, version};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::revoked::Lists;
use super::{ClientCertificate, ClientCertificates, TlsSettings, TlsVersion, provider};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The largest file that is read, bytes: lists of revoked certificates are the long ones.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// Files are read so often at most to get two reads that agree.
const READS_MAX: usize = 4;

/// Why a configuration of TLS cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum TlsError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is larger than {max} bytes")]
    TooLarge { path: PathBuf, max: u64 },
    #[error("tls: {0}")]
    Settings(&'static str),
    #[error("the files of TLS change while they are read; they are tried again")]
    Changing,
    #[error("{path} holds no {what} in PEM")]
    Nothing { path: PathBuf, what: &'static str },
    #[error("{path} is no PEM: {reason}")]
    Pem { path: PathBuf, reason: String },
    #[error("{path}: {reason}")]
    Certificate { path: PathBuf, reason: String },
    #[error("{certificate} and {key} cannot be used together")]
    Pair { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("{path} is valid {when}, not now")]
    NotNow { path: PathBuf, when: String },
    #[error("the authorities or revoked certificates of clients cannot be used")]
    Clients { source: rustls::server::VerifierBuilderError },
    #[error("tls.min_version cannot be had")]
    Version { source: rustls::Error },
    #[error("no keys for tickets of sessions can be made")]
    Tickets { source: rustls::Error },
}

/// TLS of one port or several, with what is in use now.
#[derive(Debug)]
pub struct TlsSource {
    settings: TlsSettings,
    clock: Arc<dyn Clock>,
    current: RwLock<Arc<InUse>>,
    /// One reload at a time; the last complaint, which is made once.
    complaint: Mutex<Option<String>>,
}

/// One version of the configuration.
#[derive(Debug)]
pub(crate) struct InUse {
    pub(crate) config: Arc<ServerConfig>,
    /// Cancelled when clients are checked against other files.
    pub(crate) retire: CancellationToken,
    expires_s: i64,
    /// When a list of revoked certificates is due to be followed by the next, Unix seconds.
    lists_due_s: Option<i64>,
    /// Whether it was told that they are late.
    told_late: AtomicBool,
    files: Files,
}

/// The content of all files. The key's bytes are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Files {
    of_server: [u8; 32],
    of_clients: [u8; 32],
}

#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    client_crl: Option<Vec<u8>>,
}

impl TlsSource {
    /// Reads the files for the first time. A certificate that has expired is used all the same, with a warning: a server
    /// that does not start helps nobody.
    ///
    /// # Errors
    /// [`TlsError`]: a file cannot be read, or they do not fit together.
    pub fn open(settings: TlsSettings, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let in_use = InUse::build(&settings, &Contents::read(&settings)?)?;
        if let Err(error) = in_use.check_time(&settings, clock.as_ref()) {
            tracing::warn!(error = full_message(&error), "clients that check certificates will refuse this server");
        }
        let source = Self { settings, clock, current: RwLock::new(Arc::new(in_use)), complaint: Mutex::new(None) };
        source.are_lists_late();
        Ok(source)
    }

    /// What new connections use.
    pub(crate) fn current(&self) -> Arc<InUse> {
        Arc::clone(&self.current.read())
    }

    /// The time, for what ends with a client's certificate.
    pub(crate) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// When the certificate in use expires, Unix seconds.
    #[must_use]
    pub fn expires_s(&self) -> i64 {
        self.current.read().expires_s
    }

    /// When a list of revoked certificates is due to be followed by the next, Unix seconds: the earliest of them.
    #[must_use]
    pub fn lists_due_s(&self) -> Option<i64> {
        self.current.read().lists_due_s
    }

    /// Whether a list of revoked certificates should have been followed by the next; says so in the log, once.
    pub(crate) fn are_lists_late(&self) -> bool {
        let in_use = self.current();
        let Some(due_s) = in_use.lists_due_s.filter(|due_s| *due_s < self.clock.unix_ms().div_euclid(1_000)) else {
            return false;
        };
        if !in_use.told_late.swap(true, Ordering::Relaxed) {
            let list = self.settings.client_crl.as_deref().unwrap_or(Path::new(""));
            tracing::warn!(
                list = %list.display(), due_s,
                "a list of revoked certificates is late: it still counts, and what was revoked since is not known"
            );
        }
        true
    }

    /// Reads the files again and uses them if they changed; says whether they did. Blocks on the disk.
    ///
    /// # Errors
    /// [`TlsError`]: what was in use stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let mut complaint = self.complaint.lock();
        let reloaded = self.try_reload();
        match &reloaded {
            Ok(is_new) => {
                *complaint = None;
                if *is_new {
                    let certificate = self.settings.certificate.as_deref().unwrap_or(Path::new(""));
                    tracing::info!(certificate = %certificate.display(), expires_s = self.expires_s(), "TLS uses new files");
                }
            }
            Err(error) => {
                let message = full_message(error);
                if complaint.as_deref() != Some(message.as_str()) {
                    tracing::error!(
                        error = message.as_str(),
                        "the files of TLS cannot be used; those before stay in use"
                    );
                    *complaint = Some(message);
                }
            }
        }
        self.are_lists_late();
        reloaded
    }

    fn try_reload(&self) -> Result<bool, TlsError> {
        let contents = Contents::read(&self.settings)?;
        let before = self.current();
        if contents.files() == before.files {
            return Ok(false);
        }
        let mut next = InUse::build(&self.settings, &contents)?;
        // Who is let in changes at once, also while our own certificate has expired.
        if next.files.of_server != before.files.of_server {
            next.check_time(&self.settings, self.clock.as_ref())?;
        }
        let are_clients_checked_anew = next.files.of_clients != before.files.of_clients;
        if !are_clients_checked_anew {
            next.retire = before.retire.clone();
        }
        *self.current.write() = Arc::new(next);
        if are_clients_checked_anew {
            before.retire.cancel();
        }
        Ok(true)
    }
}

/// Looks at the files of all `sources` until `stop`, every five seconds.
pub async fn watch_tls_files(sources: Vec<Arc<TlsSource>>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let sources = sources.clone();
        let look = move || {
            for source in sources {
                // It logs what is wrong itself, once.
                let _ = source.reload();
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(look).await {
            tracing::error!(%error, "reading the files of TLS panicked");
        }
    }
}

impl InUse {
    fn build(settings: &TlsSettings, contents: &Contents) -> Result<Self, TlsError> {
        let (certificate, key) = settings.pair()?;
        let chain = certificates(certificate, &contents.certificate)?;
        let leaf = chain.first().ok_or_else(|| nothing(certificate, "certificate"))?;
        let expires_s = ClientCertificate::parse(leaf)
            .map_err(|error| TlsError::Certificate { path: certificate.to_owned(), reason: error.to_string() })?
            .not_after_s;
        let private = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|_| nothing(key, "private key (one that is encrypted cannot be used)"))?;
        let versions: &[&rustls::SupportedProtocolVersion] = match settings.min_version {
            TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12],
            TlsVersion::V1_3 => &[&version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(|source| TlsError::Version { source })?;
        let lists = match (&settings.client_crl, &contents.client_crl) {
            (Some(path), Some(pem)) => Lists::read(path, pem)?,
            _ => Lists::default(),
        };
        let lists_due_s = lists.due_s;
        let builder = match clients_verifier(settings, contents, lists)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, private).map_err(|source| TlsError::Pair {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            source,
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Fleets come again when connections are too old: their sessions are in tickets, not in a memory that is too
        // small for them. Its keys end with this configuration: whom it trusts not, has no ticket that is good.
        config.ticketer = Ticketer::new().map_err(|source| TlsError::Tickets { source })?;
        let (retire, files) = (CancellationToken::new(), contents.files());
        let told_late = AtomicBool::new(false);
        Ok(Self { config: Arc::new(config), retire, expires_s, lists_due_s, told_late, files })
    }

    fn check_time(&self, settings: &TlsSettings, clock: &dyn Clock) -> Result<(), TlsError> {
        if self.expires_s >= clock.unix_ms() / 1_000 {
            return Ok(());
        }
        let (path, _) = settings.pair()?;
        Err(TlsError::NotNow { path: path.to_owned(), when: format!("until {} (Unix seconds)", self.expires_s) })
    }
}

impl TlsSettings {
    fn pair(&self) -> Result<(&Path, &Path), TlsError> {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Ok((certificate, key)),
            _ => Err(TlsError::Settings("certificate and key: name both files")),
        }
    }
}

fn clients_verifier(
    settings: &TlsSettings,
    contents: &Contents,
    lists: Lists,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if settings.clients == ClientCertificates::Off {
        return Ok(None);
    }
    let (Some(path), Some(pem)) = (&settings.client_ca, &contents.client_ca) else {
        return Err(TlsError::Settings("clients: name in client_ca the authorities whose clients are believed"));
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(path, pem)? {
        roots
            .add(authority)
            .map_err(|error| TlsError::Certificate { path: path.clone(), reason: error.to_string() })?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    if !lists.all.is_empty() {
        builder = builder.with_crls(lists.all);
    }
    if settings.clients == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map(Some).map_err(|source| TlsError::Clients { source })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem { path: path.to_owned(), reason: error.to_string() })?;
    if found.is_empty() { Err(nothing(path, "certificate")) } else { Ok(found) }
}

pub(super) fn nothing(path: &Path, what: &'static str) -> TlsError {
    TlsError::Nothing { path: path.to_owned(), what }
}

impl Contents {
    /// Two reads that agree are of one moment.
    fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        let mut last = Self::read_once(settings)?;
        for _ in 1..READS_MAX {
            let next = Self::read_once(settings)?;
            if next == last {
                return Ok(next);
            }
            last = next;
        }
        Err(TlsError::Changing)
    }

    fn read_once(settings: &TlsSettings) -> Result<Self, TlsError> {
        let (certificate, key) = settings.pair()?;
        let optional = |path: &Option<PathBuf>| path.as_deref().map(read_file).transpose();
        Ok(Self {
            certificate: read_file(certificate)?,
            key: read_file(key)?,
            client_ca: optional(&settings.client_ca)?,
            client_crl: optional(&settings.client_crl)?,
        })
    }

    fn files(&self) -> Files {
        let hash = |parts: [&[u8]; 2]| {
            let mut hash = Sha256::new();
            for part in parts {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
            hash.finalize().into()
        };
        let of = |file: &'_ Option<Vec<u8>>| file.clone().unwrap_or_default();
        Files {
            of_server: hash([&self.certificate, &self.key]),
            of_clients: hash([&of(&self.client_ca), &of(&self.client_crl)]),
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::TooLarge { path: path.to_owned(), max: FILE_BYTES_MAX });
    }
    Ok(bytes)
}
