//! Classic histograms as native ones with custom buckets, as `load_with_nhcb` wants them.

use std::collections::BTreeMap;

use pharos_model::{CUSTOM_BUCKETS_SCHEMA, Histogram, Labels, METRIC_NAME};

use super::histogram::{HistogramText, side_of};
use super::series::{Point, SeriesText};

const BUCKET_LABEL: &str = "le";

/// The parts of one classic histogram at one instant.
#[derive(Debug, Default, Clone)]
struct Classic {
    /// Upper bound and cumulative count.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

#[derive(Clone, Copy)]
enum Part {
    Bucket(f64),
    Count,
    Sum,
}

/// The native histograms that the classic ones among `series` amount to, one series for each.
pub(super) fn custom_bucket_series(series: &[SeriesText]) -> Result<Vec<SeriesText>, String> {
    let mut found: BTreeMap<Labels, BTreeMap<usize, Classic>> = BTreeMap::new();
    for text in series {
        let Some((labels, part)) = part_of(&text.labels) else { continue };
        let instants = found.entry(labels).or_default();
        for (index, point) in text.points.iter().enumerate() {
            let Point::Float(value) = *point else { continue };
            let classic = instants.entry(index).or_default();
            match part {
                Part::Bucket(bound) => classic.buckets.push((bound, value)),
                Part::Count => classic.count = Some(value),
                Part::Sum => classic.sum = value,
            }
        }
    }
    found.into_iter().map(|(labels, instants)| native_series(labels, instants)).collect()
}

/// Which part of which histogram a series is: `x_bucket{le=…}`, `x_count`, `x_sum`.
fn part_of(labels: &Labels) -> Option<(Labels, Part)> {
    let name = labels.metric_name();
    let (base, part) = if let Some(base) = name.strip_suffix("_bucket") {
        let bound: f64 = labels.get(BUCKET_LABEL)?.parse().ok()?;
        (base, if bound.is_nan() { return None } else { Part::Bucket(bound) })
    } else if let Some(base) = name.strip_suffix("_count") {
        (base, Part::Count)
    } else {
        (name.strip_suffix("_sum")?, Part::Sum)
    };
    let others = labels.iter().filter(|(name, _)| *name != BUCKET_LABEL && *name != METRIC_NAME);
    Labels::from_pairs(others.chain([(METRIC_NAME, base)])).ok().map(|labels| (labels, part))
}

fn native_series(labels: Labels, instants: BTreeMap<usize, Classic>) -> Result<SeriesText, String> {
    let mut points = Vec::new();
    for (index, classic) in instants {
        points.resize(index, Point::Gap);
        let histogram = classic.into_native().map_err(|error| format!("{labels}: {error}"))?;
        points.push(Point::Histogram(Box::new(HistogramText { histogram, names_hint: false })));
    }
    Ok(SeriesText { labels, points })
}

impl Classic {
    fn into_native(mut self) -> Result<Histogram, String> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup();
        let count = self.count.or(self.buckets.last().map(|bucket| bucket.1)).unwrap_or(0.0);
        if self.buckets.last().is_none_or(|bucket| bucket.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut below = 0.0;
        let mut counts = Vec::new();
        for (index, (bound, cumulative)) in self.buckets.iter().enumerate() {
            let own = cumulative - below;
            if own < 0.0 {
                return Err(format!("the bucket counts do not ascend at le={bound}"));
            }
            below = *cumulative;
            if own != 0.0 {
                counts.push((index as i32, own));
            }
        }
        self.buckets.pop();
        Ok(Histogram {
            count,
            sum: self.sum,
            positive: side_of(counts),
            custom_bounds: self.buckets.into_iter().map(|bucket| bucket.0).collect(),
            ..Histogram::empty(CUSTOM_BUCKETS_SCHEMA)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cumulative_buckets_become_bounds_and_counts() {
        let lines = [
            r#"h_bucket{le="0.1", job="a"} 1"#,
            r#"h_bucket{le="1", job="a"} 1"#,
            r#"h_bucket{le="+Inf", job="a"} 4"#,
            r#"h_sum{job="a"} 9"#,
            r#"h_count{job="a"} 4"#,
            "other 1",
        ];
        let series: Vec<SeriesText> = lines.iter().map(|line| SeriesText::parse(line).unwrap()).collect();
        let wanted =
            SeriesText::parse(r#"h{job="a"} {{schema:-53 count:4 sum:9 custom_values:[0.1 1] buckets:[1 0 3]}}"#);
        let converted = custom_bucket_series(&series).unwrap();
        assert_eq!(converted.len(), 1);
        let (Point::Histogram(found), Point::Histogram(wanted)) = (&converted[0].points[0], &wanted.unwrap().points[0])
        else {
            panic!("histograms")
        };
        assert_eq!(found.histogram.custom_bounds, wanted.histogram.custom_bounds);
        let buckets = |h: &Histogram| h.positive.iter().filter(|bucket| bucket.1 != 0.0).collect::<Vec<_>>();
        assert_eq!(buckets(&found.histogram), buckets(&wanted.histogram));
    }
}
