//! Samples and traces, one a write, and what of them was acknowledged. Each carries padding that does not compress, so that
//! a small disk fills soon.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use pharos_testkit::Pharos;
use prost::Message;

use crate::otlp::{now_ms, one_span, remote_write};

/// Below the limit of a label's value.
const PADDING_HEX_DIGITS: usize = 4_000;

/// What a writer is told.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) text: String,
}

impl Answer {
    /// Whether the writer shall repeat the write; panics if it is neither that nor success.
    pub(crate) fn is_unavailable(&self) -> bool {
        assert!(self.status < 300 || self.status == 503, "{} {}", self.status, self.text);
        self.status == 503
    }
}

/// Numbers its writes and remembers which were acknowledged.
#[derive(Default)]
pub(crate) struct Load {
    samples_sent: usize,
    traces_sent: usize,
    samples: BTreeSet<usize>,
    traces: BTreeSet<usize>,
}

/// Digits that look random and depend on `seed` alone.
fn padding(seed: usize) -> String {
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let words = std::iter::repeat_with(|| {
        // xorshift64: full period, no state but itself.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    });
    words.take(PADDING_HEX_DIGITS / 16).collect()
}

fn trace_id(number: usize) -> [u8; 16] {
    let mut id = [0xaa; 16];
    id[8..].copy_from_slice(&(number as u64).to_be_bytes());
    id
}

impl Load {
    /// Writes the next sample.
    pub(crate) async fn next_sample(&mut self, pharos: &Pharos) -> Answer {
        let number = self.samples_sent;
        self.samples_sent += 1;
        let answer = write_sample(pharos, number).await;
        if answer.status < 300 {
            self.samples.insert(number);
        }
        answer
    }

    /// Writes the next trace.
    pub(crate) async fn next_trace(&mut self, pharos: &Pharos) -> Answer {
        let number = self.traces_sent;
        self.traces_sent += 1;
        let answer = write_trace(pharos, &trace(number, 1)).await;
        if answer.status < 300 {
            self.traces.insert(number);
        }
        answer
    }

    /// Every acknowledged sample and trace is found.
    pub(crate) async fn assert_all_there(&self, pharos: &Pharos) {
        let found = pharos.query("count by (id) (kept)", now_ms() as f64 / 1_000.0).await;
        let id =
            |series: &serde_json::Value| series["metric"]["id"].as_str().and_then(|text| text.parse::<usize>().ok());
        let found: BTreeSet<usize> = found.as_array().into_iter().flatten().filter_map(id).collect();
        let lost: Vec<_> = self.samples.difference(&found).collect();
        assert!(lost.is_empty(), "of {} samples {} are lost: {lost:?}", self.samples.len(), lost.len());
        for number in &self.traces {
            let path = format!("/api/traces/{}", hex::encode(trace_id(*number)));
            let (status, answer) = pharos.get(&path).await;
            let spans = answer["data"][0]["spans"].as_array().map(Vec::len);
            assert!(status == 200 && spans == Some(1), "trace {number} of {}: {status} {answer}", self.traces.len());
        }
        let (status, answer) =
            pharos.get(&format!("/api/traces?service=filler&limit={}", self.traces.len() + 10)).await;
        assert_eq!(status, 200, "{answer}");
        let listed = answer["data"].as_array().map_or(0, Vec::len);
        assert!(listed >= self.traces.len(), "search finds {listed} of {} traces", self.traces.len());
    }
}

async fn write_sample(pharos: &Pharos, number: usize) -> Answer {
    let (id, padding) = (number.to_string(), padding(number));
    post(pharos, "/api/v1/write", remote_write("kept", &[("id", &id), ("padding", &padding)], &[(now_ms(), 1.0)])).await
}

/// A write of a quarter of a megabyte: more than what is left in the last blocks of a full disk's files.
pub(crate) async fn write_many_samples(pharos: &Pharos) -> Answer {
    let one = |number: usize| remote_write("refused", &[("padding", &padding(number))], &[(now_ms(), 1.0)]);
    // Messages joined are one message with the series of all.
    post(pharos, "/api/v1/write", (0..64).flat_map(one).collect()).await
}

/// A trace of one span with so much padding.
pub(crate) fn trace(number: usize, paddings: usize) -> ExportTraceServiceRequest {
    let mut message = one_span("filler", 1, 1_000);
    let span = &mut message.resource_spans[0].scope_spans[0].spans[0];
    span.trace_id = trace_id(number).to_vec();
    span.attributes.extend((0..paddings).map(|index| {
        let value = AnyValue { value: Some(any_value::Value::StringValue(padding(number.wrapping_add(index)))) };
        KeyValue { key: format!("padding.{index}"), value: Some(value), ..KeyValue::default() }
    }));
    message
}

pub(crate) async fn write_trace(pharos: &Pharos, message: &ExportTraceServiceRequest) -> Answer {
    post(pharos, "/v1/traces", message.encode_to_vec()).await
}

async fn post(pharos: &Pharos, path: &str, body: Vec<u8>) -> Answer {
    let request = pharos.client().post(pharos.url(path)).bearer_auth(pharos.token());
    let request = request.header("content-type", "application/x-protobuf").body(body);
    let answer = request.send().await.unwrap_or_else(|error| panic!("POST {path}: {error}\n{}", pharos.log()));
    let status = answer.status().as_u16();
    let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
    Answer { status, retry_after, text: answer.text().await.expect("the answer is text") }
}
