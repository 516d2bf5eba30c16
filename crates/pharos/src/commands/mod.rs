//! The subcommands.

pub(crate) mod backup;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod progress;
pub(crate) mod repository;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod snapshot;
pub(crate) mod test;
pub(crate) mod token;
