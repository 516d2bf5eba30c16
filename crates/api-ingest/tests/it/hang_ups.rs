//! Senders that do not stay for the answer: what they sent is stored all the same, so it is charged, and what is held for it is held
//! until it is done.

use pharos_base::ByteSize;
use pharos_gateway::LimitSettings;
use pharos_ingest::IngestSettings;
use serde_json::json;

use crate::fixture::{Answer, Doors, GateKeeper, Moody, doors_behind_a_gate, doors_within_to};
use crate::over_limits::{ALL, Dialect, Grpc, OTLP, OtlpProtobuf, RemoteWrite, Signal, body, request, said};

/// Every way in.
fn ways() -> impl Iterator<Item = (Signal, Dialect)> {
    let metrics = ALL.iter().map(|dialect| (Signal::Metrics, *dialect));
    metrics.chain(OTLP.iter().map(|dialect| (Signal::Traces, *dialect)))
}

async fn send(doors: &Doors, signal: Signal, dialect: Dialect) -> Answer {
    doors.send(request(dialect, signal), body(dialect, signal)).await
}

/// Sends a request, and hangs up while the store is about to take what is in it.
async fn hang_up(doors: &Doors, keeper: &mut GateKeeper, (signal, dialect): (Signal, Dialect)) {
    tokio::select! {
        biased;
        _ = send(doors, signal, dialect) => unreachable!("the store has not answered"),
        _ = keeper.reached.recv() => {}
    }
}

/// What a request that comes now is told.
async fn told(doors: &Doors, signal: Signal) -> String {
    let dialect = if signal == Signal::Metrics { RemoteWrite } else { OtlpProtobuf };
    said(dialect, &send(doors, signal, dialect).await).0
}

#[tokio::test]
async fn who_hangs_up_is_charged() {
    let limits: LimitSettings =
        serde_json::from_value(json!({"samples_per_second": 1, "spans_per_second": 1, "burst": "1s"})).unwrap();
    for (signal, dialect) in ways() {
        let (doors, mut keeper) = doors_behind_a_gate(IngestSettings::default(), &limits);
        hang_up(&doors, &mut keeper, (signal, dialect)).await;
        // The first, and the one that is asked here if it were let in.
        drop(keeper.let_in);
        let told = told(&doors, signal).await;
        assert!(told.contains("_per_second = 1"), "{signal:?} {dialect:?}: {told}");
    }
}

#[tokio::test]
async fn what_is_held_for_who_hung_up_is_held_until_it_is_done() {
    let in_flight: LimitSettings = serde_json::from_value(json!({"requests_in_flight": 1})).unwrap();
    let mut small = IngestSettings::default();
    (small.limits.body_max, small.limits.bodies_max) = (ByteSize(64 << 10), ByteSize(64 << 10));
    for (settings, limits, says) in [
        (IngestSettings::default(), in_flight, "requests_in_flight = 1"),
        (small, LimitSettings::default(), "ingest.limits.bodies_max = 64KiB"),
    ] {
        for (signal, dialect) in ways() {
            let (doors, mut keeper) = doors_behind_a_gate(settings.clone(), &limits);
            hang_up(&doors, &mut keeper, (signal, dialect)).await;
            let refused = tokio::select! {
                biased;
                _ = keeper.reached.recv() => panic!("{signal:?} {dialect:?}: another one was let in"),
                told = told(&doors, signal) => told,
            };
            assert!(refused.contains(says), "{signal:?} {dialect:?}: {refused}");
            drop(keeper.let_in);
            // The thread ends, and gives everything back.
            while told(&doors, signal).await.contains(says) {
                tokio::task::yield_now().await;
            }
            let stored = match signal {
                Signal::Metrics => doors.stored("0"),
                Signal::Traces => doors.spans("0", crate::otlp_http::TRACE),
            };
            assert_eq!(stored.len(), 2, "{signal:?} {dialect:?}: {stored:?}");
        }
    }
}

/// A sender who is told to come again is not charged for the time that it was for nothing.
#[tokio::test]
async fn what_the_store_does_not_take_is_not_charged() {
    let limits = serde_json::from_value(json!({"samples_per_second": 1, "burst": "1s"})).unwrap();
    let doors = doors_within_to(&limits, Moody { refuses: 1.into(), takes: 9.into(), ..Moody::default() });
    let refused = send(&doors, Signal::Metrics, Grpc).await;
    assert_eq!(refused.header("grpc-status"), "14", "{}", refused.text());
    assert_eq!(told(&doors, Signal::Metrics).await, "");
    assert!(told(&doors, Signal::Metrics).await.contains("samples_per_second = 1"));
}
