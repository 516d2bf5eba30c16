//! How OTLP becomes Prometheus' names and labels: Prometheus' own `otlp:` block, word for word.

use serde::{Deserialize, Serialize};

/// How names are translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum TranslationStrategy {
    /// Names are made of `[a-zA-Z0-9_:]`; unit and `_total` are appended.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Names are made of `[a-zA-Z0-9_:]`; nothing is appended.
    UnderscoreEscapingWithoutSuffixes,
    /// Names keep every character; unit and `_total` are appended.
    NoUTF8EscapingWithSuffixes,
    /// Names stay as they are.
    NoTranslation,
}

impl TranslationStrategy {
    /// Whether characters outside `[a-zA-Z0-9_:]` become underscores.
    #[must_use]
    pub fn escapes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes)
    }

    /// Whether unit and type are appended to names.
    #[must_use]
    pub fn adds_suffixes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::NoUTF8EscapingWithSuffixes)
    }
}

/// Settings of the translation. Names and defaults are those of Prometheus' `otlp:` block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of Prometheus' block")]
pub struct OtlpSettings {
    /// How names are translated. Default `UnderscoreEscapingWithSuffixes`.
    pub translation_strategy: TranslationStrategy,
    /// Resource attributes that every series of the resource gets as labels. Default none.
    pub promote_resource_attributes: Vec<String>,
    /// Whether all resource attributes are promoted. Default no.
    pub promote_all_resource_attributes: bool,
    /// Resource attributes that are not promoted although all are. Default none.
    pub ignore_resource_attributes: Vec<String>,
    /// Whether `target_info` has `service.*` too, beside `job` and `instance`. Default no.
    pub keep_identifying_resource_attributes: bool,
    /// Whether explicit-bucket histograms become native histograms with custom buckets. Default no.
    pub convert_histograms_to_nhcb: bool,
    /// Whether every series gets its scope's name, version, schema and attributes. Default no.
    pub promote_scope_metadata: bool,
    /// Whether a label `_x` becomes `key_x` where names are escaped. Default yes.
    pub label_name_underscore_sanitization: bool,
    /// Whether `a__b` stays so where names are escaped. Default yes.
    pub label_name_preserve_multiple_underscores: bool,
}

impl Default for OtlpSettings {
    fn default() -> Self {
        Self {
            translation_strategy: TranslationStrategy::default(),
            promote_resource_attributes: Vec::new(),
            promote_all_resource_attributes: false,
            ignore_resource_attributes: Vec::new(),
            keep_identifying_resource_attributes: false,
            convert_histograms_to_nhcb: false,
            promote_scope_metadata: false,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
        }
    }
}

impl OtlpSettings {
    /// Whether a resource attribute becomes a label of every series.
    pub(super) fn promotes(&self, key: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == key);
        if self.promote_all_resource_attributes {
            !named(&self.ignore_resource_attributes)
        } else {
            named(&self.promote_resource_attributes)
        }
    }
}
