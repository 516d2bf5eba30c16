//! Queries and patterns of matchers: any text is answered, what is accepted prints as what it is, and every way to match a
//! pattern says the same.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use pharos_model::{MatchOp, Matcher, Replacement, TenantId};
use pharos_promql::{Engine, EngineSettings, ParserOptions, QueryOptions, parse, parse_selector, pretty};
use pharos_storage::memory::MemoryMetricStore;

/// What an input is that does not begin so: a query.
const PATTERN: char = '/';

/// An engine over nothing, so that queries are planned and run, with limits that end them soon.
static ENGINE: LazyLock<(Engine, TenantId)> = LazyLock::new(|| {
    let settings = EngineSettings {
        timeout: Duration::from_secs(2),
        memory_bytes_max: 32 << 20,
        samples_max: 100_000,
        points_max: 100_000,
        steps_max: 1_000,
        cache_bytes_max: 0,
        parser: ParserOptions::all(),
        ..EngineSettings::default()
    };
    (Engine::new(Arc::new(MemoryMetricStore::default()), settings), TenantId::default())
});

/// A query, or a slash, a pattern, and behind a newline a value for it.
///
/// # Panics
/// If a printed query does not parse, or to another one, or if ways to match disagree: a bug.
pub(crate) fn promql(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.strip_prefix(PATTERN) {
        Some(rest) => {
            let (pattern, value) = rest.split_once('\n').unwrap_or((rest, ""));
            check_pattern(pattern, value);
        }
        None => check_query(text),
    }
}

fn check_pattern(pattern: &str, value: &str) {
    let (matcher, replacement) = (Matcher::new(MatchOp::Regex, "l", pattern), Replacement::new(pattern, "$0"));
    // Plain alternatives may be longer than other patterns, so the matcher accepts more.
    let (Ok(matcher), Ok(mut replacement)) = (matcher, replacement) else { return };
    let mut values = vec![value.to_owned(), String::new(), format!("{value}{value}"), pattern.to_owned()];
    values.extend(matcher.values().unwrap_or_default().iter().take(20).map(|value| (*value).to_owned()));
    values.sort();
    let mut walk = matcher.walk(1 << 20);
    for value in &values {
        let expected = replacement.apply(value);
        assert!(expected.as_ref().is_none_or(|whole| whole == value), "a match is of the whole value");
        assert_eq!(matcher.matches(value), expected.is_some(), "{pattern:?} {value:?}");
        if let Some(walk) = &mut walk {
            assert_eq!(walk.matches(value), expected.is_some(), "{pattern:?} {value:?}");
        }
    }
    let presence = matcher.passes_presence() && values.iter().any(|value| matcher.matches(value) == value.is_empty());
    let everything = matcher.passes_everything() && !values.iter().all(|value| matcher.matches(value));
    assert!(!presence && !everything, "{pattern:?}");
}

fn check_query(text: &str) {
    let _ = parse(text, ParserOptions::default());
    let _ = parse_selector(text);
    let expr = match parse(text, ParserOptions::all()) {
        Ok(expr) => expr,
        Err(error) => {
            assert!(error.span.start as usize <= text.len() && !error.message.is_empty());
            return;
        }
    };
    let printed = expr.to_string();
    for again in [&printed, &pretty(&expr)] {
        match parse(again, ParserOptions::all()) {
            Ok(expr) => assert_eq!(expr.to_string(), printed, "{text:?}"),
            // Texts grow a little when printed, so that what was just within a limit may leave it.
            Err(error) => assert!(error.message.contains("at most"), "{text:?} prints as {again:?}: {error}"),
        }
    }
    let (engine, tenant) = &*ENGINE;
    let _ = engine.instant(tenant, text, 0, &QueryOptions::default());
}

/// Every construct of the language, and patterns of every shape.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    const QUERIES: &[&str] = &[
        "up",
        "{__name__=\"up\", job=~\"a|b.*\", x!=\"\", y!~\"[0-9]+\"}",
        "{\"my.metric\", \"label.x\"='v'}",
        "sum by (job, \"x y\") (rate(http_requests_total{code=~\"5..\"}[5m]))",
        "sum(a) without (b,) / on (c) group_left (d) count without () (e)",
        "topk(3, a) or bottomk(1, b) unless limitk(2, c) and limit_ratio(0.5, d)",
        "quantile(0.9, a) + count_values(\"v\", b)",
        "a + bool b",
        "a == bool on () group_right b",
        "a * ignoring (x) fill_left (1) fill_right (-5m) b",
        "a + fill (NaN) b",
        "a </ 4 >/ 2 atan2 b ^ c % d",
        "-2 ^ 2 + +0x1F - 0755 * 1_000 / .5e3",
        "a[5m] offset -1h @ 1603774568.123",
        "a @ start() offset step()",
        "a[1h:30s] @ end() offset (1h - range())",
        "max_over_time(rate(a[5m:])[1d:(2 * step())] offset -(5m + 1))",
        "a[min_of(step() ^ 2, 1h30m) % max_of(-1w, +3)] anchored",
        "rate(a[1y2w3d4h5m6s7ms] smoothed)",
        "label_replace(a, \"b\", \"$1-${x}$$\", \"c\", \"(?P<x>.*):.*\")",
        "label_join(a, \"b\", \",\", \"c\", \"d\")",
        "histogram_quantile(0.9, sum(b) by (le))",
        "info(a, {data=~\".*\"})",
        "absent(a{b=\"c\"}) and vector(time()) > scalar(d)",
        "start() + end() + range() + step() + min_of(1, 2) + max_of(3, Inf)",
        "sort_by_label(a, \"b\") # comment\n + c",
        "'\\a\\x41\\u00e9\\U0001F600\\101' == bool `raw`",
        "clamp(round(a, 0.1), -Inf, 1e400)",
        "((((a)))) + -(-(--b))",
        "day_of_month() + hour(a) + pi()",
    ];
    const PATTERNS: &[&str] = &[
        "foo\nfoo",
        "foo|bar|\nbar",
        "foo(bar|baz)?\nfoobaz",
        ".*foo.*\nafoob",
        ".+foo\nfoo",
        "foo.+\nfoob",
        "(?i)straße[^a-z]\nSTRASSE1",
        "[[:alpha:]\\d_-]+(?:x|\\Qa.b\\E){2,3}\nax",
        "^(a|b)*?$\nab",
        "\\pL\\p{Greek}\\P{Lu}\\x41\\x{e9}\\101\nαβ",
        "(?ms-U)^a.$\\b\na\n",
        "(?P<name>a+)(?<other>b*)\naab",
    ];
    let queries = QUERIES.iter().map(|query| query.as_bytes().to_vec());
    let patterns = PATTERNS.iter().map(|pattern| format!("{PATTERN}{pattern}").into_bytes());
    queries.chain(patterns).map(|input| ("promql", input)).collect()
}
