//! Spans in, PromQL out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod flush;
mod graph;
mod red;
mod targets;
mod views;
mod world;
