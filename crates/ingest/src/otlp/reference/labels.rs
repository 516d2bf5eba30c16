//! Labels of a data point: its attributes, then what resource and scope add, in Prometheus' order.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use pharos_model::{Labels, LabelsBuilder, METRIC_NAME};
use pharos_storage::RejectReason;

use super::attributes::text;
use crate::Limits;
use crate::otlp::OtlpSettings;
use crate::otlp::names::label_name;
use crate::sink::{Refusal, check_shared};

const IDENTIFYING: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

type Pair = (String, String);

/// What a resource adds to its series, and its own series.
#[derive(Debug, Default)]
pub(super) struct ResourceLabels {
    /// Added where the name is still free.
    promoted: Vec<Pair>,
    /// `job` and `instance`, in place of what is there.
    identity: Vec<Pair>,
    /// Labels of `target_info` beside the identity.
    pub info: Vec<Pair>,
}

impl ResourceLabels {
    /// The attribute names that have no label name are left out.
    pub(super) fn new(attributes: &[KeyValue], settings: &OtlpSettings) -> Self {
        let value = |key: &str| {
            attributes
                .iter()
                .find(|attribute| attribute.key == key)
                .map_or(Cow::Borrowed(""), |found| text(found.value.as_ref()))
        };
        let (name, namespace, instance) = (value(IDENTIFYING[0]), value(IDENTIFYING[1]), value(IDENTIFYING[2]));
        let job = match (name.is_empty(), namespace.is_empty()) {
            (true, _) => String::new(),
            (false, true) => name.into_owned(),
            (false, false) => format!("{namespace}/{name}"),
        };
        let identity = [("job", job), ("instance", instance.into_owned())];
        let identity = identity.into_iter().filter(|(_, value)| !value.is_empty());
        let keeps = |key: &str| settings.keep_identifying_resource_attributes || !IDENTIFYING.contains(&key);
        Self {
            promoted: joined(attributes.iter().filter(|attribute| settings.promotes(&attribute.key)), "", settings),
            identity: identity.map(|(name, value)| (name.to_owned(), value)).collect(),
            info: joined(attributes.iter().filter(|attribute| keeps(&attribute.key)), "", settings),
        }
    }

    /// Checks what every series of the resource is to carry.
    pub(super) fn check(&self, limits: &Limits) -> Result<(), Refusal> {
        check_shared(&self.promoted, limits)?;
        check_shared(&self.identity, limits)
    }

    /// The labels of the resource's own series.
    pub(super) fn target(&self) -> Option<Labels> {
        let mut labels = LabelsBuilder::default();
        self.info.iter().for_each(|(name, value)| labels.set(name, value));
        self.push_identity(&mut labels);
        labels.set(METRIC_NAME, "target_info");
        if self.info.is_empty() || self.identity.is_empty() { None } else { labels.build().ok() }
    }

    fn push_identity(&self, labels: &mut LabelsBuilder) {
        for (name, value) in &self.identity {
            labels.set(name, value);
        }
    }

    fn push_all(&self, labels: &mut LabelsBuilder) {
        for (name, value) in &self.promoted {
            if !labels.contains(name) {
                labels.push(name, value);
            }
        }
        self.push_identity(labels);
    }
}

/// What a scope adds to its series, if scopes are promoted.
pub(super) fn scope_labels(
    scope: Option<&InstrumentationScope>,
    schema_url: &str,
    settings: &OtlpSettings,
) -> Vec<Pair> {
    let Some(scope) = scope.filter(|_| settings.promote_scope_metadata) else { return Vec::new() };
    let mut labels = joined(scope.attributes.iter(), "otel_scope_", settings);
    for (name, value) in [("name", &*scope.name), ("version", &*scope.version), ("schema_url", schema_url)] {
        let name = format!("otel_scope_{name}");
        labels.retain(|(found, _)| *found != name);
        labels.push((name, value.to_owned()));
    }
    labels
}

/// Builds the labels of one point after another, without allocating where names need no change.
#[derive(Debug, Default)]
pub(super) struct PointLabels {
    /// The labels of the current point, all but the metric's name.
    pub base: LabelsBuilder,
    order: Vec<usize>,
}

impl PointLabels {
    /// Prepares [`base`](Self::base) for a point with these attributes.
    pub(super) fn build(
        &mut self,
        attributes: &[KeyValue],
        resource: &ResourceLabels,
        scope: &[Pair],
        settings: &OtlpSettings,
        labels_max: usize,
    ) -> Result<(), Refusal> {
        self.base.clear();
        if attributes.len() > labels_max {
            let count = attributes.len();
            let message =
                format!("data point has {count} attributes, more than ingest.limits.labels_max = {labels_max}");
            return Err(Refusal { reason: RejectReason::Limit, message });
        }
        self.order.clear();
        self.order.extend(0..attributes.len());
        // Values that meet under one name are joined in the order of the keys.
        self.order.sort_by(|&a, &b| attributes[a].key.cmp(&attributes[b].key));
        for attribute in self.order.iter().map(|&index| &attributes[index]) {
            if attribute.key == METRIC_NAME {
                continue;
            }
            let Some(name) = label_name(&attribute.key, settings) else {
                let message = format!("attribute {:?} has no letter or digit to name a label", attribute.key);
                return Err(Refusal { reason: RejectReason::InvalidLabels, message });
            };
            let value = text(attribute.value.as_ref());
            let taken =
                self.base.pairs().find(|(found, _)| *found == name).map(|(_, there)| format!("{there};{value}"));
            match taken {
                Some(both) => self.base.set(&name, &both),
                None => self.base.push(&name, &value),
            }
        }
        resource.push_all(&mut self.base);
        for (name, value) in scope {
            self.base.set(name, value);
        }
        Ok(())
    }
}

/// Labels of attributes; values that meet under one name are joined in the order of the keys.
fn joined<'a>(attributes: impl Iterator<Item = &'a KeyValue>, prefix: &str, settings: &OtlpSettings) -> Vec<Pair> {
    let mut named: Vec<(String, &KeyValue)> = attributes
        .filter(|attribute| attribute.key != METRIC_NAME)
        .filter_map(|attribute| {
            let key = format!("{prefix}{}", attribute.key);
            label_name(&key, settings).map(|name| (name.into_owned(), attribute))
        })
        .collect();
    named.sort_by(|(a, one), (b, other)| (a, &one.key).cmp(&(b, &other.key)));
    let mut labels: Vec<Pair> = Vec::with_capacity(named.len());
    for (name, attribute) in named {
        let value = text(attribute.value.as_ref());
        match labels.last_mut().filter(|(last, _)| *last == name) {
            Some((_, there)) => {
                there.push(';');
                there.push_str(&value);
            }
            None => labels.push((name, value.into_owned())),
        }
    }
    labels
}
