//! Backups in S3, as moto speaks it, and the same commands on a folder: incremental, listed, verified, pruned, restored.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pharos_testkit::{Peer, Pharos, free_address};

use super::{done, refused, text};

/// More than one part of an upload.
const LARGE_BYTES: usize = 20 << 20;

/// moto's server, with a bucket. It keeps objects in memory.
struct S3 {
    url: String,
    _peer: Peer,
}

impl S3 {
    async fn start(folder: &Path) -> Self {
        let python = std::env::var_os("PHAROS_PYTHON").expect("`make test` sets PHAROS_PYTHON");
        let address = free_address();
        let mut command = Command::new(python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &address.port().to_string()]);
        let mut peer = Peer::spawn("moto", command, folder);
        let url = format!("http://{address}");
        peer.wait_until_ready(&format!("{url}/moto-api/")).await;
        let made = reqwest::Client::new().put(format!("{url}/backups")).send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}\n{}", peer.log());
        Self { url, _peer: peer }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(Pharos::program());
        command.args(arguments).args(["--s3-endpoint", &self.url, "--s3-allow-http"]);
        for (name, value) in
            [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_REGION", "eu-west-1")]
        {
            command.env(name, value);
        }
        command.output().unwrap()
    }

    /// Keys below the prefix that hold `part`.
    async fn keys(&self, part: &str) -> Vec<String> {
        let listing = reqwest::get(format!("{}/backups?list-type=2", self.url)).await.unwrap().text().await.unwrap();
        let keys = listing.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        keys.filter(|key| key.contains(part)).map(str::to_owned).collect()
    }

    async fn remove(&self, key: &str) {
        // moto wants a signature here, and does not check it.
        let signed =
            "AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let request = reqwest::Client::new().delete(format!("{}/backups/{key}", self.url));
        let gone = request.header("authorization", signed).send().await.unwrap();
        assert!(gone.status().is_success(), "{gone:?}");
    }
}

/// The largest object of a repository in a folder.
pub(super) fn largest_object(place: &Path) -> PathBuf {
    let folders = fs::read_dir(place.join("objects")).unwrap().map(|entry| entry.unwrap().path());
    let objects = folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    objects.max_by_key(|path| path.metadata().unwrap().len()).expect("there is an object")
}

fn write(data: &Path, path: &str, contents: &[u8]) {
    let path = data.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// All files of a folder but locks.
pub(crate) fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name != "LOCK") {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Bytes that do not repeat, so that a part in a wrong place is seen.
fn large() -> Vec<u8> {
    (0..LARGE_BYTES as u64 / 8).flat_map(|number| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()).collect()
}

#[tokio::test]
async fn backups_in_s3_are_incremental_verified_pruned_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    let s3 = S3::start(folder.path()).await;
    let (data, place) = (folder.path().join("data"), "s3://backups/deep/pharos");
    write(&data, "metrics/large", &large());
    write(&data, "metrics/empty", b"");
    write(&data, "tokens.json", b"{}");
    let backup = || done(&s3.run(&["backup", "--to", place, "--data-dir", text(&data), "-q"]));
    let told = backup();
    assert!(told.contains("3 files, 20.00 MiB sent, 0 B reused"), "{told}");
    let first = files(&data);
    write(&data, "metrics/more", b"more");
    fs::remove_file(data.join("metrics/empty")).unwrap();
    let told = backup();
    assert!(told.contains("20.00 MiB reused"), "{told}");

    let list = done(&s3.run(&["backup", "list", "--from", place]));
    let names: Vec<_> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names.len(), 2, "{list}");
    let verify = ["backup", "verify", "--from", place, "-q"];
    let sound = done(&s3.run(&verify));
    assert!(sound.starts_with("2 backups, 4 objects, 20.00 MiB read: all sound"), "{sound}");
    for (name, expected) in [(names[0], &first), (names[1], &files(&data))] {
        let target = folder.path().join(name);
        let restore = ["restore", "--from", place, "--backup", name, "--data-dir", text(&target), "-q"];
        done(&s3.run(&restore));
        assert!(&files(&target) == expected, "{name}");
    }
    let told = done(&s3.run(&["backup", "prune", "--from", place, "--keep", "1"]));
    assert!(told.starts_with(names[0]) && told.contains("1 backup removed") && told.contains("1 left"), "{told}");
    assert_eq!(s3.keys("/objects/").await.len(), 3);
    assert_eq!(s3.keys("/locks/").await, Vec::<String>::new());

    let manifest = s3.keys(".manifest").await.remove(0);
    s3.remove(&s3.keys("/objects/").await[0]).await;
    let output = s3.run(&verify);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("DAMAGED objects/") && told.contains("it is missing"), "{told}");
    s3.remove(&manifest).await;
    let message = refused(&s3.run(&["restore", "--from", place, "--data-dir", text(&folder.path().join("x"))]), 1);
    assert!(message.contains("there is no backup in s3://backups/deep/pharos"), "{message}");
}

#[tokio::test]
async fn a_bucket_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let s3 = S3::start(folder.path()).await;
    let data = folder.path().join("data");
    write(&data, "tokens.json", b"{}");
    let message = refused(&s3.run(&["backup", "--to", "s3://absent/x", "--data-dir", text(&data)]), 1);
    assert!(message.contains("NoSuchBucket") && message.contains("absent"), "{message}");
    let plain = ["backup", "list", "--from", "s3://backups/x", "--s3-endpoint", &s3.url];
    let message = refused(&Pharos::run(&plain), 2);
    assert!(message.contains("--s3-allow-http"), "{message}");
}
