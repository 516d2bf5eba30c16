//! The call trees of the shop: who calls whom, and how long it takes.

/// What kind of work a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// A request over HTTP to a service of the shop.
    Http,
    /// A query to a database.
    Database,
    /// A command to a cache.
    Cache,
}

/// One call and all it causes, in order.
#[derive(Debug)]
pub(crate) struct Call {
    /// The service that answers; for a database or cache, its system.
    pub(crate) service: &'static str,
    /// The operation.
    pub(crate) name: &'static str,
    /// What kind of work it is.
    pub(crate) work: Work,
    /// Typical time of its own work, milliseconds.
    pub(crate) own_ms: f64,
    /// Share of calls that fail by themselves.
    pub(crate) error_rate: f64,
    /// What it calls in turn.
    pub(crate) calls: &'static [Call],
}

const fn http(service: &'static str, name: &'static str, own_ms: f64, error_rate: f64, calls: &'static [Call]) -> Call {
    Call { service, name, work: Work::Http, own_ms, error_rate, calls }
}

const fn database(name: &'static str, own_ms: f64) -> Call {
    Call { service: "postgresql", name, work: Work::Database, own_ms, error_rate: 0.0005, calls: &[] }
}

const fn cache(name: &'static str, own_ms: f64) -> Call {
    Call { service: "redis", name, work: Work::Cache, own_ms, error_rate: 0.0001, calls: &[] }
}

/// What visitors do, and how often in relation to each other.
pub(crate) static VISITS: [(u32, Call); 5] = [
    (
        50,
        http(
            "frontend",
            "GET /products",
            2.0,
            0.001,
            &[
                http(
                    "catalog",
                    "GET /catalog/items",
                    1.5,
                    0.001,
                    &[cache("GET catalog:page", 0.4), database("SELECT items", 3.0)],
                ),
                http("recommendations", "GET /recommendations", 4.0, 0.004, &[cache("MGET scores", 0.6)]),
            ],
        ),
    ),
    (
        25,
        http(
            "frontend",
            "GET /products/{id}",
            1.5,
            0.001,
            &[http("catalog", "GET /catalog/items/{id}", 1.0, 0.002, &[database("SELECT item", 1.5)])],
        ),
    ),
    (
        15,
        http(
            "frontend",
            "POST /cart",
            1.2,
            0.002,
            &[http("cart", "POST /cart/items", 1.0, 0.002, &[cache("HSET cart", 0.5)])],
        ),
    ),
    (
        7,
        http(
            "frontend",
            "POST /checkout",
            3.0,
            0.002,
            &[
                http("cart", "GET /cart", 0.8, 0.001, &[cache("HGETALL cart", 0.5)]),
                http(
                    "checkout",
                    "POST /orders",
                    4.0,
                    0.003,
                    &[
                        http("payment", "POST /charges", 25.0, 0.01, &[]),
                        database("INSERT order", 4.0),
                        http("cart", "DELETE /cart", 0.7, 0.001, &[cache("DEL cart", 0.3)]),
                    ],
                ),
            ],
        ),
    ),
    (3, http("frontend", "GET /orders", 1.5, 0.001, &[database("SELECT orders", 12.0)])),
];

/// The services that report metrics of their own.
pub(crate) const SERVICES: [&str; 6] = ["frontend", "catalog", "recommendations", "cart", "checkout", "payment"];
