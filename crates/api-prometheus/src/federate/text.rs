//! The text formats.

use pharos_model::{Histogram, Labels};
use pharos_promql::engine::SampleValue;

use super::format::{Names, is_classic};
use super::{Newest, classic_buckets, told_labels};
use crate::number::push_float;

/// Text being written.
pub(super) struct Exposition {
    out: Vec<u8>,
    names: Names,
}

impl Exposition {
    /// Families of the samples, which are sorted by name. Exponential histograms have no text form and are left out.
    pub(super) fn of(samples: &[Newest], names: Names) -> Vec<u8> {
        let (mut text, mut family) = (Self { out: Vec::new(), names }, None);
        for (labels, at_ms, value) in samples {
            let name = labels.metric_name();
            let kind = match value {
                SampleValue::Float(_) => "untyped",
                SampleValue::Histogram(histogram) if histogram.has_custom_buckets() => "histogram",
                SampleValue::Histogram(_) => continue,
            };
            if family != Some((name, kind)) {
                let line = format!("# TYPE {} {kind}\n", text.name(name, true));
                text.out.extend_from_slice(line.as_bytes());
                family = Some((name, kind));
            }
            match value {
                SampleValue::Float(value) => text.line(name, labels, None, *value, *at_ms),
                SampleValue::Histogram(histogram) => text.classic(name, labels, histogram, *at_ms),
            }
        }
        text.out
    }

    /// A histogram with custom buckets, its buckets cumulative.
    fn classic(&mut self, name: &str, labels: &Labels, histogram: &Histogram, at_ms: i64) {
        let bucket = format!("{name}_bucket");
        for (bound, count) in classic_buckets(histogram).chain([(f64::INFINITY, histogram.count)]) {
            self.line(&bucket, labels, Some(bound), count, at_ms);
        }
        self.line(&format!("{name}_sum"), labels, None, histogram.sum, at_ms);
        self.line(&format!("{name}_count"), labels, None, histogram.count, at_ms);
    }

    /// One sample.
    fn line(&mut self, name: &str, labels: &Labels, le: Option<f64>, value: f64, at_ms: i64) {
        let shown = self.name(name, true);
        let is_inside = shown.starts_with('"');
        let (before, inside) = if is_inside { ("", shown.as_str()) } else { (shown.as_str(), "") };
        self.out.extend_from_slice(format!("{before}{{{inside}").as_bytes());
        let mut separator = if is_inside { "," } else { "" };
        for (label, value) in told_labels(labels) {
            let escaped = value.replace('\\', r"\\").replace('\n', r"\n").replace('"', "\\\"");
            let pair = format!("{separator}{}=\"{escaped}\"", self.name(label, false));
            self.out.extend_from_slice(pair.as_bytes());
            separator = ",";
        }
        if let Some(bound) = le {
            self.out.extend_from_slice(format!("{separator}le=\"").as_bytes());
            push_float(&mut self.out, bound);
            self.out.push(b'"');
        }
        self.out.extend_from_slice(b"} ");
        push_float(&mut self.out, value);
        self.out.extend_from_slice(format!(" {at_ms}\n").as_bytes());
    }

    /// A name as the client can read it, in quotes where it must be; metric names may have colons.
    fn name(&self, name: &str, colons: bool) -> String {
        let written = self.names.write(name, colons);
        if is_classic(&written, colons) { written.into_owned() } else { pharos_promql::quote(&written) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::{custom, labels};
    use super::*;

    fn check(samples: &[Newest], names: Names, expected: &str) {
        assert_eq!(String::from_utf8(Exposition::of(samples, names)).unwrap(), expected);
    }

    #[test]
    fn families_are_headed_once_and_values_escaped() {
        let samples = [
            (labels(&[("__name__", "a"), ("instance", "x"), ("p", "c:\\\"d\"\n")]), 1_000, SampleValue::Float(1.5)),
            (labels(&[("__name__", "a"), ("q", "1")]), 2_000, SampleValue::Float(f64::NAN)),
        ];
        let expected = "# TYPE a untyped\na{instance=\"x\",p=\"c:\\\\\\\"d\\\"\\n\"} 1.5 1000\na{q=\"1\",instance=\"\"} NaN 2000\n";
        check(&samples, Names::Utf8, expected);
    }

    #[test]
    fn names_are_quoted_or_escaped() {
        let samples = [(labels(&[("__name__", "a.b"), ("c-d", "1")]), 1, SampleValue::Float(2.0))];
        check(&samples, Names::Utf8, "# TYPE \"a.b\" untyped\n{\"a.b\",\"c-d\"=\"1\",instance=\"\"} 2 1\n");
        check(&samples, Names::Underscores, "# TYPE a_b untyped\na_b{c_d=\"1\",instance=\"\"} 2 1\n");
        let values = "# TYPE U__a_2e_b untyped\nU__a_2e_b{U__c_2d_d=\"1\",instance=\"\"} 2 1\n";
        check(&samples, Names::Values, values);
    }

    #[test]
    fn custom_buckets_are_told_as_classic_ones_and_exponential_ones_are_not() {
        let value = |histogram| SampleValue::Histogram(Arc::new(histogram));
        let name = labels(&[("__name__", "h"), ("instance", "x")]);
        check(&[(name.clone(), 1, value(Histogram::empty(0)))], Names::Utf8, "");
        check(
            &[(name, 1, value(custom()))],
            Names::Utf8,
            "# TYPE h histogram\nh_bucket{instance=\"x\",le=\"0.5\"} 2 1\nh_bucket{instance=\"x\",le=\"1\"} 2 1\n\
             h_bucket{instance=\"x\",le=\"+Inf\"} 5 1\nh_sum{instance=\"x\"} 7.5 1\nh_count{instance=\"x\"} 5 1\n",
        );
    }
}
