//! What all histograms of a chunk share: header, schema, zero bucket, spans, custom bounds.

use pharos_model::{BucketSpan, CUSTOM_BUCKETS_SCHEMA};

use super::start::Starts;
use crate::bits::Bits;
use crate::bytes::Cursor;
use crate::error::Malformed;

/// Most spans and custom bounds of all histograms of a chunk: 32 MiB. Prometheus cuts a chunk at about a kilobyte, so that even
/// histograms with thousands of bounds have a tenth of it.
const REPEATED_MAX: usize = 4 << 20;

/// The front of a chunk of histograms.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) positive: Vec<BucketSpan>,
    pub(super) negative: Vec<BucketSpan>,
    pub(super) custom_bounds: Vec<f64>,
}

/// How many samples there are, the byte with the reset flags in its two highest bits, the starts, and the rest.
pub(super) fn header(bytes: &[u8], has_starts: bool) -> Result<(usize, u8, Starts, Bits<'_>), Malformed> {
    let mut cursor = Cursor(bytes);
    let first = cursor.u16()?;
    let third = cursor.u8()?;
    let bits = Bits::new(cursor.0);
    Ok(if has_starts {
        (usize::from(first & 0x3fff), (first >> 8) as u8, Starts::new(third), bits)
    } else {
        (usize::from(first), third, Starts::new(0), bits)
    })
}

impl Layout {
    pub(super) fn read(bits: &mut Bits<'_>) -> Result<Self, Malformed> {
        let zero_threshold = match bits.bits(8)? {
            0 => 0.0,
            255 => bits.f64()?,
            exponent => 2_f64.powi(exponent as i32 - 244),
        };
        let schema =
            i32::try_from(bits.varbit_int()?).map_err(|_| Malformed("a histogram's schema is out of range"))?;
        let (positive, negative) = (spans(bits)?, spans(bits)?);
        let custom_bounds = if schema == CUSTOM_BUCKETS_SCHEMA { bounds(bits)? } else { Vec::new() };
        Ok(Self { schema, zero_threshold, positive, negative, custom_bounds })
    }

    /// Buckets of the positive and the negative side. There is a bit for each in every sample, or none is made; spans and
    /// bounds take none, and each of the `samples` histograms has its own.
    pub(super) fn bucket_counts(&self, samples: usize, bits: &Bits<'_>) -> Result<(usize, usize), Malformed> {
        let repeated = self.positive.len() + self.negative.len() + self.custom_bounds.len();
        if repeated.saturating_mul(samples) > REPEATED_MAX {
            return Err(Malformed("the spans and bounds of a chunk's histograms are too many"));
        }
        let count = |spans: &[BucketSpan]| spans.iter().map(|span| u64::from(span.length)).sum::<u64>();
        let (positive, negative) = (count(&self.positive), count(&self.negative));
        if positive.saturating_add(negative) > bits.left() as u64 {
            return Err(Malformed("a histogram has more buckets than its chunk has bits"));
        }
        Ok((positive as usize, negative as usize))
    }
}

fn spans(bits: &mut Bits<'_>) -> Result<Vec<BucketSpan>, Malformed> {
    let count = counted(bits)?;
    let mut spans = Vec::new();
    for _ in 0..count {
        let length = u32::try_from(bits.varbit_uint()?).map_err(|_| Malformed("a span is too long"))?;
        let offset = i32::try_from(bits.varbit_int()?).map_err(|_| Malformed("a span lies too far away"))?;
        spans.push(BucketSpan { offset, length });
    }
    Ok(spans)
}

fn bounds(bits: &mut Bits<'_>) -> Result<Vec<f64>, Malformed> {
    let count = counted(bits)?;
    let mut bounds = Vec::new();
    for _ in 0..count {
        bounds.push(match bits.varbit_uint()? {
            0 => bits.f64()?,
            thousandths => (thousandths - 1) as f64 / 1_000.0,
        });
    }
    Ok(bounds)
}

fn counted(bits: &mut Bits<'_>) -> Result<usize, Malformed> {
    let count = bits.varbit_uint()?;
    usize::try_from(count)
        .ok()
        .filter(|count| *count <= bits.left())
        .ok_or(Malformed("a histogram's layout is longer than its chunk"))
}
