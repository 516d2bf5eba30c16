//! The resolutions that samples can be rolled up to.

use std::fmt;
use std::str::FromStr;

use pharos_base::HumanDuration;
use serde::{Deserialize, Serialize};

/// Length of the buckets of a rollup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    /// `5m`.
    FiveMinutes,
    /// `1h`.
    Hour,
}

impl Resolution {
    /// Each once, the coarsest first.
    pub(crate) const COARSEST_FIRST: [Self; 2] = [Self::Hour, Self::FiveMinutes];

    /// Length of a bucket.
    pub(crate) const fn ms(self) -> i64 {
        match self {
            Self::FiveMinutes => 300_000,
            Self::Hour => 3_600_000,
        }
    }

    pub(crate) fn of_ms(ms: i64) -> Option<Self> {
        Self::COARSEST_FIRST.into_iter().find(|resolution| resolution.ms() == ms)
    }

    pub(crate) const fn file_name(self) -> &'static str {
        match self {
            Self::FiveMinutes => "rollup-5m",
            Self::Hour => "rollup-1h",
        }
    }

    /// The bucket `(number · length, (number + 1) · length]` that an instant lies in: PromQL's windows are closed on the
    /// right, so an instant at a boundary belongs to the bucket that ends there.
    pub(crate) const fn bucket_of(self, at_ms: i64) -> i64 {
        let number = at_ms.div_euclid(self.ms());
        if at_ms.rem_euclid(self.ms()) == 0 { number - 1 } else { number }
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HumanDuration::from_ms(self.ms().unsigned_abs()).fmt(f)
    }
}

impl FromStr for Resolution {
    type Err = String;

    /// A duration of one of the lengths.
    fn from_str(text: &str) -> Result<Self, String> {
        let found = text.parse::<HumanDuration>().ok().and_then(|length| Self::of_ms(length.as_ms()));
        found.ok_or_else(|| format!("{text:?} is no resolution: write 5m or 1h"))
    }
}

impl Serialize for Resolution {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Resolution {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_belongs_to_the_bucket_that_ends_there() {
        let five = Resolution::FiveMinutes;
        for (at_ms, bucket) in [(1, 0), (300_000, 0), (300_001, 1), (0, -1), (-299_999, -1), (-300_000, -2)] {
            assert_eq!(five.bucket_of(at_ms), bucket, "{at_ms}");
        }
    }

    #[test]
    fn resolutions_are_read_as_durations() {
        for resolution in Resolution::COARSEST_FIRST {
            assert_eq!(resolution.to_string().parse(), Ok(resolution));
        }
        assert_eq!("60m".parse(), Ok(Resolution::Hour));
        assert!("10m".parse::<Resolution>().unwrap_err().contains("5m or 1h"));
    }
}
