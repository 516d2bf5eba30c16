//! `info`: labels of info metrics joined to other series.

use pharos_model::StepRange;

use crate::engine::QueryError;
use crate::engine::eval::Evaluator;
use crate::engine::plan::Call;
use crate::engine::series::SeriesIter;

impl Evaluator<'_> {
    pub(super) fn info<'a>(&'a self, call: &'a Call, _steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        Err(QueryError::unsupported("function info", format!("{} arguments", call.args.len())))
    }
}
