//! The parameters of a URL.

use pharos_model::{NS_PER_DAY, TimeRangeNs};

const NS_PER_SECOND: u64 = NS_PER_DAY / 86_400;

/// The parameters of a URL, in order.
#[derive(Debug, Default)]
pub(crate) struct Params(pub(crate) Vec<(String, String)>);

impl Params {
    /// The first value of `name`; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, value)| found == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// A number from 1 to `max`; `default` where there is none, or zero.
    pub(crate) fn count(&self, name: &str, default: usize, max: usize) -> Result<usize, String> {
        match self.get(name).map(str::parse::<usize>) {
            None | Some(Ok(0)) => Ok(default),
            Some(Ok(number)) if number <= max => Ok(number),
            Some(Ok(_)) => Err(format!("invalid {name}: at most {max}")),
            Some(Err(_)) => Err(format!("invalid {name}: must be a number")),
        }
    }

    /// `start` and `end`, Unix seconds, both inside; none where neither is given. Zero is no bound.
    pub(crate) fn range(&self) -> Result<Option<TimeRangeNs>, String> {
        let seconds = |name: &str| match self.get(name).map(str::parse::<u64>) {
            None | Some(Ok(0)) => Ok(None),
            Some(Ok(seconds)) => Ok(Some(seconds)),
            Some(Err(_)) => Err(format!("invalid {name}: must be Unix seconds")),
        };
        let (start, end) = (seconds("start")?, seconds("end")?);
        if matches!((start, end), (Some(start), Some(end)) if end < start) {
            return Err("http parameter start must be before end".to_owned());
        }
        let start_ns = start.map_or(0, |seconds| seconds.saturating_mul(NS_PER_SECOND));
        let end_ns = end.map_or(u64::MAX, |seconds| seconds.saturating_add(1).saturating_mul(NS_PER_SECOND));
        Ok((start.is_some() || end.is_some()).then_some(TimeRangeNs { start_ns, end_ns }))
    }
}

/// Pairs of `key=value` with blanks between them, values in quotes if they have some themselves: logfmt.
pub(crate) fn parse_tags(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut tags = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) =
            rest.split_once('=').ok_or_else(|| format!("invalid tags: {rest:?} has no value; tags are key=value"))?;
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(format!("invalid tags: {key:?} is no key"));
        }
        let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
            unquote(quoted).ok_or_else(|| format!("invalid tags: the quotes behind {key:?} are not closed"))?
        } else {
            let (value, after) = after.split_at(after.find(char::is_whitespace).unwrap_or(after.len()));
            (value.to_owned(), after)
        };
        tags.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(tags)
}

/// What stands before the closing quotes, and what behind them.
fn unquote(text: &str) -> Option<(String, &str)> {
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            '\\' if !is_escaped => is_escaped = true,
            '"' if !is_escaped => return Some((value, &text[at + 1..])),
            _ => {
                value.push(c);
                is_escaped = false;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_a_range_with_both_ends_inside() {
        let range = |pairs: &[(&str, &str)]| {
            Params(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()).range()
        };
        assert_eq!(range(&[]), Ok(None));
        assert_eq!(range(&[("start", "0"), ("end", "")]), Ok(None));
        let found = range(&[("start", "2"), ("end", "3")]).unwrap().unwrap();
        assert_eq!((found.start_ns, found.end_ns), (2_000_000_000, 4_000_000_000));
        assert_eq!(range(&[("end", "3")]).unwrap().unwrap().start_ns, 0);
        for wrong in [[("start", "x"), ("end", "1")], [("start", "5"), ("end", "4")], [("start", "-1"), ("end", "4")]] {
            assert!(range(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn tags_are_logfmt() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(parse_tags(""), Ok(vec![]));
        let expected = vec![pair("a", "b"), pair("c.d", "x y \"z\""), pair("e", "")];
        assert_eq!(parse_tags(r#" a=b  c.d="x y \"z\"" e="#), Ok(expected));
        for wrong in ["a", "a=\"b", "a b=c", "=b"] {
            assert!(parse_tags(wrong).is_err(), "{wrong}");
        }
    }
}
