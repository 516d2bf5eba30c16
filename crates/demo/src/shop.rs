//! The shop itself: half an hour of history at once, then one step a second.

use std::time::Duration;

use pharos_base::{Clock, SystemClock};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::export::Exporter;
use crate::meters::Meters;
use crate::otlp::{metrics_request, trace_request};
use crate::traffic::Traffic;

const NS_PER_S: u64 = 1_000_000_000;
/// How much history is sent at the start, seconds.
const HISTORY_S: u64 = 30 * 60;
/// Metrics are reported this often, seconds.
const REPORT_S: u64 = 5;
/// Of history, one visit in so many is kept as a trace, so that the start is quick.
const HISTORY_TRACES_1_IN: u32 = 20;

/// Where the shop sends.
#[derive(Debug, Clone)]
pub struct ShopSettings {
    /// An OTLP/gRPC address, such as `http://127.0.0.1:9090`.
    pub endpoint: String,
    /// The bearer token, if the server asks for one.
    pub token: Option<String>,
}

/// A simulated shop.
#[derive(Debug)]
pub struct Shop {
    settings: ShopSettings,
    traffic: Traffic,
    meters: Meters,
    started_at_ns: u64,
}

impl Shop {
    /// A shop that has not opened yet.
    #[must_use]
    pub fn new(settings: ShopSettings) -> Self {
        Self { settings, traffic: Traffic::new(), meters: Meters::default(), started_at_ns: 0 }
    }

    /// Sells until `stop` is cancelled. What cannot be sent is logged and forgotten: it is a demo.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut exporter = match Exporter::new(&self.settings.endpoint, self.settings.token.as_deref()) {
            Ok(exporter) => exporter,
            Err(error) => {
                tracing::error!(%error, "the demo shop cannot send");
                return;
            }
        };
        let opened_at_ns = now_ns() / NS_PER_S * NS_PER_S;
        self.started_at_ns = opened_at_ns - HISTORY_S * NS_PER_S;
        for second in 0..HISTORY_S {
            self.step(&mut exporter, self.started_at_ns + second * NS_PER_S, HISTORY_TRACES_1_IN).await;
            if stop.is_cancelled() {
                return;
            }
        }
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent_until_ns = opened_at_ns;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // Seconds that are over; several, if the machine was busy or asleep, but no endless queue.
            let now_ns = now_ns();
            sent_until_ns = sent_until_ns.max(now_ns.saturating_sub(60 * NS_PER_S) / NS_PER_S * NS_PER_S);
            while sent_until_ns + 2 * NS_PER_S <= now_ns {
                self.step(&mut exporter, sent_until_ns, 1).await;
                sent_until_ns += NS_PER_S;
            }
        }
    }

    /// One second of business that began at `second_ns`.
    async fn step(&mut self, exporter: &mut Exporter, second_ns: u64, traces_1_in: u32) {
        let visits = self.traffic.visits_per_second(second_ns);
        let mut kept = Vec::new();
        for visit in 0..visits {
            let start_ns = second_ns + u64::from(visit) * NS_PER_S / u64::from(visits.max(1));
            let spans = self.traffic.visit(start_ns);
            for span in &spans {
                self.meters.observe(span);
            }
            let is_kept = (second_ns / NS_PER_S + u64::from(visit)).is_multiple_of(u64::from(traces_1_in));
            if is_kept {
                kept.extend(spans);
            } else {
                // A trace that is not kept must not be linked to.
                self.meters.forget_links(&spans);
            }
        }
        if !kept.is_empty()
            && let Err(status) = exporter.send_traces(trace_request(&kept)).await
        {
            tracing::warn!(code = ?status.code(), message = status.message(), "the demo shop could not send spans");
        }
        let end_ns = second_ns + NS_PER_S;
        if (end_ns / NS_PER_S).is_multiple_of(REPORT_S) {
            let report = metrics_request(&mut self.meters, self.started_at_ns, end_ns);
            if let Err(status) = exporter.send_metrics(report).await {
                tracing::warn!(code = ?status.code(), message = status.message(), "the demo shop could not send metrics");
            }
        }
    }
}

fn now_ns() -> u64 {
    u64::try_from(SystemClock.unix_ns()).unwrap_or(0)
}
