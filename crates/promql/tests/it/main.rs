//! The crate through its public interface.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "tests")]

mod conformance_files;
mod grammar;
mod hostile;
mod parser_conformance;
mod printing;
mod properties;
mod reference;
mod round_trip;
mod script_conformance;
mod scripts;
mod spans;
mod threads;
