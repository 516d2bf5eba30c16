//! `info`: labels of info metrics joined to other series that have the same `instance` and `job`.
//!
//! At each step a base series takes the labels of the newest matching series of every info metric, so that its labels
//! may change over time: it then becomes several series.

use hashbrown::{HashMap, HashSet};
use pharos_model::{Labels, METRIC_NAME, MatchOp, Matcher, StepRange};

use super::unmarked;
use crate::engine::QueryError;
use crate::engine::counts::Scope;
use crate::engine::eval::{Evaluator, from_list};
use crate::engine::plan::{Call, Hints, Node, RangeSource, Selector, TimeShift};
use crate::engine::select::Picked;
use crate::engine::series::{Cell, Merger, Series, SeriesIter, build, builder_of, filtered};

const IDENTIFYING: [&str; 2] = ["instance", "job"];
const DEFAULT_INFO_METRIC: &str = "target_info";

/// A step's info sample: the instant it was taken at.
struct InfoSeries {
    labels: Labels,
    /// Unix milliseconds per step.
    taken_ms: Vec<Option<i64>>,
}

/// Which labels are wanted of which info metrics.
struct Wanted<'a> {
    /// Of the metrics' names; empty if the selector says nothing of them.
    names: Vec<Matcher>,
    data: Vec<&'a Matcher>,
}

impl Evaluator<'_> {
    pub(super) fn info<'a>(&'a self, call: &'a Call, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let base = self.collected(&call.args[0], steps)?;
        let matchers: &[Matcher] = match call.args.get(1).map(unmarked) {
            Some(Node::Selector(selector)) => &selector.matchers,
            _ => &[],
        };
        let wanted = Wanted { names: names(matchers, call.args.len() > 1)?, data: data(matchers) };
        let is_info = |series: &Series| {
            let name = series.labels.metric_name();
            !wanted.names.is_empty() && wanted.names.iter().all(|matcher| matcher.matches(name))
        };
        let ignored: Vec<bool> = base.iter().map(is_info).collect();
        let infos = self.info_series(info_time(call), &base, &ignored, &wanted, steps)?;
        let by_key = keyed(&infos);
        let mut merger = Merger::default();
        for (series, is_ignored) in base.into_iter().zip(ignored) {
            self.context.check()?;
            if is_ignored {
                merger.push(series)?;
                continue;
            }
            for enriched in self.enriched(series, &infos, &by_key, &wanted)? {
                merger.push(enriched)?;
            }
        }
        Ok(from_list(merger.into_series(&self.context)?))
    }

    /// The info series that share an identifying value with the base.
    fn info_series(
        &self,
        time: TimeShift,
        base: &[Series],
        ignored: &[bool],
        wanted: &Wanted<'_>,
        steps: StepRange,
    ) -> Result<Vec<InfoSeries>, QueryError> {
        let mut matchers: Vec<Matcher> = Vec::new();
        for label in IDENTIFYING {
            let enriched = base.iter().zip(ignored).filter(|(_, ignored)| !**ignored);
            let values: HashSet<&str> = enriched.filter_map(|(series, _)| series.labels.get(label)).collect();
            if !values.is_empty() {
                let mut values: Vec<String> = values.into_iter().map(regex_syntax::escape).collect();
                values.sort_unstable();
                matchers.push(matcher(MatchOp::Regex, label, &values.join("|"))?);
            }
        }
        if matchers.is_empty() {
            return Ok(Vec::new());
        }
        matchers.extend(wanted.data.iter().copied().chain(&wanted.names).cloned());
        if wanted.names.is_empty() {
            matchers.push(Matcher::equal(METRIC_NAME, DEFAULT_INFO_METRIC));
        }
        let selector = Selector {
            matchers,
            time,
            edge: None,
            hints: Hints::default(),
            scope: Scope::default(),
            span: crate::position::Span::default(),
        };
        let mut infos = Vec::new();
        // The instant of a sample travels as its bits: cells hold floats.
        let instant = |picked: Picked, _| match picked.cell {
            Cell::Float(_) => Cell::Float(f64::from_bits(picked.time_ms.cast_unsigned())),
            other => other,
        };
        for series in self.newest(&selector, steps, instant)? {
            let series = series?;
            let mut taken_ms = Vec::with_capacity(series.cells.len());
            for cell in &series.cells {
                taken_ms.push(match cell {
                    Cell::Empty => None,
                    Cell::Float(value) => Some(value.to_bits().cast_signed()),
                    Cell::Histogram(_) => return Err(QueryError::execution("info sample should be float")),
                });
            }
            infos.push(InfoSeries { labels: series.labels.clone(), taken_ms });
        }
        Ok(infos)
    }

    /// A base series under the labels that it has at each step.
    fn enriched(
        &self,
        mut series: Series,
        infos: &[InfoSeries],
        by_key: &HashMap<Labels, Vec<usize>>,
        wanted: &Wanted<'_>,
    ) -> Result<Vec<Series>, QueryError> {
        let candidates = by_key.get(&key(&series.labels)).map_or(&[][..], Vec::as_slice);
        let cells = std::mem::take(&mut series.cells);
        let must_match = wanted.data.iter().any(|matcher| !matcher.matches_empty());
        let mut outputs: Vec<(Labels, Vec<Cell>)> = Vec::new();
        let count = cells.len();
        for (step, cell) in cells.into_iter().enumerate() {
            if cell.is_empty() {
                continue;
            }
            let newest = newest_by_name(infos, candidates, step)?;
            if newest.is_empty() && must_match {
                continue;
            }
            let labels = joined(&series.labels, &newest, wanted)?;
            let known = outputs.iter().position(|(known, _)| *known == labels);
            let at = known.unwrap_or_else(|| {
                outputs.push((labels, vec![Cell::Empty; count]));
                outputs.len() - 1
            });
            outputs[at].1[step] = cell;
        }
        let drop_name = series.drop_name;
        outputs.into_iter().map(|(labels, cells)| self.series(labels, drop_name, cells)).collect()
    }
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Result<Matcher, QueryError> {
    Matcher::new(op, name, value).map_err(|error| QueryError::execution(error.to_string()))
}

/// What the names of info metrics must pass; excluding some means "other info metrics".
fn names(matchers: &[Matcher], has_selector: bool) -> Result<Vec<Matcher>, QueryError> {
    if !has_selector {
        return Ok(vec![Matcher::equal(METRIC_NAME, DEFAULT_INFO_METRIC)]);
    }
    let mut names: Vec<Matcher> = matchers.iter().filter(|matcher| matcher.name() == METRIC_NAME).cloned().collect();
    let excludes = |name: &Matcher| matches!(name.op(), MatchOp::NotEqual | MatchOp::NotRegex);
    if !names.is_empty() && names.iter().all(excludes) {
        names.push(matcher(MatchOp::Regex, METRIC_NAME, ".+_info")?);
    }
    Ok(names)
}

fn data(matchers: &[Matcher]) -> Vec<&Matcher> {
    matchers.iter().filter(|matcher| matcher.name() != METRIC_NAME).collect()
}

fn key(labels: &Labels) -> Labels {
    filtered(labels, |name| IDENTIFYING.contains(&name))
}

fn keyed(infos: &[InfoSeries]) -> HashMap<Labels, Vec<usize>> {
    let mut by_key: HashMap<Labels, Vec<usize>> = HashMap::new();
    for (at, info) in infos.iter().enumerate() {
        by_key.entry(key(&info.labels)).or_default().push(at);
    }
    by_key
}

/// The newest series of each info metric at one step, by metric name.
fn newest_by_name<'a>(
    infos: &'a [InfoSeries],
    candidates: &[usize],
    step: usize,
) -> Result<Vec<&'a Labels>, QueryError> {
    let mut newest: Vec<(&str, i64, &Labels)> = Vec::new();
    for info in candidates.iter().map(|at| &infos[*at]) {
        let Some(taken_ms) = info.taken_ms[step] else { continue };
        let name = info.labels.metric_name();
        match newest.iter_mut().find(|(known, _, _)| *known == name) {
            None => newest.push((name, taken_ms, &info.labels)),
            Some(known) if known.1 < taken_ms => *known = (name, taken_ms, &info.labels),
            Some(known) if known.1 == taken_ms => {
                return Err(QueryError::execution(format!(
                    "found duplicate series for info metric: existing {} @ {taken_ms}, new {} @ {taken_ms}",
                    crate::engine::series::go_labels(known.2),
                    crate::engine::series::go_labels(&info.labels)
                )));
            }
            Some(_) => {}
        }
    }
    newest.sort_unstable_by_key(|(name, _, _)| *name);
    Ok(newest.into_iter().map(|(_, _, labels)| labels).collect())
}

fn joined(base: &Labels, infos: &[&Labels], wanted: &Wanted<'_>) -> Result<Labels, QueryError> {
    let mut added: HashMap<&str, &str> = HashMap::new();
    for (name, value) in infos.iter().flat_map(|labels| labels.iter()) {
        let is_wanted = wanted.data.is_empty() || wanted.data.iter().any(|matcher| matcher.name() == name);
        if name == METRIC_NAME || !is_wanted {
            continue;
        }
        match added.get(name) {
            Some(other) if *other != value => {
                return Err(QueryError::execution(format!("conflicting label: {name}")));
            }
            _ if base.get(name).is_some() => {}
            _ => {
                added.insert(name, value);
            }
        }
    }
    let mut builder = builder_of(base);
    for (name, value) in added {
        builder.set(name, value);
    }
    Ok(build(builder))
}

/// The instant at which info series are read: that of the base.
pub(in crate::engine) fn info_time(call: &Call) -> TimeShift {
    time_of(&call.args[0]).unwrap_or(TimeShift { at_ms: None, offset_ms: 0 })
}

/// The instant at which the base is read: `@` and offset of its first selector, subqueries around it included.
fn time_of(node: &Node) -> Option<TimeShift> {
    match node {
        Node::Selector(selector) => Some(selector.time),
        Node::Range(range) => match &range.source {
            RangeSource::Samples(_) => Some(range.time),
            RangeSource::Subquery { node, .. } => time_of(node).map(|inner| TimeShift {
                at_ms: inner.at_ms.or(range.time.at_ms.map(|at| at.saturating_sub(range.time.offset_ms))),
                offset_ms: match (inner.at_ms, range.time.at_ms) {
                    (Some(_), _) | (None, Some(_)) => inner.offset_ms,
                    (None, None) => inner.offset_ms.saturating_add(range.time.offset_ms),
                },
            }),
        },
        Node::Call(call) => call.args.iter().find_map(time_of),
        Node::Aggregate(aggregate) => time_of(&aggregate.input),
        Node::Binary(binary) => time_of(&binary.lhs).or_else(|| time_of(&binary.rhs)),
        Node::Negate(node) | Node::Once(node) | Node::Shared { node, .. } => time_of(node),
        Node::Number(_) | Node::Text(_) => None,
    }
}
