//! Who may do what, over every route of every port: the table, and the proof that no route is missing from it.
//!
//! The routers are the server's own. What they serve is read off them, so that a route which nobody wrote down here fails the
//! test; the table says what each asks for in words of its own, not by asking the gateway's.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use pharos_gateway::{NewToken, Scope};
use tower::ServiceExt;

use super::*;

use Need::{Anyone, Everything, Public, Tenant};

const READ: &[Scope] = &[Scope::MetricsRead];
const WRITE: &[Scope] = &[Scope::MetricsWrite];
const SPANS_IN: &[Scope] = &[Scope::TracesWrite];
const SPANS_OUT: &[Scope] = &[Scope::TracesRead];
const ANY_IN: &[Scope] = &[Scope::MetricsWrite, Scope::TracesWrite];
const ADMIN: &[Scope] = &[Scope::Admin];
const INSIDE: &[Scope] = &[Scope::Admin, Scope::Debug, Scope::MetricsRead];

/// The UI is what answers where no route does; its pages and files are open to all.
const PAGES: [&str; 10] = [
    "/index.html",
    "/graph",
    "/query",
    "/search",
    "/favicon.svg",
    "/favicon.ico",
    "/robots.txt",
    "/health",
    "/assets/{*path}",
    "/trace/{id}",
];

/// What a route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// Nothing.
    Public,
    /// A credential.
    Anyone,
    /// One of these scopes, for the tenant that is asked for.
    Tenant(&'static [Scope]),
    /// One of these scopes, for all tenants.
    Everything(&'static [Scope]),
}

/// The table.
fn table() -> BTreeMap<String, Need> {
    let mut table = BTreeMap::new();
    let mut add = |prefixes: &[&str], need: Need, paths: &str| {
        for prefix in prefixes {
            for path in paths.split_whitespace() {
                let path = if path == "." { (*prefix).to_owned() } else { format!("{prefix}{path}") };
                assert!(table.insert(path.clone(), need).is_none(), "{path} is there twice");
            }
        }
    };
    // Everywhere.
    add(&[""], Public, "/ /-/healthy /-/ready");
    add(&["/auth"], Public, "/login /logout /session /verify");
    add(&["/-"], Everything(ADMIN), "/flush /compact /reload");
    add(&[""], Everything(INSIDE), "/metrics");
    add(&[""], Anyone, "/version");
    // Prometheus.
    let prometheus = ["", "/prometheus", "/select/{tenant}/prometheus"];
    add(&prometheus, Tenant(READ), "/federate");
    let api = prometheus.map(|prefix| format!("{prefix}/api/v1"));
    let api = api.each_ref().map(String::as_str);
    add(
        &api,
        Tenant(READ),
        "/query /query_range /query_exemplars /format_query /parse_query /read /labels /label/{name}/values /series /metadata
         /search/metric_names /search/label_names /search/label_values /targets /targets/metadata /targets/relabel_steps
         /scrape_pools /scrape_pools/config /rules /alerts /alertmanagers /status/buildinfo /status/tsdb /status/tsdb/blocks
         /status/walreplay /features /notifications /notifications/live /status/config /openapi.yaml /export
         /status/active_queries /status/top_queries",
    );
    add(&api, Everything(INSIDE), "/status/runtimeinfo /status/flags /status/self_metrics");
    add(&api, Tenant(ADMIN), "/status/active_queries/{id} /status/active_queries/{id}/cancel");
    add(&api[..2], Everything(ADMIN), "/admin/tsdb/snapshot /admin/tsdb/clean_tombstones");
    add(&api[..2], Tenant(ADMIN), "/admin/tsdb/delete_series");
    add(&["/delete/{tenant}/prometheus/api/v1"], Tenant(ADMIN), "/admin/tsdb/delete_series");
    add(&["/api/v1"], Tenant(ADMIN), "/admin/traces/delete");
    add(&["/snapshot"], Everything(ADMIN), "/create /list /delete /delete_all");
    // What is written.
    add(&["/api/v1"], Tenant(WRITE), "/push");
    add(
        &["/api/v1", "/prometheus/api/v1", "/insert/{tenant}/prometheus/api/v1"],
        Tenant(WRITE),
        "/write /import /import/prometheus",
    );
    add(&["/insert/{tenant}/prometheus"], Tenant(WRITE), ".");
    let otlp = ["/v1", "/api/v1/otlp/v1", "/opentelemetry/v1", "/prometheus/api/v1/otlp/v1"];
    add(&otlp, Tenant(WRITE), "/metrics");
    add(&otlp, Tenant(SPANS_IN), "/traces");
    add(&otlp, Tenant(ANY_IN), "/logs");
    add(&["/insert/{tenant}/opentelemetry/v1"], Tenant(WRITE), "/metrics");
    add(&["/insert/{tenant}/opentelemetry/v1"], Tenant(SPANS_IN), "/traces");
    // Traces.
    let jaeger = ["/api", "/jaeger/api", "/select/{tenant}/jaeger/api"];
    add(
        &jaeger,
        Tenant(SPANS_OUT),
        "/services /services/{service}/operations /operations /traces /traces/{trace_id} /archive/{trace_id} /transform
         /dependencies /v3/capabilities /v3/services /v3/operations /v3/traces /v3/traces/{trace_id} /v3/trace-summaries
         /v3/dependencies",
    );
    add(&jaeger, Tenant(READ), "/metrics/latencies /metrics/calls /metrics/errors");
    add(
        &["/tempo/api", "/select/{tenant}/tempo/api"],
        Tenant(SPANS_OUT),
        "/echo /status/buildinfo /traces/{trace_id} /v2/traces/{trace_id} /search /search/tags /v2/search/tags
         /search/tag/{tag}/values /v2/search/tag/{tag}/values /metrics/query_range /metrics/query",
    );
    // gRPC.
    add(&["/opentelemetry.proto.collector"], Tenant(WRITE), ".metrics.v1.MetricsService/Export");
    add(&["/opentelemetry.proto.collector"], Tenant(SPANS_IN), ".trace.v1.TraceService/Export");
    add(&["/opentelemetry.proto.collector"], Tenant(ANY_IN), ".logs.v1.LogsService/Export");
    add(&["/pharos.query.v1.QueryService"], Tenant(READ), "/{method}");
    add(
        &["/jaeger"],
        Tenant(SPANS_OUT),
        ".api_v2.QueryService/{method} .api_v3.QueryService/{method} .api_v3.Capabilities/{method}
         .storage.v2.TraceReader/{method} .storage.v2.DependencyReader/{method} .storage.v2.Capabilities/{method}",
    );
    add(&["/jaeger"], Tenant(READ), ".api_v2.metrics.MetricsQueryService/{method}");
    add(&["/grpc.health.v1.Health"], Public, "/{method}");
    add(&["/grpc.reflection"], Anyone, ".v1.ServerReflection/{method} .v1alpha.ServerReflection/{method}");
    table
}

/// All patterns that a router serves, read off its own description; what catches everything else is not among them.
pub(super) fn patterns(router: &Router) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let patterns = text.split("RouteId(").filter_map(|rest| {
        let (number, rest) = rest.split_once("): \"")?;
        number.parse::<u32>().ok()?;
        Some(rest.split('"').next()?.to_owned())
    });
    patterns.filter(|pattern| !pattern.contains("__private__axum")).collect()
}

/// The server's routers over empty stores, and tokens of all kinds.
pub(super) struct House {
    pub(super) routers: [(&'static str, Router); 5],
    file: TokenFile,
    pub(super) tokens: BTreeMap<String, String>,
    _folder: tempfile::TempDir,
}

impl House {
    pub(super) async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = SystemClock::shared();
        let settings = Settings { data_dir: folder.path().join("data"), ..Settings::default() };
        let data_dir = DataDir::open(&settings.data_dir).unwrap();
        let file = TokenFile::at(settings.token_path());
        let mut house = Self { routers: Default::default(), file, tokens: BTreeMap::new(), _folder: folder };
        let needs: BTreeSet<_> = table().into_values().collect();
        for need in needs {
            let (Tenant(scopes) | Everything(scopes)) = need else { continue };
            house.add(&Scope::ALL.into_iter().filter(|scope| !scopes.contains(scope)).collect::<Vec<_>>(), "*");
            for scope in scopes {
                house.add(&[*scope], "7");
                house.add(&[*scope], "*");
            }
        }
        let now_s = clock.unix_ms() / 1_000;
        let all = |name: &str| NewToken::new(name, &Scope::ALL, "*".parse().unwrap(), now_s);
        house.add_as("expired", NewToken { expires_at: Some(now_s - 1), ..all("expired") });
        house.add_as("not yet", NewToken { not_before: Some(now_s + 86_400), ..all("not yet") });
        house.add_as("all", all("all"));
        house.add_as("seven", NewToken { tenant: "7".parse().unwrap(), ..all("seven") });
        house.add_as("eight", NewToken { tenant: "8".parse().unwrap(), ..all("eight") });

        let auth = AuthSettings::with_tokens(house.file.clone());
        let authenticator = Arc::new(Authenticator::open(auth, Arc::clone(&clock)).unwrap());
        let identities = Arc::new(Identities::open(&settings.identities, Arc::clone(&clock)).unwrap());
        let quotas = Arc::new(pharos_gateway::Quotas::unlimited(Arc::clone(&clock)));
        let source = crate::reload::SettingsSource::new(|| Ok(Settings::default()));
        let stores = open_stores(&settings, &data_dir, &clock, &quotas).await.unwrap();
        let ha = Arc::default();
        let reloader = Reloader { authenticator, identities, tls: Vec::new(), quotas, ha, settings: source };
        let doors = doors(&settings, &stores, &reloader, &clock, &CancellationToken::new());
        let routers = doors::routers(&doors);
        house.routers = [
            ("main", routers.main),
            ("otlp_grpc", routers.otlp_grpc),
            ("otlp_http", routers.otlp_http),
            ("jaeger", routers.jaeger),
            ("jaeger_grpc", routers.jaeger_grpc),
        ];
        house
    }

    fn add(&mut self, scopes: &[Scope], tenant: &str) {
        let name = name_of(scopes, tenant);
        if !self.tokens.contains_key(&name) {
            let new = NewToken::new(&name, scopes, tenant.parse().unwrap(), 1_700_000_000);
            self.add_as(&name, new);
        }
    }

    fn add_as(&mut self, name: &str, new: NewToken) {
        let (secret, _) = self.file.add(new).unwrap();
        self.tokens.insert(name.to_owned(), secret.reveal().to_owned());
    }

    fn token(&self, scopes: &[Scope], tenant: &str) -> &str {
        &self.tokens[&name_of(scopes, tenant)]
    }
}

fn name_of(scopes: &[Scope], tenant: &str) -> String {
    format!("{scopes:?} of {tenant}")
}

/// The path of a pattern, for `tenant` where it names one.
fn path_of(pattern: &str, tenant: &str) -> String {
    let segments = pattern.split('/').map(|segment| match segment {
        "{tenant}" => tenant,
        segment if segment.starts_with('{') => "x",
        segment => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

/// One request and what it is answered.
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    token: Option<&'a str>,
    tenant: Option<&'a str>,
}

impl Asked<'_> {
    async fn of(&self, router: &Router) -> u16 {
        let is_grpc = self.path[1..].split('/').next().is_some_and(|service| service.contains('.'))
            && self.path.matches('/').count() > 1;
        let mut request = Request::builder().method(self.method).uri(self.path);
        if is_grpc {
            request = request.header("content-type", "application/grpc");
        }
        if let Some(token) = self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(tenant) = self.tenant {
            request = request.header("x-scope-orgid", tenant);
        }
        status(&router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap(), is_grpc)
    }

    /// What nginx is told about this request.
    async fn by_verify(&self, router: &Router) -> u16 {
        let mut request = Request::builder().uri("/auth/verify").header("x-original-uri", self.path);
        request = request.header("x-original-method", self.method);
        if let Some(token) = self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(tenant) = self.tenant {
            request = request.header("x-scope-orgid", tenant);
        }
        status(&router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap(), false)
    }
}

/// The status; of a gRPC answer, the HTTP status that says the same.
fn status(response: &Response<Body>, is_grpc: bool) -> u16 {
    match response.headers().get("grpc-status").map(|code| code.to_str().unwrap()) {
        Some("16") => 401,
        Some("7") => 403,
        _ => {
            assert!(!is_grpc || !matches!(response.status().as_u16(), 401 | 403), "a gRPC client reads grpc-status");
            response.status().as_u16()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_of_every_port_is_guarded_as_the_table_says() {
    let (house, table) = (House::open().await, table());
    let served: BTreeSet<_> = house.routers.iter().flat_map(|(_, router)| patterns(router)).collect();
    assert!(served.len() > 100, "the routers are described differently: {:?}", served.first());
    let known: BTreeSet<_> = table.keys().cloned().collect();
    let forgotten: Vec<_> = served.difference(&known).collect();
    assert!(forgotten.is_empty(), "these routes are in no row of the table: {forgotten:#?}");
    let gone: Vec<_> = known.difference(&served).collect();
    assert!(gone.is_empty(), "no port serves these any more: {gone:#?}");

    let mut faults = Vec::new();
    for (port, router) in &house.routers {
        let has_verify = patterns(router).contains("/auth/verify");
        let pages = PAGES.iter().map(|page| ((*page).to_owned(), Public));
        for (pattern, need) in
            patterns(router).into_iter().map(|pattern| (pattern.clone(), table[&pattern])).chain(pages)
        {
            for (what, asked_path, token, tenant, expected) in cases(&house, &pattern, need) {
                for method in ["GET", "POST"] {
                    let asked = Asked { method, path: &asked_path, token, tenant };
                    let found = asked.of(router).await;
                    if !expected.fits(found) {
                        faults.push(format!("{port} {method} {asked_path} with {what}: {found}"));
                    }
                    if has_verify {
                        let (found, expected) = (asked.by_verify(router).await, expected.for_nginx());
                        if found != expected {
                            faults.push(format!("{port} verify of {method} {asked_path} with {what}: {found}"));
                        }
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The gateway lets it through; what the door says is the door's.
    Passes,
    Is(u16),
}

impl Expected {
    fn fits(self, found: u16) -> bool {
        match self {
            Self::Passes => !matches!(found, 401 | 403 | 500 | 502..=599),
            Self::Is(expected) => expected == found,
        }
    }

    fn for_nginx(self) -> u16 {
        match self {
            Self::Passes => 204,
            // nginx would make 500 of it.
            Self::Is(400) => 403,
            Self::Is(expected) => expected,
        }
    }
}

type Case<'a> = (String, String, Option<&'a str>, Option<&'a str>, Expected);

fn cases<'a>(house: &'a House, pattern: &str, need: Need) -> Vec<Case<'a>> {
    let (own, other) = (path_of(pattern, "7"), path_of(pattern, "8"));
    let mut cases = Vec::new();
    let mut add = |what: &str, path: &str, token, tenant, expected| {
        cases.push((what.to_owned(), path.to_owned(), token, tenant, expected));
    };
    if need == Public {
        // These read credentials themselves.
        if !pattern.starts_with("/auth/") {
            add("no token", &own, None, None, Expected::Passes);
        }
        return cases;
    }
    let (expired, not_yet) = (house.tokens["expired"].as_str(), house.tokens["not yet"].as_str());
    for (what, token) in [
        ("no token", None),
        ("a wrong token", Some("wrong")),
        ("an expired token", Some(expired)),
        ("an early token", Some(not_yet)),
    ] {
        add(what, &own, token, None, Expected::Is(401));
    }
    let seven = Some(house.tokens["seven"].as_str());
    let (scopes, names_tenant) = match need {
        Public => unreachable!("returned above"),
        Anyone => {
            add("any token", &own, seven, None, Expected::Passes);
            add("another tenant's header", &own, seven, Some("8"), Expected::Is(403));
            return cases;
        }
        Tenant(scopes) | Everything(scopes) => (scopes, pattern.contains("{tenant}")),
    };
    let others: Vec<_> = Scope::ALL.into_iter().filter(|scope| !scopes.contains(scope)).collect();
    add("all other scopes", &own, Some(house.token(&others, "*")), None, Expected::Is(403));
    if matches!(need, Everything(_)) {
        add("all scopes of one tenant", &own, seven, None, Expected::Is(403));
    } else if names_tenant {
        add("another tenant in the path", &other, seven, None, Expected::Is(403));
        add("another tenant in the path and its own in the header", &other, seven, Some("7"), Expected::Is(400));
    } else {
        add("another tenant's header", &own, seven, Some("8"), Expected::Is(403));
    }
    for scope in scopes {
        let tenant = if matches!(need, Everything(_)) { "*" } else { "7" };
        add(scope.as_str(), &own, Some(house.token(&[*scope], tenant)), None, Expected::Passes);
    }
    cases
}

/// What no route is for asks for a credential all the same: nobody learns from strangers' guesses what is here.
#[tokio::test]
async fn paths_that_nobody_serves_are_closed() {
    let house = House::open().await;
    for (port, router) in &house.routers {
        for path in ["/no/such/path", "/api/v9/x", "/insert/7/x", "/no.such.Service/Method"] {
            let asked = Asked { method: "GET", path, token: None, tenant: None };
            assert_eq!(asked.of(router).await, 401, "{port} {path}");
        }
    }
}

/// The gateway judges a path as it stands, and so do the routers: a word of a path that is percent-encoded is no word of it. If a
/// router came to decode paths before it looks at them, who may read metrics could delete them.
#[tokio::test]
async fn words_that_are_percent_encoded_lead_to_no_door() {
    let house = House::open().await;
    for (port, router) in &house.routers {
        for path in [
            "/api/v1/%61dmin/tsdb/delete_series",
            "/api/v1/admin/tsdb/delete%5Fseries",
            "/%73elect/8/prometheus/api/v1/query",
            "/select%2F8/prometheus/api/v1/query",
            "/api/v%31/query",
            "/api/%74races",
            "/v1/%74races",
            "/%2D/flush",
        ] {
            for method in ["GET", "POST"] {
                for token in ["seven", "all"] {
                    let asked = Asked { method, path, token: Some(&house.tokens[token]), tenant: None };
                    let found = asked.of(router).await;
                    assert!(matches!(found, 403..=405), "{port} {method} {path} with {token}: {found}");
                }
            }
        }
    }
}
