//! What Prometheus wrote is read as Prometheus reads it, damaged or not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod damage;
mod fixture;
mod same_as_prometheus;
