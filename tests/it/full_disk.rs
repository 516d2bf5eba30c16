//! A full disk: writers are told to come back later, readers notice nothing, and when there is space again writes go on by
//! themselves; nothing that was acknowledged is lost.

mod disk;
mod load;

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use pharos_testkit::Pharos;
use tonic::Code;

use disk::SmallDisk;
use load::Load;

const DISK_BYTES: u64 = 96 << 20;
/// What is left for the load until the limit is reached.
const ROOM_BYTES: u64 = 1 << 20;
/// The default of `tsdb.disk_free_min` and `tracestore.free_space_min`.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// More writes than fit into the room.
const WRITES_MAX: usize = 4_000;
/// "By themselves": no restart, no request but the writes themselves.
const RECOVERY_MAX: Duration = Duration::from_secs(20);

/// Every write is refused so that its sender repeats it; `/-/ready` says which store takes none; reads go on.
async fn assert_refuses_and_reads(pharos: &Pharos, load: &Load) {
    let large_trace = load::trace(usize::MAX, 64);
    for answer in [load::write_many_samples(pharos).await, load::write_trace(pharos, &large_trace).await] {
        assert_eq!(answer.status, 503, "{}", answer.text);
        let seconds = answer.retry_after.as_deref().and_then(|text| text.parse::<u64>().ok());
        assert!(seconds.is_some_and(|seconds| (1..=60).contains(&seconds)), "Retry-After: {:?}", answer.retry_after);
    }
    let mut client = TraceServiceClient::connect(format!("http://{}", pharos.otlp_grpc_address())).await.unwrap();
    let mut request = tonic::Request::new(large_trace);
    request.metadata_mut().insert("authorization", format!("Bearer {}", pharos.token()).parse().unwrap());
    let refused = client.export(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(!refused.details().is_empty(), "RetryInfo says when: {refused}");

    let (status, answer) = pharos.get("/-/ready").await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer.to_string().contains("takes no writes"), "{answer}");
    assert_eq!(pharos.get("/-/healthy").await.0, 200, "a restart would not help");
    load.assert_all_there(pharos).await;
}

/// Writes until it succeeds: no restart, no other help.
async fn assert_recovers(pharos: &Pharos, load: &mut Load) {
    let begun = Instant::now();
    loop {
        let (samples, traces) = (load.next_sample(pharos).await, load.next_trace(pharos).await);
        if samples.status < 300 && traces.status < 300 {
            break;
        }
        let log = pharos.log();
        assert!(begun.elapsed() < RECOVERY_MAX, "still {} and {}\n{log}", samples.text, traces.text);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(pharos.get("/-/ready").await.0, 200);
}

/// Fills a small disk while load arrives; `free_bytes_min`: what Pharos is told to leave free.
async fn fill_and_recover(free_bytes_min: u64) {
    let disk = SmallDisk::mount(DISK_BYTES);
    let minimum = free_bytes_min.to_string();
    let mut pharos = Pharos::builder()
        .data_dir(&disk.path().join("data"))
        .option("--tsdb-disk-free-min", &minimum)
        .option("--tracestore-free-space-min", &minimum)
        .start()
        .await;
    let mut load = Load::default();
    for _ in 0..20 {
        assert_eq!(load.next_sample(&pharos).await.status, 204);
        assert_eq!(load.next_trace(&pharos).await.status, 200);
    }
    disk.fill_up_to(free_bytes_min + ROOM_BYTES);
    let (mut samples_refused, mut traces_refused) = (false, false);
    for _ in 0..WRITES_MAX {
        samples_refused |= load.next_sample(&pharos).await.is_unavailable();
        traces_refused |= load.next_trace(&pharos).await.is_unavailable();
        if samples_refused && traces_refused {
            break;
        }
    }
    assert!(samples_refused && traces_refused, "the disk never was full: {} bytes free", disk.free_bytes());
    assert_refuses_and_reads(&pharos, &load).await;
    // What needs space in the background fails and is tried again; here it is asked for.
    for path in ["/-/flush", "/-/compact"] {
        let (status, answer) = pharos.post(path, "text/plain", "").await;
        assert!(status == 200 || status >= 500, "POST {path}: {status} {answer}");
    }
    load.assert_all_there(&pharos).await;

    disk.make_room();
    assert_recovers(&pharos, &mut load).await;
    load.assert_all_there(&pharos).await;
    for path in ["/-/flush", "/-/compact"] {
        let (status, answer) = pharos.post(path, "text/plain", "").await;
        assert_eq!(status, 200, "POST {path}: {answer}\n{}", pharos.log());
    }
    pharos.kill();
    pharos.restart().await;
    load.assert_all_there(&pharos).await;
}

#[tokio::test]
async fn below_the_minimum_of_free_space_writes_wait_and_recover() {
    fill_and_recover(FREE_BYTES_MIN).await;
}

#[tokio::test]
async fn without_a_minimum_the_last_byte_of_the_disk_does_no_harm() {
    fill_and_recover(0).await;
}

/// The same without mounting anything: more free space is asked for than any disk has.
#[tokio::test]
async fn a_disk_that_never_has_enough_is_read_only() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("pharos.yaml");
    let usual = "{}\n";
    std::fs::write(&settings, usual).unwrap();
    let mut pharos = Pharos::builder().option("--config", settings.to_str().unwrap()).start().await;
    let mut load = Load::default();
    for _ in 0..5 {
        assert_eq!(load.next_sample(&pharos).await.status, 204);
        assert_eq!(load.next_trace(&pharos).await.status, 200);
    }
    let greedy = "tsdb: {disk_free_min: 1024TiB}\ntracestore: {free_space_min: 1024TiB}\n";
    std::fs::write(&settings, greedy).unwrap();
    pharos.restart().await;
    assert_refuses_and_reads(&pharos, &load).await;
    std::fs::write(&settings, usual).unwrap();
    pharos.restart().await;
    assert_recovers(&pharos, &mut load).await;
    load.assert_all_there(&pharos).await;
}
