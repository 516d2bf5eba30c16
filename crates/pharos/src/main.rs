//! The binary: settings, wiring, subcommands, start and stop order.

fn main() {}
