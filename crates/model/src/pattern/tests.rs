//! The dialect, and that every way to ask a pattern answers alike.

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn check(text: &str, matching: &[&str], others: &[&str]) {
    let pattern = pattern(text);
    for value in matching {
        assert!(pattern.matches(value), "{text} does not match {value:?}");
    }
    for value in others {
        assert!(!pattern.matches(value), "{text} matches {value:?}");
    }
}

#[test]
fn patterns_are_anchored_and_dots_match_newlines() {
    check("a.c", &["a\nc", "aéc"], &["abbc", "ac"]);
    check("b", &["b"], &["abc"]);
    check("a|bc", &["bc"], &["abc"]);
    check("", &[""], &["a"]);
    check("(?-s)a.c", &["abc"], &["a\nc"]);
    check("(?-s:a.)c.", &["abc\n"], &["a\ncd"]);
    check("^a$|^b$", &["a", "b"], &["a\n"]);
    check("(?m)^a$\nb", &["a\nb"], &["a\n"]);
    check("(?m)(?:^a$\n?)+", &["a\na", "a\na\n"], &["a\n\na"]);
    check(r"\Aa\z", &["a"], &["a\n"]);
}

#[test]
fn classes_of_escapes_are_ascii() {
    check(r"\d+", &["09"], &["٣", "1é", ""]);
    check(r"\w+", &["aZ_9"], &["é", "a-b"]);
    check(r"\s+", &[" \t\n\r\x0c"], &["\x0b", "\u{a0}"]);
    check(r"\D\W\S", &["é-x", "٣éé"], &["1-x", "xax", "x- "]);
    check(r"[\d\-x]+", &["1-x"], &["d"]);
    check(r"[^\D]", &["5"], &["d"]);
    check(r"a\b.*", &["a é", "aé"], &["ab"]);
    check(r"a\Bb", &["ab"], &["a b"]);
    check("[[:alpha:][:^digit:]]", &["a", "é", "-"], &["5"]);
    check("[[:word:]]+[[:space:]]", &["a_1\u{b}"], &["é "]);
    check("[[:upper:]]", &["A"], &["a", "É"]);
    check("(?i)[[:upper:]]", &["A", "a"], &["É"]);
    check(r"(?i)\w", &["\u{212a}"], &["é"]);
    check(r"\pL\p{Greek}\P{Lu}\p{^Lu}\PN", &["éαaax"], &["éaaax", "éαAax", "éαaa5"]);
    check("[^a]", &["\n", "é"], &["a", ""]);
    check("[]a]+[-a-]", &["]a-", "aa"], &["b-"]);
    check("[a&&b]+", &["&ab"], &["c"]);
    check("[[a]]", &["[]", "a]"], &["a"]);
}

#[test]
fn escapes_and_quotes_are_characters() {
    check(r"\Qa.b\E.*", &["a.b", "a.bc"], &["axb"]);
    check(r"\Qa|b", &["a|b"], &["a"]);
    check(r"\Qab\E+", &["abb"], &["abab"]);
    check(r"\x41\x{1F600}\101\0\a\f\t\n\r\v", &["A\u{1f600}A\0\x07\x0c\t\n\r\x0b"], &[]);
    check(r"\.\_\-\é*".trim_end_matches("\\é*"), &["._-"], &[]);
    check(r"[\x{D800}-\x{E000}]", &["\u{e000}"], &["\u{d7ff}"]);
    check(r"\x{DFFF}|a", &["a"], &["\u{fffd}"]);
}

#[test]
fn repetitions_and_flags() {
    check("a{2}b{1,}c{0,2}", &["aab", "aabbcc"], &["ab", "aabccc"]);
    check("a{,2}x{y}{", &["a{,2}x{y}{"], &["aax"]);
    check("a{01}", &["a{01}"], &["a"]);
    check("a{1000}", &[&"a".repeat(1000)], &["a"]);
    check("(?U)a+?b*(?-U:c+)", &["aabc"], &["bc"]);
    check("(?i)straße|ÄB", &["STRAßE", "äb", "strA\u{1e9e}E"], &["strasse"]);
    check("a(?i)b|c", &["aB", "C"], &["AB"]);
    check("(a(?i)b)c", &["aBc"], &["aBC"]);
    check("(?i:k)s", &["\u{212a}s", "Ks"], &["kS"]);
    check("(?P<x>a)(?<y>b)()", &["ab"], &[]);
    check("|a||b", &["", "a", "b"], &["ab"]);
    check("(|a)+", &["", "aa"], &["b"]);
}

/// In Go's words.
#[test]
fn faults_name_the_part_that_is_wrong() {
    for (text, reason) in [
        ("[", "missing closing ]: `[`"),
        ("a[b", "missing closing ]: `[b`"),
        ("(", "missing closing ): `(`"),
        ("a(b", "missing closing ): `a(b`"),
        ("a)(b", "unexpected ): `a)(b`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a|*?", "missing argument to repetition operator: `*?`"),
        ("(+)", "missing argument to repetition operator: `+`"),
        ("{2}", "missing argument to repetition operator: `{2}`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a+?{2}b", "invalid nested repetition operator: `+?{2}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{3,2}", "invalid repeat count: `{3,2}`"),
        ("a{99999999999}", "invalid repeat count: `{99999999999}`"),
        ("((a{100}){11})", "invalid repeat count: `{11}`"),
        ("[b-a]", "invalid character class range: `b-a`"),
        ("[[:nope:]]", "invalid character class range: `[:nope:]`"),
        (r"\p{Nope}", r"invalid character class range: `\p{Nope}`"),
        (r"\p{greek}", r"invalid character class range: `\p{greek}`"),
        (r"\pX", r"invalid character class range: `\pX`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\xz0", r"invalid escape sequence: `\xz0`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000`"),
        (r"\é", r"invalid escape sequence: `\é`"),
        (r"[\b]", r"invalid escape sequence: `\b`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("(?z)", "invalid or unsupported Perl syntax: `(?z`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?i-)", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?P<a b>c)", "invalid named capture: `(?P<a b>`"),
        ("(?P<a", "invalid named capture: `(?P<a`"),
        ("(?P=a)", "invalid or unsupported Perl syntax: `(?P`"),
    ] {
        let found = Pattern::compile(text).err().map(|error| error.to_string());
        assert_eq!(found, Some(format!("error parsing regexp: {reason}")), "{text}");
    }
}

#[test]
fn hostile_patterns_are_refused_or_quick() {
    let refused = |text: &str, reason: &str| {
        let found = Pattern::compile(text).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(found.contains(reason) && found.len() < 5_000, "{found}");
    };
    refused(&"(".repeat(1_000), "expression nests too deeply");
    refused(&format!("{}a", "(?:".repeat(251)), "expression nests too deeply");
    refused(r"(\pL{100}){10}", "expression too large, its automaton exceeds");
    refused(&r"\pL".repeat(1_000), "expression too large");
    refused(&r"(?i)[\x{1}-\x{10fffe}]".repeat(5_000), "expression too large");
    refused(&".".repeat(PATTERN_BYTES_MAX + 1), "longer than 262144 bytes");
    refused(&"a|".repeat(ALTERNATIVES_BYTES_MAX), "longer than 4194304 bytes");
    check("(a*)*b", &["b"], &[&"a".repeat(50_000)]);
    check("(a|aa)+", &[&"a".repeat(50_000)], &[&format!("{}b", "a".repeat(50_000))]);
    let many: Vec<String> = (0..20_000).map(|i| format!("instance-{i}:9100")).collect();
    assert_eq!(pattern(&many.join("|")).values().map(<[String]>::len), Some(20_000));
}

#[test]
fn shapes_are_recognized() {
    let affixed = |before, literal: &str, behind| Shape::Affixed { before, literal: literal.to_owned(), behind };
    let set = |values: &[&str]| Shape::Set(values.iter().map(|value| (*value).to_owned()).collect());
    let other = |prefix: &str, suffix: &str| Shape::Other { prefix: prefix.to_owned(), suffix: suffix.to_owned() };
    for (text, shape) in [
        ("foo", set(&["foo"])),
        ("foo(bar|baz|)", set(&["foo", "foobar", "foobaz"])),
        ("foo|bar|foo", set(&["bar", "foo"])),
        ("a?b[cd]", set(&["abc", "abd", "bc", "bd"])),
        ("(?i)é", set(&["É", "é"])),
        (r"a\.b", set(&["a.b"])),
        ("|", set(&[""])),
        (".*", affixed(Gap::Any, "", Gap::None)),
        ("(.+)", affixed(Gap::Some, "", Gap::None)),
        ("foo.*", affixed(Gap::None, "foo", Gap::Any)),
        ("foo.+?", affixed(Gap::None, "foo", Gap::Some)),
        (".*foo", affixed(Gap::Any, "foo", Gap::None)),
        (".+foo.*", affixed(Gap::Some, "foo", Gap::Any)),
        (".*.*", other("", "")),
        ("(?-s).*", other("", "")),
        ("foo[0-9]+bar", other("foo", "bar")),
        ("^foo.*bar$", other("foo", "bar")),
        ("(foo|bar).*", other("", "")),
    ] {
        assert_eq!(pattern(text).shape, shape, "{text}");
    }
}

/// Pieces of patterns and of values, so that they often meet.
fn arb_pattern() -> impl Strategy<Value = String> {
    let atoms = prop::sample::select(vec![
        "a",
        "b",
        "ab",
        "é",
        "K",
        ".",
        ".*",
        ".+",
        ".*?",
        "a?",
        "[ab]",
        "[^a]",
        r"\w",
        r"\d",
        r"\b",
        "(?i)",
        "(?-s)",
        "",
        "a*",
        "b{2}",
        "(a|b)",
        "(ab|)",
        "(?i:k)",
        r"\.",
        r"\Qa.\E",
        "^",
        "$",
        "[[:upper:]]",
        r"\pL",
        "\n",
    ]);
    let sequence = || prop::collection::vec(atoms.clone(), 0..5).prop_map(|parts| parts.concat());
    prop_oneof![
        sequence(),
        prop::collection::vec(sequence(), 1..4).prop_map(|options| options.join("|")),
        (sequence(), prop::collection::vec(sequence(), 1..3), sequence())
            .prop_map(|(head, options, tail)| format!("{head}({}){tail}", options.join("|"))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// P1: sets, affixes and automata agree with the compiled pattern.
    #[test]
    fn every_way_to_ask_answers_alike(
        text in arb_pattern(),
        mut values in prop::collection::vec("[abkKé.\u{212a}1 \n]{0,5}", 0..20),
    ) {
        let Ok(pattern) = Pattern::compile(&text) else { return Ok(()) };
        let hir = without_captures(re2::parse(&text).unwrap().hir);
        let slow = compile(hir.clone(), &text).unwrap();
        // Two classes of letters behind `.*` are too large an automaton; without them there is one.
        let mut walk = PatternWalk::build(&hir, 1 << 20);
        prop_assert!(walk.is_some() || text.contains(r"\pL"), "{:?}", text);
        values.extend(pattern.values().unwrap_or_default().iter().take(50).cloned());
        values.sort();
        for value in &values {
            let expected = slow.is_match(value);
            prop_assert_eq!(pattern.matches(value), expected, "{:?} {:?} {:?}", text, value, pattern.shape);
            if let Some(walk) = &mut walk {
                prop_assert_eq!(walk.matches(value), expected, "{:?} {:?}", text, value);
            }
            prop_assert!(!pattern.matches_everything() || expected);
            prop_assert!(!pattern.matches_everything_but_empty() || expected != value.is_empty());
        }
    }

    /// Any text is answered, and what is accepted runs.
    #[test]
    fn any_text_is_answered(text in any::<String>(), soup in r"[a()\[\]|*+?{}0-9\\^$.:dpLQEx<>Pims-]{0,30}") {
        for text in [text, soup] {
            if let Ok(pattern) = Pattern::compile(&text) {
                pattern.matches("a1\n");
            }
        }
    }
}
