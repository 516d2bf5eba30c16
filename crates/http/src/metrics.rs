//! Metrics of the doors themselves.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use pharos_base::{Clock, SystemClock};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteCode {
    route: String,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

/// Counts requests by route and status, and measures how long they take.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: Family<RouteCode, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
}

fn latency_buckets() -> Histogram {
    Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0])
}

impl HttpMetrics {
    /// Metrics that show in `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(latency_buckets),
            in_flight: Gauge::default(),
        };
        registry.register("pharos_http_requests", "Requests answered, by route and status", metrics.requests.clone());
        registry.register("pharos_http_request_seconds", "Time to answer, by route", metrics.seconds.clone());
        registry.register("pharos_http_requests_in_flight", "Requests under way", metrics.in_flight.clone());
        Arc::new(metrics)
    }

    fn observe(&self, route: String, code: u16, begun: Instant) {
        let seconds = (SystemClock.monotonic() - begun).as_secs_f64();
        self.seconds.get_or_create(&Route { route: route.clone() }).observe(seconds);
        self.requests.get_or_create(&RouteCode { route, code }).inc();
    }
}

struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Middleware around the whole router. Paths that match no route count as `other`, so that strangers
/// cannot grow the number of series.
pub async fn count_requests(State(metrics): State<Arc<HttpMetrics>>, request: Request, next: Next) -> Response {
    let begun = SystemClock.monotonic();
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "other".to_owned(), |p| p.as_str().to_owned());
    metrics.in_flight.inc();
    let in_flight = InFlight(metrics.in_flight.clone());
    let response = next.run(request).await;
    drop(in_flight);
    metrics.observe(route, response.status().as_u16(), begun);
    response
}
