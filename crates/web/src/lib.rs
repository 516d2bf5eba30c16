//! The embedded UI, built from the top-level `ui/`.
//!
//! [`router`] answers what no other door answers: the page itself, its assets, the links of the pages that Pharos
//! replaces. It never touches a path of an API, asks for no credentials (the page holds no data; its requests do the
//! asking), reads no disk and keeps no state beyond the compressed copies it makes on first use.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod assets;
mod links;
mod respond;

#[cfg(test)]
mod tests;

pub use respond::{CONTENT_SECURITY_POLICY, router};
