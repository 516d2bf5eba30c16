//! `traces_target_info`, and `job` and `instance` that join it with the metrics of spans.

use std::sync::Arc;

use pharos_base::HumanDuration;
use pharos_model::{Attribute, AttributeValue, Resource, SpanBatch, SpanKind, is_stale_nan};
use pharos_spanmetrics::{ServiceGraphSettings, SpanMetricsSettings};
use pharos_storage::{MetricStore, SpanTap};

use crate::world::{World, attribute, batch, span};

fn world(target_info_max: usize) -> World {
    let red = SpanMetricsSettings {
        target_info: true,
        target_info_max,
        idle_max: HumanDuration::from_ms(60_000),
        ..SpanMetricsSettings::default()
    };
    World::with(red, ServiceGraphSettings::default())
}

/// A span of a service's instance with these attributes beside.
fn from(service: &str, instance: &str, attributes: &[(&str, &str)]) -> SpanBatch {
    let mut made = batch(&[span(service, "op", SpanKind::Server, 3.0)]);
    let mut all = vec![attribute("service.name", service)];
    if !instance.is_empty() {
        all.push(attribute("service.instance.id", instance));
    }
    all.extend(attributes.iter().map(|(key, value)| attribute(key, value)));
    made.groups[0].resource = Arc::new(Resource { attributes: all, ..Resource::default() });
    made
}

impl World {
    fn store_batch(&self, batch: &SpanBatch) {
        self.meter.notice(&self.tenant, batch).stored();
    }
}

#[test]
fn resources_are_told_and_join_with_the_metrics_of_their_spans_in_both_namings() {
    let world = world(10);
    let shop = [("service.namespace", "eu"), ("k8s.pod.name", "shop-1"), ("cloud.region", "north")];
    world.store_batch(&from("shop", "a", &shop));
    world.store_batch(&from("shop", "b", &[("service.namespace", "eu"), ("k8s.pod.name", "shop-2")]));
    world.store_batch(&from("plain", "c", &[]));
    world.flush_after(15_000);
    assert_eq!(
        world.ask("traces_target_info"),
        [
            (
                r#"traces_target_info{cloud_region="north", instance="a", job="eu/shop", k8s_pod_name="shop-1"}"#
                    .to_owned(),
                1.0
            ),
            (r#"traces_target_info{instance="b", job="eu/shop", k8s_pod_name="shop-2"}"#.to_owned(), 1.0),
        ],
        "who says nothing about itself is not told"
    );
    for (metric, service) in
        [("traces_spanmetrics_calls_total", "service"), ("traces_span_metrics_calls_total", "service_name")]
    {
        let joined = format!(
            r"sum by ({service}, k8s_pod_name) (increase({metric}[1m]) * on (job, instance) group_left (k8s_pod_name) traces_target_info)"
        );
        assert_eq!(world.ask(&joined).len(), 2, "{joined}");
        let jobs = world.ask(&format!(r"count by (job, instance) ({metric})"));
        let plain = r#"{instance="c", job="plain"}"#;
        assert!(jobs.len() == 3 && jobs.iter().any(|(labels, _)| labels == plain), "{jobs:?}");
    }
    let metadata = world.views.metadata(&world.tenant, Some("traces_target_info"), 10).unwrap();
    assert_eq!(metadata.len(), 1);
}

#[test]
fn off_nothing_is_told_and_nothing_is_labelled() {
    let world = World::new();
    world.store_batch(&from("shop", "a", &[("k8s.pod.name", "shop-1")]));
    world.flush_after(15_000);
    assert!(world.ask("traces_target_info").is_empty());
    assert_eq!(world.ask(r#"traces_span_metrics_calls_total{job=~".+"}"#), []);
    assert_eq!(world.ask(r#"traces_span_metrics_calls_total{instance=~".+"}"#), []);
    assert_eq!(world.ask("traces_span_metrics_calls_total").len(), 1);
}

#[test]
fn resources_are_bounded_end_when_they_fall_silent_and_come_again() {
    let world = world(2);
    for instance in ["a", "b", "c", "d"] {
        world.store_batch(&from("shop", instance, &[("host.name", instance)]));
    }
    assert_eq!((world.meter.stats().targets, world.meter.stats().targets_dropped), (2, 2));
    world.refused_flush_after(15_000);
    world.flush_after(15_000);
    assert_eq!(world.value("count(traces_target_info)"), 2.0);
    // Written while it is alive, whether or not there are new spans.
    for _ in 0..4 {
        world.flush_after(15_000);
        world.store_batch(&from("shop", "a", &[("host.name", "a")]));
    }
    let left = world.raw("traces_target_info");
    let ended: Vec<_> = left.iter().map(|series| is_stale_nan(*series.values.last().unwrap())).collect();
    assert_eq!(ended.iter().filter(|ended| **ended).count(), 1, "{left:?}");
    world.store_batch(&from("shop", "c", &[("host.name", "c")]));
    world.flush_after(15_000);
    assert!(world.ask(r#"traces_target_info{instance="c"}"#).len() == 1, "there is room again");
}

#[test]
fn hostile_resources_make_small_labels() {
    let world = world(10);
    let long = "x".repeat(100_000);
    let many: Vec<_> = (0..500).map(|number| format!("key.{number}")).collect();
    let mut attributes = vec![("job", "mine"), ("instance", "mine"), ("__name__", "mine"), ("a.b", "1"), ("a_b", "2")];
    attributes.push(("", "empty"));
    attributes.push((&long, &long));
    attributes.extend(many.iter().map(|key| (key.as_str(), "v")));
    let mut sent = from("shop", "a", &attributes);
    let resource = Arc::make_mut(&mut sent.groups[0].resource);
    resource.attributes.push(Attribute { key: "number".to_owned(), value: AttributeValue::Double(f64::NAN) });
    world.store_batch(&sent);
    world.flush_after(15_000);
    let told = world.raw("traces_target_info");
    assert_eq!(told.len(), 1);
    let labels = &told[0].labels;
    assert_eq!((labels.get("job"), labels.get("instance"), labels.get("a_b")), (Some("shop"), Some("a"), Some("1")));
    let bytes: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(labels.iter().count() <= 70 && bytes <= 17 << 10, "{bytes}");
}
