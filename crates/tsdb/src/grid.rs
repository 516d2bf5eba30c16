//! Samples as kernels take them.

use pharos_grid::Floats;

use crate::samples::Samples;

pub(crate) fn floats(samples: &Samples) -> Floats<'_> {
    let floats = &samples.floats;
    Floats { times_ms: &floats.times, values: &floats.values, starts_ms: &floats.starts }
}
