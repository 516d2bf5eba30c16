//! What each family is, for those who ask for metadata.

use pharos_model::{MetricKind, MetricMetadata};

use crate::names::{
    CALLS, CLIENT_SECONDS, DROPPED, DURATION, FAILED, MESSAGING_SECONDS, REQUESTS, SERVER_SECONDS, SIZE, TARGET_INFO,
    UNPAIRED,
};
use crate::output::Output;

/// Family, kind, help, unit.
type Family = (&'static str, MetricKind, &'static str, &'static str);

const RED: [Family; 3] = [
    (CALLS, MetricKind::Counter, "Spans by service, operation, kind and status", ""),
    (DURATION, MetricKind::Histogram, "Durations of spans by service, operation, kind and status", "milliseconds"),
    (SIZE, MetricKind::Counter, "Bytes of spans by service, operation, kind and status", "bytes"),
];

const TARGETS: [Family; 1] = [(TARGET_INFO, MetricKind::Gauge, "Attributes of the resources that spans come from", "")];

const GRAPH: [Family; 7] = [
    (REQUESTS, MetricKind::Counter, "Requests from client to server", ""),
    (FAILED, MetricKind::Counter, "Failed requests from client to server", ""),
    (SERVER_SECONDS, MetricKind::Histogram, "How long requests took, as the server saw it", "seconds"),
    (CLIENT_SECONDS, MetricKind::Histogram, "How long requests took, as the client saw it", "seconds"),
    (MESSAGING_SECONDS, MetricKind::Histogram, "How long messages were under way", "seconds"),
    (UNPAIRED, MetricKind::Counter, "Spans of calls whose other side was not seen in time", ""),
    (DROPPED, MetricKind::Counter, "Spans of calls that found no room to wait for their other side", ""),
];

/// Writes the families that are made.
pub(crate) fn write(has_red: bool, has_targets: bool, has_graph: bool, output: &mut Output) {
    let families = RED.iter().filter(|_| has_red).chain(TARGETS.iter().filter(|_| has_targets));
    let families = families.chain(GRAPH.iter().filter(|_| has_graph));
    for (metric, kind, help, unit) in families {
        output.metadata(MetricMetadata {
            metric: (*metric).to_owned(),
            kind: *kind,
            help: (*help).to_owned(),
            unit: (*unit).to_owned(),
        });
    }
}
