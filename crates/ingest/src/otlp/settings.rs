//! How OTLP becomes Prometheus' names and labels: Prometheus' own `otlp:` block, word for word, and what Prometheus has
//! flags for.

use pharos_base::{ByteSize, HumanDuration};
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

/// What becomes of sums and histograms that tell what was added since the last point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeltaMode {
    /// They are refused.
    Refuse,
    /// They are added up per stream.
    #[default]
    Convert,
    /// They are stored as they are, as metrics of unknown type and without `_total`.
    Native,
}

/// Settings of the translation. Names and defaults of the first nine are those of Prometheus' `otlp:` block.
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
    /// What becomes of delta temporality. Default `convert`.
    pub delta: DeltaMode,
    /// Delta streams of a tenant that are added up at a time. Default 100,000. Full: new ones are refused, known ones go
    /// on.
    pub delta_streams_max: usize,
    /// Memory of a tenant's delta streams, their last eight points included. Default 128 MiB. Full: new streams and points
    /// of histograms are refused.
    pub delta_memory_max: ByteSize,
    /// A delta stream without a point for so long is forgotten, and begins anew. Default 1 hour.
    pub delta_stale: HumanDuration,
    /// Whether every series gets its type and unit as `__type__` and `__unit__`. Default no.
    pub type_and_unit_labels: bool,
    /// Whether counters, histograms and summaries get a zero where they start, so that PromQL sees their first increase.
    /// Default no.
    pub created_zero: bool,
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
            delta: DeltaMode::default(),
            delta_streams_max: 100_000,
            delta_memory_max: ByteSize::mib(128),
            delta_stale: HumanDuration::from_ms(3_600_000),
            type_and_unit_labels: false,
            created_zero: false,
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
