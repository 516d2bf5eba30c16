//! A cursor over one line: numbers, durations and the repetitions `xN` of series texts.

use crate::duration::parse_duration_ms;

/// Most items one line may stand for, so that `0x9999999999` costs an error and not the memory.
pub(super) const ITEMS_MAX: usize = 1_000_000;

pub(super) struct Scan<'a> {
    pub(super) rest: &'a str,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.trim() }
    }

    /// Consumes `prefix` if the rest begins with it.
    pub(super) fn accept(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Consumes everything up to `delimiter`, and the delimiter.
    pub(super) fn until(&mut self, delimiter: &str) -> Result<&'a str, String> {
        let (before, after) = self.rest.split_once(delimiter).ok_or_else(|| format!("{delimiter:?} is missing"))?;
        self.rest = after;
        Ok(before)
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// Ends an item: a space or the end of the line must follow.
    pub(super) fn end_item(&mut self) -> Result<(), String> {
        if !self.rest.is_empty() && !self.rest.starts_with([' ', '\t']) {
            return Err(format!("a space is missing before {:?}", self.rest));
        }
        self.rest = self.rest.trim_start();
        Ok(())
    }

    /// `+`: true for minus.
    pub(super) fn sign(&mut self) -> Option<bool> {
        if self.accept("+") {
            Some(false)
        } else if self.accept("-") {
            Some(true)
        } else {
            None
        }
    }

    /// A decimal with optional sign; `NaN`, `Inf`, and `stale` for the stale marker.
    pub(super) fn float(&mut self) -> Result<f64, String> {
        if self.accept("stale") {
            return Ok(pharos_model::stale_nan());
        }
        let negative = self.sign().unwrap_or(false);
        let magnitude = self.magnitude()?;
        Ok(if negative { -magnitude } else { magnitude })
    }

    fn magnitude(&mut self) -> Result<f64, String> {
        if let Some(word) = self.rest.get(..3) {
            let value = match word.to_ascii_lowercase().as_str() {
                "nan" => Some(f64::NAN),
                "inf" => Some(f64::INFINITY),
                _ => None,
            };
            if let Some(value) = value {
                self.rest = &self.rest[3..];
                return Ok(value);
            }
        }
        let start = self.rest;
        let is_digit = |c: char| c.is_ascii_digit() || c == '_';
        self.take_while(is_digit);
        if self.accept(".") {
            self.take_while(is_digit);
        }
        if self.rest.starts_with(['e', 'E']) {
            self.rest = &self.rest[1..];
            let _ = self.sign();
            self.take_while(is_digit);
        }
        let number = &start[..start.len() - self.rest.len()];
        number.replace('_', "").parse().map_err(|_| format!("{start:?} does not begin with a number"))
    }

    /// A duration with optional sign, in milliseconds.
    pub(super) fn duration_ms(&mut self) -> Result<i64, String> {
        let negative = self.sign().unwrap_or(false);
        let text = self.take_while(|c| c.is_ascii_alphanumeric() && c != 'x');
        let duration_ms = parse_duration_ms(text).map_err(|error| error.to_string())?;
        Ok(if negative { -duration_ms } else { duration_ms })
    }

    /// `xN`, if it follows.
    pub(super) fn times(&mut self) -> Result<Option<usize>, String> {
        if !self.accept("x") {
            return Ok(None);
        }
        let digits = self.take_while(|c| c.is_ascii_digit());
        match digits.parse() {
            Ok(times) if times < ITEMS_MAX => Ok(Some(times)),
            Ok(_) => Err(format!("x{digits}: more than the limit of {ITEMS_MAX} values")),
            Err(_) => Err(format!("x is not followed by a number but by {:?}", self.rest)),
        }
    }
}

/// An instant or a length of time: a duration, or seconds; with optional sign.
pub(super) fn time_ms(text: &str) -> Result<i64, String> {
    let (negative, magnitude) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let magnitude_ms = match magnitude.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds.abs() < 1e15 => (seconds * 1000.0).round() as i64,
        _ => parse_duration_ms(magnitude).map_err(|error| error.to_string())?,
    };
    Ok(if negative { -magnitude_ms } else { magnitude_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_durations_or_seconds() {
        assert_eq!(time_ms("1m30s"), Ok(90_000));
        assert_eq!(time_ms("12.5"), Ok(12_500));
        assert_eq!(time_ms("-1m"), Ok(-60_000));
        assert!(time_ms("soon").is_err());
    }

    #[test]
    fn floats_end_where_the_repetition_begins() {
        let mut scan = Scan::new("-1.5e-3x7 rest");
        assert_eq!(scan.float(), Ok(-0.0015));
        assert_eq!(scan.times(), Ok(Some(7)));
        assert_eq!(scan.end_item(), Ok(()));
        assert_eq!(scan.rest, "rest");
    }
}
