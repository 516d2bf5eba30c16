//! Functions of one float.

use crate::functions::FunctionId as F;

/// The function of that identity, if it maps a float to a float.
pub(super) fn function(id: F) -> Option<fn(f64) -> f64> {
    Some(match id {
        F::Abs => f64::abs,
        F::Acos => f64::acos,
        F::Acosh => acosh,
        F::Asin => f64::asin,
        F::Asinh => f64::asinh,
        F::Atan => f64::atan,
        F::Atanh => f64::atanh,
        F::Ceil => f64::ceil,
        F::Cos => f64::cos,
        F::Cosh => f64::cosh,
        F::Deg => |value| value * 180.0 / std::f64::consts::PI,
        F::Exp => f64::exp,
        F::Floor => f64::floor,
        F::Ln => f64::ln,
        F::Log10 => f64::log10,
        F::Log2 => f64::log2,
        F::Rad => |value| value * std::f64::consts::PI / 180.0,
        F::Sgn => sign,
        F::Sin => f64::sin,
        F::Sinh => f64::sinh,
        F::Sqrt => f64::sqrt,
        F::Tan => f64::tan,
        F::Tanh => f64::tanh,
        _ => return None,
    })
}

/// NaN below 1, where the formula of the library would answer a number for some arguments.
fn acosh(value: f64) -> f64 {
    if value < 1.0 { f64::NAN } else { value.acosh() }
}

fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}
