//! Searches in TraceQL: any text is answered, an error points into it, what is accepted prints as what it is.

use pharos_api_tempo::traceql::{DEPTH_MAX, QUERY_BYTES_MAX, parse};

/// A query.
///
/// # Panics
/// If a printed query does not parse, or to another one: a bug.
pub(crate) fn traceql(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let query = match parse(text) {
        Ok(query) => query,
        Err(error) => {
            let line = text.split('\n').nth(error.line - 1).expect("errors are in lines of the query");
            assert!(error.column <= line.chars().count() + 1 && !error.message.is_empty(), "{error}");
            return;
        }
    };
    let printed = query.to_string();
    match parse(&printed) {
        Ok(again) => assert_eq!(again, query, "{text:?} prints as {printed:?}"),
        // Texts grow when printed: escapes, and parentheses around what stood without.
        Err(error) => {
            let limits = [format!("at most {QUERY_BYTES_MAX}"), format!("deeper than {DEPTH_MAX}")];
            assert!(
                limits.iter().any(|limit| error.message.contains(limit)),
                "{text:?} prints as {printed:?}: {error}"
            );
        }
    }
}

/// Every construct of the language, those that are refused, and texts that end too soon.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    const QUERIES: &[&str] = &[
        "{}",
        "{ true }",
        "{ .a = \"x\" }",
        "{ .a = `x\"y\\` }",
        "{ .\"a b\".c != \"\\\"\\\\\\n\\u00e9\\x41\" }",
        "{ span.http.status_code >= 500 }",
        "{ resource.service.name =~ \"a|b.*\" }",
        "{ event.exception.message !~ \"(?i)x[^y]+\" }",
        "{ link.a < -1.5e3 }",
        "{ instrumentation.a = nil }",
        "{ .a && .b || !.c }",
        "{ !(.a = 1 && (.b = 2 || .c != 3)) }",
        "{ 5 < .a }",
        "{ .5 >= span.a }",
        "{ duration > 1h2m3s4ms5us6ns }",
        "{ duration <= 1.5\u{b5}s }",
        "{ traceDuration > 2w1d }",
        "{ status = error && kind != client }",
        "{ statusMessage = \"\" || span:name = \"x\" }",
        "{ rootName = \"a\" && rootServiceName =~ \"b\" }",
        "{ trace:id = \"0102\" && span:id != \"03\" }",
        "{ trace:rootName = \"a\" && trace:rootService = \"b\" && trace:duration < 1s }",
        "{ nestedSetParent < 0 }",
        "{ span:parentID = nil }",
        "{ event:name = \"exception\" && event:timeSinceStart > 2ms }",
        "{ link:traceID = \"01\" && link:spanID = \"02\" }",
        "{ instrumentation:name = \"lib\" && instrumentation:version = \"1\" }",
        "({ .a } || { .b }) || ({ .c })",
        "{ .a } | select(name, span.b, .\"c d\", status)",
        "{ .a } with (most_recent=true)",
        "{ .a // a remark\n && .b }",
        "{ .a = true } | select(.b) | select(.c) with (most_recent=false, most_recent=true)",
        "{ .a } && { .b }",
        "{ .a } >> { .b }",
        "{ .a } &>> { .b } !< { .c } ~ { .d }",
        "{ .a } | count() > 2",
        "{ .a } | by(span.b) | avg(duration) > 1s",
        "{ .a } | rate() by (.b)",
        "{ .a + 1 = 2 * .b ^ 3 }",
        "{ parent.a = 1 && childCount > 2 }",
        "{ .a = 99999999999999999999 }",
        "{ .a = 1.2.3 }",
        "{ .a = 5x }",
        "{ .a =~ \"a)(b\" }",
        "{ name = 5 }",
        "{ foo.bar = 1 }",
        "{ .a = \"x",
        "{ .\"a",
        "{ (((((.a))))) }",
        "{ .\u{e9}\u{1f600} = \"\u{0}\u{7f}\" }",
        "{",
    ];
    QUERIES.iter().map(|query| ("traceql", query.as_bytes().to_vec())).collect()
}
