//! Series texts: a metric, then its values, as `load` lines and expected rows write them.

use pharos_model::{Labels, LabelsBuilder, METRIC_NAME};

use super::histogram::HistogramText;
use super::scan::{ITEMS_MAX, Scan};
use crate::lexer::Lexer;
use crate::quote::unquote;
use crate::token::{Token, TokenKind};

/// One value of a series text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Point {
    /// `_`: no sample.
    Gap,
    Float(f64),
    Histogram(Box<HistogramText>),
}

/// A line `metric{…} values`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SeriesText {
    pub(super) labels: Labels,
    pub(super) points: Vec<Point>,
}

impl SeriesText {
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let (labels, rest) = metric(line)?;
        Ok(Self { labels, points: points(rest)? })
    }
}

/// Reads `name{label="value", …}`; answers what follows it.
pub(super) fn metric(line: &str) -> Result<(Labels, &str), String> {
    let mut lexer = Lexer::new(line);
    let mut builder = LabelsBuilder::default();
    let mut next = || lexer.next_token().map_err(|error| error.message);
    let mut token = next()?;
    if token.kind != TokenKind::LeftBrace {
        let name = token.span.text(line);
        if !crate::quote::is_classic_metric_name(name) {
            return Err(format!("a metric is expected, not {}", token.describe(line)));
        }
        builder.push(METRIC_NAME, name);
        let rest = &line[token.span.end as usize..];
        if !rest.starts_with('{') {
            return Ok((builder.build().map_err(|error| error.to_string())?, rest));
        }
        token = next()?;
    }
    while token.kind != TokenKind::RightBrace {
        token = next()?;
        if token.kind == TokenKind::RightBrace {
            break;
        }
        let name = word(line, token)?;
        token = next()?;
        if token.kind == TokenKind::Assign {
            builder.push(&name, &string(line, next()?)?);
            token = next()?;
        } else {
            builder.push(METRIC_NAME, &name);
        }
        if !matches!(token.kind, TokenKind::Comma | TokenKind::RightBrace) {
            return Err(format!("unexpected {} in a metric", token.describe(line)));
        }
    }
    let labels = builder.build().map_err(|error| error.to_string())?;
    Ok((labels, &line[token.span.end as usize..]))
}

fn word(line: &str, token: Token) -> Result<String, String> {
    match token.kind {
        TokenKind::Identifier => Ok(token.span.text(line).to_owned()),
        _ => string(line, token),
    }
}

fn string(line: &str, token: Token) -> Result<String, String> {
    if token.kind != TokenKind::String {
        return Err(format!("unexpected {} in a metric", token.describe(line)));
    }
    String::from_utf8(unquote(token.span.text(line))).map_err(|error| error.to_string())
}

/// Reads values: `1 2 _ stale 0+10x5 {{…}}x3`.
fn points(text: &str) -> Result<Vec<Point>, String> {
    let mut scan = Scan::new(text);
    let mut points = Vec::new();
    while !scan.rest.is_empty() {
        if scan.accept("_") {
            let count = scan.times()?.unwrap_or(1);
            points.extend(std::iter::repeat_n(Point::Gap, count));
        } else if scan.rest.starts_with("{{") {
            histograms(&mut scan, &mut points)?;
        } else {
            floats(&mut scan, &mut points)?;
        }
        if points.len() > ITEMS_MAX {
            return Err(format!("more than the limit of {ITEMS_MAX} values"));
        }
        scan.end_item()?;
    }
    Ok(points)
}

/// `a`, `axN`, `a+bxN`, `a-bxN`: with a repetition N+1 values.
fn floats(scan: &mut Scan<'_>, points: &mut Vec<Point>) -> Result<(), String> {
    let mut value = scan.float()?;
    let increment = if scan.rest.starts_with(['+', '-']) { Some(scan.float()?) } else { None };
    let times = repetition(scan, increment.is_some())?;
    points.push(Point::Float(value));
    for _ in 0..times {
        value += increment.unwrap_or(0.0);
        points.push(Point::Float(value));
    }
    Ok(())
}

/// `{{…}}`, `{{…}}xN`, `{{…}}+{{…}}xN`, `{{…}}-{{…}}xN`.
fn histograms(scan: &mut Scan<'_>, points: &mut Vec<Point>) -> Result<(), String> {
    let mut value = HistogramText::scan(scan)?;
    let negative = scan.sign();
    let increment = negative.map(|_| HistogramText::scan(scan)).transpose()?;
    let times = repetition(scan, increment.is_some())?;
    points.push(Point::Histogram(Box::new(value.clone())));
    for _ in 0..times {
        if let Some(increment) = &increment {
            value = value.plus(increment, if negative == Some(true) { -1.0 } else { 1.0 })?;
        }
        points.push(Point::Histogram(Box::new(value.clone())));
    }
    Ok(())
}

fn repetition(scan: &mut Scan<'_>, required: bool) -> Result<usize, String> {
    match scan.times()? {
        Some(times) => Ok(times),
        None if required => Err("an increment needs a repetition xN".to_owned()),
        None => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats_of(text: &str) -> Vec<f64> {
        let points = SeriesText::parse(text).unwrap().points;
        points.into_iter().map(|point| if let Point::Float(value) = point { value } else { -99.0 }).collect()
    }

    #[test]
    fn shorthand_expands() {
        assert_eq!(
            floats_of("m 1 2 _ 0+10x2 5-1x1 7x1 _x2"),
            [1.0, 2.0, -99.0, 0.0, 10.0, 20.0, 5.0, 4.0, 7.0, 7.0, -99.0, -99.0]
        );
        assert_eq!(floats_of("m -Inf 1e3 -2-1x1"), [f64::NEG_INFINITY, 1000.0, -2.0, -3.0]);
        assert!(
            matches!(SeriesText::parse("m stale").unwrap().points[..], [Point::Float(v)] if pharos_model::is_stale_nan(v))
        );
    }

    #[test]
    fn metrics_may_be_quoted_or_nameless() {
        let labels = |line| SeriesText::parse(line).unwrap().labels.to_string();
        assert_eq!(labels(r#"{"my.metric", a="x"} 1"#), labels(r#"{__name__="my.metric",a="x"} 1"#));
        assert_eq!(SeriesText::parse("{} 1").unwrap().labels, Labels::empty());
        assert_eq!(labels("sum{} 1"), "sum");
    }

    #[test]
    fn faults_are_named() {
        let fault = |line| SeriesText::parse(line).unwrap_err();
        assert_eq!(fault("m 1+1"), "an increment needs a repetition xN");
        assert_eq!(fault("m 1x9999999999"), "x9999999999: more than the limit of 1000000 values");
        assert!(fault("m 1y").contains("a space is missing"), "{}", fault("m 1y"));
        assert!(fault(r#"m{a~"b"} 1"#).contains('~'));
    }
}
