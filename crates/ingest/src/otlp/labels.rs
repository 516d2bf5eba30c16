//! Labels of a data point: its attributes, then what resource and scope add, in Prometheus' order.

use std::borrow::Cow;

use pharos_model::{Labels, LabelsBuilder, METRIC_NAME};
use pharos_storage::RejectReason;

use super::attribute::Attribute;
use super::names::label_name;
use super::{OtlpSettings, target_info};
use crate::Limits;
use crate::sink::{Refusal, check_shared};

const IDENTIFYING: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

/// Name and value of a label.
pub(super) type Pair = (String, String);

/// Labels, and how often another attribute met one under its name.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub labels: Vec<Pair>,
    pub joined: u64,
}

/// What a resource adds to its series, and its own series.
#[derive(Debug)]
pub(super) struct ResourceLabels {
    /// Added where the name is still free.
    promoted: Vec<Pair>,
    /// `job` and `instance`, in place of what is there.
    identity: Vec<Pair>,
    /// Why no series of the resource can be stored, if so.
    pub refusal: Option<Refusal>,
    /// The resource's own series, if it has one, or why it is left out.
    pub target: Result<Option<Labels>, Refusal>,
    /// How often an attribute met another under one name.
    pub joined: u64,
}

impl ResourceLabels {
    /// The attribute names that have no label name are left out.
    pub(super) fn new(attributes: &[Attribute<'_>], settings: &OtlpSettings, limits: &Limits) -> Self {
        let labels = |keeps: &dyn Fn(&str) -> bool| {
            shared(attributes.iter().filter(|attribute| keeps(attribute.key)), "", settings, limits)
        };
        let promoted = labels(&|key| settings.promotes(key));
        let identity = identity(attributes, limits);
        let refusal = promoted.as_ref().err().or(identity.as_ref().err()).cloned();
        let (promoted, identity) = (promoted.unwrap_or_default(), identity.unwrap_or_default());
        let keeps = |key: &str| settings.keep_identifying_resource_attributes || !IDENTIFYING.contains(&key);
        let mut joined = promoted.joined;
        let target = labels(&keeps).map(|info| {
            let series = target(&info.labels, &identity);
            // Without it nobody sees what would have been joined.
            joined += if series.is_some() { info.joined } else { 0 };
            series
        });
        Self { promoted: promoted.labels, identity, refusal, target, joined }
    }

    /// Bytes of its labels.
    pub(super) fn memory_bytes(&self) -> usize {
        let pairs = self.promoted.iter().chain(&self.identity);
        let target = self.target.as_ref().ok().and_then(Option::as_ref).map_or(0, |labels| labels.encoded().len());
        pairs.map(pair_bytes).sum::<usize>() + target
    }

    fn push_all(&self, labels: &mut LabelsBuilder) {
        for (name, value) in &self.promoted {
            if !labels.contains(name) {
                labels.push(name, value);
            }
        }
        for (name, value) in &self.identity {
            labels.set(name, value);
        }
    }
}

/// What a label takes in memory.
pub(super) fn pair_bytes((name, value): &Pair) -> usize {
    size_of::<Pair>() + name.len() + value.len()
}

/// `job` and `instance`, as far as the resource says who it is.
fn identity(attributes: &[Attribute<'_>], limits: &Limits) -> Result<Vec<Pair>, Refusal> {
    let value = |key: &str| {
        let found = attributes.iter().find(|attribute| attribute.key == key);
        found.map_or(Ok(Cow::Borrowed("")), |found| found.text(limits))
    };
    let (name, namespace, instance) = (value(IDENTIFYING[0])?, value(IDENTIFYING[1])?, value(IDENTIFYING[2])?);
    let job = match (name.is_empty(), namespace.is_empty()) {
        (true, _) => String::new(),
        (false, true) => name.into_owned(),
        (false, false) => format!("{namespace}/{name}"),
    };
    let identity = [("job", job), ("instance", instance.into_owned())];
    let identity = identity.into_iter().filter(|(_, value)| !value.is_empty());
    let identity: Vec<Pair> = identity.map(|(name, value)| (name.to_owned(), value)).collect();
    check_shared(&identity, limits)?;
    Ok(identity)
}

/// The labels of a resource's own series: those that its other series do not have, and its identity.
fn target(info: &[Pair], identity: &[Pair]) -> Option<Labels> {
    if info.is_empty() || identity.is_empty() {
        return None;
    }
    let mut labels = LabelsBuilder::default();
    for (name, value) in info.iter().chain(identity) {
        labels.set(name, value);
    }
    labels.set(METRIC_NAME, target_info::NAME);
    labels.build().ok()
}

/// What a scope says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScopeNames<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub schema_url: &'a str,
}

/// What a scope adds to its series, where scopes are promoted.
pub(super) fn scope_labels(
    attributes: &[Attribute<'_>],
    names: ScopeNames<'_>,
    settings: &OtlpSettings,
    limits: &Limits,
) -> Result<Named, Refusal> {
    let ScopeNames { name, version, schema_url } = names;
    let Named { mut labels, joined } = joined(attributes.iter(), "otel_scope_", settings, limits)?;
    for (name, value) in [("name", name), ("version", version), ("schema_url", schema_url)] {
        let name = format!("otel_scope_{name}");
        labels.retain(|(found, _)| *found != name);
        labels.push((name, value.to_owned()));
    }
    check_shared(&labels, limits)?;
    Ok(Named { labels, joined })
}

/// Checks how many attributes a point has, before one of them is read.
pub(super) fn check_count(count: usize, limits: &Limits) -> Result<(), Refusal> {
    let limit = limits.labels_max;
    if count <= limit {
        return Ok(());
    }
    let message = format!("data point has {count} attributes, more than ingest.limits.labels_max = {limit}");
    Err(Refusal { reason: RejectReason::Limit, message })
}

/// Makes `base` the labels of a point with these attributes, all but the metric's name. Answers how
/// often an attribute met another under one name.
pub(super) fn point_labels(
    base: &mut LabelsBuilder,
    attributes: &mut [Attribute<'_>],
    resource: &ResourceLabels,
    scope: &[Pair],
    (settings, limits): (&OtlpSettings, &Limits),
) -> Result<u64, Refusal> {
    base.clear();
    let mut met = 0_u64;
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
        let value = attribute.text(limits)?;
        let taken = base.pairs().find(|(found, _)| *found == name).map(|(_, there)| format!("{there};{value}"));
        match taken {
            Some(both) => {
                base.set(&name, &both);
                met += 1;
            }
            None => base.push(&name, &value),
        }
    }
    resource.push_all(base);
    for (name, value) in scope {
        base.set(name, value);
    }
    Ok(met)
}

/// Labels of attributes that many series are to share.
fn shared<'a>(
    attributes: impl Iterator<Item = &'a Attribute<'a>>,
    prefix: &str,
    settings: &OtlpSettings,
    limits: &Limits,
) -> Result<Named, Refusal> {
    let named = joined(attributes, prefix, settings, limits)?;
    check_shared(&named.labels, limits)?;
    Ok(named)
}

/// Labels of attributes; values that meet under one name are joined in the order of the keys.
fn joined<'a>(
    attributes: impl Iterator<Item = &'a Attribute<'a>>,
    prefix: &str,
    settings: &OtlpSettings,
    limits: &Limits,
) -> Result<Named, Refusal> {
    let mut named: Vec<(String, &Attribute<'_>)> = attributes
        .filter(|attribute| attribute.key != METRIC_NAME)
        .filter_map(|attribute| {
            let key = format!("{prefix}{}", attribute.key);
            label_name(&key, settings).map(|name| (name.into_owned(), attribute))
        })
        .collect();
    named.sort_by(|(a, one), (b, other)| (a, one.key).cmp(&(b, other.key)));
    let (mut labels, mut joined) = (Vec::<Pair>::with_capacity(named.len()), 0_u64);
    for (name, attribute) in named {
        let value = attribute.text(limits)?;
        match labels.last_mut().filter(|(last, _)| *last == name) {
            Some((_, there)) => {
                there.push(';');
                there.push_str(&value);
                joined += 1;
            }
            None => labels.push((name, value.into_owned())),
        }
    }
    Ok(Named { labels, joined })
}
