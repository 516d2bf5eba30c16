//! Sizes and durations as people write them: `64MiB`, `15d`, `1h30m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A size or duration that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {expected}")]
pub struct ParseUnitError {
    text: String,
    expected: &'static str,
}

const SIZE_FORM: &str = "size: write a number and B, KiB, MiB, GiB or TiB, like 64MiB";
const DURATION_FORM: &str = "duration: write numbers with y, w, d, h, m, s or ms, like 15d or 1h30m";

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(pub u64);

const SIZE_UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl ByteSize {
    /// `n` mebibytes.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` gibibytes.
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
}

impl FromStr for ByteSize {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, ParseUnitError> {
        let fail = || ParseUnitError { text: text.to_owned(), expected: SIZE_FORM };
        let trimmed = text.trim();
        let (number, factor) = SIZE_UNITS
            .iter()
            .find_map(|(unit, factor)| trimmed.strip_suffix(unit).map(|number| (number, *factor)))
            .unwrap_or((trimmed, 1));
        let number: u64 = number.trim().parse().map_err(|_| fail())?;
        number.checked_mul(factor).map(Self).ok_or_else(fail)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS[..4].iter().rev().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        match unit {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A length of time, whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct HumanDuration(pub Duration);

const DURATION_UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl HumanDuration {
    /// From whole milliseconds.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// Whole milliseconds; saturates.
    #[must_use]
    pub fn as_ms(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl FromStr for HumanDuration {
    type Err = ParseUnitError;

    /// Prometheus' form: each unit at most once, from large to small; `0` alone is allowed.
    fn from_str(text: &str) -> Result<Self, ParseUnitError> {
        let fail = || ParseUnitError { text: text.to_owned(), expected: DURATION_FORM };
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self::default());
        }
        let (mut total_ms, mut next_unit) = (0_u64, 0);
        if rest.is_empty() {
            return Err(fail());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().map_err(|_| fail())?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let unit = DURATION_UNITS.iter().position(|(unit, _)| *unit == &rest[..letters]).ok_or_else(fail)?;
            if unit < next_unit {
                return Err(fail());
            }
            next_unit = unit + 1;
            rest = &rest[letters..];
            let part = number.checked_mul(DURATION_UNITS[unit].1).ok_or_else(fail)?;
            total_ms = total_ms.checked_add(part).ok_or_else(fail)?;
        }
        Ok(Self::from_ms(total_ms))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        // Years only where they come out even and weeks never, so that "15d" and "7d" print as people write them.
        for (unit, factor) in DURATION_UNITS {
            let fits = match unit {
                "y" => rest.is_multiple_of(factor),
                "w" => false,
                _ => true,
            };
            if rest >= factor && fits {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

as_text!(ByteSize);
as_text!(HumanDuration);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes, printed) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("10 GiB", 10 << 30, "10GiB"),
            ("1000", 1000, "1000B"),
            ("2KB", 2000, "2000B"),
            ("0B", 0, "0B"),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
            assert_eq!(ByteSize(bytes).to_string(), printed);
        }
        for wrong in ["", "MiB", "-1MiB", "1.5GiB", "99999999TiB", "1 XB"] {
            assert!(wrong.parse::<ByteSize>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_read_and_print() {
        for (text, ms, printed) in [
            ("15d", 15 * 86_400_000, "15d"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1w", 7 * 86_400_000, "7d"),
            ("0", 0, "0s"),
            ("2y", 730 * 86_400_000, "2y"),
            ("1500ms", 1_500, "1s500ms"),
        ] {
            assert_eq!(text.parse(), Ok(HumanDuration::from_ms(ms)), "{text}");
            assert_eq!(HumanDuration::from_ms(ms).to_string(), printed);
        }
        for wrong in ["", "5", "m5", "1m1h", "1h1h", "1.5h", "-1s", "1month", "99999999999y"] {
            assert!(wrong.parse::<HumanDuration>().is_err(), "{wrong}");
        }
    }
}
