//! For tests only: the real binary, real peers, golden files.
//!
//! A peer that is not installed fails the test: `make test` installs all of them.
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait for real programs, by the real clock, found through the environment"
)]

mod golden;
mod peer;
mod pharos;
mod ports;

pub use golden::assert_golden;
pub use peer::{Peer, find_program};
pub use pharos::{Pharos, PharosBuilder};
pub use ports::free_address;
