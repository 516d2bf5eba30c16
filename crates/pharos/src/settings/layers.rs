//! The layers of settings, and how they are laid over each other.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{HELP, Settings};

/// What variables begin with.
const ENVIRONMENT_PREFIX: &str = "PHAROS__";
/// Keys of the engines' own settings that stand at the top level instead, so that each is said once.
const SAID_ELSEWHERE: [(&str, &str); 8] = [
    ("tsdb.sync", "sync"),
    ("tsdb.retention", "retention.metrics"),
    ("tsdb.retention_rules", "retention.metrics_rules"),
    ("tsdb.retention_size", "retention.metrics_size"),
    ("tracestore.sync", "sync"),
    ("tracestore.retention", "retention.traces"),
    ("tracestore.retention_rules", "retention.traces_rules"),
    ("tracestore.retention_size", "retention.traces_size"),
];

/// Settings that cannot be used; each fault is one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {message}")]
    File { path: PathBuf, message: String },
    #[error("{}", .0.join("\n"))]
    Faults(Vec<String>),
}

/// The path of a setting, such as `retention.metrics`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyPath(String);

impl KeyPath {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// `retention-metrics`, to stand behind two dashes.
    pub(crate) fn flag(&self) -> String {
        self.0.replace(['.', '_'], "-")
    }

    /// `PHAROS__RETENTION__METRICS`.
    pub(crate) fn variable(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.0.replace('.', "__").to_uppercase())
    }

    /// One line of help.
    pub(crate) fn help(&self) -> &'static str {
        HELP.iter().find(|(key, _)| *key == self.0).map_or("", |(_, help)| help)
    }
}

/// All keys with their defaults, in the order of the file.
pub(crate) fn keys() -> Vec<(KeyPath, Value)> {
    let mut found = Vec::new();
    collect_leaves("", &tree(&Settings::default()), &mut found);
    found
}

fn tree(settings: &Settings) -> Value {
    serde_json::to_value(settings).expect("settings have text keys only")
}

fn collect_leaves(prefix: &str, value: &Value, found: &mut Vec<(KeyPath, Value)>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                collect_leaves(&path, member, found);
            }
        }
        leaf if !SAID_ELSEWHERE.iter().any(|(key, _)| *key == prefix) => {
            found.push((KeyPath(prefix.to_owned()), leaf.clone()));
        }
        _ => {}
    }
}

/// Lays file, environment and flags over the defaults.
///
/// # Errors
/// [`SettingsError`] with every fault that was found.
pub(crate) fn load(
    file: Option<&Path>,
    environment: &BTreeMap<String, String>,
    flags: &BTreeMap<String, String>,
) -> Result<Settings, SettingsError> {
    let base = match file {
        Some(path) => read_file(path)?,
        None => Settings::default(),
    };
    let (mut layered, defaults) = (tree(&base), tree(&Settings::default()));
    let at = |root: &Value, key: &str| root.pointer(&format!("/{}", key.replace('.', "/"))).cloned();
    let elsewhere = SAID_ELSEWHERE.iter().filter(|(key, _)| at(&layered, key) != at(&defaults, key));
    let mut faults: Vec<_> = elsewhere.map(|(key, instead)| format!("{key}: say {instead} instead")).collect();
    let keys = keys();
    for name in environment.keys().filter(|name| name.starts_with(ENVIRONMENT_PREFIX)) {
        if !keys.iter().any(|(key, _)| key.variable() == *name) {
            faults.push(format!("environment variable {name} names no setting"));
        }
    }
    for (key, _) in &keys {
        let from_environment = environment.get(&key.variable()).map(|text| (key.variable(), text));
        let from_flag = flags.get(key.as_str()).map(|text| (format!("--{}", key.flag()), text));
        for (origin, text) in [from_environment, from_flag].into_iter().flatten() {
            if let Err(message) = overlay(&mut layered, key, text) {
                faults.push(format!("{origin}: {message}"));
            }
        }
    }
    let settings: Settings =
        serde_json::from_value(layered).map_err(|error| SettingsError::Faults(vec![error.to_string()]))?;
    faults.extend(settings.faults());
    if faults.is_empty() { Ok(settings) } else { Err(SettingsError::Faults(faults)) }
}

fn read_file(path: &Path) -> Result<Settings, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Settings::default());
    }
    serde_saphyr::from_str(&text)
        .map_err(|error| SettingsError::File { path: path.to_owned(), message: one_line(&error.to_string()) })
}

/// The first line of a parser's message: what and where, without its drawing of the source.
fn one_line(message: &str) -> String {
    message.lines().find(|line| !line.trim().is_empty()).unwrap_or(message).trim().to_owned()
}

/// Sets one leaf from text. Texts that could be a number, a truth value or a JSON list are tried as such first, and
/// count only if the settings accept them there.
fn overlay(layered: &mut Value, key: &KeyPath, text: &str) -> Result<(), String> {
    let mut message = String::new();
    let parsed = serde_json::from_str(text)
        .ok()
        .filter(|value: &Value| value.is_number() || value.is_boolean() || value.is_array());
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let list = Value::Array(items.map(|item| Value::String(item.to_owned())).collect());
    let empty = text.is_empty().then_some(Value::Null);
    // The first complaint is what the user reads: of a list, one about its items.
    let (first, second) = match leaf(layered, key) {
        Value::Array(_) => (list, Value::String(text.to_owned())),
        _ => (Value::String(text.to_owned()), list),
    };
    for candidate in parsed.into_iter().chain(empty).chain([first, second]) {
        let mut trial = layered.clone();
        *leaf(&mut trial, key) = candidate.clone();
        match serde_json::from_value::<Settings>(trial) {
            Ok(_) => {
                *leaf(layered, key) = candidate;
                return Ok(());
            }
            Err(error) if message.is_empty() => message = error.to_string(),
            Err(_) => {}
        }
    }
    Err(message)
}

fn leaf<'a>(root: &'a mut Value, key: &KeyPath) -> &'a mut Value {
    key.0.split('.').fold(root, |value, name| {
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        value.as_object_mut().expect("it was made one").entry(name).or_insert(Value::Null)
    })
}

/// The defaults as a commented `pharos.yaml`.
pub(crate) fn default_yaml() -> String {
    let mut text = String::from(
        "# Every setting of `pharos serve` with its default. Copy what you change; unknown keys are errors.\n\
         # Each is also a flag (retention.metrics: --retention-metrics) and a variable (PHAROS__RETENTION__METRICS).\n",
    );
    let mut open: Vec<String> = Vec::new();
    for (key, default) in keys() {
        let mut parts: Vec<_> = key.as_str().split('.').map(str::to_owned).collect();
        let name = parts.pop().unwrap_or_default();
        let shared = open.iter().zip(&parts).take_while(|(a, b)| a == b).count();
        if parts.is_empty() || shared < parts.len() {
            text.push('\n');
        }
        for (depth, part) in parts.iter().enumerate().skip(shared) {
            let _ = writeln!(text, "{}{part}:", "  ".repeat(depth));
        }
        let indent = "  ".repeat(parts.len());
        let _ = writeln!(text, "{indent}# {}\n{indent}{name}: {}", key.help(), yaml_scalar(&default));
        open = parts;
    }
    text
}

fn yaml_scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_key_has_help_and_no_help_is_without_its_key() {
        let keys: Vec<_> = keys().into_iter().map(|(key, _)| key.0).collect();
        let helped: Vec<_> = HELP.iter().map(|(key, _)| (*key).to_owned()).collect();
        let missing: Vec<_> = keys.iter().filter(|key| !helped.contains(key)).collect();
        let stale: Vec<_> = helped.iter().filter(|key| !keys.contains(key)).collect();
        assert!(missing.is_empty() && stale.is_empty(), "without help: {missing:#?}; without key: {stale:#?}");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "golden files are rewritten on demand")]
    fn the_example_file_equals_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/pharos.yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, default_yaml()).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text == default_yaml(), "{} is not what the defaults say; UPDATE_GOLDEN=1 rewrites it", path.display());
        assert_eq!(load(Some(&path), &map(&[]), &map(&[])).unwrap(), Settings::default());
    }

    #[test]
    fn lists_are_written_with_commas() {
        let of =
            |text: &str| load(None, &map(&[]), &map(&[("query.features", text)])).map(|found| found.query.features);
        assert_eq!(of("").unwrap(), []);
        let two = "use-start-timestamps, promql-experimental-functions";
        assert_eq!(of(two).unwrap(), of(r#"["use-start-timestamps", "promql-experimental-functions"]"#).unwrap());
        let error = of("use-start-timestamps,smoothed").unwrap_err().to_string();
        assert!(error.contains("--query-features: unknown variant `smoothed`, expected one of"), "{error}");
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pharos.yaml");
        std::fs::write(&path, "retention:\n  metrics: 1d\n  traces: 1d\nquery:\n  series_max: 7\nsync: 1s\n").unwrap();
        let environment =
            map(&[("PHAROS__RETENTION__METRICS", "2d"), ("PHAROS__QUERY__SERIES_MAX", "8"), ("HOME", "/x")]);
        let flags = map(&[("retention.metrics", "3d"), ("retention.metrics_size", "10GiB"), ("otlp_grpc", "off")]);
        let settings = load(Some(&path), &environment, &flags).unwrap();
        assert_eq!(settings.retention.metrics.to_string(), "3d");
        assert_eq!(settings.retention.traces.to_string(), "1d");
        assert_eq!(settings.retention.metrics_size.unwrap().to_string(), "10GiB");
        assert_eq!(settings.query.series_max, 8);
        assert_eq!(settings.sync, "1s");
        assert_eq!(settings.otlp_grpc.address(), None);
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let environment = map(&[("PHAROS__NONSENSE", "1"), ("PHAROS__RETENTION__TRACES", "soon")]);
        let flags = map(&[("auth", "off"), ("listen", "0.0.0.0:9090"), ("sync", "often")]);
        let SettingsError::Faults(faults) = load(None, &environment, &flags).unwrap_err() else { panic!() };
        let text = faults.join("\n");
        for part in ["PHAROS__NONSENSE names no setting", "\"soon\" is not a duration", "auth_off_anywhere", "sync: "] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }

    #[test]
    fn a_key_that_is_said_elsewhere_is_an_error_that_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pharos.yaml");
        std::fs::write(&path, "tsdb:\n  retention: 3d\ntracestore:\n  sync: 1s\n").unwrap();
        let message = load(Some(&path), &map(&[]), &map(&[])).unwrap_err().to_string();
        assert_eq!(message, "tsdb.retention: say retention.metrics instead\ntracestore.sync: say sync instead");
    }

    #[test]
    fn limits_of_nothing_are_refused() {
        let flags = map(&[("query.memory_max", "12"), ("ingest.limits.body_max", "0"), ("query.timeout", "0")]);
        let message = load(None, &map(&[]), &flags).unwrap_err().to_string();
        for part in ["query.memory_max: 12B is below", "ingest.limits.body_max: 0B is below", "query.timeout: must be"]
        {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pharos.yaml");
        std::fs::write(&path, "listen: 127.0.0.1:1\nretentoin: 3d\n").unwrap();
        let message = load(Some(&path), &map(&[]), &map(&[])).unwrap_err().to_string();
        assert!(message.contains("retentoin") && message.contains('2') && !message.contains('\n'), "{message}");
    }
}
