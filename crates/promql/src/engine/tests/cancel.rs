//! Work that comes after the last series was read looks at the clock and at its client, too.

use super::tripping::TrippingStore;
use super::*;

/// More than a sort does without a question.
const SERIES: usize = 17_000;

fn many_series() -> Arc<MemoryMetricStore> {
    let names: Vec<String> = (0..SERIES).map(|index| (index * 7_919 % SERIES).to_string()).collect();
    let labels: Vec<[(&str, &str); 1]> = names.iter().map(|name| [("i", name.as_str())]).collect();
    let series: Vec<SeriesSpec<'_>> = labels
        .iter()
        .zip(0_i64..)
        .map(|(labels, at)| ("up", &labels[..], every(60_000, 4, |tick| ((tick + 1) * at * 31 % 9_973) as f64)))
        .collect();
    store_with(&series)
}

#[test]
fn what_is_done_with_series_is_cancelled_after_the_last_was_read() {
    let store = many_series();
    let steps = StepRange { start_ms: 0, end_ms: 180_000, step_ms: 60_000 };
    for (query, is_instant) in [
        ("up", true),
        ("up", false),
        ("up[4m]", true),
        ("-up", false),
        ("sort(up)", true),
        ("sort_desc(up)", true),
        ("sort_by_label(up, \"i\")", true),
        ("sort_by_label_desc(up, \"i\")", true),
        ("topk(16999, up)", true),
        ("topk(3, up)", false),
        ("bottomk by (i) (1, up)", true),
        ("limitk(16999, up)", true),
        ("quantile(0.5, up)", false),
        ("quantile by (i) (0.5, up)", true),
        ("count_values(\"v\", up)", false),
        ("stddev by (i) (up)", true),
        ("sum by (i) (up)", true),
        ("label_replace(up, \"j\", \"$1\", \"i\", \"(.*)\")", true),
        ("up or up offset 1m", true),
        ("up + on (i) group_left up", true),
    ] {
        let token = pharos_base::CancelToken::new();
        let tripping = TrippingStore { store: Arc::clone(&store), token: token.clone() };
        let engine = Engine::new(Arc::new(tripping), settings());
        let options = QueryOptions { cancel: token, ..QueryOptions::default() };
        let answer = if is_instant {
            engine.instant(&TenantId::default(), query, 180_000, &options)
        } else {
            engine.range(&TenantId::default(), query, steps, &options)
        };
        assert!(matches!(answer, Err(QueryError::Interrupted(_))), "{query}");
        assert_eq!(engine.memory_used_bytes(), 0, "{query}");
    }
}
