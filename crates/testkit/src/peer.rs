//! Real programs of others, started by the tests and ended with them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a peer may take to start on a busy machine.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// A running program in a folder of its own; dropping it kills it.
#[derive(Debug)]
pub struct Peer {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Finds a program in the search path.
///
/// # Panics
/// If it is not installed: tests never skip a peer silently.
#[must_use]
pub fn find_program(names: &[&str]) -> PathBuf {
    let folders: Vec<_> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from);
    folders
        .iter()
        .chain(&more)
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{} is not installed; `make test` installs it", names.join(" or ")))
}

impl Peer {
    /// Starts `command`; its output goes to a log file in `folder`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn(name: &str, mut command: Command, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).expect("a log file can be made");
        let err = out.try_clone().expect("a file handle can be cloned");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until `url` answers with success.
    ///
    /// # Panics
    /// If the program ends first or takes too long.
    pub async fn wait_until_ready(&mut self, url: &str) {
        let client = reqwest::Client::builder()
            .danger_accept_invalid_certs(true)
            .timeout(Duration::from_secs(5))
            .build()
            .expect("a client can be made");
        let begun = Instant::now();
        loop {
            if let Ok(answer) = client.get(url).send().await
                && answer.status().is_success()
            {
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            assert!(begun.elapsed() < START_TIMEOUT, "{} does not answer at {url}:\n{}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Kills it at once (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop (SIGTERM) and blocks until it has: for `Drop`, where nothing can be awaited, and for programs that would
    /// leave processes of their own behind if they were killed.
    pub fn terminate_blocking(&mut self) {
        let _ = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    ///
    /// # Panics
    /// If it does not stop in time.
    pub async fn terminate(&mut self) -> std::process::ExitStatus {
        let _ = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        let begun = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            assert!(begun.elapsed() < START_TIMEOUT, "{} does not stop:\n{}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}
