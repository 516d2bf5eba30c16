//! Compensated sums, as Prometheus adds: Neumaier's variant of Kahan.

/// A running sum with the low-order bits that the additions lost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    /// What plain addition yields.
    pub total: f64,
    /// The bits it lost.
    pub lost: f64,
}

impl Sum {
    /// The sum of one value.
    #[must_use]
    pub fn starting_at(value: f64) -> Self {
        Self { total: value, lost: 0.0 }
    }

    /// Adds a value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let total = self.total + value;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.total.abs() >= value.abs() {
            self.lost += (self.total - total) + value;
        } else {
            self.lost += (value - total) + self.total;
        }
        self.total = total;
    }

    /// The sum with the lost bits.
    #[must_use]
    #[inline]
    pub fn value(self) -> f64 {
        self.total + self.lost
    }
}

/// A mean that first divides a sum and turns to moving the mean itself once the sum overflows.
#[derive(Debug, Clone, Copy)]
pub struct Mean {
    sum: Sum,
    count: f64,
    incremental: bool,
}

impl Mean {
    /// The mean of one value.
    #[must_use]
    pub fn starting_at(value: f64) -> Self {
        Self { sum: Sum::starting_at(value), count: 1.0, incremental: false }
    }

    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut sum = self.sum;
            sum.add(value);
            if self.count == 1.0 || !sum.total.is_infinite() {
                self.sum = sum;
                return;
            }
            self.incremental = true;
            let before = self.count - 1.0;
            self.sum = Sum { total: self.sum.total / before, lost: self.sum.lost / before };
        }
        if self.sum.total.is_infinite() {
            let same_infinity = value.is_infinite() && (self.sum.total > 0.0) == (value > 0.0);
            // ±Inf stays: a finite value cannot move it, and Inf − Inf would be NaN.
            if same_infinity || value.is_finite() {
                return;
            }
        }
        let keep = (self.count - 1.0) / self.count;
        self.sum = Sum { total: keep * self.sum.total, lost: keep * self.sum.lost };
        self.sum.add(value / self.count);
    }

    /// The mean.
    #[must_use]
    pub fn value(self) -> f64 {
        if self.incremental { self.sum.value() } else { self.sum.total / self.count + self.sum.lost / self.count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = Sum::default();
        for value in values {
            sum.add(*value);
        }
        sum.value()
    }

    fn mean(values: &[f64]) -> f64 {
        let mut mean = Mean::starting_at(values[0]);
        for value in &values[1..] {
            mean.add(*value);
        }
        mean.value()
    }

    #[test]
    fn small_values_survive_between_large_ones() {
        assert_eq!(sum(&[1.0, 1e100, 1.0, -1e100]), 2.0);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn a_mean_does_not_overflow() {
        assert_eq!(mean(&[1.0, 1e100, 1.0, -1e100]), 0.5);
        assert_eq!(mean(&[f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(mean(&[f64::INFINITY, 5.0]), f64::INFINITY);
        assert!(mean(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }
}
