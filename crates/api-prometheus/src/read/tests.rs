//! Remote read from outside.

use axum::extract::Request;
use http::{Method, StatusCode};
use pharos_proto::remote_read::label_matcher::MatcherType;
use pharos_proto::remote_read::{ChunkedReadResponse, LabelMatcher, ReadRequest, ReadResponse};
use prost::Message;

use super::*;
use crate::testing::{Fixture, NOW_MS, fixture};

fn query(kind: MatcherType, value: &str) -> Query {
    Query {
        start_timestamp_ms: NOW_MS - 45_000,
        end_timestamp_ms: NOW_MS,
        matchers: vec![LabelMatcher { r#type: kind as i32, name: "__name__".to_owned(), value: value.to_owned() }],
    }
}

fn request(queries: Vec<Query>, accepted: &[i32]) -> Vec<u8> {
    let request = ReadRequest { queries, accepted_response_types: accepted.to_vec() };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap()
}

fn compressed(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

/// A request with one query of these bytes.
fn query_of(content: &[u8]) -> Vec<u8> {
    let mut request = vec![0x0a];
    prost::encoding::encode_varint(content.len() as u64, &mut request);
    request.extend_from_slice(content);
    request
}

/// Each pattern is small, compiled it takes more than 160 KiB.
fn large_patterns() -> Query {
    let large = query(MatcherType::Re, r"\pL{150}").matchers.remove(0);
    Query { matchers: vec![large; 450], ..Query::default() }
}

async fn post(fixture: &Fixture, body: Vec<u8>) -> (StatusCode, String, Vec<u8>) {
    let request = Request::builder().method(Method::POST).uri("/api/v1/read").body(Body::from(body)).unwrap();
    fixture.bytes(request).await
}

#[tokio::test]
async fn samples_come_in_one_block_for_each_query() {
    let fixture = fixture();
    let queries =
        vec![query(MatcherType::Eq, "requests_total"), query(MatcherType::Re, "end.*"), query(MatcherType::Nre, ".*")];
    let (status, content_type, body) = post(&fixture, request(queries, &[])).await;
    assert_eq!((status, content_type.as_str()), (StatusCode::OK, "application/x-protobuf"));
    let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    let response = ReadResponse::decode(plain.as_slice()).unwrap();
    let counts: Vec<Vec<_>> = response
        .results
        .iter()
        .map(|result| result.timeseries.iter().map(|series| series.samples.len()).collect())
        .collect();
    assert_eq!(counts, [vec![4, 4], vec![1], vec![]], "both ends of the range belong to it");
    let first = &response.results[0].timeseries[0];
    assert_eq!(first.labels[0].value, "requests_total");
    assert_eq!((first.samples[0].timestamp, first.samples[3].value), (NOW_MS - 45_000, 4.0));
    let stale = response.results[1].timeseries[0].samples[0].value;
    assert!(pharos_model::is_stale_nan(stale), "markers of the end are told, not hidden");
}

#[tokio::test]
async fn chunks_come_in_checked_frames_sorted_by_labels() {
    let fixture = fixture();
    let queries = vec![query(MatcherType::Neq, "ended"), query(MatcherType::Eq, "")];
    // The first form that is known decides.
    let (status, content_type, body) = post(&fixture, request(queries, &[7, 1, 0])).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(content_type, "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse");
    let (mut rest, mut found) = (body.as_slice(), Vec::new());
    while !rest.is_empty() {
        let length = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        let (sum, tail) = rest.split_at(4);
        let (message, tail) = tail.split_at(length);
        assert_eq!(u32::from_be_bytes(sum.try_into().unwrap()), frames::crc32c(message));
        let frame = ChunkedReadResponse::decode(message).unwrap();
        let series = &frame.chunked_series[0];
        let labels: Vec<_> = series.labels.iter().map(|label| label.value.clone()).collect();
        found.push((frame.query_index, labels, series.chunks[0].data[1], series.chunks[0].max_time_ms));
        rest = tail;
    }
    let series = |job: &str| (0, vec!["requests_total".to_owned(), job.to_owned()], 4, NOW_MS);
    assert_eq!(found, [series("api"), series("web")], "an empty name matches nothing");
}

#[test]
fn the_checksum_is_castagnolis() {
    assert_eq!(frames::crc32c(b"123456789"), 0xe306_9283);
}

#[tokio::test]
async fn what_is_no_request_is_refused_in_plain_words() {
    let fixture = fixture();
    let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    for (body, status, part) in [
        (b"{}".to_vec(), 400, "no snappy block"),
        (bomb.to_vec(), 413, "of 4294967295 bytes, is larger than query.body_max = 1MiB"),
        (request(vec![query(MatcherType::Eq, "a")], &[9]), 400, "none of the requested response types [9]"),
        (request(vec![query(MatcherType::Re, "(")], &[]), 400, "matcher of \"__name__\""),
        (request(vec![Query::default(); 1_001], &[]), 400, "1001 queries, a remote read has 1000 at most"),
        (request(vec![query(MatcherType::Eq, "a")], &[1; 101]), 400, "101 bytes of accepted response types"),
        // Counted before they are built: what comes behind them is never looked at.
        (compressed(&[[0x0a, 0].repeat(500_000), vec![0xff]].concat()), 400, "500000 queries"),
        (compressed(&[[0x1a, 0].repeat(400_000), vec![0xff]].concat()), 400, "not a ReadRequest"),
        (compressed(&query_of(&[[0x1a, 0].repeat(400_000), vec![0xff]].concat())), 400, "400000 matchers"),
        (vec![0; (1 << 20) + 1], 413, "the body is larger than query.body_max = 1MiB: ask for less at a time"),
        (request(vec![large_patterns()], &[]), 400, "at most 67108864 bytes compiled"),
    ] {
        let (found, content_type, answer) = post(&fixture, body).await;
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!((found.as_u16(), content_type.as_str()), (status, "text/plain; charset=utf-8"), "{answer}");
        assert!(answer.contains(part), "{answer}");
    }
}
