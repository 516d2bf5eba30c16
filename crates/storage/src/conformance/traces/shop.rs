//! Traces of a web shop from a seed: what stores are measured with. The same shapes, value ranges and shares of
//! rare things as the traces of `loadgen`, so that bytes per span can be compared.

use std::sync::Arc;

use pharos_model::{
    Attribute, AttributeValue, Resource, Scope, Span, SpanBatch, SpanEvent, SpanGroup, SpanId, SpanKind, StatusCode,
    TraceId,
};

const SERVICES: [&str; 12] = [
    "gateway",
    "checkout",
    "cart",
    "catalog",
    "search",
    "auth",
    "users",
    "billing",
    "shipping",
    "inventory",
    "recommend",
    "notify",
];
const PODS: usize = 3;
const ROUTES: [(&str, &str); 8] = [
    ("GET", "/api/v1/items/{id}"),
    ("GET", "/api/v1/items"),
    ("POST", "/api/v1/orders"),
    ("GET", "/api/v1/orders/{id}"),
    ("PUT", "/api/v1/cart/{id}"),
    ("GET", "/api/v1/users/{id}"),
    ("DELETE", "/api/v1/cart/{id}"),
    ("POST", "/api/v1/login"),
];
const TABLES: [&str; 6] = ["orders", "items", "users", "carts", "payments", "stock"];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "okhttp/4.12.0",
    "python-requests/2.32.3",
    "Go-http-client/2.0",
];
const EXCEPTION: &str = "java.net.SocketTimeoutException";
const STACKTRACE: &str = "java.net.SocketTimeoutException: Read timed out\n\tat java.base/sun.nio.ch.NioSocketImpl.timedRead(NioSocketImpl.java:288)\n\tat com.example.shop.Client.call(Client.java:112)";

/// Makes traces, one after the other; equal seeds make equal traces.
#[derive(Debug)]
pub struct ShopTraces {
    state: u64,
    next_start_ns: u64,
    gap_ns: u64,
    spans_per_trace: usize,
    resources: Vec<Arc<Resource>>,
    scope: Arc<Scope>,
}

enum Role {
    Server,
    Client { peer: usize },
    Database,
    Cache,
    Internal,
}

/// A span before it has attributes.
struct Planned {
    role: Role,
    service: usize,
    parent: Option<usize>,
    route: usize,
    start_ns: u64,
    end_ns: u64,
    is_failed: bool,
}

impl ShopTraces {
    /// Traces that start from `start_ns` on, every `gap_ns` about.
    #[must_use]
    pub fn new(seed: u64, start_ns: u64, gap_ns: u64, spans_per_trace: usize) -> Self {
        let mut shop = Self {
            state: seed,
            next_start_ns: start_ns,
            gap_ns,
            spans_per_trace,
            resources: vec![],
            scope: Arc::default(),
        };
        shop.resources = (0..SERVICES.len() * PODS).map(|pod| Arc::new(shop.resource(pod))).collect();
        shop.scope = Arc::new(Scope {
            name: "io.opentelemetry.instrumentation".to_owned(),
            version: "2.9.0".to_owned(),
            ..Scope::default()
        });
        shop
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, below: usize) -> usize {
        (self.random() % below.max(1) as u64) as usize
    }

    fn share(&mut self) -> f64 {
        (self.random() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn is_chance(&mut self, chance: f64) -> bool {
        self.share() < chance
    }

    fn resource(&mut self, pod: usize) -> Resource {
        let service = SERVICES[pod / PODS];
        let version = format!("2.{}.{}", self.below(9), self.below(20));
        let name = format!("{service}-{:08x}-{:05x}", self.random() as u32, self.below(1 << 20));
        let attributes = vec![
            text("service.name", service),
            text("service.version", version),
            text("k8s.pod.name", name),
            text("host.name", format!("node-{}", (pod / 2 + pod % PODS) % 9)),
            text("deployment.environment.name", "prod"),
            text("telemetry.sdk.language", "java"),
            text("telemetry.sdk.name", "opentelemetry"),
        ];
        Resource { attributes, ..Resource::default() }
    }

    /// The next `traces` traces, their spans grouped by the pod that sent them.
    pub fn batch(&mut self, traces: usize) -> SpanBatch {
        let mut groups: Vec<Vec<Span>> = vec![Vec::new(); SERVICES.len() * PODS];
        for _ in 0..traces {
            let trace_id = TraceId((u128::from(self.random()) << 64 | u128::from(self.random())).to_be_bytes());
            let pods: Vec<usize> = (0..SERVICES.len()).map(|_| self.below(PODS)).collect();
            let plan = self.plan();
            let ids: Vec<SpanId> = plan.iter().map(|_| SpanId(self.random().to_be_bytes())).collect();
            for (planned, id) in plan.iter().zip(&ids) {
                let mut span = self.span(planned);
                span.trace_id = trace_id;
                span.span_id = *id;
                span.parent_span_id = planned.parent.map_or(SpanId::default(), |parent| ids[parent]);
                groups[planned.service * PODS + pods[planned.service]].push(span);
            }
        }
        let groups = groups.into_iter().zip(&self.resources).filter(|(spans, _)| !spans.is_empty());
        let groups = groups.map(|(spans, resource)| SpanGroup {
            resource: Arc::clone(resource),
            scope: Arc::clone(&self.scope),
            spans,
        });
        SpanBatch { groups: groups.collect() }
    }

    fn plan(&mut self) -> Vec<Planned> {
        let start_ns = self.next_start_ns + (self.share() * self.gap_ns as f64) as u64;
        self.next_start_ns += self.gap_ns;
        // The sum of twelve uniform numbers is close to a normal one.
        let normal: f64 = (0..12).map(|_| self.share()).sum::<f64>() - 6.0;
        let took_ns = (25e6 * (normal * 0.9).exp()) as u64 + 500_000;
        let is_troubled = self.is_chance(0.12);
        let mut spans = vec![Planned {
            role: Role::Server,
            service: 0,
            parent: None,
            route: self.below(ROUTES.len()),
            start_ns,
            end_ns: start_ns + took_ns,
            is_failed: is_troubled && self.is_chance(0.6),
        }];
        let mut servers = vec![0];
        while spans.len() < self.spans_per_trace {
            let parent = servers[self.below(servers.len())];
            let Planned { service, route, start_ns, end_ns, .. } = spans[parent];
            let from_ns = start_ns + (self.share() * 0.6 * (end_ns - start_ns) as f64) as u64;
            let took_ns = ((end_ns - from_ns) as f64 * (0.1 + 0.8 * self.share())) as u64;
            let dice = self.share();
            let mut child = Planned {
                role: Role::Internal,
                service,
                parent: Some(parent),
                route,
                start_ns: from_ns,
                end_ns: from_ns + took_ns,
                is_failed: is_troubled && self.is_chance(0.12),
            };
            if dice < 0.35 && spans.len() + 1 < self.spans_per_trace {
                let peer = (service + 1 + self.below(SERVICES.len() - 1)) % SERVICES.len();
                child.role = Role::Client { peer };
                child.route = self.below(ROUTES.len());
                child.is_failed = is_troubled && self.is_chance(0.15);
                let server = Planned {
                    role: Role::Server,
                    service: peer,
                    parent: Some(spans.len()),
                    start_ns: from_ns + took_ns / 20,
                    end_ns: from_ns + took_ns - took_ns / 20,
                    ..child
                };
                servers.push(spans.len() + 1);
                spans.push(child);
                spans.push(server);
                continue;
            }
            if dice < 0.7 {
                child.role = Role::Database;
            } else if dice < 0.85 {
                child.role = Role::Cache;
                child.end_ns = from_ns + took_ns / 8;
            }
            spans.push(child);
        }
        spans
    }

    fn span(&mut self, planned: &Planned) -> Span {
        let (method, route) = ROUTES[planned.route];
        let status = match (planned.is_failed, self.below(40)) {
            (true, _) => 500,
            (_, 0) => 404,
            (_, 1) => 302,
            _ => 200,
        };
        let path = route.replace("{id}", &(self.below(2_000_000) + 1).to_string());
        let table = TABLES[self.below(TABLES.len())];
        let mut span = Span { start_ns: planned.start_ns, end_ns: planned.end_ns, ..Span::default() };
        let mut attributes =
            vec![text("thread.name", format!("worker-{}", self.below(16))), int("thread.id", self.below(64))];
        (span.name, span.kind) = match planned.role {
            Role::Server => {
                let address = format!("10.{}.{}.{}", self.below(4), self.below(250), self.below(250));
                attributes.extend([
                    text("http.request.method", method),
                    text("http.route", route),
                    text("url.path", path),
                    text("url.scheme", "https"),
                    int("http.response.status_code", status),
                    int("http.response.body.size", self.below(40_000)),
                    text("user_agent.original", AGENTS[self.below(AGENTS.len())]),
                    text("client.address", address),
                    text("enduser.id", format!("user-{}", self.below(20_000))),
                    text("network.protocol.version", "1.1"),
                ]);
                (format!("{method} {route}"), SpanKind::Server)
            }
            Role::Client { peer } => {
                let host = format!("{}.prod.svc", SERVICES[peer]);
                attributes.extend([
                    text("http.request.method", method),
                    text("url.full", format!("http://{host}:8080{path}")),
                    text("server.address", host),
                    int("server.port", 8080),
                    int("http.response.status_code", status),
                    text("peer.service", SERVICES[peer]),
                    text("network.protocol.version", "1.1"),
                    int("http.request.resend_count", 0),
                ]);
                (format!("HTTP {method}"), SpanKind::Client)
            }
            Role::Database => {
                let statement = format!(
                    "SELECT id, state, total, updated_at FROM {table} WHERE owner_id = {} AND state <> 'gone' ORDER BY updated_at DESC LIMIT 50",
                    self.below(500_000)
                );
                attributes.extend([
                    text("db.system", "postgresql"),
                    text("db.namespace", "shop"),
                    text("db.operation.name", "SELECT"),
                    text("db.collection.name", table),
                    text("db.statement", statement),
                    text("server.address", "postgres-primary.prod.svc"),
                    int("server.port", 5432),
                    int("db.response.returned_rows", self.below(50)),
                ]);
                (format!("SELECT shop.{table}"), SpanKind::Client)
            }
            Role::Cache => {
                attributes.extend([
                    text("db.system", "redis"),
                    text("db.operation.name", "GET"),
                    text("db.statement", format!("GET {table}:{}", self.below(1_000_000))),
                    text("server.address", "redis-0.prod.svc"),
                    int("server.port", 6379),
                    text("cache.hit", if self.is_chance(0.8) { "true" } else { "false" }),
                ]);
                ("GET".to_owned(), SpanKind::Client)
            }
            Role::Internal => {
                let service = SERVICES[planned.service];
                attributes.extend([
                    text("code.function.name", "render"),
                    text("code.file.path", format!("src/{service}/render.rs")),
                    int("code.line.number", self.below(900)),
                    text("tenant", format!("tenant-{}", self.below(50))),
                    text("feature.flag", if self.is_chance(0.5) { "new-cart" } else { "old-cart" }),
                ]);
                (format!("{service}.render"), SpanKind::Internal)
            }
        };
        if planned.is_failed {
            attributes.push(text("error.type", EXCEPTION));
            let message = format!("Read timed out after {} ms", self.below(3000));
            let details = vec![
                text("exception.type", EXCEPTION),
                text("exception.message", message),
                text("exception.stacktrace", STACKTRACE),
            ];
            span.events.push(event("exception", planned.end_ns - (planned.end_ns - planned.start_ns) / 10, details));
            span.status.code = StatusCode::Error;
            "upstream timed out".clone_into(&mut span.status.message);
        } else if self.is_chance(0.02) {
            let middle_ns = planned.start_ns + (planned.end_ns - planned.start_ns) / 2;
            span.events.push(event("retry", middle_ns, vec![int("attempt", 1)]));
        }
        span.attributes = attributes;
        span
    }
}

fn text(key: &str, value: impl Into<String>) -> Attribute {
    Attribute { key: key.to_owned(), value: AttributeValue::String(value.into()) }
}

fn int(key: &str, value: usize) -> Attribute {
    Attribute { key: key.to_owned(), value: AttributeValue::Int(value as i64) }
}

fn event(name: &str, time_ns: u64, attributes: Vec<Attribute>) -> SpanEvent {
    SpanEvent { time_ns, name: name.to_owned(), attributes, dropped_attributes_count: 0 }
}
