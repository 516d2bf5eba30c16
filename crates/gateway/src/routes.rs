//! What each path asks of its caller, what it does, and whom it concerns: one table for the whole product.

use crate::Scope;
use crate::names::split_tenant;

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: the UI's files, health, login.
    Public,
    /// Any valid credential.
    Authenticated,
    /// A valid credential with this scope.
    Scope(Scope),
    /// A valid credential with one of these scopes.
    AnyOf(&'static [Scope]),
}

/// Whom a path concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The tenant of the request.
    Tenant,
    /// The whole server: only who reaches all tenants may.
    AllTenants,
}

/// A path as the gateway sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'p> {
    /// What it asks for.
    pub access: Access,
    /// Whether a request changes something whatever its method is.
    pub changes: bool,
    /// Whom it concerns.
    pub reach: Reach,
    /// The tenant that the path names: `/insert/{tenant}/…`, `/select/{tenant}/…`, `/delete/{tenant}/…`.
    pub tenant: Option<&'p str>,
}

/// Who may ask a door for logs, which tells them that there are none here.
const WRITES: Access = Access::AnyOf(&[Scope::MetricsWrite, Scope::TracesWrite]);
/// Whose scopes let them look into the server: one of these, for all tenants.
pub const INSIDE_SCOPES: &[Scope] = &[Scope::Debug, Scope::Admin, Scope::MetricsRead];
const LOOKS_INSIDE: Access = Access::AnyOf(INSIDE_SCOPES);

impl<'p> Route<'p> {
    /// What is known of `path`. Everything not listed asks for a valid credential, so that a route that was
    /// forgotten here is closed, not open.
    #[must_use]
    pub fn of(path: &'p str) -> Self {
        let access = access(path);
        let is_admin = access == Access::Scope(Scope::Admin);
        let deletes_of_one = ["/delete_series", "/traces/delete"].iter().any(|tail| path.ends_with(tail))
            || path.contains("/api/v1/status/active_queries/");
        let operates = is_admin && !deletes_of_one;
        let looks_inside = access == LOOKS_INSIDE;
        let writes = access == WRITES || matches!(access, Access::Scope(Scope::MetricsWrite | Scope::TracesWrite));
        Self {
            access,
            changes: is_admin || writes,
            reach: if operates || looks_inside { Reach::AllTenants } else { Reach::Tenant },
            tenant: split_tenant(path).map(|(tenant, _)| tenant),
        }
    }
}

fn access(path: &str) -> Access {
    // gRPC: `/package.Service/Method`.
    if let Some((service, _method)) = path[1.min(path.len())..].split_once('/').filter(|(first, _)| first.contains('.'))
    {
        return grpc_access(service);
    }
    match path {
        // The UI, health, and (last) what reads the credential itself.
        "/" | "/index.html" | "/graph" | "/query" | "/search" | "/favicon.svg" | "/favicon.ico" | "/robots.txt"
        | "/-/healthy" | "/-/ready" | "/health" | "/auth/login" | "/auth/logout" | "/auth/session" | "/auth/verify" => {
            return Access::Public;
        }
        "/metrics" => return LOOKS_INSIDE,
        "/federate" => return Access::Scope(Scope::MetricsRead),
        _ => {}
    }
    // The UI's files, and old links that lead into it.
    if path.starts_with("/assets/") || path.starts_with("/trace/") {
        return Access::Public;
    }
    let inside = ["/api/v1/status/self_metrics", "/api/v1/status/flags", "/api/v1/status/runtimeinfo"];
    if inside.iter().any(|tail| path.ends_with(tail)) {
        return LOOKS_INSIDE;
    }
    let ends_queries = path.contains("/api/v1/status/active_queries/");
    if path.starts_with("/-/") || path.contains("/api/v1/admin/") || path.starts_with("/snapshot") || ends_queries {
        return Access::Scope(Scope::Admin);
    }
    http_access(path)
}

fn http_access(path: &str) -> Access {
    let inner = split_tenant(path).map_or(path, |(_, inner)| inner);
    // Names of tags are a part of these paths, whatever they end with.
    if inner.starts_with("/tempo/api/") {
        return Access::Scope(Scope::TracesRead);
    }
    let ends = |tails: &[&str]| tails.iter().any(|tail| path.ends_with(tail));
    // OTLP's own paths come first: `/api/v1/otlp/v1/metrics` ends like them and writes.
    if ends(&["/v1/traces"]) && !path.starts_with("/api/traces") {
        return Access::Scope(Scope::TracesWrite);
    }
    if path == "/v1/metrics" || ends(&["/otlp/v1/metrics", "/opentelemetry/v1/metrics"]) {
        return Access::Scope(Scope::MetricsWrite);
    }
    if path == "/v1/logs" || ends(&["/otlp/v1/logs", "/opentelemetry/v1/logs"]) {
        return WRITES;
    }
    if ends(&["/api/v1/write", "/api/v1/push"]) || path.contains("/api/v1/import") {
        return Access::Scope(Scope::MetricsWrite);
    }
    // VictoriaMetrics' short form of remote write for a tenant.
    if path.starts_with("/insert/") && path.trim_end_matches('/').ends_with("/prometheus") {
        return Access::Scope(Scope::MetricsWrite);
    }
    let bare = inner.strip_prefix("/jaeger").unwrap_or(inner);
    if path.contains("/api/v1/") || bare.starts_with("/api/metrics/") || path.ends_with("/federate") {
        return Access::Scope(Scope::MetricsRead);
    }
    if bare.starts_with("/api/") {
        return Access::Scope(Scope::TracesRead);
    }
    Access::Authenticated
}

fn grpc_access(service: &str) -> Access {
    if service.starts_with("opentelemetry.proto.collector.trace.") {
        Access::Scope(Scope::TracesWrite)
    } else if service.starts_with("opentelemetry.proto.collector.logs.") {
        WRITES
    } else if service.starts_with("opentelemetry.proto.collector.") {
        Access::Scope(Scope::MetricsWrite)
    } else if service.starts_with("pharos.query.") || service.starts_with("jaeger.api_v2.metrics.") {
        Access::Scope(Scope::MetricsRead)
    } else if service.starts_with("jaeger.") {
        Access::Scope(Scope::TracesRead)
    } else if service.starts_with("grpc.health.") {
        Access::Public
    } else {
        Access::Authenticated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_path_asks_for_its_scope() {
        let scope = Access::Scope;
        for (path, expected) in [
            ("/", Access::Public),
            ("/assets/app.js", Access::Public),
            ("/trace/abc", Access::Public),
            ("/graph", Access::Public),
            ("/-/ready", Access::Public),
            ("/-/flush", scope(Scope::Admin)),
            ("/-/reload", scope(Scope::Admin)),
            ("/metrics", LOOKS_INSIDE),
            ("/v1/metrics", scope(Scope::MetricsWrite)),
            ("/v1/traces", scope(Scope::TracesWrite)),
            ("/api/v1/otlp/v1/metrics", scope(Scope::MetricsWrite)),
            ("/v1/logs", WRITES),
            ("/opentelemetry/v1/logs", WRITES),
            ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", WRITES),
            ("/insert/3/prometheus", scope(Scope::MetricsWrite)),
            ("/insert/3/prometheus/", scope(Scope::MetricsWrite)),
            ("/opentelemetry/v1/metrics", scope(Scope::MetricsWrite)),
            ("/api/v1/write", scope(Scope::MetricsWrite)),
            ("/insert/3/prometheus/api/v1/write", scope(Scope::MetricsWrite)),
            ("/api/v1/import", scope(Scope::MetricsWrite)),
            ("/api/v1/import/prometheus", scope(Scope::MetricsWrite)),
            ("/insert/3/prometheus/api/v1/import/prometheus", scope(Scope::MetricsWrite)),
            ("/api/v1/export", scope(Scope::MetricsRead)),
            ("/select/3/prometheus/api/v1/export", scope(Scope::MetricsRead)),
            ("/api/v1/query", scope(Scope::MetricsRead)),
            ("/api/v1/read", scope(Scope::MetricsRead)),
            ("/api/v1/parse_query", scope(Scope::MetricsRead)),
            ("/api/v1/status/active_queries", scope(Scope::MetricsRead)),
            ("/api/v1/status/active_queries/00AB", scope(Scope::Admin)),
            ("/select/3/prometheus/api/v1/status/active_queries/00AB/cancel", scope(Scope::Admin)),
            ("/api/v1/status/top_queries", scope(Scope::MetricsRead)),
            ("/api/v1/search/metric_names", scope(Scope::MetricsRead)),
            ("/select/3/prometheus/api/v1/search/label_values", scope(Scope::MetricsRead)),
            ("/api/v1/status/tsdb/blocks", scope(Scope::MetricsRead)),
            ("/api/v1/status/self_metrics", LOOKS_INSIDE),
            ("/prometheus/api/v1/status/flags", LOOKS_INSIDE),
            ("/api/v1/notifications/live", scope(Scope::MetricsRead)),
            ("/api/v1/targets/relabel_steps", scope(Scope::MetricsRead)),
            ("/version", Access::Authenticated),
            ("/prometheus/api/v1/label/job/values", scope(Scope::MetricsRead)),
            ("/select/3/prometheus/api/v1/query_range", scope(Scope::MetricsRead)),
            ("/select/3/prometheus/federate", scope(Scope::MetricsRead)),
            ("/api/v1/admin/tsdb/delete_series", scope(Scope::Admin)),
            ("/api/v1/admin/tsdb/snapshot", scope(Scope::Admin)),
            ("/api/v1/admin/traces/delete", scope(Scope::Admin)),
            ("/api/v1/admin/tsdb/clean_tombstones", scope(Scope::Admin)),
            ("/delete/3/prometheus/api/v1/admin/tsdb/delete_series", scope(Scope::Admin)),
            ("/snapshot/create", scope(Scope::Admin)),
            ("/snapshot/list", scope(Scope::Admin)),
            ("/snapshot/delete", scope(Scope::Admin)),
            ("/api/traces", scope(Scope::TracesRead)),
            ("/api/traces/abc", scope(Scope::TracesRead)),
            ("/api/v3/services", scope(Scope::TracesRead)),
            ("/jaeger/api/services", scope(Scope::TracesRead)),
            ("/tempo/api/echo", scope(Scope::TracesRead)),
            ("/tempo/api/v2/search/tag/v1/traces", scope(Scope::TracesRead)),
            ("/api/metrics/calls", scope(Scope::MetricsRead)),
            ("/select/3/jaeger/api/traces", scope(Scope::TracesRead)),
            ("/select/3/jaeger/api/v3/services", scope(Scope::TracesRead)),
            ("/select/3/jaeger/api/metrics/calls", scope(Scope::MetricsRead)),
            ("/select/3/tempo/api/search", scope(Scope::TracesRead)),
            ("/select/3/tempo/api/v2/search/tag/v1/traces", scope(Scope::TracesRead)),
            ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", scope(Scope::TracesWrite)),
            ("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", scope(Scope::MetricsWrite)),
            ("/jaeger.api_v3.QueryService/GetTrace", scope(Scope::TracesRead)),
            ("/jaeger.api_v2.metrics.MetricsQueryService/GetCallRates", scope(Scope::MetricsRead)),
            ("/pharos.query.v1.QueryService/QueryRange", scope(Scope::MetricsRead)),
            ("/grpc.health.v1.Health/Check", Access::Public),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Authenticated),
            ("/something/else", Access::Authenticated),
        ] {
            assert_eq!(Route::of(path).access, expected, "{path}");
        }
    }

    #[test]
    fn what_concerns_the_whole_server_or_changes_something_is_told() {
        for (path, reach, changes, tenant) in [
            ("/-/flush", Reach::AllTenants, true, None),
            ("/-/reload", Reach::AllTenants, true, None),
            ("/snapshot/create", Reach::AllTenants, true, None),
            ("/snapshot/delete_all", Reach::AllTenants, true, None),
            ("/api/v1/admin/tsdb/snapshot", Reach::AllTenants, true, None),
            ("/api/v1/admin/tsdb/clean_tombstones", Reach::AllTenants, true, None),
            ("/api/v1/admin/tsdb/delete_series", Reach::Tenant, true, None),
            ("/api/v1/admin/traces/delete", Reach::Tenant, true, None),
            ("/delete/3/prometheus/api/v1/admin/tsdb/delete_series", Reach::Tenant, true, Some("3")),
            ("/api/v1/status/active_queries/00AB", Reach::Tenant, true, None),
            ("/metrics", Reach::AllTenants, false, None),
            ("/api/v1/status/runtimeinfo", Reach::AllTenants, false, None),
            ("/api/v1/status/tsdb", Reach::Tenant, false, None),
            ("/insert/7:1/prometheus/api/v1/write", Reach::Tenant, true, Some("7:1")),
            ("/select/7/prometheus/api/v1/query", Reach::Tenant, false, Some("7")),
            ("/select//prometheus/api/v1/query", Reach::Tenant, false, None),
            ("/api/select/7", Reach::Tenant, false, None),
            ("/select/7/jaeger/api/traces", Reach::Tenant, false, Some("7")),
            ("/select/7/tempo/api/search", Reach::Tenant, false, Some("7")),
        ] {
            let route = Route::of(path);
            assert_eq!((route.reach, route.changes, route.tenant), (reach, changes, tenant), "{path}");
        }
    }
}
