//! The same question to two servers that speak the Prometheus API, and whether the answers are equal: the same series, the
//! same times, the same values but for the last digits of a floating-point sum.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The order in which floats are summed is nobody's contract; 3.x adds with compensation, 2.42 does not.
const RELATIVE_TOLERANCE: f64 = 1e-12;
/// Where nearly equal numbers are subtracted (1 − idle share), the rounding of the larger ones stays.
const ABSOLUTE_TOLERANCE: f64 = 1e-14;

/// Samples by series: label text → (Unix milliseconds, value as it was written).
pub(crate) type Samples = BTreeMap<String, Vec<(i64, String)>>;

/// What a number may differ by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exactness {
    /// By nothing: the texts are equal, so the bits are.
    Bits,
    /// By the last digits of a sum.
    Sums,
}

/// What a server said.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// A server with the Prometheus API.
pub(crate) struct Server {
    base: String,
    token: Option<String>,
    client: reqwest::Client,
}

impl Server {
    pub(crate) fn new(base: &str, token: Option<&str>) -> Self {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client can be made");
        Self { base: base.to_owned(), token: token.map(str::to_owned), client }
    }

    async fn get(&self, path: &str, parameters: &[(&str, String)]) -> Value {
        self.ask(path, parameters).await.body
    }

    /// A GET; panics if what comes back is not JSON.
    pub(crate) async fn ask(&self, path: &str, parameters: &[(&str, String)]) -> Reply {
        let base = reqwest::Url::parse(&format!("{}{path}", self.base)).expect("the URL is valid");
        let mut url = base.clone();
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("GET {base}: {error}"));
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("the answer is text");
        let body =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("GET {base} {parameters:?}: {error} in {text}"));
        Reply { status, body }
    }

    /// Takes a compressed remote write message.
    pub(crate) async fn write(&self, message: Vec<u8>) {
        let mut request = self
            .client
            .post(format!("{}/api/v1/write", self.base))
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "snappy")
            .header("x-prometheus-remote-write-version", "0.1.0")
            .body(message);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("remote write to {}: {error}", self.base));
        let status = answer.status();
        assert!(status.is_success(), "remote write to {}: {status} {}", self.base, answer.text().await.unwrap());
    }

    /// One request of each kind that the table asks about.
    pub(crate) async fn warm_up(&self) {
        let at = || ("time", "0".to_owned());
        self.get("/api/v1/query", &[("query", "1".to_owned()), at()]).await;
        let range =
            [("query", "1"), ("start", "0"), ("end", "1"), ("step", "1")].map(|(name, value)| (name, value.to_owned()));
        self.get("/api/v1/query_range", &range).await;
        self.get("/api/v1/labels", &[]).await;
        self.get("/api/v1/query", &[("query", "sum(".to_owned()), at()]).await;
    }
}

/// How one pair of answers compared.
pub(crate) enum Outcome {
    Equal,
    /// Both have nothing to say.
    Empty(String),
    Different(String),
}

impl Outcome {
    pub(crate) fn sort_into(self, wrong: &mut Vec<String>, empty: &mut Vec<String>) {
        match self {
            Self::Equal => {}
            Self::Empty(what) => empty.push(what),
            Self::Different(what) => wrong.push(what),
        }
    }
}

/// Asks both.
pub(crate) struct Comparison<'a> {
    theirs: &'a Server,
    ours: &'a Server,
}

impl<'a> Comparison<'a> {
    pub(crate) fn new(theirs: &'a Server, ours: &'a Server) -> Self {
        Self { theirs, ours }
    }

    /// Waits until both have exactly the same samples up to `end_ms`, and returns them.
    pub(crate) async fn same_samples(&self, end_ms: i64, wait_max: Duration) -> Samples {
        let parameters = [("query", "{__name__=~\".+\"}[5m]".to_owned()), ("time", seconds(end_ms))];
        let begun = Instant::now();
        loop {
            let theirs = samples(&self.theirs.get("/api/v1/query", &parameters).await);
            let ours = samples(&self.ours.get("/api/v1/query", &parameters).await);
            if theirs == ours && !theirs.is_empty() {
                return theirs;
            }
            assert!(begun.elapsed() < wait_max, "after {wait_max:?}: {}", first_difference(&theirs, &ours));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn instant(&self, query: &str, at_ms: i64) -> Outcome {
        self.ask("/api/v1/query", query, &[("time", seconds(at_ms))]).await
    }

    pub(crate) async fn range(&self, query: &str, start_ms: i64, end_ms: i64, step_ms: i64) -> Outcome {
        let times = [("start", seconds(start_ms)), ("end", seconds(end_ms)), ("step", seconds(step_ms))];
        self.ask("/api/v1/query_range", query, &times).await
    }

    async fn ask(&self, path: &str, query: &str, times: &[(&str, String)]) -> Outcome {
        let parameters = [&[("query", query.to_owned())], times].concat();
        let theirs = self.theirs.get(path, &parameters).await;
        let ours = self.ours.get(path, &parameters).await;
        // Prometheus of that age has no warnings about queries; the data are what is compared.
        let what = format!("{path} {query}");
        if theirs["status"] != "success" || ours["status"] != "success" {
            return Outcome::Different(format!("{what}\n  theirs: {theirs}\n  ours:   {ours}"));
        }
        let in_order = query.starts_with("sort");
        match difference(&theirs["data"], &ours["data"], in_order, Exactness::Sums) {
            Some(difference) => Outcome::Different(format!("{what}\n  {difference}")),
            None if theirs["data"]["result"] == json!([]) => Outcome::Empty(what),
            None => Outcome::Equal,
        }
    }

    /// Compares an answer that has no floats, such as label names, exactly.
    pub(crate) async fn listing(&self, path: &str) -> Outcome {
        let (theirs, ours) = (self.theirs.get(path, &[]).await, self.ours.get(path, &[]).await);
        let (theirs, ours) = (unordered(&theirs["data"]), unordered(&ours["data"]));
        if theirs != ours {
            return Outcome::Different(format!("{path}\n  theirs: {theirs}\n  ours:   {ours}"));
        }
        if theirs.as_array().is_none_or(Vec::is_empty) { Outcome::Empty(path.to_owned()) } else { Outcome::Equal }
    }
}

/// The phase of a second, in milliseconds, that lies farthest from every sample's and from the full second itself, on
/// which subqueries are evaluated.
pub(crate) fn free_phase_ms(samples: &Samples) -> i64 {
    let mut busy: Vec<i64> = samples.values().flatten().map(|(at_ms, _)| at_ms.rem_euclid(1_000)).collect();
    busy.extend([0, 1_000]);
    busy.sort_unstable();
    busy.dedup();
    let gap = busy.windows(2).max_by_key(|pair| pair[1] - pair[0]).expect("there are two ends");
    assert!(gap[1] - gap[0] > 20, "the scrapes leave no gap: {busy:?}");
    gap[0].midpoint(gap[1])
}

pub(crate) fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

fn samples(answer: &Value) -> Samples {
    let result = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("no samples in {answer}"));
    let one = |point: &Value| {
        let at_ms = (point[0].as_f64().expect("a time is a number") * 1_000.0).round() as i64;
        (at_ms, point[1].as_str().expect("a value is text").to_owned())
    };
    let points = |series: &Value| series["values"].as_array().into_iter().flatten().map(one).collect();
    result.iter().map(|series| (series["metric"].to_string(), points(series))).collect()
}

fn first_difference(theirs: &Samples, ours: &Samples) -> String {
    for (series, points) in theirs {
        match ours.get(series) {
            None => return format!("{} and {} series; Pharos lacks {series}", theirs.len(), ours.len()),
            Some(other) if other != points => return format!("{series}\n  theirs: {points:?}\n  ours:   {other:?}"),
            Some(_) => {}
        }
    }
    let extra = ours.keys().find(|series| !theirs.contains_key(*series));
    format!("{} and {} series; only Pharos has {extra:?}", theirs.len(), ours.len())
}

/// An array as a set.
pub(crate) fn unordered(value: &Value) -> Value {
    let mut items = value.as_array().cloned().unwrap_or_default();
    items.sort_by_key(Value::to_string);
    Value::Array(items)
}

/// What differs between two `data` of the query API; `in_order`: the order of series counts.
pub(crate) fn difference(theirs: &Value, ours: &Value, in_order: bool, exactness: Exactness) -> Option<String> {
    if theirs["resultType"] != ours["resultType"] {
        return Some(format!("theirs: {}, ours: {}", theirs["resultType"], ours["resultType"]));
    }
    if theirs["resultType"] == "scalar" || theirs["resultType"] == "string" {
        return differing_points(&json!([theirs["result"]]), &json!([ours["result"]]), exactness);
    }
    let series = |data: &Value| {
        let mut series = data["result"].as_array().cloned().unwrap_or_default();
        if !in_order {
            series.sort_by_key(|one| one["metric"].to_string());
        }
        series
    };
    let (theirs, ours) = (series(theirs), series(ours));
    let names = |series: &[Value]| series.iter().map(|one| one["metric"].to_string()).collect::<Vec<_>>();
    let (their_names, our_names) = (names(&theirs), names(&ours));
    if their_names != our_names {
        return Some(format!(
            "theirs: {} {their_names:.600?}\n  ours:   {} {our_names:.600?}",
            theirs.len(),
            ours.len()
        ));
    }
    theirs.iter().zip(&ours).find_map(|(their, our)| {
        ["value", "values", "histogram", "histograms"].into_iter().find_map(|key| {
            let points = |one: &Value| match &one[key] {
                Value::Null => json!([]),
                several if key.ends_with('s') => several.clone(),
                point => json!([point]),
            };
            differing_points(&points(their), &points(our), exactness)
                .map(|difference| format!("{}: {key}: {difference}", their["metric"]))
        })
    })
}

fn differing_points(theirs: &Value, ours: &Value, exactness: Exactness) -> Option<String> {
    let (theirs, ours) = (theirs.as_array()?, ours.as_array()?);
    let equal = |their: &Value, our: &Value| their[0] == our[0] && same(&their[1], &our[1], exactness);
    if let Some((their, our)) = theirs.iter().zip(ours).find(|(their, our)| !equal(their, our)) {
        return Some(format!("theirs: {their}, ours: {our}"));
    }
    let (more, whose) = if theirs.len() > ours.len() { (theirs, "theirs") } else { (ours, "ours") };
    let extra = more.get(theirs.len().min(ours.len()))?;
    Some(format!("{} points and {} points; only {whose}: {extra}", theirs.len(), ours.len()))
}

/// Whether two values are the same: floats are text, histograms are objects of such texts.
fn same(their: &Value, our: &Value, exactness: Exactness) -> bool {
    match (their, our) {
        (Value::Object(their), Value::Object(our)) => {
            their.len() == our.len()
                && their.iter().all(|(key, value)| our.get(key).is_some_and(|other| same(value, other, exactness)))
        }
        (Value::Array(their), Value::Array(our)) => {
            their.len() == our.len() && their.iter().zip(our).all(|(their, our)| same(their, our, exactness))
        }
        _ => their == our || (exactness == Exactness::Sums && nearly_equal(their, our)),
    }
}

fn nearly_equal(their: &Value, our: &Value) -> bool {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    let (Some(their), Some(our)) = (number(their), number(our)) else { return false };
    let tolerance = (their.abs().max(our.abs()) * RELATIVE_TOLERANCE).max(ABSOLUTE_TOLERANCE);
    (their - our).abs() <= tolerance
}
