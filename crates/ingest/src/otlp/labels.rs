//! Labels of a data point: its attributes, then what resource and scope add, in Prometheus' order.

use std::borrow::Cow;

use pharos_model::{LabelsBuilder, METRIC_NAME};
use pharos_storage::RejectReason;

use super::OtlpSettings;
use super::attribute::Attribute;
use super::names::label_name;
use crate::Limits;
use crate::sink::{Refusal, check_shared};

const IDENTIFYING: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

/// Name and value of a label.
pub(super) type Pair = (String, String);

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
    pub(super) fn new(attributes: &[Attribute<'_>], settings: &OtlpSettings) -> Self {
        let value = |key: &str| {
            attributes.iter().find(|attribute| attribute.key == key).map_or(Cow::Borrowed(""), |found| found.text())
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
            promoted: joined(attributes.iter().filter(|attribute| settings.promotes(attribute.key)), "", settings),
            identity: identity.map(|(name, value)| (name.to_owned(), value)).collect(),
            info: joined(attributes.iter().filter(|attribute| keeps(attribute.key)), "", settings),
        }
    }

    /// Checks what every series of the resource is to carry.
    pub(super) fn check(&self, limits: &Limits) -> Result<(), Refusal> {
        check_shared(&self.promoted, limits)?;
        check_shared(&self.identity, limits)
    }

    /// Bytes of its labels.
    pub(super) fn memory_bytes(&self) -> usize {
        let pairs = self.promoted.iter().chain(&self.identity).chain(&self.info);
        pairs.map(|(name, value)| size_of::<Pair>() + name.len() + value.len()).sum()
    }

    /// Whether the resource has a `job` or `instance`.
    pub(super) fn is_identified(&self) -> bool {
        !self.identity.is_empty()
    }

    pub(super) fn push_identity(&self, labels: &mut LabelsBuilder) {
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

/// What a scope adds to its series, where scopes are promoted.
pub(super) fn scope_labels(
    attributes: &[Attribute<'_>],
    name: &str,
    version: &str,
    schema_url: &str,
    settings: &OtlpSettings,
) -> Vec<Pair> {
    let mut labels = joined(attributes.iter(), "otel_scope_", settings);
    for (name, value) in [("name", name), ("version", version), ("schema_url", schema_url)] {
        let name = format!("otel_scope_{name}");
        labels.retain(|(found, _)| *found != name);
        labels.push((name, value.to_owned()));
    }
    labels
}

/// Makes `base` the labels of a point with these attributes, all but the metric's name.
pub(super) fn point_labels(
    base: &mut LabelsBuilder,
    attributes: &mut [Attribute<'_>],
    resource: &ResourceLabels,
    scope: &[Pair],
    settings: &OtlpSettings,
) -> Result<(), Refusal> {
    base.clear();
    // Values that meet under one name are joined in the order of the keys.
    attributes.sort_by(|a, b| a.key.cmp(b.key));
    for attribute in attributes {
        if attribute.key == METRIC_NAME {
            continue;
        }
        let Some(name) = label_name(attribute.key, settings) else {
            let message = format!("attribute {:?} has no letter or digit to name a label", attribute.key);
            return Err(Refusal { reason: RejectReason::InvalidLabels, message });
        };
        let value = attribute.text();
        let taken = base.pairs().find(|(found, _)| *found == name).map(|(_, there)| format!("{there};{value}"));
        match taken {
            Some(both) => base.set(&name, &both),
            None => base.push(&name, &value),
        }
    }
    resource.push_all(base);
    for (name, value) in scope {
        base.set(name, value);
    }
    Ok(())
}

/// Labels of attributes; values that meet under one name are joined in the order of the keys.
fn joined<'a>(attributes: impl Iterator<Item = &'a Attribute<'a>>, prefix: &str, settings: &OtlpSettings) -> Vec<Pair> {
    let mut named: Vec<(String, &Attribute<'_>)> = attributes
        .filter(|attribute| attribute.key != METRIC_NAME)
        .filter_map(|attribute| {
            let key = format!("{prefix}{}", attribute.key);
            label_name(&key, settings).map(|name| (name.into_owned(), attribute))
        })
        .collect();
    named.sort_by(|(a, one), (b, other)| (a, one.key).cmp(&(b, other.key)));
    let mut labels: Vec<Pair> = Vec::with_capacity(named.len());
    for (name, attribute) in named {
        let value = attribute.text();
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
