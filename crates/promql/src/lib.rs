//! PromQL: text, plan, operators, result. Knows no storage engine.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod ast;
pub mod duration;
pub mod engine;
mod error;
pub mod functions;
pub mod limits;
mod options;
pub mod position;
mod quote;

pub use engine::{Annotations, Engine, EngineSettings, QueryError, QueryOptions, QueryResult, Value};
pub use error::ParseError;
pub use options::ParserOptions;
