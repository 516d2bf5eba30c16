//! Resources and groups, with everything that their series get from them. A group is a resource, or a scope of one where
//! scopes become labels.

use std::borrow::Cow;

use super::OtlpSettings;
use super::attribute::{Attribute, attributes};
use super::labels::{Named, Pair, ResourceLabels, ScopeNames, pair_bytes, scope_labels};
use crate::Limits;
use crate::sink::Refusal;
use crate::wire::{Payload, Reader};

/// What all series of a resource share.
#[derive(Debug)]
pub(super) struct Resource {
    message: Box<[u8]>,
    pub labels: ResourceLabels,
}

impl Resource {
    /// From a checked message.
    pub(super) fn new(message: &[u8], settings: &OtlpSettings, limits: &Limits) -> Self {
        let all: Vec<Attribute<'_>> = attributes(message, 1).collect();
        Self { message: message.into(), labels: ResourceLabels::new(&all, settings, limits) }
    }

    pub(super) fn is(&self, message: &[u8]) -> bool {
        *self.message == *message
    }

    /// Bytes of the message and of its labels.
    pub(super) fn memory_bytes(&self) -> usize {
        self.message.len() + self.labels.memory_bytes()
    }
}

/// What tells the groups of a resource apart: the scope as it stands on the wire and its schema, if scopes become labels
/// and there is one.
pub(super) type ScopeKey<'a> = Option<(&'a [u8], &'a str)>;

/// What the series of a group have beside what their resource adds.
#[derive(Debug)]
pub(super) struct Group {
    scope: Option<(Box<[u8]>, Box<str>)>,
    pub labels: Vec<Pair>,
    /// How often an attribute met another under one name.
    pub joined: u64,
    /// Why no point can be stored, if so.
    pub refusal: Option<Refusal>,
}

impl Group {
    /// From a checked message.
    pub(super) fn new(key: ScopeKey<'_>, settings: &OtlpSettings, limits: &Limits) -> Self {
        let named = key.map_or(Ok(Named::default()), |(scope, url)| promoted(scope, url, settings, limits));
        let refusal = named.as_ref().err().cloned();
        let Named { labels, joined } = named.unwrap_or_default();
        Self { scope: key.map(|(scope, schema_url)| (scope.into(), schema_url.into())), labels, joined, refusal }
    }

    pub(super) fn is(&self, key: ScopeKey<'_>) -> bool {
        self.scope.as_ref().map(|(scope, url)| (&**scope, &**url)) == key
    }

    /// Bytes of the message and of the labels.
    pub(super) fn memory_bytes(&self) -> usize {
        let scope = self.scope.as_ref().map_or(0, |(scope, url)| scope.len() + url.len());
        scope + self.labels.iter().map(pair_bytes).sum::<usize>()
    }
}

fn promoted(scope: &[u8], schema_url: &str, settings: &OtlpSettings, limits: &Limits) -> Result<Named, Refusal> {
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
    let names = ScopeNames { name: &name, version: &version, schema_url };
    scope_labels(&attributes, names, settings, limits)
}
