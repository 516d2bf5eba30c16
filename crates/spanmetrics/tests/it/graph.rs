//! The graph of services.

use pharos_model::SpanKind::{Client, Consumer, Internal, Producer, Server};
use pharos_spanmetrics::{ServiceGraphSettings, SpanMetricsSettings};

use crate::world::{Made, World, span};

const TOTAL: &str = "sum by (client, server, connection_type) (traces_service_graph_request_total)";

fn after(spans: &[Made], wait_ms: i64) -> World {
    let world = World::new();
    for made in spans {
        world.store(std::slice::from_ref(made));
    }
    world.flush_after(wait_ms);
    world
}

fn edge(text: &str, value: f64) -> (String, f64) {
    (text.to_owned(), value)
}

#[test]
fn a_call_is_paired_in_either_order_once() {
    let client = span("web", "POST", Client, 200.0).ids(1, 2, 1);
    let server = span("shop", "POST", Server, 150.0).ids(1, 3, 2).failed();
    let internal = span("shop", "work", Internal, 150.0).ids(1, 4, 3);
    for spans in [[client.clone(), server.clone(), internal.clone()], [server, internal, client]] {
        let world = after(&spans, 20_000);
        assert_eq!(world.ask(TOTAL), [edge(r#"{client="web", server="shop"}"#, 1.0)]);
        assert_eq!(world.value("traces_service_graph_request_failed_total"), 1.0);
        assert_eq!(world.value("traces_service_graph_request_client_seconds_sum"), 0.2);
        assert_eq!(world.value("traces_service_graph_request_server_seconds_sum"), 0.15);
        for (le, count) in [("0.1", 0.0), ("0.2", 1.0), ("12.8", 1.0), ("+Inf", 1.0)] {
            let query = format!(r#"traces_service_graph_request_server_seconds_bucket{{le="{le}"}}"#);
            assert_eq!(world.value(&query), count, "{le}");
        }
        assert_eq!(world.ask("traces_service_graph_request_messaging_system_seconds_count"), []);
        assert_eq!((world.meter.stats().calls_waiting, world.meter.stats().calls_unpaired), (0, 0));
    }
}

#[test]
fn virtual_nodes_stand_for_who_tells_nothing() {
    let spans = [
        span("web", "GET /", Server, 5.0).ids(1, 1, 0),
        span("web", "pay", Client, 5.0).ids(1, 2, 1).with("peer.service", "bank"),
        span("web", "SELECT", Client, 5.0).ids(1, 3, 1).with("db.system", "postgresql").with("db.name", "orders"),
        span("web", "lost", Client, 5.0).ids(1, 4, 1),
        span("shop", "orphan", Server, 5.0).ids(1, 5, 99),
    ];
    let early = after(&spans, 5_000);
    let at_once = [
        edge(r#"{client="user", connection_type="virtual_node", server="web"}"#, 1.0),
        edge(r#"{client="web", connection_type="database", server="orders"}"#, 1.0),
    ];
    assert_eq!(early.ask(TOTAL), at_once, "the others may still come");
    assert_eq!(early.meter.stats().calls_waiting, 3);
    let world = after(&spans, 10_000);
    let bank = edge(r#"{client="web", connection_type="virtual_node", server="bank"}"#, 1.0);
    assert_eq!(world.ask(TOTAL), [&at_once[..], &[bank]].concat());
    assert_eq!(
        world.ask("traces_service_graph_unpaired_spans_total"),
        [
            edge(r#"traces_service_graph_unpaired_spans_total{client="web"}"#, 1.0),
            edge(r#"traces_service_graph_unpaired_spans_total{server="shop"}"#, 1.0)
        ]
    );
    let late = after(&spans[3..4], 10_000);
    late.store(&[span("lost", "lost", Server, 5.0).ids(1, 6, 4)]);
    late.flush_after(10_000);
    assert_eq!(late.ask(TOTAL), [], "after the window nothing is paired");
}

#[test]
fn messages_have_a_time_under_way() {
    let producer = span("shop", "send", Producer, 10.0).ids(1, 2, 1);
    let mut consumer = span("mail", "receive", Consumer, 10.0).ids(1, 3, 2);
    consumer.span.start_ns += 500_000_000;
    consumer.span.end_ns += 500_000_000;
    let world = after(&[producer, consumer], 1_000);
    assert_eq!(world.ask(TOTAL), [edge(r#"{client="shop", connection_type="messaging_system", server="mail"}"#, 1.0)]);
    assert_eq!(world.value("traces_service_graph_request_messaging_system_seconds_sum"), 0.49);
}

#[test]
fn waiting_and_edges_have_limits() {
    let settings = ServiceGraphSettings { waiting_max: 4, edges_max: 3, ..ServiceGraphSettings::default() };
    let world = World::with(SpanMetricsSettings::default(), settings);
    let halves: Vec<_> = (1..=6).map(|id| span("web", "call", Client, 5.0).ids(1, id, 100)).collect();
    world.store(&halves);
    assert_eq!((world.meter.stats().calls_waiting, world.meter.stats().calls_dropped), (4, 2));
    let pairs: Vec<_> =
        (1..=4).map(|id| span(&format!("server-{id}"), "call", Server, 5.0).ids(1, 50 + id, id)).collect();
    world.store(&pairs);
    world.flush_after(1_000);
    assert_eq!(world.value("traces_service_graph_dropped_spans_total"), 2.0);
    assert_eq!(world.value("sum(traces_service_graph_request_total)"), 4.0, "E1");
    assert_eq!(world.value(r#"traces_service_graph_request_total{otel_metric_overflow="true"}"#), 2.0);
    assert_eq!((world.meter.stats().edges, world.meter.stats().calls_overflowed), (4, 2));
}

/// The histogram of an edge begins with a zero even if the edge began before it.
#[test]
fn a_histogram_that_begins_late_begins_with_a_zero() {
    let world = World::new();
    let call =
        |id: u8| [span("web", "call", Client, 5.0).ids(id, 1, 9), span("shop", "call", Server, 5.0).ids(id, 2, 1)];
    world.store(&call(1));
    world.flush_after(15_000);
    world.store(&call(2));
    world.flush_after(15_000);
    let series = world.raw("traces_service_graph_request_server_seconds_count").remove(0);
    assert_eq!(series.values, [0.0, 1.0, 2.0]);
}
