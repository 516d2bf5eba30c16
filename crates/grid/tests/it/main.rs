//! The kernels against their definitions.

mod folds;
mod naive;
mod thinned;
mod windows;
