//! Moving in and out: the real Prometheus and VictoriaMetrics are filled, their data imported with the real binary, and the
//! answers of both compared, sample by sample.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pharos_testkit::{Peer, Pharos, find_program, free_address};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

const HOUR_S: i64 = 3_600;
const STEP_S: i64 = 60;

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

/// Runs the binary against `server`.
async fn pharos(server: &Pharos, arguments: &[&str]) -> Output {
    let output = Command::new(Pharos::program())
        .args(arguments)
        .env("PHAROS_URL", server.url(""))
        .env("PHAROS_TOKEN", server.token())
        .output();
    output.await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs it and demands success.
pub(crate) async fn done(server: &Pharos, arguments: &[&str]) -> String {
    let output = pharos(server, arguments).await;
    assert!(
        output.status.success(),
        "{arguments:?}: {}{}\n{}",
        text(&output.stdout),
        text(&output.stderr),
        server.log()
    );
    text(&output.stdout)
}

/// Two and a half days of a few metrics, as OpenMetrics.
fn open_metrics(end_s: i64) -> String {
    let mut out = String::from("# TYPE requests counter\n# HELP requests Requests, all of them.\n");
    let steps: Vec<_> = (0..60 * HOUR_S / STEP_S).map(|step| (step, end_s - 60 * HOUR_S + step * STEP_S)).collect();
    for path in ["/", "/größe \\\"a\\\"", "/b\\\\c"] {
        for (step, at) in &steps {
            writeln!(out, "requests_total{{path=\"{path}\"}} {} {at}.250", step * 7 % 100_000).unwrap();
        }
    }
    out += "# TYPE temperature gauge\n";
    for room in ["kitchen", "cellar"] {
        for (step, at) in &steps {
            let value = match step % 400 {
                17 => "NaN".to_owned(),
                18 => "+Inf".to_owned(),
                19 => "-Inf".to_owned(),
                step => format!("{}", 20.0 + (step as f64 / 37.0).sin()),
            };
            writeln!(out, "temperature{{room=\"{room}\"}} {value} {at}").unwrap();
        }
    }
    out + "# EOF\n"
}

/// All samples as `series → instant → value`, both as texts.
type Samples = BTreeMap<String, BTreeMap<String, String>>;

async fn samples(url: &str, token: Option<&str>, selector: &str, at_s: i64) -> Samples {
    let mut request = reqwest::Client::new()
        .get(format!("{url}/api/v1/query"))
        .query(&[("query", format!("{selector}[5d]")), ("time", at_s.to_string())]);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["status"], "success", "{answer}");
    let series = answer["data"]["result"].as_array().unwrap();
    let values = |series: &Value| {
        series["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (pair[0].to_string(), pair[1].as_str().unwrap().to_owned()))
            .collect()
    };
    series.iter().map(|series| (series["metric"].to_string(), values(series))).collect()
}

/// Metric objects with their keys in order.
fn in_order(samples: Samples) -> Samples {
    let sorted = |metric: &str| {
        let pairs: BTreeMap<String, String> = serde_json::from_str(metric).unwrap();
        serde_json::to_string(&pairs).unwrap()
    };
    samples.into_iter().map(|(metric, values)| (sorted(&metric), values)).collect()
}

fn assert_same(theirs: Samples, ours: Samples) {
    let (theirs, ours) = (in_order(theirs), in_order(ours));
    assert!(!theirs.is_empty());
    assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    for (metric, values) in &theirs {
        let found = &ours[metric];
        let differs = values.iter().zip(found).find(|(one, other)| one != other);
        assert!(
            values.len() == found.len() && differs.is_none(),
            "{metric}: {} and {}, {differs:?}",
            values.len(),
            found.len()
        );
    }
}

/// Debian's Prometheus on a folder; it scrapes itself every second.
struct Prometheus {
    url: String,
    peer: Peer,
}

impl Prometheus {
    async fn start(folder: &Path, data: &Path) -> Self {
        let address = free_address();
        let config = folder.join("prometheus.yml");
        let scrape = format!("- job_name: self\n  static_configs: [{{targets: ['{address}']}}]\n");
        std::fs::write(&config, format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{scrape}")).unwrap();
        let mut command = std::process::Command::new(find_program(&["prometheus"]));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={address}"));
        let mut peer = Peer::spawn("prometheus", command, folder);
        let url = format!("http://{address}");
        peer.wait_until_ready(&format!("{url}/-/ready")).await;
        Self { url, peer }
    }
}

/// Blocks that promtool makes of [`open_metrics`].
fn make_blocks(folder: &Path, end_s: i64) -> PathBuf {
    let (input, data) = (folder.join("input.om"), folder.join("prometheus-data"));
    std::fs::write(&input, open_metrics(end_s)).unwrap();
    let output = std::process::Command::new(find_program(&["promtool"]))
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([&input, &data])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    data
}

#[tokio::test]
async fn a_prometheus_moves_in_with_its_blocks_and_its_log() {
    let folder = TempDir::new().unwrap();
    let end_s = now_s() - 4 * HOUR_S;
    let data = make_blocks(folder.path(), end_s);
    let mut prometheus = Prometheus::start(folder.path(), &data).await;
    // A few scrapes that are in the log alone.
    let begun = std::time::Instant::now();
    while samples(&prometheus.url, None, "up", now_s() + 1).await.values().map(BTreeMap::len).sum::<usize>() < 4 {
        assert!(begun.elapsed() < Duration::from_mins(1), "{}", prometheus.peer.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let at_s = now_s() - 1;
    let all = "{__name__!=\"\"}";
    let theirs = samples(&prometheus.url, None, all, at_s).await;
    prometheus.peer.terminate().await;

    let server = Pharos::builder().start().await;
    let data = data.to_string_lossy().into_owned();
    let summary = done(&server, &["import", "prometheus", &data]).await;
    assert!(summary.starts_with("stored "), "{summary}");
    assert_same(theirs.clone(), samples(&server.url(""), Some(server.token()), all, at_s).await);

    // Again: nothing changes. Part of it, with a label: that part is there beside the other.
    assert_eq!(done(&server, &["import", "prometheus", &data, "-q"]).await, summary);
    assert_same(theirs.clone(), samples(&server.url(""), Some(server.token()), all, at_s).await);
    let (start, end) = ((end_s - 20 * HOUR_S).to_string(), (end_s - 10 * HOUR_S).to_string());
    let part =
        ["import", "prometheus", &data, "--match", "temperature", "--start", &start, "--end", &end, "--label", "dc=x"];
    let read = done(&server, &[&part[..], &["--dry-run"]].concat()).await;
    let stored = done(&server, &part).await;
    assert_eq!(read.replace("read", "stored"), stored);
    let ours = samples(&server.url(""), Some(server.token()), "{dc=\"x\"}", at_s).await;
    let counts: Vec<_> = ours.values().map(BTreeMap::len).collect();
    assert_eq!(counts, [601, 601], "ten hours, both ends included");
}

#[tokio::test]
async fn damage_is_told_with_file_and_byte_and_the_rest_is_imported() {
    let folder = TempDir::new().unwrap();
    let end_s = now_s() - 4 * HOUR_S;
    let data = make_blocks(folder.path(), end_s);
    let server = Pharos::builder().start().await;
    let block = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let chunks = block.join("chunks/000001");
    let mut bytes = std::fs::read(&chunks).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&chunks, bytes).unwrap();
    let output = pharos(&server, &["import", "prometheus", &data.to_string_lossy()]).await;
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains(&format!("{}, byte 8: a chunk: wrong checksum", chunks.display())), "{told}");
    let ours = samples(&server.url(""), Some(server.token()), "{__name__!=\"\"}", now_s()).await;
    let count: usize = ours.values().map(BTreeMap::len).sum();
    let all = 5 * 60 * (HOUR_S / STEP_S) as usize;
    assert!(count < all && count + 125 > all, "{count} of {all}");
}

#[tokio::test]
async fn newer_encodings_histograms_and_exemplars_arrive() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/prometheus-data/testdata/fixtures/modern");
    let server = Pharos::builder().option("--retention-metrics", "36500d").start().await;
    let fixture = fixture.to_string_lossy();
    let summary = done(&server, &["import", "prometheus", &fixture]).await;
    assert!(summary.contains("native histograms") && summary.contains("4 exemplars"), "{summary}");
    let at_s = 1_700_100_000.0;
    for (query, expected) in [
        ("count_over_time(requests_total{job=\"api\"}[2d])", "300"),
        ("count_over_time(latency{kind=\"integer\"}[2d])", "299"),
        ("count_over_time(latency{kind=\"custom\"}[2d])", "300"),
        ("count_over_time(latency{kind=\"float\"}[2d])", "300"),
        ("count_over_time(constant[2d])", "258"),
        ("count(last_over_time({__name__!=\"\"}[2d]))", "15"),
    ] {
        let answer = server.query(query, at_s).await;
        assert_eq!(answer[0]["value"][1], expected, "{query}: {answer}");
    }
    let (_, metadata) = server.get("/api/v1/metadata?metric=requests_total").await;
    assert_eq!(metadata["data"]["requests_total"][0]["help"], "Requests.\nAll of them.", "{metadata}");
}

#[tokio::test]
async fn text_arrives_and_a_bad_line_is_named() {
    let server = Pharos::builder().start().await;
    let end_s = now_s() - HOUR_S;
    let file = server.folder().join("input.om");
    std::fs::write(&file, open_metrics(end_s)).unwrap();
    let summary = done(&server, &["import", "openmetrics", &file.to_string_lossy()]).await;
    assert_eq!(summary, "stored 18000 samples\n");
    let gzip = server.folder().join("prometheus.txt.gz");
    let mut packed = flate2::write::GzEncoder::new(std::fs::File::create(&gzip).unwrap(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, format!("a 1 {}\nb one\nc 2 {}\n", end_s * 1_000, end_s * 1_000).as_bytes())
        .unwrap();
    packed.finish().unwrap();
    let output = pharos(&server, &["import", "openmetrics", "--format", "prometheus", &gzip.to_string_lossy()]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("line 2: \"one\" is no number"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "stored 2 samples\n");
    std::fs::write(&file, "a 1 1.0\n").unwrap();
    let output = pharos(&server, &["import", "openmetrics", "--dry-run", &file.to_string_lossy()]).await;
    assert!(text(&output.stderr).contains("# EOF"), "{}", text(&output.stderr));
}

/// Debian's VictoriaMetrics.
struct Victoria {
    url: String,
    _peer: Peer,
}

impl Victoria {
    async fn start(folder: &Path) -> Self {
        let address = free_address();
        let mut command = std::process::Command::new(find_program(&["victoria-metrics", "victoria-metrics-prod"]));
        command
            .arg(format!("-storageDataPath={}", folder.join("victoria").display()))
            .arg(format!("-httpListenAddr={address}"))
            .arg("-retentionPeriod=100y");
        let mut peer = Peer::spawn("victoria-metrics", command, folder);
        let url = format!("http://{address}");
        peer.wait_until_ready(&format!("{url}/health")).await;
        Self { url, _peer: peer }
    }

    async fn post(&self, path: &str, body: String) {
        let answer = reqwest::Client::new().post(format!("{}{path}", self.url)).body(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        let flushed = reqwest::get(format!("{}/internal/force_flush", self.url)).await.unwrap();
        assert!(flushed.status().is_success());
    }

    async fn export(&self) -> Samples {
        let url = format!("{}/api/v1/export?match[]=%7B__name__!%3D%22%22%7D", self.url);
        by_line(&reqwest::get(url).await.unwrap().text().await.unwrap())
    }
}

/// Samples of JSON lines.
fn by_line(lines: &str) -> Samples {
    let mut found = Samples::new();
    for line in lines.lines() {
        // Older versions write infinities bare, newer ones and Pharos in quotes.
        let line = line.replace("\"Infinity\"", "+Inf").replace("\"-Infinity\"", "-Inf");
        let line = line.replace("+Inf", "\"positive\"").replace("-Inf", "\"negative\"");
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let values = line["values"].as_array().unwrap().iter().map(Value::to_string);
        let instants = line["timestamps"].as_array().unwrap().iter().map(Value::to_string);
        found.entry(line["metric"].to_string()).or_default().extend(instants.zip(values));
    }
    found
}

#[tokio::test]
async fn a_victoria_metrics_moves_in_and_out_again() {
    let folder = TempDir::new().unwrap();
    let victoria = Victoria::start(folder.path()).await;
    let end_s = now_s() - HOUR_S;
    let mut lines = String::new();
    for line in open_metrics(end_s).lines().filter(|line| !line.starts_with('#') && !line.contains("NaN")) {
        let (sample, at_s) = line.rsplit_once(' ').unwrap();
        writeln!(lines, "{sample} {}", (at_s.parse::<f64>().unwrap() * 1_000.0).round()).unwrap();
    }
    victoria.post("/api/v1/import/prometheus", lines).await;
    let theirs = victoria.export().await;
    assert_eq!(theirs.len(), 5);

    let server = Pharos::builder().start().await;
    let summary = done(&server, &["import", "victoriametrics", &victoria.url, "--slice", "7h"]).await;
    assert_eq!(summary, format!("stored {} samples\n", theirs.values().map(BTreeMap::len).sum::<usize>()));
    let file = server.folder().join("export.jsonl");
    done(&server, &["export", "-o", &file.to_string_lossy()]).await;
    let exported = std::fs::read_to_string(&file).unwrap();
    assert_same(theirs.clone(), by_line(&exported));
    // Exports of other people in between change nothing, neither there nor here.
    for _ in 0..3 {
        assert_same(theirs.clone(), victoria.export().await);
        assert_eq!(done(&server, &["import", "victoriametrics", &victoria.url, "--slice", "7h"]).await, summary);
        assert_same(theirs.clone(), by_line(&done(&server, &["export"]).await));
    }

    // And the other way: what this server exports, VictoriaMetrics imports. (Debian's passes over lines with infinities in quotes,
    // which newer ones write themselves.)
    let other = TempDir::new().unwrap();
    let victoria = Victoria::start(other.path()).await;
    let (finite, infinite): (Vec<_>, Vec<_>) =
        exported.split_inclusive('\n').partition(|line| !line.contains("Infinity"));
    assert!(!finite.is_empty() && !infinite.is_empty());
    victoria.post("/api/v1/import", finite.concat()).await;
    assert_same(by_line(&finite.concat()), victoria.export().await);

    // And through the server's own door, with a label more.
    let second = Pharos::builder().start().await;
    let (status, answer) = second.post("/api/v1/import?extra_label=dc=x", "application/json", exported).await;
    assert_eq!(status, 204, "{answer}");
    let only =
        done(&second, &["export", "--match", "temperature{room=\"cellar\",dc=\"x\"}", "--end", &end_s.to_string()])
            .await;
    assert_eq!(by_line(&only).len(), 1);
    let output = pharos(&second, &["import", "victoriametrics", "http://127.0.0.1:1"]).await;
    assert!(text(&output.stderr).contains("no answer from http://127.0.0.1:1"), "{}", text(&output.stderr));
}
