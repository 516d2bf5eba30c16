//! Parents as places in their trace: 0 for none, 1 for a span that is not in the trace (a *stranger*, whose id is
//! kept), else 2 and the number of the parent among the spans of the trace.

use hashbrown::HashMap;
use pharos_model::SpanId;

use crate::codec::{DecodeError, SpanSkeleton};

const NONE: i64 = 0;
const STRANGER: i64 = 1;
const FIRST: i64 = 2;

/// Codes of the parents of a block's spans.
#[derive(Debug, Default)]
pub(super) struct ParentCodes {
    codes: Vec<i64>,
    strangers: Vec<SpanId>,
    places: HashMap<SpanId, i64>,
}

impl ParentCodes {
    pub(super) fn push_trace(&mut self, spans: &[SpanSkeleton]) {
        self.places.clear();
        for (place, span) in spans.iter().enumerate() {
            self.places.entry(span.span_id).or_insert(place as i64);
        }
        for span in spans {
            let parent = span.parent_span_id;
            self.codes.push(match self.places.get(&parent) {
                _ if parent.is_zero() => NONE,
                Some(place) => FIRST + place,
                None => {
                    self.strangers.push(parent);
                    STRANGER
                }
            });
        }
    }

    pub(super) fn codes(&self) -> &[i64] {
        &self.codes
    }

    pub(super) fn strangers(&self) -> &[SpanId] {
        &self.strangers
    }

    pub(super) fn clear(&mut self) {
        self.codes.clear();
        self.strangers.clear();
    }
}

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parent {
    None,
    Stranger,
    /// The span at this place of a trace.
    At(usize),
}

impl Parent {
    /// Of a span in a trace of `span_count` spans.
    pub(super) fn of_code(code: i64, span_count: usize) -> Result<Self, DecodeError> {
        match code {
            NONE => Ok(Self::None),
            STRANGER => Ok(Self::Stranger),
            _ => usize::try_from(code.wrapping_sub(FIRST))
                .ok()
                .filter(|place| *place < span_count)
                .map(Self::At)
                .ok_or(DecodeError::OutOfRange("place of the parent")),
        }
    }
}
