//! `notifications` and `notifications/live`: what the operator should know now, once or as it changes.
//!
//! There is one kind so far: a store that takes no writes. Stores do not say when that begins, so that whoever listens
//! has them asked every [`POLL_INTERVAL`], and the date of a notification is that of its discovery.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::call::Caller;
use crate::reply::{ApiError, Reply, success};
use crate::routes::PrometheusApi;

/// Listeners at a time; upstream's `--web.max-notifications-subscribers`.
pub(crate) const LISTENERS_MAX: usize = 16;
/// How often a listener's stream looks for changes.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

const METRICS_READ_ONLY: &str = "The metrics store takes no writes at the moment; the log says why.";
const TRACES_READ_ONLY: &str = "The trace store takes no writes at the moment; the log says why.";

/// What holds now.
pub(crate) async fn now(State(api): State<Arc<PrometheusApi>>, _caller: Caller) -> Reply {
    let texts = current(&api).await?;
    let at_ms = api.clock.unix_ms();
    Ok(success(&texts.into_iter().map(|text| notification(text, at_ms, true)).collect::<Vec<_>>()))
}

/// What holds now, and then what changes, as server-sent events; 204 if too many listen already.
pub(crate) async fn live(State(api): State<Arc<PrometheusApi>>, _caller: Caller) -> Response {
    let Ok(place) = Arc::clone(&api.gates.listeners).try_acquire_owned() else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let mut polls = interval(POLL_INTERVAL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let listener = Listener { api, polls, told: Vec::new(), _place: place };
    let events = stream::unfold(listener, |mut listener| async move {
        let events = listener.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(events)), listener))
    });
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(events)).into_response()
}

struct Listener {
    api: Arc<PrometheusApi>,
    polls: Interval,
    told: Vec<&'static str>,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// The events since the last call; without any a comment, by which a connection that is gone is noticed. The stream
    /// ends with the server.
    async fn next(&mut self) -> Option<String> {
        tokio::select! {
            () = self.api.stop.cancelled() => return None,
            _ = self.polls.tick() => {}
        }
        let texts = current(&self.api).await.ok()?;
        let at_ms = self.api.clock.unix_ms();
        let mut events = String::new();
        for (text, is_active) in changes(&self.told, &texts) {
            events.push_str("data: ");
            events.push_str(&notification(text, at_ms, is_active).to_string());
            events.push_str("\n\n");
        }
        self.told = texts;
        Some(if events.is_empty() { ":\n\n".to_owned() } else { events })
    }
}

/// What began and what ended.
fn changes<'a>(before: &'a [&'static str], now: &'a [&'static str]) -> impl Iterator<Item = (&'static str, bool)> {
    let ended = before.iter().filter(|text| !now.contains(text)).map(|text| (*text, false));
    let begun = now.iter().filter(|text| !before.contains(text)).map(|text| (*text, true));
    ended.chain(begun)
}

async fn current(api: &Arc<PrometheusApi>) -> Result<Vec<&'static str>, ApiError> {
    let inner = Arc::clone(api);
    let look = move || {
        let of_metrics = inner.store.stats().read_only.then_some(METRICS_READ_ONLY);
        let is_read_only = inner.traces.as_ref().is_some_and(|traces| traces.stats().read_only);
        of_metrics.into_iter().chain(is_read_only.then_some(TRACES_READ_ONLY)).collect()
    };
    api.ask(look).await
}

fn notification(text: &str, at_ms: i64, is_active: bool) -> Value {
    let date = Timestamp::from_millisecond(at_ms).map_or(String::new(), |time| time.to_string());
    json!({"text": text, "date": date, "active": is_active})
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt;

    use super::*;
    use crate::testing::fixture;

    #[test]
    fn what_begins_and_ends_is_told_once() {
        let told = |before: &[&'static str], now: &[&'static str]| changes(before, now).collect::<Vec<_>>();
        assert_eq!(told(&[], &["a", "b"]), [("a", true), ("b", true)]);
        assert_eq!(told(&["a", "b"], &["b", "c"]), [("a", false), ("c", true)]);
        assert_eq!(told(&["a"], &["a"]), []);
    }

    #[tokio::test]
    async fn so_many_may_listen_and_no_more() {
        let fixture = fixture();
        let listen = async || {
            let request = Request::get("/api/v1/notifications/live").body(Body::empty()).unwrap();
            fixture.router.clone().oneshot(request).await.unwrap()
        };
        let mut streams = Vec::new();
        for _ in 0..LISTENERS_MAX {
            let response = listen().await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
            streams.push(response);
        }
        assert_eq!(listen().await.status(), StatusCode::NO_CONTENT);
        drop(streams.pop());
        let mut body = listen().await.into_body().into_data_stream();
        let first = futures::StreamExt::next(&mut body).await.unwrap().unwrap();
        assert_eq!(first, ":\n\n", "nothing is the matter");
        let (_, answer) = fixture.get("/api/v1/notifications").await;
        assert_eq!(answer, json!({"status": "success", "data": []}));
    }
}
