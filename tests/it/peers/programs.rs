//! Debian's monitoring programs: how each is configured and started. Each listens on a free port of loopback and keeps its
//! files in the test's folder.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use pharos_testkit::{Peer, find_program, free_address};

/// Short, so that a test sees many samples; both scrapers use it.
const SCRAPE_INTERVAL: &str = "1s";
/// What a machine does not change while a test runs.
const CONSTANT_METRICS: [&str; 4] = [
    "node_boot_time_seconds",
    "node_memory_MemTotal_bytes",
    "node_memory_SwapTotal_bytes",
    "process_start_time_seconds",
];

async fn text(url: &str) -> String {
    let answer = reqwest::get(url).await.and_then(reqwest::Response::error_for_status);
    let answer = answer.unwrap_or_else(|error| panic!("GET {url}: {error}"));
    answer.text().await.expect("the page is text")
}

/// `prometheus-node-exporter` with its default collectors.
pub(crate) struct NodeExporter {
    address: SocketAddr,
    _peer: Peer,
}

/// What an exporter shows.
pub(crate) struct Page {
    /// Every metric name on it.
    pub(crate) names: BTreeSet<String>,
    /// Metrics without labels whose value stays.
    pub(crate) constants: Vec<(&'static str, f64)>,
}

impl NodeExporter {
    pub(crate) async fn start(folder: &Path) -> Self {
        let address = free_address();
        let mut command = Command::new(find_program(&["prometheus-node-exporter"]));
        command.arg(format!("--web.listen-address={address}"));
        let mut peer = Peer::spawn("node-exporter", command, folder);
        peer.wait_until_ready(&format!("http://{address}/metrics")).await;
        Self { address, _peer: peer }
    }

    pub(crate) async fn page(&self) -> Page {
        let text = text(&format!("http://{}/metrics", self.address)).await;
        let samples = || text.lines().filter(|line| !line.starts_with('#'));
        let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
        let value = |metric: &str| {
            let line = samples().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{metric} is not on the page")).parse().expect("a value is a number")
        };
        Page {
            names: samples().map(name).collect(),
            constants: CONSTANT_METRICS.map(|metric| (metric, value(metric))).into(),
        }
    }
}

/// A `vmagent` yet to be started.
pub(crate) struct Agent {
    door: String,
    url: String,
    token: String,
    certificate: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
}

/// A running `vmagent`.
pub(crate) struct RunningAgent {
    address: SocketAddr,
    peer: Peer,
}

impl Agent {
    /// One that writes to `url`, without a token if that is empty; its series bear the label `door`.
    pub(crate) fn new(door: &str, url: &str, token: &str) -> Self {
        Self { door: door.to_owned(), url: url.to_owned(), token: token.to_owned(), certificate: None, client: None }
    }

    /// Lets it trust one certificate more.
    pub(crate) fn trusting(mut self, certificate: &Path) -> Self {
        self.certificate = Some(certificate.to_owned());
        self
    }

    /// Lets it show a certificate of its own; the second file is its key.
    pub(crate) fn showing(mut self, certificate: &Path, key: &Path) -> Self {
        self.client = Some((certificate.to_owned(), key.to_owned()));
        self
    }

    /// Starts it; it scrapes `exporter` as the job `node`.
    pub(crate) fn start(self, folder: &Path, exporter: &NodeExporter) -> RunningAgent {
        let config = format!(
            "global:\n  scrape_interval: {SCRAPE_INTERVAL}\n  external_labels: {{door: {}}}\n\
             scrape_configs:\n- job_name: node\n  static_configs: [{{targets: ['{}']}}]\n",
            self.door, exporter.address
        );
        self.start_with(folder, &config, &[])
    }

    /// Starts it; it scrapes nothing, has one queue, and sends on what is [pushed](RunningAgent::push) to it.
    pub(crate) fn start_pushed(self, folder: &Path) -> RunningAgent {
        self.start_with(folder, "scrape_configs: []\n", &["-remoteWrite.queues=1"])
    }

    fn start_with(self, folder: &Path, config: &str, more: &[&str]) -> RunningAgent {
        let Self { door, url, token, certificate, client } = self;
        let (address, name) = (free_address(), format!("vmagent-{door}"));
        let config = write(folder.join(format!("{name}.yml")), config);
        let mut command = Command::new(find_program(&["vmagent", "vmagent-prod"]));
        command
            .arg(format!("-promscrape.config={}", config.display()))
            .arg(format!("-httpListenAddr={address}"))
            .arg(format!("-remoteWrite.tmpDataPath={}", folder.join(&name).display()))
            .arg(format!("-remoteWrite.url={url}"))
            .args(more)
            .args((!token.is_empty()).then(|| format!("-remoteWrite.bearerToken={token}")))
            .args(certificate.map(|path| format!("-remoteWrite.tlsCAFile={}", path.display())));
        if let Some((certificate, key)) = client {
            command
                .arg(format!("-remoteWrite.tlsCertFile={}", certificate.display()))
                .arg(format!("-remoteWrite.tlsKeyFile={}", key.display()));
        }
        RunningAgent { address, peer: Peer::spawn(&name, command, folder) }
    }
}

impl RunningAgent {
    pub(crate) async fn wait_until_ready(&mut self) {
        let url = format!("http://{}/health", self.address);
        self.peer.wait_until_ready(&url).await;
    }

    pub(crate) fn log(&self) -> String {
        self.peer.log()
    }

    /// Gives it samples to send on, in the text exposition format.
    pub(crate) async fn push(&self, exposition: String) {
        let url = format!("http://{}/api/v1/import/prometheus", self.address);
        let answer = reqwest::Client::new().post(url).body(exposition).send().await.expect("vmagent answers");
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// The sum of one of its own counters, over the series that contain `label`.
    pub(crate) async fn count(&self, counter: &str, label: &str) -> f64 {
        let page = text(&format!("http://{}/metrics", self.address)).await;
        let series = page.lines().filter(|line| line.starts_with(&format!("{counter}{{")) && line.contains(label));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// `prometheus` that scrapes the exporter (job `node`) and itself (job `prometheus`), and sends everything on.
pub(crate) struct PrometheusServer {
    address: SocketAddr,
    _peer: Peer,
}

impl PrometheusServer {
    pub(crate) async fn start(folder: &Path, exporter: &NodeExporter, write_url: &str, token: &str) -> Self {
        let authorization = format!("authorization: {{type: Bearer, credentials: {token}}}");
        Self::start_writing(folder, exporter, write_url, &authorization).await
    }

    /// One whose remote write has these keys beside the URL.
    pub(crate) async fn start_writing(folder: &Path, exporter: &NodeExporter, write_url: &str, keys: &str) -> Self {
        let address = free_address();
        let config = write(
            folder.join("prometheus.yml"),
            &format!(
                "global: {{scrape_interval: {SCRAPE_INTERVAL}}}\n\
                 scrape_configs:\n\
                 - job_name: node\n  static_configs: [{{targets: ['{}']}}]\n\
                 - job_name: prometheus\n  static_configs: [{{targets: ['{address}']}}]\n\
                 remote_write:\n\
                 - url: {write_url}\n  {keys}\n  \
                   queue_config: {{batch_send_deadline: 500ms}}\n  metadata_config: {{send_interval: 2s}}\n",
                exporter.address
            ),
        );
        let mut command = Command::new(find_program(&["prometheus"]));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("prometheus-data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--enable-feature=promql-negative-offset,promql-at-modifier"]);
        let mut peer = Peer::spawn("prometheus", command, folder);
        peer.wait_until_ready(&format!("http://{address}/-/ready")).await;
        Self { address, _peer: peer }
    }

    /// One that scrapes nothing and takes remote write, with everything switched on that it has.
    pub(crate) async fn start_receiver(folder: &Path) -> Self {
        let address = free_address();
        let config = write(folder.join("receiver.yml"), "global: {}\n");
        let mut command = Command::new(find_program(&["prometheus"]));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("receiver-data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--web.enable-remote-write-receiver")
            .arg("--enable-feature=native-histograms,promql-negative-offset,promql-at-modifier");
        let mut peer = Peer::spawn("receiver", command, folder);
        peer.wait_until_ready(&format!("http://{address}/-/ready")).await;
        Self { address, _peer: peer }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn write(path: PathBuf, text: &str) -> PathBuf {
    fs::write(&path, text).expect("a settings file can be written");
    path
}
