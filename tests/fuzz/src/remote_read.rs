//! Remote reads: what a request is decoded to is counted before, and takes no more than the count calls for.

use pharos_proto::remote_read::label_matcher::MatcherType;
use pharos_proto::remote_read::{LabelMatcher, Query, ReadRequest, ReadRequestSize};
use prost::Message;

/// Bounds as the door has them.
const QUERIES_MAX: usize = 1_000;
const MATCHERS_MAX: usize = 10_000;
const FORM_BYTES_MAX: usize = 100;

/// A request, inflated.
///
/// # Panics
/// If decoding makes more than was counted: a bug.
pub(crate) fn remote_read(bytes: &[u8]) {
    let size = ReadRequest::size(bytes);
    let ReadRequestSize { queries, matchers, form_bytes } = size;
    // Of each there is at least a tag with a length, a number or the byte of a form; a query of a wrong wire type has four bytes that
    // are looked at and no length.
    assert!(
        queries + matchers * 2 <= bytes.len() && queries * 2 <= bytes.len() && form_bytes <= bytes.len(),
        "{size:?}"
    );
    if queries > QUERIES_MAX || matchers > MATCHERS_MAX || form_bytes > FORM_BYTES_MAX {
        return;
    }
    let Ok(request) = ReadRequest::decode(bytes) else { return };
    let matchers: Vec<&LabelMatcher> = request.queries.iter().flat_map(|query| &query.matchers).collect();
    let found = ReadRequestSize { queries: request.queries.len(), matchers: matchers.len(), form_bytes };
    assert_eq!(found, size, "what is a request is counted to the end");
    assert!(request.accepted_response_types.len() <= form_bytes);
    let text: usize = matchers.iter().map(|matcher| matcher.name.len() + matcher.value.len()).sum();
    assert!(text <= bytes.len());
    let again = ReadRequest::decode(request.encode_to_vec().as_slice());
    assert_eq!(again.as_ref(), Ok(&request));
}

/// Whole requests, and what is no request: repeated to the bounds and beyond, cut off, nested, with lengths that lie.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let matcher = |kind: MatcherType, value: &str| LabelMatcher {
        r#type: kind as i32,
        name: "__name__".to_owned(),
        value: value.to_owned(),
    };
    let kinds = [
        matcher(MatcherType::Eq, "up"),
        matcher(MatcherType::Neq, ""),
        matcher(MatcherType::Re, "a.*|b"),
        matcher(MatcherType::Nre, "\u{e4}"),
    ];
    let query = |matchers: &[LabelMatcher]| Query {
        start_timestamp_ms: 1_700_000_000_000,
        end_timestamp_ms: i64::MIN,
        matchers: matchers.to_vec(),
    };
    let request = |queries: usize, matchers: &[LabelMatcher], accepted: &[i32]| {
        let accepted_response_types = accepted.to_vec();
        ReadRequest { queries: vec![query(matchers); queries], accepted_response_types }.encode_to_vec()
    };
    let mut found = Vec::new();
    for count in 0..=kinds.len() {
        for accepted in [&[][..], &[0], &[1], &[1, 0], &[7, -1]] {
            found.push(request(1 + count, &kinds[..count], accepted));
        }
    }
    let whole = request(2, &kinds, &[1, 0]);
    found.extend((1..8).map(|part| whole[..whole.len() * part / 8].to_vec()));
    // Empty queries, empty matchers of one query, forms packed and one by one: just enough, and too many.
    for count in [QUERIES_MAX, QUERIES_MAX + 1] {
        found.push([0x0a, 0].repeat(count));
    }
    for count in [MATCHERS_MAX, MATCHERS_MAX + 1] {
        found.push(query_of(&[0x1a, 0].repeat(count)));
    }
    for count in [FORM_BYTES_MAX, FORM_BYTES_MAX + 1] {
        found.push([0x10, 1].repeat(count));
        found.push([&[0x12, count as u8][..], &vec![1; count]].concat());
    }
    // Hints with groups and labels, which are passed over; groups in groups; a length beyond the end; a wrong wire type.
    found.push(query_of(&[0x22, 6, 0x2a, 1, b'a', 0x2a, 1, b'b']));
    found.push([vec![0x1b; 90], vec![0x1c; 90]].concat());
    found.push(vec![0x1b; 200]);
    found.push(vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    found.push(vec![0x08, 1, 0x0a, 0]);
    found.push(vec![0x0d, 0x18, 1, 0x1a, 0]);
    found.push(query_of(&[0x18, 1, 0x1a, 0]));
    found.into_iter().map(|input| ("remote-read", input)).collect()
}

/// A request with one query of these bytes.
fn query_of(content: &[u8]) -> Vec<u8> {
    let mut request = vec![0x0a];
    prost::encoding::encode_varint(content.len() as u64, &mut request);
    request.extend_from_slice(content);
    request
}
