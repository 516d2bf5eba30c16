//! Settings: defaults, then `pharos.yaml`, then the environment, then flags; the later wins.
//!
//! Every key of the file has a flag and a variable, made from its path: `retention.metrics` is
//! `--retention-metrics` and `PHAROS__RETENTION__METRICS`. Nothing is written twice: the keys are read off the
//! serialized defaults, their help off [`HELP`], and a test holds the two together.

mod cors;
mod help;
mod layers;
mod listeners;
pub(crate) mod tenants;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use ipnet::IpNet;
use pharos_base::{ByteSize, Helpers, HumanDuration};
use pharos_gateway::{AuditSettings, IdentitySettings, LimitSettings};
use pharos_http::{ConnectionSettings, TlsSettings};
use pharos_ingest::IngestSettings;
use pharos_model::{MatchOp, Matcher};
use pharos_sampling::TailSamplingSettings;
use pharos_spanmetrics::{ServiceGraphSettings, SpanMetricsSettings};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use cors::Cors;
pub(crate) use help::HELP;
pub(crate) use layers::{SettingsError, default_yaml, keys, load};
pub(crate) use listeners::{ListenerEntry, PortName};
use tenants::TenantSettings;

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Switch {
    On,
    Off,
}

/// An address to listen on, or `off`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port(Option<String>);

impl Port {
    fn at(address: &str) -> Self {
        Self(Some(address.to_owned()))
    }

    /// The address, unless it is off.
    pub(crate) fn address(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whether only this machine can reach it; true where it is off.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.0.as_deref().map(|address| address.rsplit_once(':').map_or(address, |(host, _)| host));
        host.is_none_or(|host| {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        })
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_deref().unwrap_or("off"))
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(if text == "off" { Self(None) } else { Self(Some(text)) })
    }
}

/// How long data are kept, and how much of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Retention {
    pub(crate) metrics: HumanDuration,
    pub(crate) metrics_rules: Vec<pharos_tsdb::RetentionRule>,
    pub(crate) metrics_size: Option<ByteSize>,
    pub(crate) traces: HumanDuration,
    pub(crate) traces_rules: Vec<pharos_tracestore::TraceRetentionRule>,
    pub(crate) traces_size: Option<ByteSize>,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY_MS: u64 = 86_400_000;
        Self {
            metrics: HumanDuration::from_ms(30 * DAY_MS),
            metrics_rules: Vec::new(),
            metrics_size: None,
            traces: HumanDuration::from_ms(7 * DAY_MS),
            traces_rules: Vec::new(),
            traces_size: None,
        }
    }
}

/// Bounds of a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Query {
    pub(crate) concurrency_max: usize,
    pub(crate) threads_max: Option<NonZeroUsize>,
    pub(crate) queue_wait: HumanDuration,
    pub(crate) timeout: HumanDuration,
    pub(crate) lookback: HumanDuration,
    pub(crate) memory_max: ByteSize,
    pub(crate) memory_total_max: ByteSize,
    pub(crate) body_max: ByteSize,
    pub(crate) bodies_max: ByteSize,
    pub(crate) samples_max: u64,
    pub(crate) points_max: u64,
    pub(crate) series_max: u64,
    pub(crate) points_per_series_max: usize,
    pub(crate) cache_memory_max: ByteSize,
    pub(crate) slow_log_min: Option<HumanDuration>,
    pub(crate) history_memory_max: ByteSize,
    pub(crate) subquery_step: HumanDuration,
    pub(crate) features: Vec<QueryFeature>,
}

impl Query {
    /// Threads that may help with one large query or another.
    pub(crate) fn helpers(&self) -> Helpers {
        self.threads_max.map_or_else(Helpers::for_cores, |threads| Helpers::new(threads.get() - 1))
    }
}

impl Default for Query {
    fn default() -> Self {
        Self {
            concurrency_max: 20,
            threads_max: None,
            queue_wait: HumanDuration::from_ms(10_000),
            timeout: HumanDuration::from_ms(120_000),
            lookback: HumanDuration::from_ms(300_000),
            memory_max: ByteSize::gib(1),
            memory_total_max: ByteSize::gib(4),
            body_max: ByteSize::mib(1),
            bodies_max: ByteSize::mib(64),
            samples_max: 50_000_000,
            points_max: 50_000_000,
            series_max: 1_000_000,
            points_per_series_max: 11_000,
            cache_memory_max: ByteSize::mib(32),
            slow_log_min: Some(HumanDuration::from_ms(10_000)),
            history_memory_max: ByteSize::mib(4),
            subquery_step: HumanDuration::from_ms(60_000),
            features: Vec::new(),
        }
    }
}

/// A part of PromQL that Prometheus has behind a feature flag of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum QueryFeature {
    /// Functions and aggregations marked experimental.
    PromqlExperimentalFunctions,
    /// `anchored` and `smoothed`.
    PromqlExtendedRangeSelectors,
    /// `fill`, `fill_left`, `fill_right`.
    PromqlBinopFillModifiers,
    /// Metric names are removed at the end of a query.
    PromqlDelayedNameRemoval,
    /// `stats=all` counts samples step by step.
    PromqlPerStepStats,
    /// `rate` and its like know when a counter began.
    UseStartTimestamps,
    /// `__type__` and `__unit__` are treated as the metric's name is.
    TypeAndUnitLabels,
}

/// The log that people read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// All settings of `pharos serve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: Port,
    pub(crate) otlp_grpc: Port,
    pub(crate) otlp_http: Port,
    pub(crate) jaeger: Port,
    pub(crate) jaeger_grpc: Port,
    pub(crate) auth: Switch,
    pub(crate) auth_off_anywhere: bool,
    pub(crate) tls: TlsSettings,
    pub(crate) listeners: Vec<ListenerEntry>,
    pub(crate) connections: ConnectionSettings,
    pub(crate) cors: Cors,
    pub(crate) cors_origin: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) identities: IdentitySettings,
    pub(crate) trusted_networks: Vec<IpNet>,
    pub(crate) audit: AuditSettings,
    pub(crate) sync: String,
    pub(crate) retention: Retention,
    pub(crate) query: Query,
    pub(crate) jaeger_api: pharos_api_jaeger::Settings,
    pub(crate) ingest: IngestSettings,
    pub(crate) limits: LimitSettings,
    pub(crate) tenants: Vec<TenantSettings>,
    pub(crate) tsdb: pharos_tsdb::Settings,
    pub(crate) tracestore: pharos_tracestore::Settings,
    pub(crate) span_metrics: SpanMetricsSettings,
    pub(crate) service_graph: ServiceGraphSettings,
    pub(crate) tail_sampling: TailSamplingSettings,
    pub(crate) log: Log,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./pharos-data"),
            listen: Port::at("127.0.0.1:9090"),
            otlp_grpc: Port::at("127.0.0.1:4317"),
            otlp_http: Port::at("127.0.0.1:4318"),
            jaeger: Port::at("127.0.0.1:16686"),
            jaeger_grpc: Port::at("127.0.0.1:16685"),
            auth: Switch::On,
            auth_off_anywhere: false,
            tls: TlsSettings::default(),
            listeners: Vec::new(),
            connections: ConnectionSettings::default(),
            cors: Cors::default(),
            cors_origin: None,
            token_file: None,
            identities: IdentitySettings::default(),
            trusted_networks: pharos_gateway::loopback_networks(),
            audit: AuditSettings::default(),
            sync: "batch".to_owned(),
            retention: Retention::default(),
            query: Query::default(),
            jaeger_api: pharos_api_jaeger::Settings::default(),
            ingest: IngestSettings::default(),
            limits: LimitSettings::default(),
            tenants: Vec::new(),
            tsdb: pharos_tsdb::Settings::default(),
            tracestore: pharos_tracestore::Settings::default(),
            span_metrics: SpanMetricsSettings::default(),
            service_graph: ServiceGraphSettings::default(),
            tail_sampling: TailSamplingSettings::default(),
            log: Log::default(),
        }
    }
}

impl Settings {
    /// Where the tokens are.
    pub(crate) fn token_path(&self) -> PathBuf {
        self.token_file.clone().unwrap_or_else(|| self.data_dir.join("tokens.json"))
    }

    /// Matches origins whose pages may read answers, in the older spelling.
    pub(crate) fn cors_origins(&self) -> Result<Option<Matcher>, String> {
        let matcher = |pattern: &String| Matcher::new(MatchOp::Regex, "origin", pattern);
        self.cors_origin.as_ref().map(matcher).transpose().map_err(|error| format!("cors_origin: {error}"))
    }

    /// Everything that fits its type and still makes no sense together; all of it, not the first only.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let ports = [&self.listen, &self.otlp_grpc, &self.otlp_http, &self.jaeger, &self.jaeger_grpc];
        if self.listen.address().is_none() {
            faults.push("listen: the main address cannot be off".to_owned());
        }
        for port in ports {
            if let Some(address) = port.address().filter(|address| !address.contains(':')) {
                faults.push(format!("{address:?} is no address: write host:port, such as 127.0.0.1:9090"));
            }
        }
        if self.auth == Switch::Off && !self.auth_off_anywhere && ports.iter().any(|port| !port.is_loopback()) {
            faults.push(
                "auth: off would open this server to everyone who reaches it; listen on loopback addresses only, \
                 or say auth_off_anywhere: true"
                    .to_owned(),
            );
        }
        let sizes = [
            ("query.memory_max", self.query.memory_max, ByteSize::mib(1)),
            ("query.memory_total_max", self.query.memory_total_max, self.query.memory_max),
            ("query.body_max", self.query.body_max, ByteSize(1 << 10)),
            ("query.bodies_max", self.query.bodies_max, self.query.body_max),
            ("ingest.limits.body_max", self.ingest.limits.body_max, ByteSize(1 << 10)),
            ("ingest.limits.bodies_max", self.ingest.limits.bodies_max, self.ingest.limits.body_max),
        ];
        for (name, size, min) in sizes {
            if size < min {
                faults.push(format!("{name}: {size} is below the minimum {min}"));
            }
        }
        faults.extend(tenants::ha_faults(&self.ingest.ha, &self.tenants));
        for (name, duration) in [
            ("timeout", self.query.timeout),
            ("lookback", self.query.lookback),
            ("subquery_step", self.query.subquery_step),
        ] {
            if duration.as_ms() == 0 {
                faults.push(format!("query.{name}: must be more than 0"));
            }
        }
        for (name, limit) in [
            ("samples_max", self.query.samples_max),
            ("series_max", self.query.series_max),
            ("points_max", self.query.points_max),
        ] {
            if limit == 0 {
                faults.push(format!("query.{name}: must be at least 1"));
            }
        }
        for (name, limit) in [
            ("concurrency_max", self.query.concurrency_max),
            ("points_per_series_max", self.query.points_per_series_max),
        ] {
            if limit == 0 {
                faults.push(format!("query.{name}: must be at least 1"));
            }
        }
        faults.extend(self.cors_origins().err());
        faults.extend(self.identities.faults());
        faults.extend(self.cors.faults(self.auth == Switch::On));
        faults.extend(self.connections.faults());
        faults.extend(self.tls_faults());
        faults.extend(self.jaeger_api.check().err().map(|error| format!("jaeger_api.{error}")));
        faults.extend(self.limits.check(&tenants::limits(&self.tenants)).err());
        faults.extend(self.tsdb().err());
        faults.extend(self.tracestore().err());
        faults.extend(self.span_metrics.check().err().map(|error| error.to_string()));
        faults.extend(self.service_graph.check().err().map(|error| error.to_string()));
        faults.extend(self.tail_sampling.check().err().map(|error| error.to_string()));
        faults
    }

    /// The metrics engine's settings, with those that have keys of their own at the top.
    pub(crate) fn tsdb(&self) -> Result<pharos_tsdb::Settings, String> {
        let mut settings = self.tsdb.clone();
        settings.sync = serde_json::from_value(self.sync.as_str().into()).map_err(|error| format!("sync: {error}"))?;
        settings.retention = self.retention.metrics;
        settings.retention_rules.clone_from(&self.retention.metrics_rules);
        settings.retention_size = self.retention.metrics_size;
        settings.check().map_err(|error| format!("tsdb: {error}"))?;
        Ok(settings)
    }

    /// The trace store's settings, with those that have keys of their own at the top.
    pub(crate) fn tracestore(&self) -> Result<pharos_tracestore::Settings, String> {
        let mut settings = self.tracestore.clone();
        settings.sync = serde_json::from_value(self.sync.as_str().into()).map_err(|error| format!("sync: {error}"))?;
        settings.retention = self.retention.traces;
        settings.retention_rules.clone_from(&self.retention.traces_rules);
        settings.retention_size = self.retention.traces_size;
        settings.check().map_err(|error| format!("tracestore: {error}"))?;
        Ok(settings)
    }
}
