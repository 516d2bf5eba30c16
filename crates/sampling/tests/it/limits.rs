//! Traces, memory, judgements: what is reached, and what happens then.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pharos_base::ByteSize;
use pharos_model::{Attribute, AttributeValue, Resource, Scope, TenantId};
use pharos_sampling::TailSamplingSettings;
use pharos_storage::{SpanGate, SpanRequest};

use crate::world::{World, decode, settings};

const ALWAYS: &str = r#"[{"name": "all", "rule": {"type": "always"}}]"#;
const ERRORS: &str = r#"[{"name": "errors", "rule": {"type": "status_code", "codes": ["ERROR"]}}]"#;

#[test]
fn nothing_is_judged_before_its_time() {
    let world = World::new(settings(ALWAYS));
    world.send("1 1 0 5");
    world.step_after(20_000);
    world.send("1 2 0 5\n2 3 0 5");
    world.step_after(9_999);
    assert_eq!(world.kept(1..3).len(), 0);
    world.step_after(1);
    assert_eq!(world.stored(1).len(), 2, "its time began with its first span");
    assert_eq!(world.kept(1..3), [1]);
    world.step_after(20_000);
    assert_eq!(world.kept(1..3), [1, 2]);
}

#[test]
fn too_many_traces_are_judged_early_oldest_first() {
    let world = World::new(TailSamplingSettings { traces_max: 2, ..settings(ALWAYS) });
    world.send("1 1 0 5\n2 2 0 5\n3 3 0 5\n4 4 0 5");
    world.sampler().step();
    assert_eq!(world.kept(1..5), [1, 2]);
    let stats = world.sampler().stats();
    assert_eq!((stats.traces_waiting, stats.traces_early), (2, 2));
}

#[test]
fn memory_is_bounded_even_if_the_store_refuses() {
    let world = World::new(TailSamplingSettings { memory_max: ByteSize::mib(1), ..settings(ALWAYS) });
    world.store.refuses.store(true, Ordering::SeqCst);
    let text = "x".repeat(50_000);
    let mut refusal = None;
    for trace in 0..100 {
        if let Err(error) = world.try_send(&format!("{trace} 1 0 5 text={text}")) {
            refusal = Some(error.to_string());
            break;
        }
        world.sampler().step();
    }
    let refusal = refusal.unwrap();
    assert!(refusal.contains("tail_sampling.memory_max = 1MiB") && refusal.contains("raise it"), "{refusal}");
    let stats = world.sampler().stats();
    assert!(stats.bytes_waiting < 3 << 20 && stats.store_failures > 0, "{stats:?}");
    world.store.refuses.store(false, Ordering::SeqCst);
    world.step_after(30_000);
    assert_eq!((world.sampler().stats().bytes_waiting, world.files().len()), (0, 1));
    assert!(world.kept(0..100).len() > 30, "what was kept is offered again");
}

#[test]
fn late_spans_follow_their_trace_while_it_is_remembered() {
    let world = World::new(TailSamplingSettings { decisions_max: 4, ..settings(ERRORS) });
    world.send("1 1 1 5\n2 2 0 5");
    world.step_after(30_000);
    world.send("1 3 0 5\n2 4 1 5");
    world.sampler().step();
    assert_eq!((world.stored(1).len(), world.stored(2).len()), (2, 0));
    assert_eq!(world.sampler().stats().spans_late, 2);
    for trace in 10..20 {
        world.send(&format!("{trace} 1 0 5"));
        world.step_after(30_000);
    }
    world.send("2 5 1 5");
    world.step_after(30_000);
    assert_eq!(world.stored(2).len(), 1, "forgotten, it is a new trace");
}

#[test]
fn the_log_shrinks_when_nobody_waits() {
    let world = World::new(TailSamplingSettings { log_segment: ByteSize(4_096), ..settings(ERRORS) });
    for trace in 0..200 {
        world.send(&format!("{trace} 1 0 5 text={}", "x".repeat(200)));
    }
    assert!(world.files().len() > 5);
    world.step_after(30_000);
    assert_eq!(world.files().len(), 1);
}

/// What the store would reject is told before anything is acknowledged; what it rejects later is counted.
#[test]
fn what_the_store_rejects_is_told() {
    let world = World::new(settings(ALWAYS));
    let outcome = world.try_send("1 1 0 5\n1 2 0 5 bad").unwrap();
    assert_eq!((outcome.items, outcome.rejected()), (1, 1));
    assert_eq!(outcome.rejections[0].message, "bad");
    let outcome = world.try_send("2 3 0 5 bad").unwrap();
    assert_eq!((outcome.items, outcome.rejected()), (0, 1));
    world.send("3 4 0 5\n3 5 0 5");
    world.store.rejects_all.store(true, Ordering::SeqCst);
    world.step_after(30_000);
    assert_eq!((world.kept(0..5).len(), world.sampler().stats().spans_rejected), (0, 3));
}

/// Scopes are shared among the traces of a request and still take memory.
#[test]
fn scopes_and_resources_count_as_memory() {
    let world = World::new(settings(ALWAYS));
    let large = AttributeValue::String("x".repeat(100_000));
    let attributes = vec![Attribute { key: "k".to_owned(), value: large }];
    for (resource, scope) in [
        (Resource { attributes: attributes.clone(), ..Resource::default() }, Scope::default()),
        (Resource::default(), Scope { attributes, ..Scope::default() }),
        (Resource::default(), Scope { schema_url: "x".repeat(100_000), ..Scope::default() }),
    ] {
        let before = world.sampler().stats().bytes_waiting;
        let mut batch = decode(7, b"1 1 0 5").unwrap();
        batch.groups[0].resource = Arc::new(resource);
        batch.groups[0].scope = Arc::new(scope);
        let request = SpanRequest { form: 7, body: b"1 1 0 5" };
        world.sampler().append(&TenantId::default(), batch, request).wait().unwrap().unwrap();
        assert!(world.sampler().stats().bytes_waiting > before + 100_000);
    }
}

/// A tenant that takes most of what there is makes its own traces be judged early and its own requests refused.
#[test]
fn tenants_pay_for_themselves() {
    let quiet: TenantId = "quiet".parse().unwrap();
    let world = World::new(TailSamplingSettings { traces_max: 10, ..settings(ALWAYS) });
    world.try_send_as(&quiet, "1 1 0 5").unwrap();
    for trace in 0..20 {
        world.send(&format!("{trace} 1 0 5"));
    }
    world.sampler().step();
    assert_eq!(world.stored_of(&quiet, 1).len(), 0, "the oldest of all, and in its time");
    assert_eq!(world.kept(0..20), (0..11).collect::<Vec<_>>());

    let world = World::new(TailSamplingSettings { memory_max: ByteSize::mib(1), ..settings(ALWAYS) });
    let text = "x".repeat(50_000);
    let refused = (0..100).find(|trace| world.try_send(&format!("{trace} 1 0 5 text={text}")).is_err());
    assert!(refused.is_some());
    world.try_send_as(&quiet, "1 1 0 5").unwrap();
    world.sampler().step();
    assert_eq!(world.stored_of(&quiet, 1).len(), 0);
    world.send("200 1 0 5");
}
