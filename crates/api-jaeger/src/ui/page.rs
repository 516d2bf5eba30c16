//! The page of Jaeger UI: what a server writes into it.
//!
//! A build has statements such as `const JAEGER_VERSION = DEFAULT_VERSION;` for its server to replace. Older builds have
//! `JAEGER_STORAGE_CAPABILITIES` and a `<base>` element, newer ones `JAEGER_BACKEND_CAPABILITIES` and find their base
//! themselves; what a page does not have is left alone.
//!
//! Source: Jaeger's static handler, and the page in its UI's repository.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::UiError;

/// What the page is told to run on.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UiBuild {
    /// The revision of the source.
    pub git_commit: String,
    /// The version.
    pub git_version: String,
    /// When it was built; may be empty.
    pub build_date: String,
}

/// What the page may offer.
#[derive(Debug, Clone, Copy)]
pub struct UiCapabilities {
    /// Latencies, rates and errors of services, from `/api/metrics`.
    pub metrics_storage: bool,
}

/// As newer builds read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the page reads them by these names")]
struct BackendCapabilities {
    archive_storage: bool,
    metrics_storage: bool,
    search_without_service_name: bool,
    ai_assistant: bool,
}

/// As older builds read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StorageCapabilities {
    archive_storage: bool,
    metrics_storage: bool,
}

/// What is written into the page.
#[derive(Debug)]
pub(super) struct Page {
    /// Name and value of each statement that is replaced.
    statements: Vec<(&'static str, String)>,
    /// Takes the place of the line `// JAEGER_CONFIG_JS` and the one after it.
    script: Option<String>,
}

impl Page {
    pub(super) fn new(
        config: Option<&Path>,
        build: &UiBuild,
        UiCapabilities { metrics_storage }: UiCapabilities,
    ) -> Result<Self, UiError> {
        let backend = BackendCapabilities {
            archive_storage: false,
            metrics_storage,
            search_without_service_name: true,
            ai_assistant: false,
        };
        let storage = StorageCapabilities { archive_storage: false, metrics_storage };
        let mut page = Self {
            statements: vec![
                ("VERSION", in_script(build)),
                ("BACKEND_CAPABILITIES", in_script(&backend)),
                ("STORAGE_CAPABILITIES", in_script(&storage)),
            ],
            script: None,
        };
        match config.map(read_config).transpose()? {
            Some(Config::Object(object)) => page.statements.push(("CONFIG", in_script(&object))),
            Some(Config::Script(script)) => page.script = Some(script),
            None => {}
        }
        Ok(page)
    }

    /// Fills a page that stands at `base`.
    pub(super) fn fill(&self, template: &str, base: &str) -> String {
        let mut page = template.to_owned();
        if let Some(script) = &self.script {
            page = with_script(&page, script);
        }
        for (name, value) in &self.statements {
            page = with_statement(&page, name, value);
        }
        if base == "/" { page } else { page.replacen("<base href=\"/\"", &format!("<base href=\"{base}\""), 1) }
    }
}

/// JSON that may stand in a script: it cannot end it.
fn in_script(value: &impl Serialize) -> String {
    // Our own types, and JSON that was read, have text keys only, so they serialize.
    serde_json::to_string(value).unwrap_or_default().replace('<', "\\u003c")
}

/// Replaces all `JAEGER_NAME = DEFAULT_NAME;`, with any number of spaces around the sign.
fn with_statement(page: &str, name: &str, value: &str) -> String {
    let (variable, default) = (format!("JAEGER_{name}"), format!("DEFAULT_{name};"));
    let mut out = String::with_capacity(page.len() + value.len());
    let mut rest = page;
    while let Some(at) = rest.find(&variable) {
        let (before, after) = rest.split_at(at + variable.len());
        out.push_str(before);
        let end = after.trim_start_matches(' ').strip_prefix('=');
        let end = end.and_then(|after| after.trim_start_matches(' ').strip_prefix(default.as_str()));
        rest = match end {
            Some(end) => {
                out.extend([" = ", value, ";"]);
                end
            }
            None => after,
        };
    }
    out + rest
}

/// Replaces the line of the comment `JAEGER_CONFIG_JS` and the one after it.
fn with_script(page: &str, script: &str) -> String {
    let is_comment = |line: &str| {
        let text = line.trim_start().strip_prefix("//").map(str::trim_start);
        text.is_some_and(|text| text.get(..16).is_some_and(|start| start.eq_ignore_ascii_case("JAEGER_CONFIG_JS")))
    };
    let mut out = String::with_capacity(page.len() + script.len());
    let mut lines = page.split_inclusive('\n');
    while let Some(line) = lines.next() {
        if is_comment(line) {
            lines.next();
            out.extend([script, "\n"]);
        } else {
            out.push_str(line);
        }
    }
    out
}

enum Config {
    Object(Map<String, Value>),
    Script(String),
}

fn read_config(path: &Path) -> Result<Config, UiError> {
    let text = std::fs::read_to_string(path).map_err(|source| UiError::Config { path: path.into(), source })?;
    let bad = |fault: String| UiError::BadConfig { path: path.into(), fault };
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("").to_ascii_lowercase();
    match extension.as_str() {
        "json" => {
            let object = serde_json::from_str(&text).map_err(|error| bad(format!("is no JSON object: {error}")))?;
            Ok(Config::Object(object))
        }
        "js" if defines_config(&text) => Ok(Config::Script(text.trim().to_owned())),
        "js" => Err(bad("must define function UIConfig()".to_owned())),
        _ => Err(bad("must be a .json or a .js file".to_owned())),
    }
}

/// Whether a script has `function UIConfig() {`.
fn defines_config(script: &str) -> bool {
    script.match_indices("function").any(|(at, word)| {
        let after = &script[at + word.len()..];
        let dense: String = after.chars().filter(|letter| !letter.is_whitespace()).take(12).collect();
        after.starts_with(char::is_whitespace) && dense.starts_with("UIConfig(){")
    })
}
