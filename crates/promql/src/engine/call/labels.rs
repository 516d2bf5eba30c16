//! `label_replace` and `label_join`.

use pharos_model::{METRIC_NAME, Replacement, StepRange};

use crate::engine::QueryError;
use crate::engine::eval::{Evaluator, text};
use crate::engine::plan::Call;
use crate::engine::series::{Series, SeriesIter, build, builder_of};

impl Evaluator<'_> {
    pub(super) fn label_replace<'a>(&'a self, call: &'a Call, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let (target, replacement) = (text(&call.args[1])?, text(&call.args[2])?);
        let (source, pattern) = (text(&call.args[3])?, text(&call.args[4])?);
        let mut replacement = Replacement::new(pattern, replacement)
            .map_err(|_| QueryError::execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
        if !is_label_name(target) {
            return Err(QueryError::execution(format!("invalid destination label name in label_replace(): {target}")));
        }
        let input = self.vector(&call.args[0], steps)?;
        let output = input.map(move |series| {
            let mut series = series?;
            if let Some(value) = replacement.apply(series.labels.get(source).unwrap_or("")) {
                set_label(&mut series, target, &value);
            }
            Ok(series)
        });
        self.merged(Box::new(output))
    }

    pub(super) fn label_join<'a>(&'a self, call: &'a Call, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let (target, separator) = (text(&call.args[1])?, text(&call.args[2])?);
        if !is_label_name(target) {
            return Err(QueryError::execution(format!("invalid destination label name in label_join(): {target}")));
        }
        let sources = call.args[3..].iter().map(text).collect::<Result<Vec<_>, _>>()?;
        if let Some(wrong) = sources.iter().find(|name| !is_label_name(name)) {
            return Err(QueryError::execution(format!("invalid source label name in label_join(): {wrong}")));
        }
        let input = self.vector(&call.args[0], steps)?;
        let output = input.map(move |series| {
            let mut series = series?;
            let values: Vec<&str> = sources.iter().map(|name| series.labels.get(name).unwrap_or("")).collect();
            let value = values.join(separator);
            set_label(&mut series, target, &value);
            Ok(series)
        });
        self.merged(Box::new(output))
    }
}

/// Any UTF-8 but the empty text. The parser has made U+FFFD of what was none.
fn is_label_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::REPLACEMENT_CHARACTER)
}

/// Sets a label; a name given anew is no longer to be removed.
fn set_label(series: &mut Series, name: &str, value: &str) {
    let mut builder = builder_of(&series.labels);
    builder.set(name, value);
    series.labels = build(builder);
    if name == METRIC_NAME {
        series.drop_name = false;
    }
}
