//! The Prometheus query API over the PromQL engine.
