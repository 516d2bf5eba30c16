//! A group: a resource, and the scope where scopes become labels, with everything that its series get from them.

use std::borrow::Cow;

use pharos_model::{Labels, LabelsBuilder, METRIC_NAME};

use super::OtlpSettings;
use super::attribute::{Attribute, attributes};
use super::labels::{Pair, ResourceLabels, scope_labels};
use super::target_info;
use crate::Limits;
use crate::sink::{Refusal, check_shared};
use crate::wire::{Payload, Reader};

/// What tells groups apart: messages as they stand on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GroupKey<'a> {
    /// The resource; empty where there is none.
    pub resource: &'a [u8],
    /// The scope and its schema, if scopes become labels and there is one.
    pub scope: Option<(&'a [u8], &'a str)>,
}

/// What series of one resource and scope share.
#[derive(Debug)]
pub(super) struct Group {
    resource: Box<[u8]>,
    scope: Option<(Box<[u8]>, Box<str>)>,
    pub labels: ResourceLabels,
    pub scope_labels: Vec<Pair>,
    /// Why no point can be stored, if so.
    pub refusal: Option<Refusal>,
    /// The resource's own series, if it has one, or why it is left out.
    pub target: Result<Option<Labels>, Refusal>,
}

impl Group {
    /// From checked messages.
    pub(super) fn new(key: &GroupKey<'_>, settings: &OtlpSettings, limits: &Limits) -> Self {
        let resource: Vec<Attribute<'_>> = attributes(key.resource, 1).collect();
        let labels = ResourceLabels::new(&resource, settings);
        let scope_labels = key.scope.map(|(scope, schema_url)| promoted_scope(scope, schema_url, settings));
        let scope_labels = scope_labels.unwrap_or_default();
        let refusal = labels.check(limits).and_then(|()| check_shared(&scope_labels, limits)).err();
        let target = check_shared(&labels.info, limits).map(|()| target(&labels));
        Self {
            resource: key.resource.into(),
            scope: key.scope.map(|(scope, schema_url)| (scope.into(), schema_url.into())),
            labels,
            scope_labels,
            refusal,
            target,
        }
    }

    pub(super) fn is(&self, key: &GroupKey<'_>) -> bool {
        *self.resource == *key.resource && self.scope.as_ref().map(|(scope, url)| (&**scope, &**url)) == key.scope
    }

    /// Bytes of text and messages in it.
    pub(super) fn memory_bytes(&self) -> usize {
        let scope = self.scope.as_ref().map_or(0, |(scope, url)| scope.len() + url.len());
        let pairs = self.scope_labels.iter().map(|(name, value)| size_of::<Pair>() + name.len() + value.len());
        let target = self.target.as_ref().ok().and_then(Option::as_ref).map_or(0, |labels| labels.encoded().len());
        self.resource.len() + scope + pairs.sum::<usize>() + self.labels.memory_bytes() + target
    }
}

fn promoted_scope(scope: &[u8], schema_url: &str, settings: &OtlpSettings) -> Vec<Pair> {
    let (mut name, mut version) = (Cow::Borrowed(""), Cow::Borrowed(""));
    let mut reader = Reader::new(scope);
    while let Ok(Some(field)) = reader.next() {
        match (field.number, field.payload) {
            (1, Payload::Bytes(text)) => name = String::from_utf8_lossy(text),
            (2, Payload::Bytes(text)) => version = String::from_utf8_lossy(text),
            _ => {}
        }
    }
    let attributes: Vec<_> = attributes(scope, 3).collect();
    scope_labels(&attributes, &name, &version, schema_url, settings)
}

/// The labels of a resource's own series.
fn target(resource: &ResourceLabels) -> Option<Labels> {
    if resource.info.is_empty() || !resource.is_identified() {
        return None;
    }
    let mut labels = LabelsBuilder::default();
    resource.info.iter().for_each(|(name, value)| labels.set(name, value));
    resource.push_identity(&mut labels);
    labels.set(METRIC_NAME, target_info::NAME);
    labels.build().ok()
}
