//! A reader of Pharos' query APIs.

use pharos_testkit::Pharos;
use serde_json::Value;

/// Asks a running Pharos with its token.
pub(crate) struct Api<'a>(pub(crate) &'a Pharos);

impl Api<'_> {
    /// The JSON that a path answers; panics on any other status than 200.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let mut url = reqwest::Url::parse(&self.0.url(path)).expect("a path makes a URL");
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let path = url.as_str().strip_prefix(&self.0.url("")).expect("the URL begins with the server's address");
        let (status, answer) = self.0.get(path).await;
        assert_eq!(status, 200, "GET {path}: {answer}");
        answer
    }
}
