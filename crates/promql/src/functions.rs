//! The functions of PromQL: names, signatures, which are experimental.
//!
//! Owns the table that the checker reads and the identities that the engine dispatches on; computes nothing.

use crate::ast::ValueType;

/// A function's signature.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Identity, to `match` on.
    pub id: FunctionId,
    /// Name as written; case matters.
    pub name: &'static str,
    /// Types of the parameters; with `variadic` the last one may be absent or repeat.
    pub arg_types: &'static [ValueType],
    /// 0: exactly `arg_types`; n > 0: the last parameter may be given 0 to n times; negative: any number of times.
    pub variadic: i32,
    /// Type of the result.
    pub return_type: ValueType,
    /// Whether it needs [`crate::ParserOptions::experimental_functions`].
    pub experimental: bool,
}

impl Function {
    /// The function of that exact name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
    }

    /// The fewest arguments a call may have.
    #[must_use]
    pub fn args_min(&self) -> usize {
        if self.variadic == 0 { self.arg_types.len() } else { self.arg_types.len() - 1 }
    }

    /// The most arguments a call may have; `None`: no bound but that of the text.
    #[must_use]
    pub fn args_max(&self) -> Option<usize> {
        match usize::try_from(self.variadic) {
            Ok(0) => Some(self.arg_types.len()),
            Ok(repeats) => Some(self.arg_types.len() - 1 + repeats),
            Err(_) => None,
        }
    }

    /// Type of argument number `index`, from 0.
    #[must_use]
    pub fn arg_type(&self, index: usize) -> Option<ValueType> {
        let repeated = if self.variadic == 0 { None } else { self.arg_types.last() };
        self.arg_types.get(index).or(repeated).copied()
    }
}

/// Identity of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the function of that name")]
pub enum FunctionId {
    Abs,
    Absent,
    AbsentOverTime,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    AvgOverTime,
    Ceil,
    Changes,
    Clamp,
    ClampMax,
    ClampMin,
    Cos,
    Cosh,
    CountOverTime,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    DaysInMonth,
    Deg,
    Delta,
    Deriv,
    DoubleExponentialSmoothing,
    End,
    Exp,
    FirstOverTime,
    Floor,
    HistogramAvg,
    HistogramCount,
    HistogramFraction,
    HistogramQuantile,
    HistogramQuantiles,
    HistogramStddev,
    HistogramStdvar,
    HistogramSum,
    Hour,
    Idelta,
    Increase,
    Info,
    Irate,
    LabelJoin,
    LabelReplace,
    LastOverTime,
    Ln,
    Log10,
    Log2,
    MadOverTime,
    MaxOf,
    MaxOverTime,
    MinOf,
    MinOverTime,
    Minute,
    Month,
    Pi,
    PredictLinear,
    PresentOverTime,
    QuantileOverTime,
    Rad,
    Range,
    Rate,
    Resets,
    Round,
    Scalar,
    Sgn,
    Sin,
    Sinh,
    Sort,
    SortByLabel,
    SortByLabelDesc,
    SortDesc,
    Sqrt,
    Start,
    StartTimestamp,
    StddevOverTime,
    StdvarOverTime,
    Step,
    SumOverTime,
    Tan,
    Tanh,
    Time,
    Timestamp,
    TsOfFirstOverTime,
    TsOfLastOverTime,
    TsOfMaxOverTime,
    TsOfMinOverTime,
    Vector,
    Year,
}

const S: ValueType = ValueType::Scalar;
const T: ValueType = ValueType::String;
const V: ValueType = ValueType::Vector;
const M: ValueType = ValueType::Matrix;

/// Every function, by ascending name.
pub static FUNCTIONS: [Function; 90] = [
    stable(FunctionId::Abs, "abs", &[V], 0, V),
    stable(FunctionId::Absent, "absent", &[V], 0, V),
    stable(FunctionId::AbsentOverTime, "absent_over_time", &[M], 0, V),
    stable(FunctionId::Acos, "acos", &[V], 0, V),
    stable(FunctionId::Acosh, "acosh", &[V], 0, V),
    stable(FunctionId::Asin, "asin", &[V], 0, V),
    stable(FunctionId::Asinh, "asinh", &[V], 0, V),
    stable(FunctionId::Atan, "atan", &[V], 0, V),
    stable(FunctionId::Atanh, "atanh", &[V], 0, V),
    stable(FunctionId::AvgOverTime, "avg_over_time", &[M], 0, V),
    stable(FunctionId::Ceil, "ceil", &[V], 0, V),
    stable(FunctionId::Changes, "changes", &[M], 0, V),
    stable(FunctionId::Clamp, "clamp", &[V, S, S], 0, V),
    stable(FunctionId::ClampMax, "clamp_max", &[V, S], 0, V),
    stable(FunctionId::ClampMin, "clamp_min", &[V, S], 0, V),
    stable(FunctionId::Cos, "cos", &[V], 0, V),
    stable(FunctionId::Cosh, "cosh", &[V], 0, V),
    stable(FunctionId::CountOverTime, "count_over_time", &[M], 0, V),
    stable(FunctionId::DayOfMonth, "day_of_month", &[V], 1, V),
    stable(FunctionId::DayOfWeek, "day_of_week", &[V], 1, V),
    stable(FunctionId::DayOfYear, "day_of_year", &[V], 1, V),
    stable(FunctionId::DaysInMonth, "days_in_month", &[V], 1, V),
    stable(FunctionId::Deg, "deg", &[V], 0, V),
    stable(FunctionId::Delta, "delta", &[M], 0, V),
    stable(FunctionId::Deriv, "deriv", &[M], 0, V),
    experimental(FunctionId::DoubleExponentialSmoothing, "double_exponential_smoothing", &[M, S, S], 0, V),
    experimental(FunctionId::End, "end", &[], 0, S),
    stable(FunctionId::Exp, "exp", &[V], 0, V),
    stable(FunctionId::FirstOverTime, "first_over_time", &[M], 0, V),
    stable(FunctionId::Floor, "floor", &[V], 0, V),
    stable(FunctionId::HistogramAvg, "histogram_avg", &[V], 0, V),
    stable(FunctionId::HistogramCount, "histogram_count", &[V], 0, V),
    stable(FunctionId::HistogramFraction, "histogram_fraction", &[S, S, V], 0, V),
    stable(FunctionId::HistogramQuantile, "histogram_quantile", &[S, V], 0, V),
    experimental(FunctionId::HistogramQuantiles, "histogram_quantiles", &[V, T, S, S], 9, V),
    stable(FunctionId::HistogramStddev, "histogram_stddev", &[V], 0, V),
    stable(FunctionId::HistogramStdvar, "histogram_stdvar", &[V], 0, V),
    stable(FunctionId::HistogramSum, "histogram_sum", &[V], 0, V),
    stable(FunctionId::Hour, "hour", &[V], 1, V),
    stable(FunctionId::Idelta, "idelta", &[M], 0, V),
    stable(FunctionId::Increase, "increase", &[M], 0, V),
    experimental(FunctionId::Info, "info", &[V, V], 1, V),
    stable(FunctionId::Irate, "irate", &[M], 0, V),
    stable(FunctionId::LabelJoin, "label_join", &[V, T, T, T], -1, V),
    stable(FunctionId::LabelReplace, "label_replace", &[V, T, T, T, T], 0, V),
    stable(FunctionId::LastOverTime, "last_over_time", &[M], 0, V),
    stable(FunctionId::Ln, "ln", &[V], 0, V),
    stable(FunctionId::Log10, "log10", &[V], 0, V),
    stable(FunctionId::Log2, "log2", &[V], 0, V),
    experimental(FunctionId::MadOverTime, "mad_over_time", &[M], 0, V),
    experimental(FunctionId::MaxOf, "max_of", &[S, S], 0, S),
    stable(FunctionId::MaxOverTime, "max_over_time", &[M], 0, V),
    experimental(FunctionId::MinOf, "min_of", &[S, S], 0, S),
    stable(FunctionId::MinOverTime, "min_over_time", &[M], 0, V),
    stable(FunctionId::Minute, "minute", &[V], 1, V),
    stable(FunctionId::Month, "month", &[V], 1, V),
    stable(FunctionId::Pi, "pi", &[], 0, S),
    stable(FunctionId::PredictLinear, "predict_linear", &[M, S], 0, V),
    stable(FunctionId::PresentOverTime, "present_over_time", &[M], 0, V),
    stable(FunctionId::QuantileOverTime, "quantile_over_time", &[S, M], 0, V),
    stable(FunctionId::Rad, "rad", &[V], 0, V),
    experimental(FunctionId::Range, "range", &[], 0, S),
    stable(FunctionId::Rate, "rate", &[M], 0, V),
    stable(FunctionId::Resets, "resets", &[M], 0, V),
    stable(FunctionId::Round, "round", &[V, S], 1, V),
    stable(FunctionId::Scalar, "scalar", &[V], 0, S),
    stable(FunctionId::Sgn, "sgn", &[V], 0, V),
    stable(FunctionId::Sin, "sin", &[V], 0, V),
    stable(FunctionId::Sinh, "sinh", &[V], 0, V),
    stable(FunctionId::Sort, "sort", &[V], 0, V),
    experimental(FunctionId::SortByLabel, "sort_by_label", &[V, T], -1, V),
    experimental(FunctionId::SortByLabelDesc, "sort_by_label_desc", &[V, T], -1, V),
    stable(FunctionId::SortDesc, "sort_desc", &[V], 0, V),
    stable(FunctionId::Sqrt, "sqrt", &[V], 0, V),
    experimental(FunctionId::Start, "start", &[], 0, S),
    experimental(FunctionId::StartTimestamp, "start_timestamp", &[V], 0, V),
    stable(FunctionId::StddevOverTime, "stddev_over_time", &[M], 0, V),
    stable(FunctionId::StdvarOverTime, "stdvar_over_time", &[M], 0, V),
    experimental(FunctionId::Step, "step", &[], 0, S),
    stable(FunctionId::SumOverTime, "sum_over_time", &[M], 0, V),
    stable(FunctionId::Tan, "tan", &[V], 0, V),
    stable(FunctionId::Tanh, "tanh", &[V], 0, V),
    stable(FunctionId::Time, "time", &[], 0, S),
    stable(FunctionId::Timestamp, "timestamp", &[V], 0, V),
    experimental(FunctionId::TsOfFirstOverTime, "ts_of_first_over_time", &[M], 0, V),
    experimental(FunctionId::TsOfLastOverTime, "ts_of_last_over_time", &[M], 0, V),
    experimental(FunctionId::TsOfMaxOverTime, "ts_of_max_over_time", &[M], 0, V),
    experimental(FunctionId::TsOfMinOverTime, "ts_of_min_over_time", &[M], 0, V),
    stable(FunctionId::Vector, "vector", &[S], 0, V),
    stable(FunctionId::Year, "year", &[V], 1, V),
];

const fn stable(
    id: FunctionId,
    name: &'static str,
    arg_types: &'static [ValueType],
    variadic: i32,
    return_type: ValueType,
) -> Function {
    Function { id, name, arg_types, variadic, return_type, experimental: false }
}

const fn experimental(
    id: FunctionId,
    name: &'static str,
    arg_types: &'static [ValueType],
    variadic: i32,
    return_type: ValueType,
) -> Function {
    Function { id, name, arg_types, variadic, return_type, experimental: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_complete() {
        assert!(FUNCTIONS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert_eq!(FUNCTIONS.iter().filter(|function| function.experimental).count(), 17);
    }

    #[test]
    fn bounds_of_argument_counts_follow_the_signature() {
        let bounds = |name| Function::find(name).map(|function| (function.args_min(), function.args_max()));
        assert_eq!(bounds("rate"), Some((1, Some(1))));
        assert_eq!(bounds("round"), Some((1, Some(2))));
        assert_eq!(bounds("label_join"), Some((3, None)));
        assert_eq!(bounds("histogram_quantiles"), Some((3, Some(12))));
        assert_eq!(bounds("RATE"), None);
    }
}
