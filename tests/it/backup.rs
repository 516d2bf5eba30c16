//! Snapshots, backups and restores by the real binary: of a running server, of a stopped one, in a folder and in S3.

mod places;
mod shapes;

pub(crate) use places::files;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use pharos_testkit::{Pharos, free_address};
use serde_json::Value;

use crate::loadgen;
use crate::otlp::now_ms;

/// What a command wrote to standard output; it must have ended well.
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command wrote to standard error; it must have ended with `code` and without a panic.
fn refused(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!message.contains("panicked"), "{message}");
    message
}

fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}\n{err}", output.status)
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// The names in `pharos backup list`.
fn listed(place: &str) -> Vec<String> {
    let lines = done(&Pharos::run(&["backup", "list", "--from", place]));
    lines.lines().map(|line| line.split_whitespace().next().expect("a name").to_owned()).collect()
}

/// A server on a restored folder. Its tokens are those of the backup, among them one called as the fixture's own.
async fn start_on(data: &Path) -> Pharos {
    done(&Pharos::run(&["token", "revoke", "--data-dir", text(data), "test"]));
    Pharos::builder().data_dir(data).start().await
}

struct Load<'a> {
    start_s: &'a str,
    seed: &'a str,
}

impl Load<'_> {
    fn shape(&self) -> Vec<&str> {
        let fixed = ["--series", "600", "--interval", "15s", "--span", "40m"];
        [&fixed[..], &["--start", self.start_s, "--seed", self.seed]].concat()
    }

    async fn push(&self, pharos: &Pharos) {
        let url = pharos.url("/api/v1/write");
        let push = ["metrics", "--url", &url, "--token", pharos.token()];
        let report = loadgen::start(&[&push[..], &self.shape()].concat()).report().await;
        assert_eq!(report["accepted"], report["sent"], "{report}");
    }

    async fn push_traces(&self, pharos: &Pharos) {
        let url = pharos.url("/v1/traces");
        let push = ["traces", "--url", &url, "--token", pharos.token(), "--traces", "500", "--spans-per-trace", "10"];
        let shape = ["--start", self.start_s, "--seed", self.seed, "--span-of-time", "40m"];
        let report = loadgen::start(&[&push[..], &shape].concat()).report().await;
        assert_eq!(report["accepted"], report["sent"], "{report}");
    }

    /// Fails unless every sample is there.
    async fn verify(&self, pharos: &Pharos) {
        let url = pharos.url("");
        let verify = ["verify", "--url", &url, "--token", pharos.token(), "--values", "20"];
        loadgen::start(&[&verify[..], &self.shape()].concat()).report().await;
    }
}

/// How many traces with how many spans a search finds.
pub(crate) async fn traces(pharos: &Pharos) -> (usize, u64) {
    let instant = |age_ms: i64| jiff::Timestamp::from_millisecond(now_ms() - age_ms).expect("a time").to_string();
    let window = format!("query.startTimeMin={}&query.startTimeMax={}", instant(3 * 3_600_000), instant(-60_000));
    let (status, answer) = pharos.get(&format!("/api/v3/trace-summaries?{window}&query.searchDepth=10000")).await;
    assert_eq!(status, 200, "{answer}");
    let found = answer["summaries"].as_array().cloned().unwrap_or_default();
    (found.len(), found.iter().filter_map(|summary| summary["spanCount"].as_u64()).sum())
}

#[tokio::test]
async fn a_running_server_is_backed_up_killed_and_restored_whole() {
    let mut pharos = Pharos::builder().start().await;
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("backups");
    let kept = pharos.new_token("kept", "all", "*");
    let (data, url, token) = (pharos.data_dir(), pharos.url(""), pharos.token().to_owned());
    let backup = || {
        let to = ["backup", "--to", text(&place), "--data-dir", text(&data), "--url", &url, "--token", &token, "-q"];
        done(&Pharos::run(&to))
    };
    let start_s = (now_ms() / 1_000 - 7_200).to_string();
    let (first, second) = (Load { start_s: &start_s, seed: "1" }, Load { start_s: &start_s, seed: "2" });
    first.push(&pharos).await;
    first.push_traces(&pharos).await;
    assert_eq!(traces(&pharos).await, (500, 5_000));
    let told = backup();
    assert!(told.contains("reused") && told.starts_with("backup 20"), "{told}");

    // More of the same metrics, and other traces; all of it is acknowledged, little of it is in parts.
    let later_s = (now_ms() / 1_000 - 3_600).to_string();
    let later = Load { start_s: &later_s, seed: "1" };
    later.push(&pharos).await;
    second.push_traces(&pharos).await;
    backup();
    let (status, answer) = pharos.get("/snapshot/list").await;
    assert_eq!((status, &answer["snapshots"]), (200, &serde_json::json!([])), "the snapshots are deleted again");
    let sound = done(&Pharos::run(&["backup", "verify", "--from", text(&place), "-q"]));
    assert!(sound.starts_with("2 backups, ") && sound.ends_with("all sound\n"), "{sound}");
    let names = listed(text(&place));
    assert_eq!(names.len(), 2);
    pharos.kill();

    let newest = folder.path().join("newest");
    let told = done(&Pharos::run(&["restore", "--from", text(&place), "--data-dir", text(&newest), "-q"]));
    assert!(told.contains(&names[1]), "{told}");
    let restored = start_on(&newest).await;
    first.verify(&restored).await;
    later.verify(&restored).await;
    assert_eq!(traces(&restored).await, (1_000, 10_000));
    let answer = restored.client().get(restored.url("/api/v1/labels")).bearer_auth(&kept).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200, "tokens are restored, too");

    let older = folder.path().join("older");
    let named = ["restore", "--from", text(&place), "--backup", &names[0], "--data-dir", text(&older), "-q"];
    done(&Pharos::run(&named));
    let restored = start_on(&older).await;
    first.verify(&restored).await;
    assert_eq!(traces(&restored).await, (500, 5_000));
    let count = restored.query("count(count_over_time({__name__=~\".+\"}[50m]))", now_ms() as f64 / 1_000.0).await;
    assert_eq!(count, serde_json::json!([]), "what came later is not in the older backup");
}

#[tokio::test]
async fn a_server_that_takes_writes_is_backed_up_meanwhile() {
    let pharos = Pharos::builder().start().await;
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("backups");
    let start_s = (now_ms() / 1_000 - 7_200).to_string();
    let (before, during) = (Load { start_s: &start_s, seed: "1" }, Load { start_s: &start_s, seed: "3" });
    before.push(&pharos).await;
    before.push_traces(&pharos).await;
    let (data, url, token) = (pharos.data_dir(), pharos.url(""), pharos.token().to_owned());
    let to = text(&place).to_owned();
    let backup = tokio::task::spawn_blocking(move || {
        Pharos::run(&["backup", "--to", &to, "--data-dir", text(&data), "--url", &url, "--token", &token, "-q"])
    });
    during.push_traces(&pharos).await;
    done(&backup.await.unwrap());
    let restored = folder.path().join("restored");
    done(&Pharos::run(&["restore", "--from", text(&place), "--data-dir", text(&restored), "-q"]));
    let restored = start_on(&restored).await;
    before.verify(&restored).await;
    let (found, spans) = traces(&restored).await;
    assert!((500..=1_000).contains(&found) && spans >= 5_000, "{found} traces, {spans} spans");
}

#[tokio::test]
async fn a_stopped_server_is_backed_up_from_its_folder_and_damage_is_named() {
    let mut pharos = Pharos::builder().start().await;
    let at_ms = now_ms() - 1_000;
    let message = crate::otlp::remote_write("kept", &[], &[(at_ms, 7.0)]);
    assert_eq!(crate::otlp::push_remote_write(&pharos, "/api/v1/write", message).await.0, 204);
    let folder = tempfile::tempdir().unwrap();
    let (place, data) = (folder.path().join("backups"), pharos.data_dir());
    let backup = ["backup", "--to", text(&place), "--data-dir", text(&data)];
    let message = refused(&Pharos::run(&backup), 2);
    assert!(message.contains("in use by another pharos") && message.contains("--url"), "{message}");
    let inside = data.join("backups");
    let message = refused(&Pharos::run(&["backup", "--to", text(&inside), "--data-dir", text(&data)]), 2);
    assert!(message.contains("lies in the data folder"), "{message}");
    // Killed, so that the sample is in the log only.
    pharos.kill();
    done(&Pharos::run(&backup));

    let target = folder.path().join("target");
    let restore = ["restore", "--from", text(&place), "--data-dir", text(&target)];
    done(&Pharos::run(&restore));
    let message = refused(&Pharos::run(&restore), 1);
    assert!(message.contains("is not empty"), "{message}");
    let restored = start_on(&target).await;
    let found = restored.query("kept", at_ms as f64 / 1_000.0).await;
    assert_eq!(found[0]["value"][1], "7");

    let object = places::largest_object(&place);
    let mut bytes = fs::read(&object).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&object, bytes).unwrap();
    let output = Pharos::run(&["backup", "verify", "--from", text(&place)]);
    assert_eq!(output.status.code(), Some(1));
    let name = object.file_name().unwrap().to_str().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("DAMAGED") && told.contains(name), "{told}");
    let fresh = folder.path().join("fresh");
    let message = refused(&Pharos::run(&["restore", "--from", text(&place), "--data-dir", text(&fresh)]), 1);
    assert!(message.contains(name) && message.contains("damaged"), "{message}");

    // A folder whose restore did not end is no data folder.
    fs::create_dir_all(fresh.join(".restoring")).unwrap();
    let serve = ["serve", "--data-dir", text(&fresh), "--listen", &free_address().to_string()];
    let message = refused(&Pharos::run(&serve), 2);
    assert!(message.contains("did not end"), "{message}");
}

#[tokio::test]
async fn the_snapshot_command_says_what_is_wrong() {
    let pharos = Pharos::builder().start().await;
    let url = pharos.url("");
    let snapshot = |action: &[&str], token: Option<&str>| {
        let mut command = Command::new(Pharos::program());
        command.arg("snapshot").args(action).args(["--url", &url]).env_remove("PHAROS_TOKEN");
        if let Some(token) = token {
            command.env("PHAROS_TOKEN", token);
        }
        command.output().unwrap()
    };
    let token = Some(pharos.token());
    let name = done(&snapshot(&["create"], token)).trim().to_owned();
    assert_eq!(done(&snapshot(&["list"], token)), format!("{name}\n"));
    for store in ["metrics", "traces"] {
        assert!(pharos.data_dir().join(store).join("snapshots").join(&name).is_dir(), "{store}");
    }
    // A snapshot that somebody made is copied and stays.
    let folder = tempfile::tempdir().unwrap();
    let data = pharos.data_dir();
    let from = ["backup", "--to", text(folder.path()), "--data-dir", text(&data), "--snapshot"];
    done(&Pharos::run(&[&from[..], &[&name]].concat()));
    let message = refused(&Pharos::run(&[&from[..], &["none"]].concat()), 2);
    assert!(message.contains("there is no snapshot \"none\""), "{message}");
    done(&snapshot(&["delete", &name], token));
    assert_eq!(done(&snapshot(&["list"], token)), "");
    let message = refused(&snapshot(&["delete", &name], token), 1);
    assert!(message.contains("there is no snapshot"), "{message}");

    assert!(refused(&snapshot(&["list"], None), 1).contains("give --token or set PHAROS_TOKEN"));
    assert!(refused(&snapshot(&["list"], Some("wrong")), 1).contains("does not know this token"));
    let reader = pharos.new_token("reader", "metrics:read", "*");
    // The server reads its tokens again within a second or so.
    let begun = std::time::Instant::now();
    let message = loop {
        let message = refused(&snapshot(&["list"], Some(&reader)), 1);
        if !message.contains("does not know this token") || begun.elapsed() > std::time::Duration::from_secs(20) {
            break message;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert!(message.contains("may not do this") && message.contains("admin"), "{message}");
    let nobody = format!("http://{}", free_address());
    let message = refused(&Pharos::run(&["snapshot", "list", "--url", &nobody]), 1);
    assert!(message.contains("does the server run there?"), "{message}");
    let message = refused(&Pharos::run(&["snapshot", "list", "--url", "localhost:9090"]), 2);
    assert!(message.contains("is no URL"), "{message}");
}

/// The value under a key of an object, as text.
fn member<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {value}"))
}
