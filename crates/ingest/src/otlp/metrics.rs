//! An OTLP metrics request, resource by resource, scope by scope, metric by metric, straight from the wire.
//!
//! What resource, scope and metric say is worked out once and remembered in [`KnownTenant`]; so are the label sets of streams.
//! A message is looked at twice at most: once along its fields, as protobuf lets them come in any order, then what is
//! in them. Points are counted, not samples: a refused histogram point is one, however many series it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashSet;
use pharos_model::{LabelsBuilder, MetricKind};
use pharos_storage::RejectReason;

use super::attribute::attributes;
use super::delta::DeltaPass;
use super::group::{Group, Resource, ScopeKey};
use super::json::{RESOURCE, SCOPE};
use super::known::{KnownResource, KnownTenant};
use super::known_group::{KnownGroup, KnownMetric, MetricKey};
use super::label_sets::LabelSetsBuilder;
use super::message::{DATA_NESTING, METRIC_NESTING, Merged, RESOURCE_NESTING, check};
use super::metric_fields::{DataFields, DataKind, MetricFields, check_name, check_temporality};
use super::names::{metric_name, unit_text};
use super::stream_pass::{Deltas, StreamPass};
use super::target_info::TargetInfo;
use super::{Failure, OtlpSettings};
use crate::limits::cut;
use crate::sink::{Refusal, SeriesSink};
use crate::wire::Reader;
use crate::{DecodedMetrics, IngestError, Limits, TimeWindow};

const WARNINGS_MAX: usize = 8;
/// What an attribute of a resource or scope takes while labels are made of it, beside some copies of its text.
const ATTRIBUTE_BYTES: usize = 256;
/// Three copies, of JSON that may be six times as long as its message, and what the message itself takes.
const ATTRIBUTE_COPIES: usize = 20;
/// What a family that was described takes beside its name in the set of them; with its empty slots, and while the set grows.
const FAMILY_BYTES: usize = 4 * (size_of::<String>() + 1);

/// What translation goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub settings: &'a OtlpSettings,
    pub limits: &'a Limits,
    pub window: TimeWindow,
    /// Of the tenant.
    pub known: &'a KnownTenant,
    /// Minutes since 1970.
    pub now_minute: u32,
    /// How far queries look back.
    pub lookback_ms: i64,
    /// Counts attributes that met others under one label, as label sets are made.
    pub joined: &'a AtomicU64,
}

impl Rules<'_> {
    pub(super) fn note_joined(&self, count: u64) {
        if count > 0 {
            self.joined.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// Translates a request by the rules of Prometheus 3; `bytes_taken` count as its memory already. Deltas go through `deltas`;
/// without it they are none, or stay what they are.
pub(super) fn translate(
    request: &[u8],
    bytes_taken: usize,
    rules: Rules<'_>,
    deltas: Option<DeltaPass<'_>>,
) -> Result<DecodedMetrics, Failure> {
    let mut translator = Translator::new(rules, deltas);
    translator.charge(bytes_taken)?;
    let mut target_info = TargetInfo::default();
    let mut reader = Reader::new(request);
    while let Some(field) = reader.next()? {
        if field.number == 1 {
            translator.resource(field.bytes()?, &mut target_info)?;
        }
    }
    target_info.finish(&mut translator.sink, rules.lookback_ms)?;
    if let Some(deltas) = translator.deltas {
        deltas.keep();
    }
    let mut decoded = translator.sink.build();
    decoded.warnings = translator.warnings;
    Ok(decoded)
}

/// The state that points share.
pub(super) struct Translator<'a> {
    pub rules: Rules<'a>,
    pub sink: SeriesSink<'a>,
    /// Labels of the current point, all but the metric's name.
    pub base: LabelsBuilder,
    pub label_sets: LabelSetsBuilder,
    /// First and last instant of the current resource's points.
    pub seen_ms: Option<(i64, i64)>,
    /// The same before the current point.
    pub seen_before_ms: Option<(i64, i64)>,
    pub deltas: Option<DeltaPass<'a>>,
    families: HashSet<String>,
    warnings: Vec<String>,
}

/// A resource of the request, and what is known of it.
struct ResourcePass<'m> {
    bytes: &'m [u8],
    /// Since the first point.
    known: Option<Arc<KnownResource>>,
    /// That of the current scope, since its first point.
    group: Option<Arc<KnownGroup>>,
}

impl<'a> Translator<'a> {
    fn new(rules: Rules<'a>, deltas: Option<DeltaPass<'a>>) -> Self {
        Self {
            deltas,
            rules,
            sink: SeriesSink::new(rules.limits, rules.window).noting_counts(rules.settings.created_zero),
            base: LabelsBuilder::default(),
            label_sets: LabelSetsBuilder::default(),
            seen_ms: None,
            seen_before_ms: None,
            families: HashSet::new(),
            warnings: Vec::new(),
        }
    }

    fn resource(&mut self, message: &[u8], target_info: &mut TargetInfo) -> Result<(), Failure> {
        let mut resource = Merged::default();
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => resource.add(field.bytes()?, &RESOURCE, RESOURCE_NESTING)?,
                2 => drop(field.bytes()?),
                3 => drop(field.text()?),
                _ => {}
            }
        }
        let bytes = resource.get().unwrap_or_default();
        let mut resource = ResourcePass { bytes, known: None, group: None };
        self.seen_ms = None;
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            if field.number == 2 {
                self.scope(&mut resource, field.bytes()?)?;
            }
        }
        // Without a point nobody looked at it.
        let Some(known) = resource.known else { return Ok(check(bytes, &RESOURCE, RESOURCE_NESTING)?) };
        if let Some((first_ms, last_ms)) = self.seen_ms {
            match &known.resource.labels.target {
                Ok(None) => {}
                Ok(Some(labels)) => {
                    let taken = target_info.add(labels, first_ms, last_ms);
                    self.charge(taken)?;
                }
                Err(refusal) => self.warn(|| format!("target_info is left out: {}", refusal.message)),
            }
        }
        Ok(())
    }

    fn scope(&mut self, resource: &mut ResourcePass<'_>, message: &[u8]) -> Result<(), Failure> {
        let (mut scope, mut schema_url) = (Merged::default(), "");
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => scope.add(field.bytes()?, &SCOPE, METRIC_NESTING)?,
                2 => drop(field.bytes()?),
                3 => schema_url = field.text()?,
                _ => {}
            }
        }
        check(scope.get().unwrap_or_default(), &SCOPE, METRIC_NESTING)?;
        let mut key = None;
        if self.rules.settings.promote_scope_metadata {
            key = scope.get().map(|scope| (scope, schema_url));
            resource.group = None;
        }
        let mut guess = 0;
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            if field.number == 2 {
                guess = self.metric(field.bytes()?, resource, key, guess)?;
            }
        }
        Ok(())
    }

    /// What is known of the resource and of the current group. Both are looked for when the first point is met, the
    /// resource once for all its scopes: a body may hold a long resource and millions of scopes.
    fn group<'p>(
        &self,
        pass: &'p mut ResourcePass<'_>,
        key: ScopeKey<'_>,
    ) -> Result<(&'p Resource, &'p KnownGroup), Failure> {
        let known = self.rules.known;
        let resource = match &mut pass.known {
            Some(resource) => resource,
            none => none.insert(known.resource(pass.bytes, || self.new_resource(pass.bytes))?),
        };
        let group = match &mut pass.group {
            Some(group) => group,
            none => none.insert(resource.group(known, key, || self.new_group(key))?),
        };
        Ok((&resource.resource, group))
    }

    fn new_resource(&self, message: &[u8]) -> Result<Resource, Failure> {
        check(message, &RESOURCE, RESOURCE_NESTING)?;
        self.require_labels(attributes(message, 1).count(), message.len())?;
        let resource = Resource::new(message, self.rules.settings, self.rules.limits);
        self.rules.note_joined(resource.labels.joined);
        Ok(resource)
    }

    fn new_group(&self, key: ScopeKey<'_>) -> Result<Group, Failure> {
        let (scope, _) = key.unwrap_or_default();
        self.require_labels(attributes(scope, 3).count(), scope.len())?;
        let group = Group::new(key, self.rules.settings, self.rules.limits);
        self.rules.note_joined(group.joined);
        Ok(group)
    }

    /// Fails if there is not the memory to make labels of so many attributes.
    fn require_labels(&self, attributes: usize, message_bytes: usize) -> Result<(), IngestError> {
        self.require(ATTRIBUTE_BYTES * attributes + ATTRIBUTE_COPIES * message_bytes)
    }

    /// Answers where the next metric may be known.
    fn metric(
        &mut self,
        message: &[u8],
        pass: &mut ResourcePass<'_>,
        scope: ScopeKey<'_>,
        guess: usize,
    ) -> Result<usize, Failure> {
        let MetricFields { name, description, unit, data } = MetricFields::read(message)?;
        let Some((kind, data)) = &data else {
            self.warn(|| format!("metric {:?} has no data this server knows", cut(name, 128)));
            return Ok(guess);
        };
        let (kind, data) = (*kind, data.get().unwrap_or_default());
        let fields = DataFields::read(kind, data)?;
        if fields.points == 0 {
            self.warn(|| format!("metric {:?} has no data points", cut(name, 128)));
            return Ok(guess);
        }
        let (resource, group) = self.group(pass, scope)?;
        let refusal = resource.labels.refusal.as_ref().or(group.group.refusal.as_ref());
        let checked = refusal.cloned().map_or(Ok(()), Err).and_then(|()| check_name(name, self.rules.limits));
        let mode = self.rules.settings.delta;
        let is_delta = match checked.and_then(|()| check_temporality(kind, fields.temporality, name, mode)) {
            Ok(is_delta) => is_delta,
            Err(refusal) => {
                check(data, kind.schema(), DATA_NESTING)?;
                self.sink.reject(fields.points, refusal);
                return Ok(guess);
            }
        };
        let deltas = match (is_delta, &mut self.deltas) {
            (false, _) => Deltas::None,
            (true, None) => Deltas::Stay,
            (true, Some(deltas)) => {
                deltas.lock();
                Deltas::AddUp { is_monotonic: fields.is_monotonic }
            }
        };
        let is_stored_raw = matches!(deltas, Deltas::Stay);
        let (name_kind, metric_kind) =
            if is_stored_raw { DataKind::delta_names() } else { kind.names(fields.is_monotonic) };
        let key_kind = kind as u8 | u8::from(fields.is_monotonic) << 7 | u8::from(is_stored_raw) << 6;
        let key = MetricKey { name, unit, kind: key_kind };
        let strategy = self.rules.settings.translation_strategy;
        let translated =
            || metric_name(name, unit, name_kind, strategy).map(|name| (name, unit_text(unit), metric_kind));
        let Some((metric, place)) = group.metric(self.rules.known, guess, key, translated) else {
            check(data, kind.schema(), DATA_NESTING)?;
            let message = format!("metric name {:?} has no letter or digit", cut(name, 128));
            self.sink.reject(fields.points, Refusal { reason: RejectReason::InvalidLabels, message });
            return Ok(guess);
        };
        self.family(&metric, metric_kind, description)?;
        self.points((kind, fields.is_monotonic, deltas), data, (resource, group), &metric)?;
        Ok(place + 1)
    }

    fn family(&mut self, metric: &KnownMetric, kind: MetricKind, description: &str) -> Result<(), IngestError> {
        if self.families.contains(&metric.name) {
            return Ok(());
        }
        self.charge(FAMILY_BYTES + metric.name.len())?;
        self.sink.push_metadata(&metric.name, kind, description, &metric.unit)?;
        self.families.insert(metric.name.clone());
        Ok(())
    }

    fn points(
        &mut self,
        (kind, is_monotonic, deltas): (DataKind, bool, Deltas),
        data: &[u8],
        group: (&Resource, &KnownGroup),
        metric: &KnownMetric,
    ) -> Result<(), Failure> {
        self.sink.counts = kind.counts_up(is_monotonic) && deltas != Deltas::Stay;
        let known = metric.streams.read();
        let mut pass = StreamPass::new(group, metric, &known, std::mem::take(&mut self.label_sets), deltas);
        let mut reader = Reader::new(data);
        while let Some(field) = reader.next()? {
            if field.number != 1 {
                continue;
            }
            let point = field.bytes()?;
            match kind {
                DataKind::Gauge => self.number(point, false, &mut pass)?,
                DataKind::Sum => self.number(point, is_monotonic, &mut pass)?,
                DataKind::Histogram => self.histogram(point, &mut pass)?,
                DataKind::ExponentialHistogram => self.exponential_histogram(point, &mut pass)?,
                DataKind::Summary => self.summary(point, &mut pass)?,
            }
        }
        let (fresh, label_sets) = pass.finish();
        self.label_sets = label_sets;
        drop(known);
        if let Some(fresh) = fresh {
            metric.streams.write().absorb(fresh);
        }
        Ok(())
    }

    fn warn(&mut self, message: impl FnOnce() -> String) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(message());
        }
    }

    /// Fails if the request may not take so much memory more.
    pub(super) fn require(&self, bytes: usize) -> Result<(), IngestError> {
        self.sink.require(bytes as u64)
    }

    /// Counts memory that the request takes.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), IngestError> {
        self.sink.charge(bytes as u64)
    }
}
