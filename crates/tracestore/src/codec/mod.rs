//! The bytes of spans, resources and scopes: pure functions, no files. Every byte is specified in
//! `docs/keys.md`.
//!
//! Decoders take hostile bytes: they never panic, loop or allocate more than the input's length times
//! a constant.

mod attributes;
mod origin;
mod raw;
mod row;
mod span;
mod wire;

pub(crate) use attributes::{ATTRIBUTE_DEPTH_MAX, RawValue, attribute_depth, decode_nested};
pub(crate) use origin::{Origin, OriginHash, decode_origin, encode_origin};
pub(crate) use raw::{DetailField, DetailsVisitor, visit_details};
pub(crate) use row::{OpenRow, RowBuilder, RowReader, SpanSkeleton, kind_code, kind_of, status_code, status_of};
pub(crate) use span::put_details;
pub(crate) use wire::{DecodeError, Reader, Writer};
