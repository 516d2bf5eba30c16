//! PromQL: text, plan, operators, result. Knows no storage engine.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod ast;
pub mod duration;
pub mod functions;
pub mod limits;
mod options;
pub mod position;

pub use options::ParserOptions;
