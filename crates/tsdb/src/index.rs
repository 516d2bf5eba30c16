//! From matchers to series: what the head's index and a part's have in common.

use pharos_base::CancelToken;
use pharos_model::Matcher;
use roaring::RoaringBitmap;

use crate::TsdbError;
use crate::pattern::ValueTest;

/// An index of series, by numbers that mean something to its owner only.
pub(crate) trait SeriesIndex {
    /// Every series.
    fn all_series(&self) -> Result<RoaringBitmap, TsdbError>;
    /// Series that pass all matchers; `cancel` is asked while many values are matched.
    fn select(&self, matchers: &[Matcher], cancel: &CancelToken) -> Result<RoaringBitmap, TsdbError>;
}

/// An index that keeps postings: for each label value the series that have it.
pub(crate) trait LabelIndex {
    /// All series.
    fn all(&self) -> Result<RoaringBitmap, TsdbError>;
    /// Series with `name=value`.
    fn equal(&self, name: &str, value: &str) -> Result<RoaringBitmap, TsdbError>;
    /// Series that have the label with a value that passes.
    fn any_of(
        &self,
        name: &str,
        passes: &mut dyn FnMut(&str) -> Result<bool, TsdbError>,
    ) -> Result<RoaringBitmap, TsdbError>;
}

/// Series that pass all matchers of any set; no sets means all series.
pub(crate) fn select_any(
    index: &impl SeriesIndex,
    matcher_sets: &[Vec<Matcher>],
    cancel: &CancelToken,
) -> Result<RoaringBitmap, TsdbError> {
    match matcher_sets {
        [] => index.all_series(),
        [one] => index.select(one, cancel),
        sets => {
            let join = |found: RoaringBitmap, matchers: &Vec<Matcher>| Ok(found | index.select(matchers, cancel)?);
            sets.iter().try_fold(RoaringBitmap::new(), join)
        }
    }
}

impl<I: LabelIndex> SeriesIndex for I {
    fn all_series(&self) -> Result<RoaringBitmap, TsdbError> {
        self.all()
    }

    /// A matcher that rejects the empty string is a union of postings. One that passes it also passes
    /// series without the label, so it is a union of postings of rejected values, taken away at the end.
    fn select(&self, matchers: &[Matcher], cancel: &CancelToken) -> Result<RoaringBitmap, TsdbError> {
        let mut found: Option<RoaringBitmap> = None;
        let (excluding, including): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|matcher| matcher.matches_empty());
        for matcher in including {
            let passed = included(self, matcher, cancel)?;
            found = Some(match found {
                Some(found) => found & passed,
                None => passed,
            });
            if found.as_ref().is_some_and(RoaringBitmap::is_empty) {
                return Ok(RoaringBitmap::new());
            }
        }
        let mut found = match found {
            Some(found) => found,
            None => self.all()?,
        };
        for matcher in excluding {
            found -= excluded(self, matcher, cancel)?;
        }
        Ok(found)
    }
}

fn included(index: &impl LabelIndex, matcher: &Matcher, cancel: &CancelToken) -> Result<RoaringBitmap, TsdbError> {
    match matcher.values() {
        Some(values) => {
            let mut passed = RoaringBitmap::new();
            for value in values {
                passed |= index.equal(matcher.name(), value)?;
            }
            Ok(passed)
        }
        None if matcher.passes_presence() => index.any_of(matcher.name(), &mut |_| Ok(true)),
        None => {
            let mut test = ValueTest::new(matcher, cancel);
            index.any_of(matcher.name(), &mut |value| Ok(test.passes(value)?))
        }
    }
}

fn excluded(index: &impl LabelIndex, matcher: &Matcher, cancel: &CancelToken) -> Result<RoaringBitmap, TsdbError> {
    if matcher.passes_everything() {
        return Ok(RoaringBitmap::new());
    }
    if let Some(values) = matcher.refused_values() {
        return values
            .iter()
            .try_fold(RoaringBitmap::new(), |found, value| Ok(found | index.equal(matcher.name(), value)?));
    }
    let mut test = ValueTest::new(matcher, cancel);
    index.any_of(matcher.name(), &mut |value| Ok(!test.passes(value)?))
}
