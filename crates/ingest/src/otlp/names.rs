//! Metric and label names: OpenTelemetry's to Prometheus'.
//!
//! Source: OpenTelemetry specification, "Prometheus and OpenMetrics compatibility"; the order of
//! steps is that of Prometheus 3's translator, so that dashboards made for it keep working.

use std::borrow::Cow;

use super::{OtlpSettings, TranslationStrategy};

/// What of a metric's kind shows in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameKind {
    /// Gets `_total`.
    MonotonicCounter,
    /// Gets `_ratio` where its unit is 1.
    Gauge,
    /// Neither.
    Other,
}

/// The name of a metric; `None` if nothing of it is left.
pub(super) fn metric_name(name: &str, unit: &str, kind: NameKind, strategy: TranslationStrategy) -> Option<String> {
    let translated = match strategy {
        TranslationStrategy::UnderscoreEscapingWithSuffixes => escaped_with_suffixes(name, unit, kind),
        TranslationStrategy::UnderscoreEscapingWithoutSuffixes => {
            let kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
            join_tokens(&name.split(|c| !kept(c)).filter(|token| !token.is_empty()).collect::<Vec<_>>())
        }
        TranslationStrategy::NoUTF8EscapingWithSuffixes => raw_with_suffixes(name, unit, kind),
        TranslationStrategy::NoTranslation => name.to_owned(),
    };
    (!translated.bytes().all(|byte| byte == b'_')).then_some(translated)
}

fn escaped_with_suffixes(name: &str, unit: &str, kind: NameKind) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || c == ':';
    let (main, per) = unit_words(unit);
    let (main, per) = (clean_unit(&main), clean_unit(&per));
    let mut tokens: Vec<&str> = name.split(|c| !kept(c)).filter(|token| !token.is_empty()).collect();
    let (has_main, has_per) = (tokens.contains(&main.as_str()), tokens.contains(&per.as_str()));
    if !main.is_empty() && !has_main {
        tokens.push(&main);
    }
    if !per.is_empty() && !has_per {
        tokens.extend(["per", &per]);
    }
    if kind == NameKind::MonotonicCounter {
        move_to_end(&mut tokens, "total");
    }
    if kind == NameKind::Gauge && unit == "1" {
        move_to_end(&mut tokens, "ratio");
    }
    join_tokens(&tokens)
}

fn move_to_end<'a>(tokens: &mut Vec<&'a str>, token: &'a str) {
    tokens.retain(|found| *found != token);
    tokens.push(token);
}

fn join_tokens(tokens: &[&str]) -> String {
    let joined = tokens.join("_");
    if joined.starts_with(|c: char| c.is_ascii_digit()) { format!("_{joined}") } else { joined }
}

/// Suffixes are taken off where they stand already, from the outermost in, and put back in order.
fn raw_with_suffixes(name: &str, unit: &str, kind: NameKind) -> String {
    let (main, per) = unit_words(unit);
    let mut outer: Vec<String> = Vec::new();
    let mut name = name.to_owned();
    let mut take_off = |name: &mut String, suffix: String| {
        if name.ends_with(&suffix) && name.len() > suffix.len() + 1 {
            let length = name.floor_char_boundary(name.len() - suffix.len() - 1);
            name.truncate(length);
        }
        outer.push(suffix);
    };
    if kind == NameKind::Gauge && unit == "1" {
        take_off(&mut name, "ratio".to_owned());
    }
    if kind == NameKind::MonotonicCounter {
        take_off(&mut name, "total".to_owned());
    }
    if !per.is_empty() {
        take_off(&mut name, format!("per_{per}"));
    }
    if !main.is_empty() && !name.ends_with(&*main) {
        outer.push(main.into_owned());
    }
    for suffix in outer.iter().rev() {
        name.push('_');
        name.push_str(suffix);
    }
    name
}

/// The unit in Prometheus' words, for metadata: `seconds`, `meters_per_second`.
pub(super) fn unit_text(unit: &str) -> String {
    let (main, per) = unit_words(unit);
    match (clean_unit(&main), clean_unit(&per)) {
        (main, per) if per.is_empty() => main,
        (main, per) if main.is_empty() => format!("per_{per}"),
        (main, per) => format!("{main}_per_{per}"),
    }
}

/// What stands before and after the slash; annotations in braces are no units.
fn unit_words(unit: &str) -> (Cow<'_, str>, Cow<'_, str>) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let word = |text: &'_ str, table: fn(&str) -> Option<&'static str>| {
        let text = text.trim();
        if text.contains(['{', '}']) { None } else { Some(table(text).map_or_else(|| text.to_owned(), str::to_owned)) }
    };
    (word(main, main_unit).unwrap_or_default().into(), word(per, per_unit).unwrap_or_default().into())
}

/// Characters that no name has become underscores, runs of them one.
fn clean_unit(unit: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || c == ':';
    unit.split(|c| !kept(c)).filter(|token| !token.is_empty()).collect::<Vec<_>>().join("_")
}

fn main_unit(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        _ => return None,
    })
}

fn per_unit(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        _ => return None,
    })
}

/// The name of a label; `None` if nothing of it is left.
pub(super) fn label_name<'a>(key: &'a str, settings: &OtlpSettings) -> Option<Cow<'a, str>> {
    if key.bytes().all(|byte| byte == b'_') {
        return None;
    }
    if !settings.translation_strategy.escapes() {
        return Some(Cow::Borrowed(key));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let collapse = !settings.label_name_preserve_multiple_underscores;
    let name = if key.chars().all(plain) && !(collapse && key.contains("__")) {
        Cow::Borrowed(key)
    } else {
        let mut name = String::with_capacity(key.len());
        for c in key.chars().map(|c| if plain(c) { c } else { '_' }) {
            if !(collapse && c == '_' && name.ends_with('_')) {
                name.push(c);
            }
        }
        Cow::Owned(name)
    };
    if name.bytes().all(|byte| byte == b'_') {
        return None;
    }
    let bytes = name.as_bytes();
    let hidden = bytes[0] == b'_' && bytes.get(1) != Some(&b'_');
    Some(if bytes[0].is_ascii_digit() {
        Cow::Owned(format!("key_{name}"))
    } else if hidden && settings.label_name_underscore_sanitization {
        Cow::Owned(format!("key{name}"))
    } else {
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, unit: &str, kind: NameKind, expected: &str) {
        let found = metric_name(name, unit, kind, TranslationStrategy::UnderscoreEscapingWithSuffixes);
        assert_eq!(found.as_deref(), Some(expected));
    }

    #[test]
    fn units_and_types_are_appended_once() {
        use NameKind::{Gauge, MonotonicCounter, Other};
        check("http.server.request.duration", "s", Other, "http_server_request_duration_seconds");
        check("http.server.requests", "{request}", MonotonicCounter, "http_server_requests_total");
        check("system.disk.io", "By", MonotonicCounter, "system_disk_io_bytes_total");
        check("disk.bytes", "By", Other, "disk_bytes");
        check("jvm.total.loaded", "", MonotonicCounter, "jvm_loaded_total");
        check("requests_total", "1", MonotonicCounter, "requests_total");
        check("cpu.utilization", "1", Gauge, "cpu_utilization_ratio");
        check("hit_ratio", "1", Gauge, "hit_ratio");
        check("speed", "m/s", Gauge, "speed_meters_per_second");
        check("ops_per_second", "{op}/s", Gauge, "ops_per_second");
        check("load", "%", Gauge, "load_percent");
        check("fuel", "mpg", Gauge, "fuel_mpg");
        check("odd", "m²/s³", Gauge, "odd_m_per_s");
        check("2xx.count", "", Other, "_2xx_count");
        check("ns:rule", "", Gauge, "ns:rule");
        check("a..b__c", "", Gauge, "a_b_c");
    }

    #[test]
    fn other_strategies_keep_more() {
        use TranslationStrategy::{NoTranslation, NoUTF8EscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes};
        let name = |name, unit, kind, strategy| metric_name(name, unit, kind, strategy).unwrap();
        let counter = NameKind::MonotonicCounter;
        assert_eq!(name("disk.io", "By", counter, UnderscoreEscapingWithoutSuffixes), "disk_io");
        assert_eq!(name("disk.io", "By", counter, NoUTF8EscapingWithSuffixes), "disk.io_bytes_total");
        assert_eq!(name("disk.io_bytes_total", "By", counter, NoUTF8EscapingWithSuffixes), "disk.io_bytes_total");
        assert_eq!(name("v", "m/s", NameKind::Gauge, NoUTF8EscapingWithSuffixes), "v_meters_per_second");
        assert_eq!(name("disk.io ✓", "By", counter, NoTranslation), "disk.io ✓");
        assert_eq!(name("é_total", "", counter, NoUTF8EscapingWithSuffixes), "é_total");
    }

    #[test]
    fn a_name_of_nothing_is_none() {
        for name in ["", "___", "..."] {
            assert_eq!(metric_name(name, "", NameKind::Gauge, TranslationStrategy::default()), None, "{name}");
        }
    }

    #[test]
    fn units_in_words() {
        assert_eq!(
            ["s", "m/s", "{x}/s", "1", ""].map(unit_text),
            ["seconds", "meters_per_second", "per_second", "", ""]
        );
    }

    #[test]
    fn labels_are_sanitized() {
        let settings = OtlpSettings::default();
        let name = |key| label_name(key, &settings);
        assert_eq!(name("http.route").unwrap(), "http_route");
        assert_eq!(name("2nd").unwrap(), "key_2nd");
        assert_eq!(name("_private").unwrap(), "key_private");
        assert_eq!(name("__address__").unwrap(), "__address__");
        assert_eq!(name("a..b").unwrap(), "a__b");
        assert_eq!(name("größe").unwrap(), "gr__e");
        assert_eq!((name(""), name("_"), name("..")), (None, None, None));
        let collapsing = OtlpSettings { label_name_preserve_multiple_underscores: false, ..OtlpSettings::default() };
        assert_eq!(label_name("a..b", &collapsing).unwrap(), "a_b");
        let raw = OtlpSettings { translation_strategy: TranslationStrategy::NoTranslation, ..OtlpSettings::default() };
        assert_eq!(label_name("http.route", &raw).unwrap(), "http.route");
    }
}
