//! The kernels against their definitions.

mod folds;
mod naive;
mod windows;
