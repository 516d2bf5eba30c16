//! Prometheus remote read. Fields are described in `proto/prometheus/remote_read.proto`; hints are of no use to us, and are not
//! decoded.
//!
//! Of a message of two bytes decoding makes a hundred: [`ReadRequest::size`] says beforehand how much there is.
#![expect(missing_docs, reason = "the fields of the .proto file, described there")]

use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::remote_write::v1::{Label, TimeSeries};

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    pub queries: Vec<Query>,
    #[prost(enumeration = "read_request::ResponseType", repeated, tag = "2")]
    pub accepted_response_types: Vec<i32>,
}

/// How much of everything that repeats a request has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadRequestSize {
    /// Queries.
    pub queries: usize,
    /// Matchers of all queries.
    pub matchers: usize,
    /// Bytes of the list of accepted forms, of which each takes at least one.
    pub form_bytes: usize,
}

impl ReadRequest {
    /// Counts what decoding `bytes` will make, and makes nothing. Where they are no request it counts at least what comes before
    /// decoding finds that out.
    #[must_use]
    pub fn size(bytes: &[u8]) -> ReadRequestSize {
        let mut size = ReadRequestSize::default();
        each_field(bytes, |tag, content| match tag {
            1 => {
                size.queries += 1;
                each_field(content, |tag, _| size.matchers += usize::from(tag == 3));
            }
            2 => size.form_bytes += content.len(),
            _ => {}
        });
        size
    }
}

/// Hands out the fields of a message with what is in them, as long as it is one.
fn each_field<'a>(mut rest: &'a [u8], mut take: impl FnMut(u32, &'a [u8])) {
    while let Ok((tag, wire_type)) = decode_key(&mut rest) {
        let before = rest;
        let content = if wire_type == WireType::LengthDelimited {
            let Ok(length) = decode_varint(&mut rest) else { return };
            let Some(content) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) else { return };
            rest.advance(content.len());
            content
        } else {
            if skip_field(wire_type, tag, &mut rest, DecodeContext::default()).is_err() {
                return;
            }
            &before[..before.len() - rest.len()]
        };
        take(tag, content);
    }
}

pub mod read_request {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum ResponseType {
        Samples = 0,
        StreamedXorChunks = 1,
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Query {
    #[prost(int64, tag = "1")]
    pub start_timestamp_ms: i64,
    #[prost(int64, tag = "2")]
    pub end_timestamp_ms: i64,
    #[prost(message, repeated, tag = "3")]
    pub matchers: Vec<LabelMatcher>,
}

#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct LabelMatcher {
    #[prost(enumeration = "label_matcher::MatcherType", tag = "1")]
    pub r#type: i32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub value: String,
}

pub mod label_matcher {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum MatcherType {
        Eq = 0,
        Neq = 1,
        Re = 2,
        Nre = 3,
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<QueryResult>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ChunkedReadResponse {
    #[prost(message, repeated, tag = "1")]
    pub chunked_series: Vec<ChunkedSeries>,
    #[prost(int64, tag = "2")]
    pub query_index: i64,
}

#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub chunks: Vec<Chunk>,
}

#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Chunk {
    #[prost(int64, tag = "1")]
    pub min_time_ms: i64,
    #[prost(int64, tag = "2")]
    pub max_time_ms: i64,
    #[prost(enumeration = "chunk::Encoding", tag = "3")]
    pub r#type: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub data: Vec<u8>,
}

pub mod chunk {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum Encoding {
        Unknown = 0,
        Xor = 1,
        Histogram = 2,
        FloatHistogram = 3,
    }
}
