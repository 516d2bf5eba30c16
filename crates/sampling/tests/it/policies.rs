//! What each policy keeps.

use pharos_sampling::TailSamplingSettings;

use crate::world::{World, settings};

/// The traces of `spans` (one line each) that `policies` keep.
fn check(policies: &str, spans: &str, expected: &[u64]) {
    let world = World::new(settings(policies));
    world.send(spans);
    world.step_after(30_000);
    assert_eq!(world.kept(0..20), expected, "{policies}");
}

fn of_rule(rule: &str) -> String {
    format!(r#"[{{"name": "only", "rule": {rule}}}]"#)
}

#[test]
fn each_rule_keeps_what_it_says() {
    let spans = "1 1 0 5 user=7\n1 2 1 5\n2 3 0 900 user=99 vip=true\n3 4 0 5 state=gold sampled\n4 5 0 5 name=ann";
    for (rule, expected) in [
        (r#"{"type": "always"}"#, &[1, 2, 3, 4][..]),
        (r#"{"type": "latency", "min": "900ms"}"#, &[2]),
        (r#"{"type": "latency", "min": "1ms", "max": "100ms"}"#, &[1, 3, 4]),
        (r#"{"type": "numeric_attribute", "key": "user", "min": 8, "max": 99}"#, &[2]),
        (r#"{"type": "numeric_attribute", "key": "user", "max": 98}"#, &[1]),
        (r#"{"type": "string_attribute", "key": "name", "values": ["bob", "ann"]}"#, &[4]),
        (r#"{"type": "string_attribute", "key": "name", "values": ["a.*"], "regex": true}"#, &[4]),
        (r#"{"type": "string_attribute", "key": "name", "values": ["a.*"]}"#, &[]),
        (r#"{"type": "boolean_attribute", "key": "vip", "value": true}"#, &[2]),
        (r#"{"type": "status_code", "codes": ["ERROR"]}"#, &[1]),
        (r#"{"type": "trace_state", "key": "vendor", "values": ["gold"]}"#, &[3]),
        (r#"{"type": "sampled"}"#, &[3]),
        (r#"{"type": "span_count", "min": 2}"#, &[1]),
        (r#"{"type": "span_count", "min": 1, "max": 1}"#, &[2, 3, 4]),
        (r#"{"type": "not", "rule": {"type": "status_code", "codes": ["ERROR"]}}"#, &[2, 3, 4]),
        (
            r#"{"type": "and", "rules": [{"type": "latency", "min": "1ms"}, {"type": "boolean_attribute", "key": "vip", "value": true}]}"#,
            &[2],
        ),
        (r#"{"type": "rate_limit", "spans_per_second": 3}"#, &[1, 2]),
        (r#"{"type": "bytes_limit", "bytes_per_second": "1GiB"}"#, &[1, 2, 3, 4]),
        (r#"{"type": "bytes_limit", "bytes_per_second": "1B"}"#, &[]),
        (r#"{"type": "probabilistic", "percent": 100}"#, &[1, 2, 3, 4]),
        (r#"{"type": "probabilistic", "percent": 0}"#, &[]),
        (
            r#"{"type": "composite", "spans_per_second": 4, "parts": [
                {"rule": {"type": "status_code", "codes": ["ERROR"]}, "percent": 50},
                {"rule": {"type": "always"}, "percent": 50}]}"#,
            &[1, 2, 3],
        ),
    ] {
        check(&of_rule(rule), spans, expected);
    }
}

/// A limit counts what its policy keeps: not what a rule beside it leaves out, whichever stands first, and not what another
/// policy keeps anyway.
#[test]
fn limits_are_used_up_by_what_they_keep() {
    let thin = r#"{"type": "probabilistic", "percent": 25}"#;
    let limit = r#"{"type": "rate_limit", "spans_per_second": 20}"#;
    let share =
        r#"{"type": "composite", "spans_per_second": 20, "parts": [{"rule": {"type": "always"}, "percent": 100}]}"#;
    for rules in [format!("{thin}, {limit}"), format!("{limit}, {thin}"), format!("{share}, {thin}")] {
        let world = World::new(settings(&of_rule(&format!(r#"{{"type": "and", "rules": [{rules}]}}"#))));
        let traces: Vec<u64> = (0..1_000_u64).map(|trace| trace.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        world.send(&traces.iter().map(|trace| format!("{trace} 1 0 5")).collect::<Vec<_>>().join("\n"));
        world.step_after(30_000);
        let kept = world.kept(traces);
        assert_eq!(kept.len(), 20, "{rules}");
        assert_eq!(world.stored(kept[0])[0].1, "ot=th:c", "the draw is recorded");
    }
    let policies = format!(
        r#"[{{"name": "some", "rule": {limit}}}, {{"name": "errors", "rule": {{"type": "status_code", "codes": ["ERROR"]}}}}]"#
    );
    let world = World::new(settings(&policies));
    let lines: Vec<_> = (0..60_u64).map(|trace| format!("{trace} 1 {} 5", trace % 2)).collect();
    world.send(&lines.join("\n"));
    world.step_after(30_000);
    assert_eq!(world.kept(0..60).len(), 30 + 20);
}

#[test]
fn a_drop_is_stronger_than_any_wish() {
    let policies = r#"[
        {"name": "all", "rule": {"type": "always"}},
        {"name": "health checks", "rule": {"type": "drop", "rules": [
            {"type": "string_attribute", "key": "path", "values": ["/health"]}, {"type": "latency", "min": "0ms", "max": "10ms"}]}}
    ]"#;
    check(policies, "1 1 0 5 path=/health\n2 2 0 500 path=/health\n3 3 0 5 path=/", &[2, 3]);
}

/// The share is drawn by the trace id's randomness, and recorded; what another policy wants is kept at probability 1.
#[test]
fn the_probability_is_recorded() {
    let policies = r#"[
        {"name": "quarter", "rule": {"type": "probabilistic", "percent": 25}},
        {"name": "errors", "rule": {"type": "status_code", "codes": ["ERROR"]}}
    ]"#;
    let world = World::new(settings(policies));
    let top = 0xc0_0000_0000_0000_u64;
    world.send(&format!("{} 1 0 5\n{} 2 0 5\n{} 3 1 5\n{} 4 1 5", top, top - 1, top + 1, top - 2));
    world.step_after(30_000);
    assert_eq!(world.stored(top), [(1, "ot=th:c".to_owned())]);
    assert_eq!(world.stored(top - 1), []);
    assert_eq!((world.stored(top + 1), world.stored(top - 2)), (vec![(3, String::new())], vec![(4, String::new())]));
    world.send(&format!("{top} 9 0 5"));
    world.sampler().step();
    assert_eq!(world.stored(top).len(), 2, "a late span follows the judgement");
    assert_eq!(world.stored(top)[1].1, "ot=th:c");
}

#[test]
fn about_the_share_is_kept() {
    let world = World::new(settings(&of_rule(r#"{"type": "probabilistic", "percent": 10}"#)));
    let traces: Vec<u64> = (0..2_000_u64).map(|trace| trace.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    world.send(&traces.iter().map(|trace| format!("{trace} 1 0 5")).collect::<Vec<_>>().join("\n"));
    world.step_after(30_000);
    let kept = world.kept(traces).len();
    assert!((150..250).contains(&kept), "{kept} of 2000");
    assert_eq!(world.sampler().stats().traces_kept, kept as u64);
}

#[test]
fn senseless_settings_are_named() {
    let fault = |policies: &str| settings(policies).check().unwrap_err().to_string();
    assert!(fault("[]").contains("without a policy"));
    assert!(fault(&of_rule(r#"{"type": "drop", "rules": [{"type": "always"}]}"#)).contains("without a policy"));
    assert!(fault(&of_rule(r#"{"type": "and", "rules": []}"#)).contains("no rules"));
    assert!(fault(&of_rule(r#"{"type": "numeric_attribute", "key": "x"}"#)).contains("min, max"));
    assert!(
        fault(&of_rule(r#"{"type": "string_attribute", "key": "x", "values": ["("], "regex": true}"#)).contains("only")
    );
    for (rule, expected) in [
        (r#"{"type": "ottl_condition"}"#, "needs span, spanevent or both"),
        (r#"{"type": "ottl_condition", "span": ["duration > 5"]}"#, "duration is not supported, at character 1"),
        (r#"{"type": "latency", "min": "2s", "max": "1s"}"#, "min 2s is more than max 1s"),
        (r#"{"type": "numeric_attribute", "key": "x", "min": 2, "max": 1}"#, "min 2 is more than max 1"),
        (r#"{"type": "span_count", "min": 2, "max": 1}"#, "min 2 is more than max 1"),
        (r#"{"type": "string_attribute", "key": "x", "values": []}"#, "values: none"),
        (r#"{"type": "trace_state", "key": "x", "values": []}"#, "values: none"),
        (r#"{"type": "status_code", "codes": []}"#, "codes: none"),
        (r#"{"type": "rate_limit", "spans_per_second": 0}"#, "keeps nothing"),
        (r#"{"type": "bytes_limit", "bytes_per_second": "0B"}"#, "keeps nothing"),
        (
            r#"{"type": "composite", "spans_per_second": 10, "parts": [
                {"rule": {"type": "always"}, "percent": 90}, {"rule": {"type": "always"}, "percent": 9}]}"#,
            "part 2 is less than one span",
        ),
        (r#"{"type": "not", "rule": {"type": "rate_limit", "spans_per_second": 1}}"#, "within not"),
    ] {
        assert!(fault(&of_rule(rule)).contains(expected), "{rule}: {}", fault(&of_rule(rule)));
    }
    let drop = r#"[{"name": "a", "rule": {"type": "always"}},
        {"name": "b", "rule": {"type": "drop", "rules": [{"type": "rate_limit", "spans_per_second": 1}]}}]"#;
    assert!(fault(drop).contains("within drop"));
    let small =
        TailSamplingSettings { log_segment: pharos_base::ByteSize(0), ..settings(&of_rule(r#"{"type": "always"}"#)) };
    assert!(small.check().unwrap_err().to_string().contains("log_segment"));
    let inner = r#"{"type": "not", "rule": {"type": "drop", "rules": [{"type": "always"}]}}"#;
    assert!(fault(&of_rule(inner)).contains("drop"));
    let deep =
        (0..6).fold(r#"{"type": "always"}"#.to_owned(), |rule, _| format!(r#"{{"type": "not", "rule": {rule}}}"#));
    assert!(fault(&of_rule(&deep)).contains("deeper"));
    let read = |text: &str| serde_json::from_str::<TailSamplingSettings>(text).unwrap_err().to_string();
    let unknown = read(r#"{"policies": [{"name": "x", "rule": {"type": "dice"}}]}"#);
    assert!(unknown.contains("dice") && unknown.contains("string_attribute"), "{unknown}");
    assert!(
        read(r#"{"policies": [{"name": "x", "rule": {"type": "probabilistic", "percent": 101}}]}"#).contains("percent")
    );
}

/// Dependencies tell of all that came, once: of dropped traces, of late spans of these, and not again after a start.
#[test]
fn calls_of_dropped_traces_count() {
    let mut world = World::new(settings(&of_rule(r#"{"type": "status_code", "codes": ["ERROR"]}"#)));
    world
        .send("1 1 0 5 service=web\n1 2 0 5 service=shop parent=1\n2 1 1 5 service=web\n2 2 0 5 service=shop parent=1");
    world.step_after(30_000);
    world.send("1 3 0 5 service=db parent=2");
    world.step_after(1_000);
    let link = |parent: &str, child: &str, count| (parent.to_owned(), child.to_owned(), count);
    let expected = [link("shop", "db", 1), link("web", "shop", 2)];
    assert_eq!((world.kept(0..5), world.calls()), (vec![2], expected.to_vec()));
    world.restart();
    world.step_after(60_000);
    assert_eq!(world.calls(), expected);
}

#[test]
fn calls_that_the_store_does_not_count_now_are_counted_later() {
    let world = World::new(settings(&of_rule(r#"{"type": "probabilistic", "percent": 0}"#)));
    world.store.refuses.store(true, std::sync::atomic::Ordering::SeqCst);
    world.send("1 1 0 5 service=web\n1 2 0 5 service=shop parent=1");
    world.step_after(30_000);
    assert!(world.calls().is_empty());
    world.store.refuses.store(false, std::sync::atomic::Ordering::SeqCst);
    world.step_after(1_000);
    assert_eq!(world.calls(), [("web".to_owned(), "shop".to_owned(), 1)]);
}
