//! PromQL: text, plan, operators, result. Knows no storage engine.
//!
//! - Text to tree: [`parse`] lexes, parses and checks; the tree is in [`ast`], each node with its place in the text.
//!   Printing a tree ([`std::fmt::Display`], [`pretty()`]) gives text that parses to the same tree.
//! - Tree to answer: [`Engine`] evaluates over any [`pharos_storage::MetricStore`].
//! - [`script`] runs promqltest scripts over both.
//!
//! Query text is hostile until parsed: [`limits`] bounds its length, nesting and depth.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod ast;
mod check;
pub mod duration;
pub mod engine;
mod error;
pub mod functions;
mod lexer;
pub mod limits;
mod options;
mod parser;
pub mod position;
mod printer;
mod quote;
pub mod script;
mod token;

pub use engine::{Annotations, Engine, EngineSettings, QueryBounds, QueryError, QueryOptions, QueryResult, Value};
pub use error::ParseError;
pub use options::ParserOptions;
pub use parser::{parse, parse_selector};
pub use printer::pretty;
pub use quote::quote;
