//! How much a name resembles what was typed: 1 is as good as the same, 0 is nothing.
//!
//! Pure functions on texts. The scores are upstream's to the last bit but for texts that are neither ASCII nor lower case:
//! there, letters fold as Rust folds them.

/// How names are compared with a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// All characters of the term, in order, the fewer gaps the better.
    Subsequence,
    /// The term as it is; above a threshold of 0 also what resembles it by Jaro and Winkler.
    JaroWinkler,
}

/// Terms of which a name must resemble one.
pub(super) struct Filter {
    terms: Vec<String>,
    algorithm: Algorithm,
    /// 0 to 1.
    threshold: f64,
    is_case_sensitive: bool,
}

impl Filter {
    pub(super) fn new(terms: &[&str], algorithm: Algorithm, threshold: f64, is_case_sensitive: bool) -> Self {
        let fold = |term: &&str| if is_case_sensitive { (*term).to_owned() } else { term.to_lowercase() };
        Self { terms: terms.iter().map(fold).collect(), algorithm, threshold, is_case_sensitive }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The best score of `name` over the terms that let it pass; `None` if none does.
    pub(super) fn score(&self, name: &str) -> Option<f64> {
        if self.terms.is_empty() {
            return Some(1.0);
        }
        let folded;
        let name = if self.is_case_sensitive {
            name
        } else {
            folded = name.to_lowercase();
            &folded
        };
        self.terms.iter().filter_map(|term| self.score_of(term, name)).reduce(f64::max)
    }

    fn score_of(&self, term: &str, name: &str) -> Option<f64> {
        if name.starts_with(term) {
            return Some(1.0);
        }
        let score = match self.algorithm {
            Algorithm::Subsequence => Some(subsequence(term, name)).filter(|score| *score > 0.0),
            Algorithm::JaroWinkler if name.contains(term) => return Some(0.9),
            Algorithm::JaroWinkler => (self.threshold > 0.0).then(|| jaro_winkler(term, name)),
        };
        score.filter(|score| *score >= self.threshold)
    }
}

fn subsequence(pattern: &str, text: &str) -> f64 {
    if pattern.is_ascii() && text.is_ascii() {
        return best_subsequence(pattern.as_bytes(), text.as_bytes());
    }
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    best_subsequence(&chars(pattern), &chars(text))
}

/// The best score over all places where the pattern may begin; from each, characters are taken as soon as they come.
fn best_subsequence<T: PartialEq>(pattern: &[T], text: &[T]) -> f64 {
    let Some(starts) = (text.len() + 1).checked_sub(pattern.len()) else { return 0.0 };
    let starts = (0..starts).filter(|start| text.get(*start) == pattern.first());
    // Where the pattern does not end from one place, it does not from any later one.
    let scores = starts.map_while(|start| subsequence_from(pattern, text, start));
    let best = scores.fold(-1.0, f64::max);
    if best < 0.0 { 0.0 } else { best / (pattern.len() * pattern.len()) as f64 }
}

/// Squares of the lengths of all runs, less the gaps before them as parts of the text, less half of the gap behind.
fn subsequence_from<T: PartialEq>(pattern: &[T], text: &[T], start: usize) -> Option<f64> {
    let part = 1.0 / text.len() as f64;
    let (mut score, mut matched, mut at, mut run_end) = (0.0, 0, start, 0);
    while matched < pattern.len() {
        at += text[at..].iter().position(|found| *found == pattern[matched])?;
        score -= (at - run_end) as f64 * part;
        let run = text[at..].iter().zip(&pattern[matched..]).take_while(|(found, wanted)| found == wanted).count();
        score += (run * run) as f64;
        matched += run;
        at += run;
        run_end = at;
    }
    Some(score - (text.len() - run_end) as f64 * part * 0.5)
}

fn jaro_winkler(a: &str, b: &str) -> f64 {
    if a.is_ascii() && b.is_ascii() {
        return jaro_winkler_of(a.as_bytes(), b.as_bytes());
    }
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    jaro_winkler_of(&chars(a), &chars(b))
}

fn jaro_winkler_of<T: PartialEq>(a: &[T], b: &[T]) -> f64 {
    if a == b {
        return 1.0;
    }
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let distance_max = (long.len() / 2).saturating_sub(1);
    let mut is_taken = vec![false; long.len()];
    let mut matched = Vec::new();
    for (at, wanted) in short.iter().enumerate() {
        let near = at.saturating_sub(distance_max)..(at + distance_max + 1).min(long.len());
        if let Some(found) = near.into_iter().find(|other| !is_taken[*other] && long[*other] == *wanted) {
            is_taken[found] = true;
            matched.push(wanted);
        }
    }
    if matched.is_empty() {
        return 0.0;
    }
    let in_long = long.iter().zip(&is_taken).filter(|(_, taken)| **taken).map(|(found, _)| found);
    let moved = matched.iter().zip(in_long).filter(|(a, b)| **a != *b).count() as f64;
    let matches = matched.len() as f64;
    let (of_short, of_long) = (1.0 / short.len() as f64, 1.0 / long.len() as f64);
    let jaro = (matches * of_short + matches * of_long + (matches - moved * 0.5) / matches) / 3.0;
    let prefix = short.iter().zip(long).take(4).take_while(|(a, b)| a == b).count();
    jaro + prefix as f64 * 0.1 * (1.0 - jaro)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(score: f64, expected: f64) {
        assert!((score - expected).abs() < 1e-12, "{score} is not {expected}");
    }

    #[test]
    fn runs_count_and_gaps_cost() {
        // One run of two behind a gap of one, one behind: (4 − 1/4 − 1/8) / 4.
        check(subsequence("bc", "abcd"), (4.0 - 0.25 - 0.125) / 4.0);
        // Two runs of one, a gap of one between: (1 + 1 − 1/3) / 4.
        check(subsequence("ac", "abc"), (2.0 - 1.0 / 3.0) / 4.0);
        // The later place is the better one.
        check(subsequence("ab", "axab"), (4.0 - 0.5) / 4.0);
        for (pattern, text) in [("ba", "ab"), ("abc", "ab"), ("a", ""), ("x", "abc")] {
            check(subsequence(pattern, text), 0.0);
        }
        check(subsequence("\u{fc}", "a\u{fc}"), 1.0 - 0.5);
    }

    #[test]
    fn jaro_and_winkler_score_as_in_their_papers() {
        check(jaro_winkler("MARTHA", "MARHTA"), 0.961_111_111_111_111_1);
        check(jaro_winkler("DIXON", "DICKSONX"), 0.813_333_333_333_333_3);
        check(jaro_winkler("DWAYNE", "DUANE"), 0.84);
        check(jaro_winkler("abc", "abc"), 1.0);
        check(jaro_winkler("abc", "xyz"), 0.0);
        check(jaro_winkler("", "a"), 0.0);
        check(jaro_winkler("\u{e4}b", "\u{e4}b"), 1.0);
    }

    #[test]
    fn a_name_passes_by_any_term_with_its_best_score() {
        let filter = |terms: &[&str], algorithm, threshold, case| Filter::new(terms, algorithm, threshold, case);
        let subsequence = filter(&["http", "req"], Algorithm::Subsequence, 0.0, true);
        assert_eq!(subsequence.score("http_requests"), Some(1.0), "a prefix is perfect");
        assert!(subsequence.score("my_requests").is_some_and(|score| score < 1.0));
        assert_eq!(subsequence.score("HTTP"), None);
        let strict = filter(&["hr"], Algorithm::Subsequence, 0.9, true);
        assert_eq!(strict.score("http_requests"), None, "below the threshold");
        let folded = filter(&["HTTP"], Algorithm::JaroWinkler, 0.0, false);
        assert_eq!((folded.score("my_http"), folded.score("my_htp")), (Some(0.9), None));
        assert!(filter(&["requets"], Algorithm::JaroWinkler, 0.8, true).score("requests").is_some());
        assert_eq!(filter(&[], Algorithm::Subsequence, 1.0, true).score("x"), Some(1.0));
        assert_eq!(filter(&[""], Algorithm::JaroWinkler, 1.0, true).score("x"), Some(1.0));
    }
}
