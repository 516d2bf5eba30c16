//! Which metrics are answered that are not stored, and what each is made of.

use pharos_model::{Labels, LabelsBuilder, METRIC_NAME, Matcher, MetricKind};

use crate::names::{
    BOUNDS_NS, CALLS, CLIENT_SECONDS, DURATION, GRAPH_BOUNDS_NS, LE, MESSAGING_SECONDS, MS_NS, SECOND_NS,
    SERVER_SECONDS, SERVICE, SERVICE_NAME, bounds_in,
};

/// How a view's samples come from its source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The same samples.
    Same,
    /// Native histograms, in another unit.
    Native,
    /// Of native histograms, the classic buckets.
    Bucket,
    /// Of native histograms, the sum.
    Sum,
    /// Of native histograms, the count.
    Count,
}

/// A metric that is answered and not stored.
#[derive(Debug)]
pub(super) struct View {
    /// What it is called.
    pub(super) name: &'static str,
    /// What it is made of.
    pub(super) source: &'static str,
    pub(super) shape: Shape,
    /// Whether the service is in the label `service` (Tempo) instead of `service_name`.
    pub(super) is_tempo: bool,
    /// What values and bounds are divided by.
    pub(super) divisor: f64,
}

const fn view(name: &'static str, source: &'static str, shape: Shape) -> View {
    View { name, source, shape, is_tempo: false, divisor: 1.0 }
}

const fn tempo(name: &'static str, source: &'static str, shape: Shape, divisor: f64) -> View {
    View { name, source, shape, is_tempo: true, divisor }
}

/// All views. No view is made of a view.
pub(super) const VIEWS: [View; 17] = [
    view("traces_span_metrics_duration_milliseconds_bucket", DURATION, Shape::Bucket),
    view("traces_span_metrics_duration_milliseconds_sum", DURATION, Shape::Sum),
    view("traces_span_metrics_duration_milliseconds_count", DURATION, Shape::Count),
    tempo("traces_spanmetrics_calls_total", CALLS, Shape::Same, 1.0),
    tempo("traces_spanmetrics_latency", DURATION, Shape::Native, 1e3),
    tempo("traces_spanmetrics_latency_bucket", DURATION, Shape::Bucket, 1e3),
    tempo("traces_spanmetrics_latency_sum", DURATION, Shape::Sum, 1e3),
    tempo("traces_spanmetrics_latency_count", DURATION, Shape::Count, 1e3),
    view("traces_service_graph_request_server_seconds_bucket", SERVER_SECONDS, Shape::Bucket),
    view("traces_service_graph_request_server_seconds_sum", SERVER_SECONDS, Shape::Sum),
    view("traces_service_graph_request_server_seconds_count", SERVER_SECONDS, Shape::Count),
    view("traces_service_graph_request_client_seconds_bucket", CLIENT_SECONDS, Shape::Bucket),
    view("traces_service_graph_request_client_seconds_sum", CLIENT_SECONDS, Shape::Sum),
    view("traces_service_graph_request_client_seconds_count", CLIENT_SECONDS, Shape::Count),
    view("traces_service_graph_request_messaging_system_seconds_bucket", MESSAGING_SECONDS, Shape::Bucket),
    view("traces_service_graph_request_messaging_system_seconds_sum", MESSAGING_SECONDS, Shape::Sum),
    view("traces_service_graph_request_messaging_system_seconds_count", MESSAGING_SECONDS, Shape::Count),
];

/// What a selector asks of a view, in words of the view's source.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    pub(super) view: &'static View,
    /// Matchers of the source.
    pub(super) matchers: Vec<Matcher>,
    /// Matchers of the bucket's bound, which is no label of the source.
    pub(super) bounds: Vec<Matcher>,
}

/// The views that `matchers` may select.
pub(super) fn selections(matchers: &[Matcher]) -> impl Iterator<Item = Selection> + '_ {
    VIEWS.iter().filter_map(|view| view.select(matchers))
}

/// Whether a metric of this name is a view's.
pub(super) fn is_view(metric: &str) -> bool {
    VIEWS.iter().any(|view| view.name == metric)
}

impl View {
    fn select(&'static self, matchers: &[Matcher]) -> Option<Selection> {
        let names = || matchers.iter().filter(|matcher| matcher.name() == METRIC_NAME);
        if !names().all(|matcher| matcher.matches(self.name)) {
            return None;
        }
        let (mut of_source, mut bounds) = (vec![Matcher::equal(METRIC_NAME, self.source)], Vec::new());
        for matcher in matchers {
            match matcher.name() {
                METRIC_NAME => {}
                LE if self.shape == Shape::Bucket => bounds.push(matcher.clone()),
                SERVICE if self.is_tempo => of_source.push(matcher.of_label(SERVICE_NAME)),
                SERVICE_NAME if self.is_tempo && matcher.matches_empty() => {}
                SERVICE_NAME if self.is_tempo => return None,
                _ => of_source.push(matcher.clone()),
            }
        }
        let selection = Selection { view: self, matchers: of_source, bounds };
        let can_match = selection.bounds.is_empty() || self.bound_texts().any(|bound| selection.takes_bound(&bound));
        can_match.then_some(selection)
    }

    /// The upper bounds of its buckets in its own unit, as histograms are written today; none if it has no buckets.
    pub(super) fn bounds(&self) -> impl Iterator<Item = f64> {
        let bounds = match (self.shape, self.source) {
            (Shape::Bucket, DURATION) => bounds_in(&BOUNDS_NS, MS_NS),
            (Shape::Bucket, _) => bounds_in(&GRAPH_BOUNDS_NS, SECOND_NS),
            _ => Vec::new(),
        };
        let last = (!bounds.is_empty()).then_some(f64::INFINITY);
        let divisor = self.divisor;
        bounds.into_iter().chain(last).map(move |bound| bound / divisor)
    }

    /// As label values.
    pub(super) fn bound_texts(&self) -> impl Iterator<Item = String> {
        self.bounds().map(bound_text)
    }

    /// What its family is called and what kind it is, for metadata.
    pub(super) fn family(&self) -> Option<(&'static str, MetricKind, &'static str)> {
        match self.shape {
            Shape::Same => Some((self.name, MetricKind::Counter, "")),
            Shape::Native => Some((self.name, MetricKind::Histogram, "seconds")),
            _ => None,
        }
    }

    /// The name that a label of the source has here.
    pub(super) fn label_name<'a>(&self, name: &'a str) -> &'a str {
        if self.is_tempo && name == SERVICE_NAME { SERVICE } else { name }
    }

    /// The labels of the series made of a series of the source; `bound` is that of its bucket.
    pub(super) fn labels(&self, source: &Labels, bound: Option<&str>, builder: &mut LabelsBuilder) -> Labels {
        builder.clear();
        builder.push(METRIC_NAME, self.name);
        let renames = self.is_tempo && source.get(SERVICE_NAME).is_some();
        for (name, value) in source.iter() {
            // A label that another takes the place of is gone.
            let is_hidden = name == METRIC_NAME || (renames && name == SERVICE) || (bound.is_some() && name == LE);
            if !is_hidden {
                builder.push(self.label_name(name), value);
            }
        }
        if let Some(bound) = bound {
            builder.push(LE, bound);
        }
        builder.build().unwrap_or_default()
    }
}

impl Selection {
    /// Whether buckets with this bound are asked for.
    pub(super) fn takes_bound(&self, bound: &str) -> bool {
        self.bounds.iter().all(|matcher| matcher.matches(bound))
    }
}

/// A bound as label value: the shortest digits that read back the same, never with an exponent.
pub(super) fn bound_text(bound: f64) -> String {
    if bound == f64::INFINITY { "+Inf".to_owned() } else { bound.to_string() }
}
