//! Histogram texts: `{{schema:0 sum:5 count:4 buckets:[1 2 1]}}`, and sums of them.

use std::collections::BTreeMap;

use pharos_model::{BucketSide, BucketSpan, Histogram, ResetHint};

use super::scan::Scan;

/// A histogram as written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HistogramText {
    pub(super) histogram: Histogram,
    /// Whether the reset hint was written; expectations compare it only then.
    pub(super) names_hint: bool,
}

impl HistogramText {
    /// Reads `{{key:value …}}`.
    pub(super) fn scan(scan: &mut Scan<'_>) -> Result<Self, String> {
        if !scan.accept("{{") {
            return Err(format!("a histogram is expected, not {:?}", scan.rest));
        }
        let mut body = Scan::new(scan.until("}}")?);
        let mut text = Self { histogram: Histogram::empty(0), names_hint: false };
        let (mut offset, mut negative_offset) = (0, 0);
        while !body.rest.is_empty() {
            let key = body.until(":")?;
            let histogram = &mut text.histogram;
            match key {
                "schema" => histogram.schema = integer(&mut body)?,
                "sum" => histogram.sum = body.float()?,
                "count" => histogram.count = body.float()?,
                "z_bucket" => histogram.zero_count = body.float()?,
                "z_bucket_w" => histogram.zero_threshold = body.float()?,
                "custom_values" => histogram.custom_bounds = list(&mut body)?,
                "buckets" => histogram.positive.counts = list(&mut body)?,
                "n_buckets" => histogram.negative.counts = list(&mut body)?,
                "offset" => offset = integer(&mut body)?,
                "n_offset" => negative_offset = integer(&mut body)?,
                "counter_reset_hint" => {
                    text.names_hint = true;
                    histogram.reset_hint = hint(&mut body)?;
                }
                other => return Err(format!("{other:?} is no part of a histogram")),
            }
            body.end_item()?;
        }
        set_span(&mut text.histogram.positive, offset);
        set_span(&mut text.histogram.negative, negative_offset);
        Ok(text)
    }

    /// This one plus `factor` times the other, bucket by bucket.
    pub(super) fn plus(&self, other: &Self, factor: f64) -> Result<Self, String> {
        let (a, b) = (&self.histogram, &other.histogram);
        if a.has_custom_buckets() != b.has_custom_buckets() || a.custom_bounds != b.custom_bounds {
            return Err("an increment needs the custom bounds of its histogram".to_owned());
        }
        let schema = a.schema.min(b.schema);
        let side = |a_side, b_side| {
            let mut counts = BTreeMap::new();
            add_buckets(&mut counts, a_side, a.schema - schema, 1.0);
            add_buckets(&mut counts, b_side, b.schema - schema, factor);
            side_of(counts)
        };
        let histogram = Histogram {
            is_integer: false,
            reset_hint: combined_hint(a.reset_hint, b.reset_hint),
            schema,
            zero_threshold: a.zero_threshold.max(b.zero_threshold),
            zero_count: a.zero_count + factor * b.zero_count,
            count: a.count + factor * b.count,
            sum: a.sum + factor * b.sum,
            positive: side(&a.positive, &b.positive),
            negative: side(&a.negative, &b.negative),
            custom_bounds: a.custom_bounds.clone(),
        };
        Ok(Self { histogram, names_hint: self.names_hint })
    }
}

fn combined_hint(a: ResetHint, b: ResetHint) -> ResetHint {
    if a == b {
        a
    } else if a == ResetHint::Gauge || b == ResetHint::Gauge {
        ResetHint::Gauge
    } else {
        ResetHint::Unknown
    }
}

/// Adds buckets of a schema finer by `finer`: 2^`finer` of them make one.
fn add_buckets(counts: &mut BTreeMap<i32, f64>, side: &BucketSide, finer: i32, factor: f64) {
    for (index, count) in side.iter() {
        *counts.entry(((index - 1) >> finer.clamp(0, 31)) + 1).or_default() += factor * count;
    }
}

/// Buckets by index, as spans and counts.
pub(super) fn side_of(counts: impl IntoIterator<Item = (i32, f64)>) -> BucketSide {
    let mut side = BucketSide::default();
    let mut end = 0;
    for (index, count) in counts {
        match side.spans.last_mut() {
            Some(span) if index == end => span.length += 1,
            last => {
                let gap = if last.is_some() { index - end } else { index };
                side.spans.push(BucketSpan { offset: gap, length: 1 });
            }
        }
        end = index + 1;
        side.counts.push(count);
    }
    side
}

fn set_span(side: &mut BucketSide, offset: i32) {
    if !side.counts.is_empty() {
        side.spans = vec![BucketSpan { offset, length: side.counts.len() as u32 }];
    }
}

fn integer(scan: &mut Scan<'_>) -> Result<i32, String> {
    let value = scan.float()?;
    if value.fract() != 0.0 || value.abs() > 1e6 {
        return Err(format!("{value} is no integer of this size"));
    }
    Ok(value as i32)
}

fn list(scan: &mut Scan<'_>) -> Result<Vec<f64>, String> {
    if !scan.accept("[") {
        return Err(format!("a list is expected, not {:?}", scan.rest));
    }
    let mut items = Scan::new(scan.until("]")?);
    let mut values = Vec::new();
    while !items.rest.is_empty() {
        values.push(items.float()?);
        items.end_item()?;
    }
    Ok(values)
}

fn hint(scan: &mut Scan<'_>) -> Result<ResetHint, String> {
    for (word, hint) in [
        ("unknown", ResetHint::Unknown),
        ("reset", ResetHint::Reset),
        ("not_reset", ResetHint::NotReset),
        ("gauge", ResetHint::Gauge),
    ] {
        if scan.accept(word) {
            return Ok(hint);
        }
    }
    Err(format!("unknown counter reset hint {:?}", scan.rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<HistogramText, String> {
        HistogramText::scan(&mut Scan::new(text))
    }

    #[test]
    fn keys_come_in_any_order() {
        let text = "{{count:6 sum:9 n_buckets:[1] n_offset:2 buckets:[2 0 3] offset:-1 schema:1 \
                    counter_reset_hint:not_reset z_bucket:1 z_bucket_w:0.5}}";
        let found = parsed(text).unwrap();
        assert_eq!(found.histogram.positive.iter().collect::<Vec<_>>(), [(-1, 2.0), (0, 0.0), (1, 3.0)]);
        assert_eq!(found.histogram.negative.iter().collect::<Vec<_>>(), [(2, 1.0)]);
        assert_eq!((found.histogram.schema, found.histogram.reset_hint), (1, ResetHint::NotReset));
        assert!(found.names_hint);
    }

    #[test]
    fn increments_add_bucket_by_bucket() {
        let base = parsed("{{count:1 sum:1 buckets:[1] offset:1}}").unwrap();
        let increment = parsed("{{count:2 sum:3 buckets:[2] offset:4}}").unwrap();
        let sum = base.plus(&increment, 1.0).unwrap().histogram;
        assert_eq!(sum.positive.iter().collect::<Vec<_>>(), [(1, 1.0), (4, 2.0)]);
        assert_eq!((sum.count, sum.sum), (3.0, 4.0));
        let finer = parsed("{{schema:1 count:4 sum:4 buckets:[1 1 1 1] offset:1}}").unwrap();
        let sum = base.plus(&finer, -1.0).unwrap().histogram;
        assert_eq!((sum.schema, sum.positive.iter().collect::<Vec<_>>()), (0, vec![(1, -1.0), (2, -2.0)]));
    }

    #[test]
    fn faults_are_named() {
        assert!(parsed("{{sum:1").unwrap_err().contains("}}"));
        assert!(parsed("{{weight:1}}").unwrap_err().contains("weight"));
        assert!(parsed("{{counter_reset_hint:maybe}}").unwrap_err().contains("maybe"));
        assert!(parsed("{{schema:1.5}}").unwrap_err().contains("1.5"));
    }
}
