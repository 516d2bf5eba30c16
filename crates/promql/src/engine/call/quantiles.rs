//! `histogram_quantile(s)`, `histogram_fraction` and the parts of native histograms.
//!
//! Both kinds of histograms are served at once: classic buckets are gathered by their labels without `le`; a native
//! histogram stands for itself. Where both meet under the same labels at one step, neither answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hashbrown::HashMap;
use jiff::Timestamp;
use pharos_model::{Histogram, Labels, StepRange};

use super::classic::{self, Bucket};
use super::without_empty;
use crate::engine::QueryError;
use crate::engine::annotations::Note;
use crate::engine::eval::{Evaluator, from_list, mapped, text};
use crate::engine::gofmt::go_g;
use crate::engine::histogram::{self, Remark};
use crate::engine::plan::Call;
use crate::engine::series::{Cell, Merger, Series, SeriesIter, build, builder_of, filtered, without_metadata};
use crate::functions::FunctionId as F;
use crate::position::Span;

/// The histograms of one label set: its classic buckets, its native histograms.
struct Family {
    labels: Labels,
    buckets: Vec<(f64, Series)>,
    natives: Vec<Series>,
}

/// What is asked of each histogram: a quantile or a fraction, per step.
enum Question {
    Quantile(Vec<f64>),
    Fraction(Vec<f64>, Vec<f64>),
}

/// Repairs of falling counts, told once per metric.
#[derive(Default)]
struct Repairs(BTreeMap<String, RepairSum>);

struct RepairSum {
    first_bound: f64,
    last_bound: f64,
    largest_drop: f64,
    count: usize,
    from_ms: i64,
    to_ms: i64,
}

impl Evaluator<'_> {
    pub(super) fn quantiles<'a>(&'a self, call: &'a Call, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let scalar = |at: usize| self.scalar(&call.args[at], steps);
        let (vector_at, questions) = match call.function.id {
            F::HistogramQuantile => (1, vec![(None, Question::Quantile(self.phis(scalar(0)?, call.arg_spans[0])))]),
            F::HistogramFraction => (2, vec![(None, Question::Fraction(scalar(0)?, scalar(1)?))]),
            _ => {
                let name = text(&call.args[1])?;
                let mut questions = Vec::new();
                for at in 2..call.args.len() {
                    questions.push((Some(name), Question::Quantile(self.phis(scalar(at)?, call.arg_spans[at]))));
                }
                (0, questions)
            }
        };
        let span = call.arg_spans[vector_at];
        let input = self.vector(&call.args[vector_at], steps)?;
        let families = self.families(input, span)?;
        let mut merger = Merger::default();
        let mut repairs = Repairs::default();
        for family in &families {
            self.context.check()?;
            let columns = self.answers(family, &questions, steps, span, &mut repairs);
            for ((label, question), column) in questions.iter().zip(columns) {
                for (labels, cells) in labelled(family, *label, question, column) {
                    let labels = if self.settings.delayed_name_removal { labels } else { without_metadata(&labels) };
                    let series = self.series(labels, true, cells)?;
                    if !series.is_empty() {
                        merger.push(series)?;
                    }
                }
            }
        }
        repairs.tell(self, span);
        Ok(from_list(merger.into_series(&self.context)?))
    }

    fn phis(&self, phis: Vec<f64>, span: Span) -> Vec<f64> {
        for phi in &phis {
            if !(0.0..=1.0).contains(phi) {
                self.note(span, &Note::InvalidQuantile(*phi));
            }
        }
        phis
    }

    /// The metric that a note names. Names that are removed at once are gone when there is something to say.
    fn told_name<'l>(&self, labels: &'l Labels) -> &'l str {
        if self.settings.delayed_name_removal { labels.metric_name() } else { "" }
    }

    fn families(&self, input: SeriesIter<'_>, span: Span) -> Result<Vec<Family>, QueryError> {
        let mut families: Vec<Family> = Vec::new();
        let mut numbers: HashMap<Labels, usize> = HashMap::new();
        for series in input {
            self.context.check()?;
            let mut series = series?;
            let has_floats = series.cells.iter().any(|cell| cell.float().is_some());
            let has_histograms = series.cells.iter().any(|cell| matches!(cell, Cell::Histogram(_)));
            let mut family = |labels: Labels| {
                *numbers.entry(labels.clone()).or_insert_with(|| {
                    families.push(Family { labels, buckets: Vec::new(), natives: Vec::new() });
                    families.len() - 1
                })
            };
            let native = has_histograms.then(|| family(series.labels.clone()));
            let bound_text = series.labels.get("le").unwrap_or("");
            let bound: Option<f64> = bound_text.parse().ok();
            let classic = match bound {
                Some(bound) if has_floats => {
                    let labels = filtered(&series.labels, |name| name != "le");
                    Some((bound, family(labels)))
                }
                None if has_floats => {
                    let metric = self.told_name(&series.labels);
                    self.note(span, &Note::BadBucketLabel { metric, value: bound_text });
                    None
                }
                _ => None,
            };
            match (native, classic) {
                (Some(native), Some((bound, classic))) => {
                    let floats = series
                        .cells
                        .iter_mut()
                        .map(|cell| if cell.float().is_some() { std::mem::take(cell) } else { Cell::Empty })
                        .collect();
                    let bucket = self.series(series.labels.clone(), series.drop_name, floats)?;
                    families[classic].buckets.push((bound, bucket));
                    families[native].natives.push(series);
                }
                (Some(native), None) => families[native].natives.push(series),
                (None, Some((bound, classic))) => families[classic].buckets.push((bound, series)),
                (None, None) => {}
            }
        }
        Ok(families)
    }

    /// One column per question.
    fn answers(
        &self,
        family: &Family,
        questions: &[(Option<&str>, Question)],
        steps: StepRange,
        span: Span,
        repairs: &mut Repairs,
    ) -> Vec<Vec<Cell>> {
        let metric = self.told_name(&family.labels);
        let mut columns = vec![vec![Cell::Empty; steps.len()]; questions.len()];
        let mut buckets: Vec<Bucket> = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            buckets.clear();
            buckets.extend(family.buckets.iter().filter_map(|(upper, series)| {
                series.cells[index].float().map(|count| Bucket { upper: *upper, count })
            }));
            let native = family.natives.iter().find_map(|series| match &series.cells[index] {
                Cell::Histogram(histogram) => Some(histogram),
                _ => None,
            });
            if native.is_some() && !buckets.is_empty() {
                self.note(span, &Note::MixedClassicNative { metric });
                continue;
            }
            if let Some(native) = native {
                for ((_, question), column) in questions.iter().zip(&mut columns) {
                    column[index] = Cell::Float(self.ask_native(question, index, native, metric, span));
                }
            } else if !buckets.is_empty() {
                let mut repair = None;
                for ((_, question), column) in questions.iter().zip(&mut columns) {
                    column[index] = Cell::Float(match question {
                        Question::Quantile(phis) => {
                            let (quantile, repaired) = classic::quantile(phis[index], &mut buckets);
                            repair = repair.or(repaired);
                            quantile
                        }
                        Question::Fraction(lower, upper) => classic::fraction(lower[index], upper[index], &mut buckets),
                    });
                }
                if let Some(repair) = repair {
                    repairs.add(metric, repair, step);
                }
            }
        }
        columns
    }

    fn ask_native(&self, question: &Question, index: usize, native: &Histogram, metric: &str, span: Span) -> f64 {
        let (answer, remark) = match question {
            Question::Quantile(phis) => histogram::quantile(phis[index], native),
            Question::Fraction(lower, upper) => histogram::fraction(lower[index], upper[index], native),
        };
        match remark {
            None => {}
            Some(Remark::Result) => self.note(span, &Note::QuantileNan { metric }),
            Some(Remark::Skew) => self.note(span, &Note::QuantileSkewed { metric }),
            Some(Remark::Fraction) => self.note(span, &Note::FractionNan { metric }),
        }
        answer
    }

    /// `histogram_count`, `histogram_sum`, …: floats vanish.
    pub(super) fn histogram_parts<'a>(
        &'a self,
        call: &'a Call,
        steps: StepRange,
    ) -> Result<SeriesIter<'a>, QueryError> {
        let part: fn(&Histogram) -> f64 = match call.function.id {
            F::HistogramAvg => histogram::mean,
            F::HistogramCount => |histogram| histogram.count,
            F::HistogramSum => |histogram| histogram.sum,
            F::HistogramStdvar => histogram::variance,
            _ => |histogram| histogram::variance(histogram).sqrt(),
        };
        let input = self.vector(&call.args[0], steps)?;
        let output = mapped(input, move |cell| match cell {
            Cell::Histogram(histogram) => Cell::Float(part(&histogram)),
            _ => Cell::Empty,
        });
        self.renamed(&call.args[0], without_empty(output))
    }
}

/// The answers with their labels; quantiles of `histogram_quantiles` that change over time make several series.
fn labelled(family: &Family, label: Option<&str>, question: &Question, column: Vec<Cell>) -> Vec<(Labels, Vec<Cell>)> {
    let (Some(label), Question::Quantile(phis)) = (label, question) else {
        return vec![(family.labels.clone(), column)];
    };
    debug_assert!(phis.len() == column.len());
    let mut split: Vec<(u64, Vec<Cell>)> = Vec::new();
    let count = column.len();
    for (at, (cell, phi)) in column.into_iter().zip(phis).enumerate() {
        let known = split.iter().position(|(bits, _)| *bits == phi.to_bits());
        let slot = known.unwrap_or_else(|| {
            split.push((phi.to_bits(), vec![Cell::Empty; count]));
            split.len() - 1
        });
        split[slot].1[at] = cell;
    }
    split
        .into_iter()
        .map(|(bits, cells)| {
            let mut builder = builder_of(&family.labels);
            builder.set(label, &open_metrics(f64::from_bits(bits)));
            (build(builder), cells)
        })
        .collect()
}

impl Repairs {
    fn add(&mut self, metric: &str, repair: classic::Repair, step_ms: i64) {
        let sum = self.0.entry(metric.to_owned()).or_insert(RepairSum {
            first_bound: repair.first_bound,
            last_bound: repair.last_bound,
            largest_drop: repair.largest_drop,
            count: 0,
            from_ms: step_ms,
            to_ms: step_ms,
        });
        sum.first_bound = sum.first_bound.min(repair.first_bound);
        sum.last_bound = sum.last_bound.max(repair.last_bound);
        sum.largest_drop = sum.largest_drop.max(repair.largest_drop);
        sum.count += 1;
        sum.from_ms = sum.from_ms.min(step_ms);
        sum.to_ms = sum.to_ms.max(step_ms);
    }

    fn tell(&self, evaluator: &Evaluator<'_>, span: Span) {
        for (metric, sum) in &self.0 {
            let mut detail = String::new();
            let _ = write!(
                detail,
                ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                go_g(sum.first_bound),
                go_g(sum.last_bound),
                two_digits(sum.largest_drop),
                sum.count,
                instant(sum.from_ms),
                instant(sum.to_ms)
            );
            evaluator.note(span, &Note::ForcedMonotonicity { metric, detail: &detail });
        }
    }
}

/// A number as OpenMetrics writes bounds and quantiles: whole ones with a `.0`.
fn open_metrics(value: f64) -> String {
    if value == 0.0 {
        return "0.0".to_owned();
    }
    let text = go_g(value);
    if !value.is_finite() || text.contains(['e', '.']) { text } else { text + ".0" }
}

/// Two significant digits.
fn two_digits(value: f64) -> String {
    format!("{value:.1e}").parse::<f64>().map_or_else(|_| go_g(value), go_g)
}

/// An instant as RFC 3339 text.
fn instant(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms}ms"), |instant| instant.to_string())
}
