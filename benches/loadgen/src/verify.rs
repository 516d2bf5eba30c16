//! `loadgen verify`: asks a Prometheus API whether everything sent is there.

use crate::http::{Error, Http, escape};
use crate::metrics::Shape;
use crate::rng::Rng;
use crate::series::{SLOTS, Target, labels};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Args, Clone, Debug)]
pub(crate) struct VerifyArgs {
    /// Base address of a Prometheus API
    #[arg(long)]
    pub(crate) url: String,
    #[arg(long)]
    pub(crate) token: Option<String>,
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// Also compare every sample of this many series, picked by the seed
    #[arg(long, default_value_t = 20)]
    pub(crate) values: usize,
}

/// Samples that each metric name must have.
fn expected(sh: &Shape) -> BTreeMap<&'static str, u64> {
    let mut want = BTreeMap::new();
    for (i, slot) in sh.layout().iter().enumerate() {
        let targets = (0..sh.targets()).filter(|&t| i < sh.cut(t)).count() as u64;
        if targets > 0 {
            *want.entry(slot.name).or_insert(0) += targets * sh.ticks();
        }
    }
    want
}

async fn instant(http: &Http, a: &VerifyArgs, query: &str, time: f64) -> Result<Value, Error> {
    let u = format!("{}/api/v1/query?query={}&time={time:.3}&nocache=1", a.url.trim_end_matches('/'), escape(query));
    let r = http.get(&u).await?;
    if !r.ok() {
        return Err(format!("{}: {}", r.code(), r.text()).into());
    }
    Ok(serde_json::from_slice::<Value>(&r.body)?["data"]["result"].take())
}

/// One series' samples, (ms, value), by the labels it had.
type Made = BTreeMap<String, Vec<(i64, f64)>>;

fn regenerate(sh: &Shape, target: u64, slot: usize) -> Made {
    let slots = sh.layout();
    let mut t = Target::new(sh.seed, target, &slots, sh.interval_ms());
    let (mut row, mut made) = (vec![0.0; SLOTS], Made::new());
    for tick in 0..sh.ticks() {
        let g = sh.generation(target, tick);
        if t.generation != g {
            t.restart(&slots, g);
        }
        t.step(&slots, sh.interval.as_secs_f64(), &mut row);
        let l = labels(&slots[slot], sh.seed, target, g);
        let name = slots[slot].name;
        let m: Vec<String> = l.iter().filter(|(k, _)| *k != "__name__").map(|(k, v)| format!("{k}={v:?}")).collect();
        let entry = made.entry(format!("{name}{{{}}}", m.join(","))).or_default();
        entry.push((t.timestamp(sh.start, sh.interval_ms(), sh.jitter_ms, tick), row[slot]));
    }
    made
}

pub(crate) async fn run(mut a: VerifyArgs) -> Result<Value, Error> {
    a.shape.fold = a.shape.fold.max(1);
    let sh = &a.shape;
    let http = Http::new(a.token.as_deref(), false);
    let end = (sh.start + sh.ticks() as i64 * sh.interval_ms()) as f64 / 1000.0 + 1.0;
    let range = (end - sh.start as f64 / 1000.0) as u64 + 2;
    let (mut want_all, mut got_all, mut wrong) = (0, 0, Vec::new());
    for (name, want) in expected(sh) {
        let r = instant(&http, &a, &format!("sum(count_over_time({name}[{range}s]))"), end).await;
        let got = match &r {
            Ok(v) => v[0]["value"][1].as_str().and_then(|s| s.parse::<f64>().ok()).unwrap_or(0.0) as u64,
            Err(_) => 0,
        };
        want_all += want;
        got_all += got;
        if want != got {
            wrong.push(json!({ "name": name, "want": want, "got": got, "error": r.err().map(|e| e.to_string()) }));
        }
    }
    // Sampled series, value by value.
    let mut rng = Rng(sh.seed ^ 0xe1f);
    let (mut series, mut compared, mut exact, mut close, mut missing) = (0u64, 0u64, 0u64, 0u64, 0u64);
    let mut example = None;
    for _ in 0..a.values {
        let target = rng.below(sh.targets());
        let slot = rng.below(sh.cut(target) as u64) as usize;
        for (selector, samples) in regenerate(sh, target, slot) {
            series += 1;
            let got = instant(&http, &a, &format!("{selector}[{range}s]"), end).await?;
            let got: BTreeMap<i64, f64> = got[0]["values"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|p| {
                    let t = (p[0].as_f64()? * 1000.0).round() as i64;
                    Some((t, p[1].as_str()?.parse().ok()?))
                })
                .collect();
            for (t, v) in samples {
                compared += 1;
                match got.get(&t) {
                    Some(x) if *x == v => exact += 1,
                    Some(x) if (x - v).abs() <= v.abs() * 1e-12 => close += 1,
                    x => {
                        missing += u64::from(x.is_none());
                        example.get_or_insert_with(|| format!("{selector} at {t}: sent {v}, got {x:?}"));
                    }
                }
            }
        }
    }
    let ok = wrong.is_empty() && exact + close == compared;
    Ok(json!({
        "ok": ok, "samples_expected": want_all, "samples_found": got_all, "wrong_names": wrong,
        "values": {
            "series": series, "samples": compared, "exact": exact, "within_1e-12": close, "missing": missing,
            "wrong": compared - exact - close - missing, "example": example,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn shape() -> Shape {
        Shape {
            series: 1000,
            churn: 60.0,
            interval: Duration::from_secs(15),
            span: Duration::from_hours(1),
            start: 1_760_000_000_000,
            seed: 3,
            jitter_ms: 3,
            fold: 1,
            one_metric: false,
        }
    }

    #[test]
    fn expectation_covers_every_sample() {
        assert_eq!(expected(&shape()).values().sum::<u64>(), 1000 * 240);
    }

    #[test]
    fn regenerated_series_have_every_tick_once() {
        for t in 0..5 {
            let made = regenerate(&shape(), t, 3);
            let times: Vec<i64> = made.values().flat_map(|s| s.iter().map(|p| p.0)).collect();
            assert_eq!(times.len(), 240);
            assert_eq!(made, regenerate(&shape(), t, 3));
        }
    }
}
