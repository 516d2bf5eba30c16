//! Limits of series and spans that a tenant or credential has beside the server's: looked at after a request is read, as what
//! reading remembers of series is shared by all tenants. Only who has such limits pays for it.
//!
//! The tenant's limit of active series is the store's to keep: it knows which ones these are.
//!
//! Runs that stand or fall together are refused together, for what breaks a limit in one of them, and count as the items that
//! they are.

use pharos_gateway::{LimitOverrides, Quota};
use pharos_ingest::DecodedMetrics;
use pharos_ingest::otlp::DecodedSpans;
use pharos_model::{METRIC_NAME, Span, iter_encoded};
use pharos_storage::{AppendOutcome, RejectReason};

/// A name is told up to so many bytes.
const NAME_BYTES_MAX: usize = 128;

/// Refuses series that break a limit; the others go on.
pub(crate) fn keep_series(decoded: &mut DecodedMetrics, quota: &Quota) {
    let limits = quota.limits();
    let has_limits = [limits.labels_max, limits.label_name_bytes_max, limits.label_value_bytes_max];
    let mut gate = quota.series();
    if gate.is_none() && has_limits.iter().all(Option::is_none) {
        return;
    }
    let batch = &decoded.batch;
    let mut refused = AppendOutcome { rejections: std::mem::take(&mut decoded.rejections), ..AppendOutcome::default() };
    let mut exemplars_dropped = 0;
    let (mut kept, mut fingerprints) = (vec![true; batch.series.len()], Vec::new());
    for unit in batch.units() {
        let runs = || unit.places().map(|place| &batch.series[place]);
        let mut faults = runs().filter_map(|run| {
            let encoded = batch.encoded_labels(run);
            Some((encoded, fault_of_series(encoded, limits)?))
        });
        if let Some((encoded, fault)) = faults.next() {
            let words = || format!("series of {}: {}", name_of(encoded), fault.words());
            refused.reject(RejectReason::Limit, unit.items, words);
        } else if let Some(gate) = &mut gate {
            fingerprints.clear();
            fingerprints.extend(runs().map(|run| batch.fingerprint(run) as u64));
            if gate.admits(&fingerprints) {
                continue;
            }
            let name = runs().next().map_or("", |run| name_of(batch.encoded_labels(run)));
            let words = || format!("series of {name}: {}", gate.over());
            refused.reject(RejectReason::SeriesLimit, unit.items, words);
        } else {
            continue;
        }
        exemplars_dropped += runs().map(|run| run.exemplars.len() as u64).sum::<u64>();
        unit.places().for_each(|place| kept[place] = false);
    }
    drop(gate);
    decoded.rejections = refused.rejections;
    decoded.exemplars_dropped += exemplars_dropped;
    if kept.contains(&false) {
        decoded.keep_series(|at| kept[at]);
    }
}

/// Refuses spans that break a limit; the others go on.
pub(crate) fn keep_spans(decoded: &mut DecodedSpans, limits: &LimitOverrides) {
    let has_limits = [limits.span_attributes_max, limits.span_events_max, limits.span_links_max];
    if has_limits.iter().all(Option::is_none) {
        return;
    }
    let mut refused = AppendOutcome { rejections: std::mem::take(&mut decoded.rejections), ..AppendOutcome::default() };
    decoded.keep_spans(|span| {
        let fault = fault_of_span(span, limits);
        if let Some(fault) = &fault {
            refused.reject(RejectReason::Limit, 1, || format!("span {}: {}", span.span_id, fault.words()));
        }
        fault.is_none()
    });
    decoded.rejections = refused.rejections;
}

/// A limit and what breaks it.
struct Fault {
    limit: &'static str,
    value: usize,
    found: usize,
    what: &'static str,
}

impl Fault {
    fn over((limit, value): (&'static str, Option<usize>), found: usize, what: &'static str) -> Option<Self> {
        value.filter(|value| found > *value).map(|value| Self { limit, value, found, what })
    }

    fn words(&self) -> String {
        let Self { limit, value, found, what } = self;
        format!(
            "{found} {what}, more than limits.{limit} = {value} of its tenant or credential: send fewer, or raise it in pharos.yaml (limits, tenants) or for this credential"
        )
    }
}

fn name_of(encoded: &[u8]) -> &str {
    let name = iter_encoded(encoded).find(|(name, _)| *name == METRIC_NAME).map_or("", |(_, name)| name);
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

fn fault_of_series(encoded: &[u8], limits: &LimitOverrides) -> Option<Fault> {
    let of_pair = |(name, value): (&str, &str)| {
        let of_name =
            Fault::over(("label_name_bytes_max", limits.label_name_bytes_max), name.len(), "bytes of a label name");
        of_name.or_else(|| {
            Fault::over(("label_value_bytes_max", limits.label_value_bytes_max), value.len(), "bytes of a label value")
        })
    };
    Fault::over(("labels_max", limits.labels_max), iter_encoded(encoded).count(), "labels")
        .or_else(|| iter_encoded(encoded).find_map(of_pair))
}

fn fault_of_span(span: &Span, limits: &LimitOverrides) -> Option<Fault> {
    let of_events = span.events.iter().map(|event| event.attributes.len());
    let of_links = span.links.iter().map(|link| link.attributes.len());
    let attributes = span.attributes.len() + of_events.chain(of_links).sum::<usize>();
    Fault::over(
        ("span_attributes_max", limits.span_attributes_max),
        attributes,
        "attributes of a span, its events and links",
    )
    .or_else(|| Fault::over(("span_events_max", limits.span_events_max), span.events.len(), "events of a span"))
    .or_else(|| Fault::over(("span_links_max", limits.span_links_max), span.links.len(), "links of a span"))
}
