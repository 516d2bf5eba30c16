//! Queries from the announcement to the history.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::text::encode;

use super::*;

/// What a query holds that went on for 70 ms after it was refused.
const REFUSED_LATE: u64 = 70;

/// A query that holds what the test says.
#[derive(Default)]
struct Held(AtomicU64);

impl Watched for Held {
    fn load(&self) -> QueryLoad {
        let held = self.0.load(Ordering::Relaxed);
        let refusal = (held == REFUSED_LATE).then_some(Duration::from_millis(70));
        QueryLoad {
            memory_bytes: held,
            memory_bytes_peak: held,
            samples_read: held / 10,
            refusal,
            ..QueryLoad::default()
        }
    }
}

fn asked(tenant: &str, text: &str) -> Asked {
    Asked {
        kind: QueryKind::Range,
        text: Asked::cut(text),
        steps: Some((0, 60_000, 15_000)),
        tenant: tenant.parse().unwrap(),
        principal: Arc::from("reader"),
        remote_address: "10.0.0.1:5".to_owned(),
        deadline: None,
        limits: crate::QueryLimits::default(),
    }
}

fn run(queries: &Queries, tenant: &str, text: &str, bytes: u64) {
    queries.begin(asked(tenant, text), Arc::new(Held(bytes.into()))).finish(None);
}

fn exposed(queries: &Queries) -> String {
    let (mut registry, mut text) = (Registry::default(), String::new());
    queries.register(&mut registry);
    encode(&mut text, &registry).unwrap();
    text
}

#[test]
fn a_query_is_listed_for_its_tenant_until_it_ends() {
    let queries = Queries::default();
    let held = Arc::new(Held::default());
    let query = queries.begin(asked("7", "up"), Arc::clone(&held) as Arc<dyn Watched>);
    let (own, other) = ("7".parse().unwrap(), "8".parse().unwrap());
    assert!(query.is_waiting());
    query.starts();
    held.0.store(500, Ordering::Relaxed);
    let listed = queries.running(Some(&own));
    assert_eq!((listed.len(), listed[0].id(), listed[0].load().memory_bytes), (1, query.id(), 500));
    assert!(!listed[0].is_waiting() && queries.running(Some(&other)).is_empty());
    assert!(exposed(&queries).contains("pharos_query_running 1\n"));
    query.finish(None);
    assert!(queries.running(None).is_empty());
}

#[test]
fn who_may_not_see_a_query_cannot_cancel_it_either() {
    let queries = Queries::default();
    let query = queries.begin(asked("7", "up"), Arc::new(Held::default()));
    assert!(!queries.cancel(query.id(), Some(&"8".parse().unwrap()), "eve"));
    assert!(!queries.cancel(query.id() + 1, None, "eve"));
    assert!(query.cancel_token().check().is_ok() && query.cancelled_by().is_none());
    assert!(queries.cancel(query.id(), None, "root"));
    assert!(query.cancel_token().check().is_err());
    assert_eq!(query.cancelled_by(), Some("root"));
}

#[test]
fn q1_a_query_is_counted_once_and_as_cancelled_if_nobody_waits_for_its_end() {
    let queries = Queries::default();
    let ended = queries.begin(asked("0", "up"), Arc::new(Held(40.into())));
    ended.finish(Some(ErrorClass::Timeout));
    ended.finish(None);
    drop(ended);
    drop(queries.begin(asked("0", "up"), Arc::new(Held::default())));
    queries.begin(asked("0", "up"), Arc::new(Held(REFUSED_LATE.into()))).finish(Some(ErrorClass::LimitExceeded));
    let text = exposed(&queries);
    for line in [
        "pharos_query_seconds_count{kind=\"range\"} 3",
        "pharos_query_failures_total{kind=\"range\",reason=\"timeout\"} 1",
        "pharos_query_failures_total{kind=\"range\",reason=\"canceled\"} 1",
        "pharos_query_samples_read_total{kind=\"range\"} 11",
        "pharos_query_queue_seconds_count 3",
        "pharos_query_running 0",
        "pharos_query_refusal_seconds_count{reason=\"limit_exceeded\"} 1",
        "pharos_query_refusal_seconds_sum{reason=\"limit_exceeded\"} 0.07",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} is not in\n{text}");
    }
}

#[test]
fn what_ended_is_ranked_by_each_measure_and_shown_to_its_tenant() {
    let queries = Queries::default();
    for _ in 0..3 {
        run(&queries, "0", "often", 10);
    }
    run(&queries, "0", "heavy", 90_000);
    run(&queries, "1", "other", 50);
    let texts = |list: &[TopQuery]| list.iter().map(|query| query.text().to_owned()).collect::<Vec<_>>();
    let minute = Duration::from_mins(1);
    let top = queries.top(None, 2, minute);
    assert_eq!((top.run_count, texts(&top.by_count)), (5, vec!["often".to_owned(), "heavy".to_owned()]));
    assert_eq!(texts(&top.by_memory_mean), ["heavy", "other"]);
    assert_eq!((top.by_memory_mean[0].memory_bytes_mean(), top.by_samples_sum[0].samples_read_sum), (90_000, 9_000));
    assert_eq!(
        (top.by_count[0].count, top.by_count[0].memory_bytes_mean(), top.by_count[0].range_seconds()),
        (3, 10, 60)
    );
    let own = queries.top(Some(&"1".parse().unwrap()), 5, minute);
    assert_eq!(texts(&own.by_duration_sum), ["other"]);
    assert_eq!(queries.top(None, 0, minute).by_count.len(), 0);
}

#[test]
fn q2_the_history_forgets_the_oldest_and_texts_are_cut() {
    let queries = Queries::new(QueriesSettings { history_bytes_max: 2_000, slow_log_min: None });
    for index in 0..1_000 {
        run(&queries, "0", &format!("up{index}"), 1);
    }
    let top = queries.top(None, 1_000, Duration::from_mins(1));
    assert!((1..20).contains(&top.run_count), "{}", top.run_count);
    assert!(top.by_count.iter().any(|query| query.text() == "up999"), "the latest is there");
    run(&queries, "0", "once more", 1);
    for _ in 0..1_000 {
        run(&queries, "0", "the same", 1);
    }
    assert_eq!(queries.top(None, 9, Duration::from_mins(1)).by_count.len(), 1, "equal texts are kept once");
    let long = Asked::cut(&"ä".repeat(TEXT_BYTES_MAX));
    assert!(long.len() <= TEXT_BYTES_MAX + '…'.len_utf8() && long.ends_with("ä…"));
    let off = Queries::new(QueriesSettings { history_bytes_max: 0, slow_log_min: None });
    run(&off, "0", "up", 1);
    assert_eq!(off.top(None, 9, Duration::from_mins(1)).run_count, 0);
}
