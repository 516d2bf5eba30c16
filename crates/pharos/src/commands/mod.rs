//! The subcommands.

pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod health;
pub(crate) mod serve;
pub(crate) mod test;
pub(crate) mod token;
