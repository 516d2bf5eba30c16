//! Blocks: the sealed form of spans, column by column. Every byte is specified in `docs/blocks.md`.
//!
//! Pure functions on bytes, no files. A block is built from what rows hold ([`BlockBuilder`]) and opened over
//! shared bytes ([`Block`]); columns are unpacked where they are asked for, and what was inflated once stays for all
//! that read the same opened block.
//!
//! Invariants
//! - B1 What was pushed comes back to the bit and in its order.
//! - B2 Damage is an error: bytes whose checksum is wrong are not looked at, and bytes whose checksum is right
//!   neither panic nor loop nor take memory beyond a multiple of their length.

mod body;
mod builder;
mod catalogue;
mod classes;
mod columns;
mod frame;
mod intern;
mod ints;
mod open;
mod parents;
mod records;
mod schema;
mod search;
#[cfg(any(test, feature = "internals"))]
mod sizes;
mod spans;
mod template;
#[cfg(test)]
mod tests;
mod texts;
mod times;
mod verdicts;
mod write;

pub(crate) use builder::BlockBuilder;
pub(crate) use open::{Block, BlockTrace};
pub(crate) use schema::{Field, Level, ValueType};
pub(crate) use search::ColumnHead;

const VERSION: u8 = 1;
