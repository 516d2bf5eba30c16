//! Random queries: what they are and how they are written.

use std::fmt;

use super::data::Random;

/// A query for an instant vector.
#[derive(Debug, Clone)]
pub(crate) enum Query {
    Select(Selector),
    /// A function of a window of samples; the number is an argument where the function has one.
    Window(&'static str, Option<f64>, Selector, i64),
    /// A function of a window of results, at multiples of the step.
    Subquery {
        function: &'static str,
        query: Box<Query>,
        range_ms: i64,
        step_ms: i64,
        shift: Shift,
    },
    /// A function of each sample by itself.
    Each(&'static str, Option<f64>, Box<Query>),
    Aggregate {
        op: &'static str,
        argument: Option<f64>,
        without: bool,
        labels: Vec<&'static str>,
        query: Box<Query>,
    },
    /// With a number on the right, or on the left.
    Number {
        op: &'static str,
        bool: bool,
        number: f64,
        left: bool,
        query: Box<Query>,
    },
    Pair {
        op: &'static str,
        bool: bool,
        matching: Matching,
        lhs: Box<Query>,
        rhs: Box<Query>,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Selector {
    pub(crate) name: &'static str,
    /// Label, whether it must differ, value.
    pub(crate) matcher: Option<(&'static str, bool, &'static str)>,
    pub(crate) shift: Shift,
}

/// Instead of the step's own time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shift {
    pub(crate) at_ms: Option<i64>,
    pub(crate) offset_ms: i64,
}

impl Shift {
    pub(crate) fn of(self, step_ms: i64) -> i64 {
        self.at_ms.unwrap_or(step_ms) - self.offset_ms
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Matching {
    pub(crate) on: bool,
    pub(crate) labels: Vec<&'static str>,
    /// Many on the left (`false`) or on the right, with labels taken from the other side.
    pub(crate) group: Option<(bool, Vec<&'static str>)>,
}

pub(crate) const WINDOWS: [&str; 24] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "resets",
    "changes",
    "deriv",
    "predict_linear",
    "sum_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "last_over_time",
    "first_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "quantile_over_time",
    "mad_over_time",
    "ts_of_max_over_time",
    "ts_of_last_over_time",
    "absent_over_time",
];
const EACH: [&str; 14] = [
    "abs",
    "ceil",
    "floor",
    "sqrt",
    "sgn",
    "-",
    "clamp_min",
    "clamp_max",
    "timestamp",
    "histogram_count",
    "histogram_sum",
    "histogram_avg",
    "histogram_quantile",
    "absent",
];
const AGGREGATES: [&str; 9] = ["sum", "avg", "min", "max", "count", "group", "stddev", "quantile", "sum(topk"];
const OPERATORS: [&str; 12] = ["+", "-", "*", "/", "%", "^", "==", "!=", "<", "<=", ">", ">="];

pub(crate) fn is_comparison(op: &str) -> bool {
    matches!(op, "==" | "!=" | "<" | "<=" | ">" | ">=")
}

pub(crate) fn is_set(op: &str) -> bool {
    matches!(op, "and" | "or" | "unless")
}

impl Random {
    pub(crate) fn query(&mut self, depth: u32) -> Query {
        let inner = |random: &mut Self| Box::new(random.query(depth - 1));
        match if depth == 0 { self.below(5) } else { self.below(16) } {
            0 | 1 => Query::Select(self.selector()),
            2..=6 => {
                let function = self.pick(&WINDOWS);
                Query::Window(function, self.argument(function), self.selector(), 10_000 + self.below(80_000) as i64)
            }
            7 => {
                let function = loop {
                    let function = self.pick(&WINDOWS);
                    if function != "absent_over_time" && self.argument(function).is_none() {
                        break function;
                    }
                };
                let (range_ms, step_ms) = (20_000 + self.below(80_000) as i64, 7_000 + self.below(20_000) as i64);
                Query::Subquery { function, query: inner(self), range_ms, step_ms, shift: self.shift() }
            }
            8 | 9 => {
                let function = self.pick(&EACH);
                Query::Each(function, self.argument(function), inner(self))
            }
            10 | 11 => {
                let op = self.pick(&AGGREGATES);
                let (without, labels) = (self.once_in(3), self.labels());
                Query::Aggregate { op, argument: self.argument(op), without, labels, query: inner(self) }
            }
            12 => {
                let op = self.pick(&OPERATORS);
                let (number, left) = ([0.0, 2.0, 0.5, -3.0][self.below(4) as usize], self.once_in(2));
                let bool = is_comparison(op) && self.once_in(2);
                Query::Number { op, bool, number, left, query: inner(self) }
            }
            13 => {
                let matching = Matching { on: self.once_in(2), labels: self.labels(), group: None };
                let op = self.pick(&["and", "or", "unless"]);
                Query::Pair { op, bool: false, matching, lhs: inner(self), rhs: inner(self) }
            }
            _ => {
                let op = self.pick(&OPERATORS);
                let (on, labels) = (self.once_in(2), if self.once_in(3) { self.labels() } else { vec!["x", "y"] });
                let (on, labels) = if labels.len() == 2 { (true, labels) } else { (on, labels) };
                let include: Vec<&str> = ["y"].into_iter().filter(|label| !labels.contains(label)).collect();
                let group = self.once_in(2).then(|| (self.once_in(2), include));
                let matching = Matching { on, labels, group };
                let bool = is_comparison(op) && self.once_in(2);
                Query::Pair { op, bool, matching, lhs: inner(self), rhs: inner(self) }
            }
        }
    }

    fn argument(&mut self, function: &str) -> Option<f64> {
        match function {
            "quantile_over_time" | "histogram_quantile" | "quantile" => {
                Some([0.0, 0.1, 0.37, 0.5, 0.9, 1.0][self.below(6) as usize])
            }
            "predict_linear" => Some(30.0),
            "clamp_min" | "clamp_max" => Some(3.0),
            "sum(topk" => Some(self.below(4) as f64),
            _ => None,
        }
    }

    fn selector(&mut self) -> Selector {
        let name = self.pick(&["f", "c", "h", "g", "n", "m", "f", "c"]);
        let matcher = self.once_in(3).then(|| (self.pick(&["x", "y"]), self.once_in(2), self.pick(&["1", "2"])));
        Selector { name, matcher, shift: self.shift() }
    }

    fn shift(&mut self) -> Shift {
        let at_ms = self.once_in(8).then(|| self.below(300_000) as i64);
        let offset_ms = if self.once_in(5) { self.below(100_000) as i64 - 40_000 } else { 0 };
        Shift { at_ms, offset_ms }
    }

    fn labels(&mut self) -> Vec<&'static str> {
        ["x", "y"].into_iter().filter(|_| self.once_in(2)).collect()
    }
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at_ms) = self.at_ms {
            write!(f, " @ {}", at_ms as f64 / 1000.0)?;
        }
        match self.offset_ms {
            0 => Ok(()),
            offset_ms if offset_ms < 0 => write!(f, " offset -{}ms", -offset_ms),
            offset_ms => write!(f, " offset {offset_ms}ms"),
        }
    }
}

impl Selector {
    fn matchers(&self) -> String {
        let op = |differs| if differs { "!=" } else { "=" };
        let text = self.matcher.map(|(label, differs, value)| format!("{{{label}{}\"{value}\"}}", op(differs)));
        format!("{}{}", self.name, text.unwrap_or_default())
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Select(selector) => write!(f, "{}{}", selector.matchers(), selector.shift),
            Self::Window(function, argument, selector, range_ms) => {
                let window = format!("{}[{range_ms}ms]{}", selector.matchers(), selector.shift);
                match argument {
                    Some(argument) if *function == "predict_linear" => write!(f, "{function}({window}, {argument})"),
                    Some(argument) => write!(f, "{function}({argument}, {window})"),
                    None => write!(f, "{function}({window})"),
                }
            }
            Self::Subquery { function, query, range_ms, step_ms, shift } => {
                write!(f, "{function}(({query})[{range_ms}ms:{step_ms}ms]{shift})")
            }
            Self::Each("-", _, query) => write!(f, "-({query})"),
            Self::Each(function, Some(argument), query) if function.starts_with("clamp") => {
                write!(f, "{function}({query}, {argument})")
            }
            Self::Each(function, Some(argument), query) => write!(f, "{function}({argument}, {query})"),
            Self::Each(function, None, query) => write!(f, "{function}({query})"),
            Self::Aggregate { op, argument, without, labels, query } => {
                let argument = argument.map(|argument| format!("{argument}, ")).unwrap_or_default();
                let by = if *without { "without" } else { "by" };
                let (outer, inner) = op.split_once('(').unwrap_or(("", op));
                let inner = format!("{inner} {by} ({}) ({argument}{query})", labels.join(", "));
                if outer.is_empty() { write!(f, "{inner}") } else { write!(f, "{outer}({inner})") }
            }
            Self::Number { op, bool, number, left, query } => {
                let bool = if *bool { " bool" } else { "" };
                // In parentheses, because a sign binds less than a power.
                if *left {
                    write!(f, "({number}) {op}{bool} ({query})")
                } else {
                    write!(f, "({query}) {op}{bool} ({number})")
                }
            }
            Self::Pair { op, bool, matching, lhs, rhs } => {
                let bool = if *bool { " bool" } else { "" };
                let on = if matching.on { "on" } else { "ignoring" };
                write!(f, "({lhs}) {op}{bool} {on}({})", matching.labels.join(", "))?;
                if let Some((right, include)) = &matching.group {
                    let group = if *right { "group_right" } else { "group_left" };
                    write!(f, " {group}({})", include.join(", "))?;
                }
                write!(f, " ({rhs})")
            }
        }
    }
}
