//! `status/self_metrics`: this server's own metrics as JSON, in the shape that protobuf gives `io.prometheus.client.MetricFamily`.
//!
//! They are read from the text that `/metrics` answers, so that both always tell the same. The text is our own:
//! lines of unknown form are left out.

use std::sync::Arc;

use axum::extract::State;
use pharos_model::{MatchOp, Matcher};
use serde_json::{Map, Value, json};

use crate::call::Insider;
use crate::params::{Params, invalid};
use crate::reply::{Reply, success};
use crate::routes::PrometheusApi;

/// Lists families by name; `metric_name_pattern` chooses some.
pub(crate) async fn own_metrics(State(api): State<Arc<PrometheusApi>>, _insider: Insider, params: Params) -> Reply {
    let pattern = params.get("metric_name_pattern").map(|text| Matcher::new(MatchOp::Regex, "name", text)).transpose();
    let pattern = pattern.map_err(|error| invalid("metric_name_pattern", error))?;
    let write = Arc::clone(&api.own_metrics);
    let text = api.ask(move || write()).await?;
    let mut families = families(&text);
    families.retain(|family| pattern.as_ref().is_none_or(|pattern| pattern.matches(&family.name)));
    families.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(success(&families.into_iter().map(Family::json).collect::<Vec<_>>()))
}

#[derive(Default)]
struct Family {
    name: String,
    help: String,
    kind: String,
    /// Series in the order of the text; those of a histogram are joined.
    metrics: Vec<Metric>,
}

/// Names and values, in the order of the text.
type Labels = Vec<(String, String)>;

struct Metric {
    labels: Labels,
    value: Map<String, Value>,
}

fn families(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (Some(key), Some(name), rest) = (words.next(), words.next(), words.next().unwrap_or("")) else {
                continue;
            };
            if families.last().is_none_or(|family| family.name != name) {
                families.push(Family { name: name.to_owned(), ..Family::default() });
            }
            match (key, families.last_mut()) {
                ("HELP", Some(family)) => family.help = rest.trim_end_matches('.').replace("\\\"", "\""),
                ("TYPE", Some(family)) => rest.clone_into(&mut family.kind),
                _ => {}
            }
        } else if let (Some(family), Some((name, labels, value))) = (families.last_mut(), sample(line)) {
            family.add(&name, labels, value);
        }
    }
    families.retain(|family| !family.metrics.is_empty());
    families
}

impl Family {
    fn add(&mut self, name: &str, mut labels: Labels, value: f64) {
        let simple = |key: &str| Map::from_iter([(key.to_owned(), json!({"value": number(value)}))]);
        match self.kind.as_str() {
            "histogram" => {
                let suffix = name.strip_prefix(&self.name).unwrap_or("").to_owned();
                let bound = labels.iter().position(|(label, _)| label == "le").map(|at| labels.remove(at).1);
                self.add_to_histogram(&suffix, bound.as_deref(), labels, value);
            }
            "counter" => {
                // The text names counters without the ending that their samples have.
                name.clone_into(&mut self.name);
                self.metrics.push(Metric { labels, value: simple("counter") });
            }
            _ => {
                name.clone_into(&mut self.name);
                self.metrics.push(Metric { labels, value: simple("gauge") });
            }
        }
    }

    fn add_to_histogram(&mut self, suffix: &str, bound: Option<&str>, labels: Labels, value: f64) {
        if self.metrics.last().is_none_or(|last| last.labels != labels) {
            let empty = json!({"sampleCount": "0", "sampleSum": 0.0, "bucket": []});
            self.metrics.push(Metric { labels, value: Map::from_iter([("histogram".to_owned(), empty)]) });
        }
        let Some(histogram) = self.metrics.last_mut().and_then(|last| last.value.get_mut("histogram")) else { return };
        let bound = bound.and_then(|bound| bound.parse::<f64>().ok());
        match (suffix, bound, histogram.get_mut("bucket").and_then(Value::as_array_mut)) {
            ("_count", ..) => histogram["sampleCount"] = json!(format!("{value}")),
            ("_sum", ..) => histogram["sampleSum"] = number(value),
            // The last bucket of all is the count.
            ("_bucket", Some(bound), Some(buckets)) if bound.is_finite() => {
                buckets.push(json!({"cumulativeCount": format!("{value}"), "upperBound": bound}));
            }
            _ => {}
        }
    }

    fn json(self) -> Value {
        let kind = match self.kind.as_str() {
            "histogram" => "HISTOGRAM",
            "counter" => "COUNTER",
            _ => "GAUGE",
        };
        let metric = |metric: Metric| {
            let labels = metric.labels.into_iter().map(|(name, value)| json!({"name": name, "value": value}));
            let mut entry = Map::from_iter([("label".to_owned(), labels.collect())]);
            entry.extend(metric.value);
            Value::Object(entry)
        };
        let metrics: Vec<_> = self.metrics.into_iter().map(metric).collect();
        json!({"name": self.name, "help": self.help, "type": kind, "metric": metrics})
    }
}

/// A double as protobuf's JSON has it.
fn number(value: f64) -> Value {
    if value.is_finite() {
        return json!(value);
    }
    json!(if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    })
}

/// Name, labels and value of a line such as `name{label="value"} 1`.
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let name_len = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_len);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, behind) = rest.split_once("=\"")?;
            let (value, behind) = unquoted(behind)?;
            labels.push((label.to_owned(), value));
            rest = behind.strip_prefix(',').unwrap_or(behind);
        }
        rest = &rest[1..];
    }
    let value = rest.trim_start().split(' ').next()?.parse().ok()?;
    Some((name.to_owned(), labels, value))
}

/// The text up to a quote that is not escaped, and what follows the quote.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut characters) = (String::new(), text.char_indices());
    loop {
        match characters.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            (_, character) => value.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP up_b Things.
# TYPE up_b gauge
up_b -1.5
# HELP asked Requests.
# TYPE asked counter
asked_total{path=\"/a\\\"b\\n\",code=\"200\"} 7
asked_total{path=\"/\"} 8
# HELP took Seconds.
# TYPE took histogram
took_sum{path=\"/\"} 0.5
took_count{path=\"/\"} 3
took_bucket{le=\"0.1\",path=\"/\"} 1
took_bucket{le=\"+Inf\",path=\"/\"} 3
# HELP none Nothing.
# TYPE none counter
# EOF
";

    #[test]
    fn families_have_the_shape_of_their_protobuf() {
        let found: Vec<_> = families(TEXT).into_iter().map(Family::json).collect();
        let label = |name: &str, value: &str| json!({"name": name, "value": value});
        assert_eq!(
            json!(found),
            json!([
                {"name": "up_b", "help": "Things", "type": "GAUGE", "metric": [{"label": [], "gauge": {"value": -1.5}}]},
                {"name": "asked_total", "help": "Requests", "type": "COUNTER", "metric": [
                    {"label": [label("path", "/a\"b\n"), label("code", "200")], "counter": {"value": 7.0}},
                    {"label": [label("path", "/")], "counter": {"value": 8.0}},
                ]},
                {"name": "took", "help": "Seconds", "type": "HISTOGRAM", "metric": [
                    {"label": [label("path", "/")], "histogram": {
                        "sampleCount": "3", "sampleSum": 0.5,
                        "bucket": [{"cumulativeCount": "1", "upperBound": 0.1}],
                    }},
                ]},
            ])
        );
    }

    #[test]
    fn lines_of_unknown_form_are_left_out() {
        for line in ["", "name", "name{", "name{a=\"b", "name{a=\"b\"}", "name x", "name{a} 1"] {
            assert!(sample(line).is_none(), "{line}");
        }
    }
}
