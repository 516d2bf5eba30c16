//! Spans in, PromQL out.

mod graph;
mod red;
mod views;
mod world;
