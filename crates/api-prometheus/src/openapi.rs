//! `openapi.yaml`: the description of this API for tools.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use crate::call::Caller;
use crate::params::{Params, invalid};
use crate::reply::ApiError;

const DESCRIPTION: &str = include_str!("openapi.yaml");

/// The description, by the version of the format that is asked for. What 3.1 says of it, 3.2 says, too.
pub(crate) async fn openapi(_caller: Caller, params: Params) -> Result<Response, ApiError> {
    let text = match params.get("openapi_version") {
        None | Some("3.1") => DESCRIPTION.to_owned(),
        Some("3.2") => DESCRIPTION.replacen("openapi: 3.1.0", "openapi: 3.2.0", 1),
        Some(other) => return Err(invalid("openapi_version", format_args!("{other:?} is neither 3.1 nor 3.2")).into()),
    };
    Ok(([(CONTENT_TYPE, "application/yaml")], text).into_response())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::{Request, StatusCode};

    use super::*;
    use crate::testing::fixture;

    /// Path and method of every operation, in order.
    fn described() -> Vec<(&'static str, &'static str)> {
        let (mut path, mut operations) = ("", Vec::new());
        let lines = DESCRIPTION.lines().skip_while(|line| *line != "paths:").take_while(|line| *line != "components:");
        for line in lines {
            if let Some(found) = line.strip_prefix("  /").and_then(|line| line.strip_suffix(':')) {
                path = found;
            } else if let "    get:" | "    post:" = line {
                operations.push((path, line.trim().trim_end_matches(':')));
            }
        }
        operations
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let mut paths: Vec<_> = described().iter().map(|(path, _)| *path).collect();
        paths.dedup();
        let mut routes: Vec<_> = crate::routes::routes().into_iter().map(|(path, _)| path).collect();
        paths.sort_unstable();
        routes.sort_unstable();
        assert_eq!(paths, routes);
    }

    #[tokio::test]
    async fn every_described_operation_exists() {
        let fixture = fixture();
        for (path, method) in described().into_iter().filter(|(path, _)| *path != "notifications/live") {
            let uri = format!("/api/v1/{}", path.replace("{name}", "job"));
            let request =
                Request::builder().method(method.to_uppercase().as_str()).uri(uri).body(Body::empty()).unwrap();
            let (status, _) = fixture.text(request).await;
            let is_there = status != StatusCode::NOT_FOUND && status != StatusCode::METHOD_NOT_ALLOWED;
            assert!(is_there, "{method} {path}: {status}");
        }
        let (status, text) = fixture.get("/api/v1/openapi.yaml?openapi_version=3.2").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.as_str().unwrap().contains("\nopenapi: 3.2.0\n"));
        assert_eq!(fixture.get("/api/v1/openapi.yaml?openapi_version=2").await.0, StatusCode::BAD_REQUEST);
    }
}
