//! A reader of Pharos' query APIs: one address, one token.

use serde_json::Value;

/// Asks a running Pharos.
pub(crate) struct Api {
    http: reqwest::Client,
    base_url: String,
    token: String,
}

impl Api {
    /// `base_url` such as `http://127.0.0.1:9090`, without a slash at its end.
    pub(crate) fn new(base_url: &str, token: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client without special settings");
        Self { http, base_url: base_url.to_owned(), token: token.to_owned() }
    }

    /// The JSON that a path answers; panics on any other status than 200.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = format!("{}{path}", self.base_url);
        let request = self.http.get(&url).bearer_auth(&self.token).query(query);
        let answer = request.send().await.unwrap_or_else(|error| panic!("GET {url}: {error}"));
        let status = answer.status();
        let body = answer.text().await.unwrap_or_else(|error| panic!("GET {url}: {error}"));
        assert_eq!(status, 200, "GET {url} {query:?}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("GET {url}: {error} in {body}"))
    }
}
