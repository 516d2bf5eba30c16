//! Metric names under both ways of removing them.

use super::*;

fn both_modes() -> [Engine; 2] {
    [false, true].map(|delayed_name_removal| {
        let series: Vec<SeriesSpec<'_>> = vec![
            ("a_total", &[("job", "x")], every(15_000, 41, |index| index as f64)),
            ("b_total", &[("job", "x")], every(15_000, 41, |index| 2.0 * index as f64)),
            ("b_total", &[("job", "y")], every(15_000, 41, |index| 3.0 * index as f64)),
        ];
        engine_with(&series, EngineSettings { delayed_name_removal, ..settings() })
    })
}

#[test]
fn what_makes_a_new_quantity_removes_the_name() {
    for engine in both_modes() {
        for (query, expected) in [
            ("a_total", r#"a_total{job="x"} 40"#),
            ("-a_total", r#"{job="x"} -40"#),
            ("abs(a_total)", r#"{job="x"} 40"#),
            ("a_total + 1", r#"{job="x"} 41"#),
            ("a_total > 1", r#"a_total{job="x"} 40"#),
            ("a_total > bool 1", r#"{job="x"} 1"#),
            ("increase(a_total[1m])", r#"{job="x"} 4"#),
            ("last_over_time(a_total[1m])", r#"a_total{job="x"} 40"#),
            ("max_over_time(a_total[1m])", r#"{job="x"} 40"#),
            ("a_total * on(job) b_total", r#"{job="x"} 3200"#),
            ("a_total and on(job) b_total", r#"a_total{job="x"} 40"#),
            ("max(a_total)", "{} 40"),
            ("topk(1, a_total)", r#"a_total{job="x"} 40"#),
            ("clamp_max(a_total, 3)", r#"{job="x"} 3"#),
            ("timestamp(a_total)", r#"{job="x"} 600"#),
        ] {
            assert_eq!(texts(&instant(&engine, query, 600_000).unwrap()), [expected], "{query}");
        }
    }
}

#[test]
fn series_that_differ_in_nothing_but_the_name_collide_without_it() {
    for engine in both_modes() {
        for query in [r#"rate({__name__=~".+_total"}[1m])"#, r#"-{__name__=~".+_total"}"#, r#"{job="x"} * 2"#] {
            let error = instant(&engine, query, 600_000).unwrap_err();
            assert_eq!(error.to_string(), "vector cannot contain metrics with the same labelset", "{query}");
            assert!(!error.is_bad_data());
        }
    }
}

#[test]
fn delayed_removal_lets_label_functions_see_the_name() {
    let query = r#"label_replace(increase({job="x"}[1m]), "__name__", "more_$1", "__name__", "(.+)")"#;
    let [at_once, delayed] = both_modes();
    assert!(instant(&at_once, query, 600_000).is_err());
    let expected = [r#"more_a_total{job="x"} 4"#, r#"more_b_total{job="x"} 8"#];
    assert_eq!(texts(&instant(&delayed, query, 600_000).unwrap()), expected);
}

#[test]
fn other_tenants_see_nothing() {
    let [engine, _] = both_modes();
    let result = engine.instant(&"other".parse().unwrap(), "a_total", 600_000, &QueryOptions::default()).unwrap();
    assert_eq!(result.value, Value::Vector(Vec::new()));
}
