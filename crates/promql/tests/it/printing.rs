//! How expressions are printed.

use pharos_promql::{ParserOptions, parse, pretty};

fn check(text: &str, wanted: &str) {
    let expr = parse(text, ParserOptions::all()).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(expr.to_string(), wanted);
}

fn check_pretty(text: &str, wanted: &str) {
    let expr = parse(text, ParserOptions::all()).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(pretty(&expr), wanted.trim_start_matches('\n'));
    let again = parse(&pretty(&expr), ParserOptions::all()).unwrap();
    assert_eq!(again.to_string(), expr.to_string());
}

#[test]
fn one_canonical_line() {
    for (text, wanted) in [
        ("sum ( a ) BY( x,y )", "sum by (x, y) (a)"),
        ("sum(a) by ()", "sum(a)"),
        ("topk without(\"x y\")(3,a)", "topk without (\"x y\") (3, a)"),
        ("a-on(x)group_left b", "a - on (x) group_left () b"),
        ("a / ignoring() group_right(y) b", "a / ignoring () group_right (y) b"),
        ("a>bool on() b", "a > bool on () b"),
        ("a + fill(0) b", "a + fill (0) b"),
        ("a + fill_right(5m) fill_left(-1) b", "a + fill_left (-1) fill_right (300) b"),
        ("a + fill(1e6) b", "a + fill (1e+06) b"),
        ("a + fill(NaN) b", "a + fill_left (NaN) fill_right (NaN) b"),
        ("a[300s] offset 90m @ 10", "a[5m] @ 10.000 offset 1h30m"),
        ("a[300]", "a[5m]"),
        ("a{}offset -1w@start()", "a @ start() offset -1w"),
        ("(a)[1d:30] @ end()", "(a)[1d:30s] @ end()"),
        ("a[5m:]", "a[5m:]"),
        ("rate(a[5m]smoothed)", "rate(a[5m] smoothed)"),
        ("a[ 2*step( )+1m ]", "a[2 * step() + 1m]"),
        ("a offset - ( 5m / 2 )", "a offset -(5m / 2)"),
        ("a offset (1m) + 2m", "a offset (1m + 2m)"),
        ("a offset --(1m) ^ 2", "a offset --1m ^ 2"),
        ("a offset -+step() ^ 2", "a offset -(step() ^ 2)"),
        ("a offset +step()", "a offset step()"),
        ("a offset -(5m)", "a offset -5m"),
        ("a offset 0", "a"),
        ("a[((1m)) + ((step() - 1))]", "a[1m + (step() - 1)]"),
        ("a[(-2) ^ 2 + +1m]", "a[(-2) ^ 2 + 1m]"),
        ("a anchored [5m] @ 7", "a[5m] anchored @ 7.000"),
        ("a offset 1m smoothed @ 7", "a @ 7.000 smoothed offset 1m"),
        ("{'my.metric',x='y'}", "{__name__=\"my.metric\",x=\"y\"}"),
        ("{__name__='foo',x='y'}", "{__name__=\"foo\",x=\"y\"}"),
        ("{'foo',x='y'}", "{__name__=\"foo\",x=\"y\"}"),
        ("{'bool'}", "{__name__=\"bool\"}"),
        ("{'foo','bar'}", "{__name__=\"bar\",__name__=\"foo\"}"),
        ("foo{z='1',a!~'2'}", "foo{a!~\"2\",z=\"1\"}"),
        ("{``='0', x='y'}", "{\"\"=\"0\",x=\"y\"}"),
        ("1e3 + 0x10 - -5 + 1h", "1000 + 16 - -5 + 1h"),
        ("-inf + nan", "-Inf + NaN"),
        ("'a\\nb'", "\"a\\nb\""),
        ("--a", "--a"),
        ("label_join(a,'x',',')", "label_join(a, \"x\", \",\")"),
        ("time ( )", "time()"),
    ] {
        check(text, wanted);
    }
}

#[test]
fn long_expressions_are_split_and_indented() {
    check_pretty("sum(rate(a[5m]))", "sum(rate(a[5m]))");
    check_pretty(
        "sum by (job, instance) (rate(http_requests_total{job=\"api\", code=~\"5..\"}[5m])) / ignoring(code) group_left \
         sum by (job, instance) (rate(http_requests_total{job=\"api\"}[5m]))",
        r#"
  sum by (job, instance) (rate(http_requests_total{code=~"5..",job="api"}[5m]))
/ ignoring (code) group_left ()
  sum by (job, instance) (rate(http_requests_total{job="api"}[5m]))"#,
    );
    check_pretty(
        "histogram_quantile(0.99, sum by (le, service, region) (rate(request_duration_seconds_bucket{service=~\"frontend|checkout\"}[5m])))",
        r#"
histogram_quantile(
  0.99,
  sum by (le, service, region) (
    rate(request_duration_seconds_bucket{service=~"frontend|checkout"}[5m])
  )
)"#,
    );
    check_pretty(
        "-(aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa + bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb)",
        "
-(
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
  +
    bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
)",
    );
}
