//! Flushes that fail, series that end, senders that hang up.

use pharos_base::{Completion, HumanDuration};
use pharos_model::{SpanKind, TimeRange, is_stale_nan};
use pharos_spanmetrics::{ServiceGraphSettings, SpanMetricsSettings};
use pharos_storage::{AppendOutcome, MetricStore, ReadContext, SpanTap, StorageError};

use crate::world::{Made, START_MS, World, batch, matchers, span};

const SERIES: [&str; 6] = [
    "traces_span_metrics_calls_total",
    "traces_spanmetrics_latency_count",
    "traces_service_graph_request_total",
    "traces_service_graph_request_failed_total",
    "traces_service_graph_request_client_seconds_count",
    "traces_service_graph_request_server_seconds_count",
];

/// A world in which series end after a minute.
fn short_lived() -> World {
    let idle_max = HumanDuration::from_ms(60_000);
    World::with(SpanMetricsSettings { idle_max, ..SpanMetricsSettings::default() }, ServiceGraphSettings::default())
}

/// A span that counts in all of [`SERIES`].
fn query() -> Made {
    span("shop", "SELECT", SpanKind::Client, 3.0).ids(1, 2, 1).with("db.name", "orders").failed()
}

/// Instants since the beginning, and values; `None` marks an end.
fn samples(world: &World, metric: &str) -> Vec<(i64, Option<f64>)> {
    let series = world.raw(metric).remove(0);
    let values = series.values.iter().map(|value| (!is_stale_nan(*value)).then_some(*value));
    series.timestamps_ms.iter().map(|at| at - START_MS).zip(values).collect()
}

#[test]
fn f1_a_series_begins_with_a_zero_though_its_first_flushes_failed() {
    let world = World::new();
    world.clock.advance_ms(5_000);
    world.store(&[query()]);
    world.refused_flush_after(10_000);
    world.store(&[query()]);
    world.refused_flush_after(15_000);
    world.flush_after(15_000);
    for metric in SERIES {
        assert_eq!(samples(&world, metric), [(5_000, Some(0.0)), (45_000, Some(2.0))], "{metric}");
    }
    world.flush_after(15_000);
    assert_eq!(samples(&world, SERIES[0]).len(), 3, "the zero comes once");
    assert_eq!(world.views.metadata(&world.tenant, None, 100).unwrap().len(), 12, "and so does metadata");
}

/// The histogram of the client's side, which comes later, has its zero where the store last had the edge.
#[test]
fn f1_a_histogram_of_an_edge_begins_where_its_edge_was_stored_last() {
    let world = World::new();
    world.store(&[span("web", "GET", SpanKind::Server, 3.0).ids(1, 2, 0)]);
    world.flush_after(15_000);
    world.store(&[span("user", "GET", SpanKind::Client, 3.0).ids(3, 4, 0).with("peer.service", "web")]);
    world.refused_flush_after(15_000);
    world.flush_after(15_000);
    let late = samples(&world, "traces_service_graph_request_client_seconds_count");
    assert_eq!(late, [(15_000, Some(0.0)), (45_000, Some(1.0))]);
    let edge = samples(&world, "traces_service_graph_request_total");
    assert_eq!(edge, [(0, Some(0.0)), (15_000, Some(1.0)), (45_000, Some(2.0))]);
}

#[test]
fn f1_an_end_is_marked_though_the_flush_of_it_failed() {
    let world = short_lived();
    world.store(&[query()]);
    world.flush_after(15_000);
    world.refused_flush_after(60_000);
    assert_eq!((world.meter.stats().series, world.meter.stats().edges), (1, 1));
    world.flush_after(15_000);
    for metric in SERIES {
        assert_eq!(samples(&world, metric), [(0, Some(0.0)), (15_000, Some(1.0)), (90_000, None)], "{metric}");
    }
    assert_eq!((world.meter.stats().series, world.meter.stats().edges), (0, 0));
}

#[test]
fn f2_what_was_never_flushed_is_stored_before_its_series_ends() {
    for refused in [true, false] {
        let world = short_lived();
        world.store(&[query()]);
        if refused {
            world.refused_flush_after(15_000);
        }
        world.flush_after(100_000);
        world.flush_after(15_000);
        let at_ms = world.clock_ms() - START_MS;
        for metric in SERIES {
            let expected = [(0, Some(0.0)), (at_ms - 15_000, Some(1.0)), (at_ms, None)];
            assert_eq!(samples(&world, metric), expected, "{metric}");
        }
    }
}

/// What comes while the mark of an end is on its way counts, from a zero after the mark.
#[test]
fn f3_spans_that_come_while_a_series_ends_begin_it_anew() {
    for is_stored in [true, false] {
        let world = short_lived();
        world.store(&[query()]);
        world.flush_after(15_000);
        world.clock.advance_ms(61_000);
        world.meter.flush(|tenant, batch| {
            world.store(&[query()]);
            is_stored && world.stored.append(tenant, batch, pharos_storage::BatchId::random()).wait().is_some()
        });
        world.flush_after(15_000);
        for metric in SERIES {
            let mut expected = vec![(0, Some(0.0)), (15_000, Some(1.0))];
            expected.extend(is_stored.then_some((76_000, None)));
            expected.extend([(76_001, Some(0.0)), (91_000, Some(1.0))]);
            assert_eq!(samples(&world, metric), expected, "{metric}");
        }
    }
}

/// The sender gave up before the store answered: the spans count if the store took them.
#[test]
fn m1_batches_nobody_waits_for_count_once_they_are_stored() {
    let world = World::new();
    let refusal = || Err(StorageError::unavailable("the disk is full"));
    let answers = [Some(Ok(AppendOutcome::default())), Some(refusal()), None, Some(Ok(AppendOutcome::default()))];
    let mut completers = Vec::new();
    for _ in &answers {
        let (completer, completion) = Completion::pair();
        world.meter.notice(&world.tenant, &batch(&[query()])).stored_if(completion);
        completers.push(completer);
    }
    world.flush_after(15_000);
    assert_eq!(world.ask("traces_span_metrics_calls_total"), [], "nothing is known yet");
    for (completer, answer) in completers.into_iter().zip(answers) {
        match answer {
            Some(answer) => completer.complete(answer),
            None => drop(completer),
        }
    }
    world.flush_after(15_000);
    assert_eq!(world.value("traces_span_metrics_calls_total"), 2.0);
    assert_eq!(world.meter.stats().spans_counted, 2);
}

/// A store may take its time: what it takes at last counts, as its series has not ended meanwhile.
#[test]
fn r1_a_series_does_not_end_while_a_span_of_it_is_on_its_way() {
    let world = short_lived();
    world.store(&[query()]);
    world.flush_after(50_000);
    let noticed = world.meter.notice(&world.tenant, &batch(&[query()]));
    world.flush_after(50_000);
    noticed.stored();
    world.flush_after(5_000);
    assert_eq!(world.value("traces_span_metrics_calls_total"), 2.0);
    assert_eq!(world.meter.stats().spans_counted, 2);
}

/// With more series than links to traces fit a flush, each series has its turn.
#[test]
fn exemplars_are_shared_out_in_turn() {
    let world = World::with(
        SpanMetricsSettings { exemplars_max: 3, ..SpanMetricsSettings::default() },
        ServiceGraphSettings::default(),
    );
    for _ in 0..4 {
        let operation = |id: u8| span("shop", &format!("{id}"), SpanKind::Server, 3.0).ids(id + 1, id + 1, 0);
        world.store(&(0..10).map(operation).collect::<Vec<_>>());
        world.flush_after(15_000);
    }
    let sets = [matchers("traces_span_metrics_duration_milliseconds")];
    let found = world.stored.exemplars(&world.tenant, &sets, TimeRange::ALL, &ReadContext::unlimited()).unwrap();
    let counts: Vec<usize> = found.iter().map(|series| series.exemplars.len()).collect();
    assert_eq!((counts.len(), counts.iter().sum()), (10, 12), "{counts:?}");
}
