//! One line of help for each setting: shown by `--help` and above the key in `pharos.yaml`.

/// Key and help, in no particular order; a test holds it against the settings.
pub(crate) const HELP: &[(&str, &str)] = &[
    ("data_dir", "Folder of all data; one server at a time"),
    ("listen", "Main address: UI, all APIs, OTLP, remote write, /metrics"),
    ("otlp_grpc", "Address for OTLP over gRPC, or off"),
    ("otlp_http", "Address for OTLP over HTTP, or off"),
    ("jaeger", "Address for Jaeger's query API and the UI, or off"),
    ("jaeger_grpc", "Address for Jaeger's gRPC query API, or off"),
    ("auth", "Whether callers need a token: on, or off (loopback addresses only)"),
    ("auth_off_anywhere", "Allow auth: off on addresses that others can reach"),
    (
        "tls.certificate",
        "Certificate of all ports and those between it and its authority, a PEM file that may change at any time; null: no TLS",
    ),
    ("tls.key", "Private key of that certificate, a PEM file, not encrypted"),
    ("tls.client_ca", "Authorities whose clients are believed, a PEM file"),
    (
        "tls.client_crl",
        "Revoked certificates of clients, a PEM file with a list of every authority in a client's chain; null: none are",
    ),
    (
        "tls.clients",
        "Whether clients are asked for a certificate: off, optional, or required (without one nothing is answered, health included)",
    ),
    ("tls.min_version", "Oldest TLS that is spoken: 1.2 or 1.3"),
    (
        "listeners",
        "Ports whose TLS differs, a list such as [{port: otlp_grpc, tls: {clients: required}}, {port: listen, tls: off}]",
    ),
    (
        "connections.max",
        "Connections of all ports together; when there are as many, one without a valid credential is closed for the next, which waits if there is none",
    ),
    (
        "connections.per_address_max",
        "Connections of one address (of IPv6: /64) over which no valid credential came yet",
    ),
    (
        "connections.head_timeout",
        "Longest time from the begin of a request's head, or of the connection, to the head's end",
    ),
    ("connections.handshake_timeout", "Longest TLS handshake"),
    ("connections.body_pause_max", "Longest pause in a request's body"),
    (
        "connections.body_rate_min",
        "Bytes a second that a request's body must have once it was waited for as long as a pause may be; 0 does not ask",
    ),
    ("connections.idle_max", "A connection without a request is closed after this"),
    (
        "connections.age_max",
        "A connection is told to close after this, give or take a tenth; requests under way finish",
    ),
    ("connections.age_grace", "A connection that was told to close and has no request under way is cut after this"),
    ("connections.write_stall_max", "A client must take some of its answers at least this often"),
    ("connections.streams_max", "Requests one HTTP/2 connection may have under way"),
    (
        "connections.windows_memory_max",
        "What all HTTP/2 connections together may send ahead, beyond the 64 KiB each that the protocol demands",
    ),
    ("connections.drain_max", "At the stop, requests under way may take this long"),
    (
        "cors.origins",
        "Origins whose pages browsers let push and read, such as [https://app.example.org, 'https://*.example.com']; '*': all (only while auth is on)",
    ),
    ("cors.headers", "Request headers that these pages may send beside the usual ones; '*': all"),
    ("cors.max_age", "How long browsers remember what they may"),
    (
        "cors_origin",
        "Older spelling of cors.origins: a regular expression such as 'https://.*[.]example[.]org', which counts beside it",
    ),
    ("token_file", "Token file; tokens.json in the data folder if null"),
    (
        "identities.headers",
        "Headers that may bring a token where there is no Authorization, such as [X-API-Key]; the token alone, without \"Bearer\"",
    ),
    ("identities.sessions", "How long a browser stays logged in"),
    (
        "identities.jwt",
        "Issuers whose JSON web tokens count, a list such as [{issuer: 'https://idp.example.com/realms/ops', audience: [pharos], keys: {discovery: true}, grant: {tenant: '0'}}]",
    ),
    (
        "identities.certificates",
        "Which client certificates are whose, a list such as [{match: {uri: 'spiffe://prod/agent/*'}, grant: {scopes: ['metrics:write'], tenant: '7'}}]; the first that fits counts",
    ),
    (
        "identities.proxies",
        "Proxies that name the sender in a header, a list such as [{networks: [10.1.0.0/16], header: X-Auth-Request-Email, grant: {scopes: ['metrics:read'], tenant: '0'}}]; certificate_header instead of header: the certificate that the sender showed to the proxy",
    ),
    (
        "trusted_networks",
        "Networks of proxies whose X-Forwarded-For, X-Real-IP and X-Forwarded-Proto count; by default this machine",
    ),
    (
        "audit.level",
        "Which requests get a line in the log with who, from where, to which path and why: refused, all, or off",
    ),
    ("audit.per_second_max", "Such lines in a second at most; more are counted. Refused and admitted requests each"),
    ("sync", "When an acknowledged batch is on disk: batch (before the answer), or an interval such as 1s"),
    ("retention.metrics", "Samples older than this are refused and dropped"),
    (
        "retention.metrics_rules",
        "Other retentions, a list such as [{tenant: dev, keep: 7d}, {matchers: ['__name__=~\"slo:.*\"'], keep: 400d}]; the shortest rule that fits a series counts, then its tenant's, then retention.metrics",
    ),
    ("retention.metrics_size", "Oldest parts are dropped while the metrics are larger, such as 10GiB; null: no limit"),
    ("retention.traces", "Spans older than this are refused and dropped"),
    (
        "retention.traces_rules",
        "Tenants whose spans are kept longer or shorter, or up to a size of their own, a list such as [{tenant: dev, keep: 2d, size: 5GiB}]",
    ),
    ("retention.traces_size", "Oldest days are dropped while the traces are larger, such as 10GiB; null: no limit"),
    ("query.concurrency_max", "Queries that run at the same time; ten times as many wait"),
    (
        "query.threads_max",
        "Threads that work on one large query at most. All queries together have one less than that beside their own, and each query under way one less. null: one per core",
    ),
    ("query.queue_wait", "Longest wait of a query for its turn"),
    ("query.timeout", "Longest run of one query"),
    ("query.lookback", "How far back a selector without a range looks for the newest sample"),
    ("query.memory_max", "Memory one query may hold"),
    (
        "query.memory_total_max",
        "Memory all queries may hold together, answers on their way out included; of that a tenant's queries hold as much as they leave to others, its only one what is left",
    ),
    (
        "query.body_max",
        "Largest body of a reader's request: a form, a gRPC message, a remote read as sent and inflated. Above: 413",
    ),
    (
        "query.bodies_max",
        "Memory of the bodies of all readers' requests together, those of POST /api/transform included; of that a tenant holds as much as it leaves to others. Above: 503",
    ),
    ("query.points_max", "Points one answer may have, of all its series together"),
    ("query.samples_max", "Samples one query may hold at a time"),
    ("query.series_max", "Series one selector or listing may touch"),
    ("query.points_per_series_max", "Steps one range query may have"),
    ("query.cache_memory_max", "Memory for answers of range queries that may be asked for again; 0 keeps none"),
    (
        "query.slow_log_min",
        "Queries that take at least this long, their wait included, get a line in the log; 0s logs all, null none",
    ),
    (
        "query.history_memory_max",
        "Memory in which queries that ended are remembered for status/top_queries; 0B keeps none",
    ),
    ("query.subquery_step", "Step of a subquery that names none"),
    (
        "query.features",
        "Parts of PromQL that are off by default, by the names of Prometheus' feature flags: promql-experimental-functions, promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats, use-start-timestamps, type-and-unit-labels",
    ),
    (
        "jaeger_api.max_trace_size",
        "Spans of a trace that Jaeger's APIs show; the first has a warning if there are more. 0 shows all",
    ),
    (
        "jaeger_api.max_clock_skew_adjust",
        "The furthest that Jaeger's APIs move times of a span where its host's clock seems wrong; 0s moves none",
    ),
    ("jaeger_api.transform_body_max", "Largest body of POST /api/transform. Above: 413"),
    (
        "jaeger_api.ui_dir",
        "Folder with a built Jaeger UI, served at / of Jaeger's port in place of our own page and at /jaeger/ of the main one; null: none",
    ),
    ("jaeger_api.ui_config", "Configuration of that UI, a .json or .js file as Jaeger takes it; null: none"),
    (
        "jaeger_api.monitor.enabled",
        "Whether Jaeger's monitor is answered from metrics of spans: /api/metrics/* and its gRPC service",
    ),
    (
        "jaeger_api.monitor.namespace",
        "What the names of these metrics begin with; this and the next three fit what span_metrics makes, others fit a collector's",
    ),
    ("jaeger_api.monitor.normalize_calls", "Whether the metric of calls ends in _total"),
    ("jaeger_api.monitor.normalize_duration", "Whether the metric of durations ends in its unit"),
    ("jaeger_api.monitor.latency_unit", "Unit of the stored durations: ms or s"),
    ("log.level", "Filter of log lines, such as info, or info,pharos_tsdb=debug"),
    ("log.format", "text or json"),
    ("ingest.limits.body_max", "Largest request body, counted while inflating. Above: 413"),
    (
        "ingest.limits.decoded_max",
        "Memory that one request may take, decoded: a message of 2 bytes can be one of hundreds in memory. Above: 413",
    ),
    (
        "ingest.limits.label_bytes_max",
        "Bytes of label text of one decoded request, all series together: a bound on what a small body can grow to by repeating. Above: 413",
    ),
    ("ingest.limits.labels_max", "Labels of a series, the metric name included"),
    ("ingest.limits.label_name_bytes_max", "Bytes of a label name"),
    ("ingest.limits.label_value_bytes_max", "Bytes of a label value, the metric name included"),
    ("ingest.limits.exemplar_label_chars_max", "Characters of all labels of an exemplar; one with more is dropped"),
    (
        "ingest.limits.histogram_buckets_max",
        "Buckets of one histogram, both sides together, or quantiles of one summary",
    ),
    ("ingest.limits.help_bytes_max", "Bytes of a metric's help text; longer ones are cut"),
    ("ingest.limits.future_max", "How far ahead of the server's clock a sample may be"),
    (
        "ingest.limits.span_items_max",
        "Attributes of a span, resource, scope, event or link, each for itself. A span with more is refused",
    ),
    ("ingest.limits.span_events_max", "Events of a span. A span with more is refused"),
    ("ingest.limits.span_links_max", "Links of a span. A span with more is refused"),
    ("ingest.limits.span_value_bytes_max", "Size of one attribute's value. A span with a larger one is refused"),
    (
        "ingest.limits.span_attributes_max",
        "Attributes of a span, those of its events and links included. A span with more is refused",
    ),
    ("ingest.limits.nesting_max", "Nesting of attribute values and of JSON. Deeper: 400"),
    (
        "ingest.limits.otlp_streams_memory_max",
        "Memory in which the label sets of known OTLP metric streams are kept; 0 keeps none. Full: those of other streams are made anew with each request",
    ),
    (
        "ingest.limits.remote_write_memory_max",
        "Memory in which the label sets of series that come by remote write are kept, so that they are recognised. Full: those no longer sent go",
    ),
    (
        "ingest.limits.start_series_max",
        "Series of a tenant whose starts are remembered where created_zero asks for zeros. Full: those that begin get none",
    ),
    (
        "ingest.ha.replica_label",
        "Label by which two senders of remote write that bring the same differ: of each cluster's replicas one is stored, without this label; null stores all",
    ),
    ("ingest.ha.cluster_label", "Label that names what the replicas have in common"),
    ("ingest.ha.failover", "How long the stored replica may be silent until another takes its place"),
    (
        "ingest.ha.clusters_max",
        "Clusters of replicas that one tenant may have at a time. Above: those of more are refused",
    ),
    (
        "ingest.otlp.translation_strategy",
        "How names are translated: UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, NoUTF8EscapingWithSuffixes or NoTranslation",
    ),
    ("ingest.otlp.promote_resource_attributes", "Resource attributes that every series of the resource gets as labels"),
    ("ingest.otlp.promote_all_resource_attributes", "Whether all resource attributes are promoted"),
    ("ingest.otlp.ignore_resource_attributes", "Resource attributes that are not promoted although all are"),
    (
        "ingest.otlp.keep_identifying_resource_attributes",
        "Whether target_info has service.* too, beside job and instance",
    ),
    (
        "ingest.otlp.convert_histograms_to_nhcb",
        "Whether explicit-bucket histograms become native histograms with custom buckets",
    ),
    (
        "ingest.otlp.promote_scope_metadata",
        "Whether every series gets its scope's name, version, schema and attributes",
    ),
    ("ingest.otlp.label_name_underscore_sanitization", "Whether a label _x becomes key_x where names are escaped"),
    ("ingest.otlp.label_name_preserve_multiple_underscores", "Whether a__b stays so where names are escaped"),
    (
        "ingest.otlp.delta",
        "What becomes of delta temporality: convert (added up per stream), refuse, or native (stored as it is, type unknown)",
    ),
    ("ingest.otlp.delta_streams_max", "Delta streams of a tenant that are added up; above, new ones are refused"),
    ("ingest.otlp.delta_memory_max", "Memory of a tenant's delta streams; above, new ones and histograms are refused"),
    ("ingest.otlp.delta_stale", "Delta streams without a point for so long begin anew"),
    ("ingest.otlp.type_and_unit_labels", "Whether every series gets the labels __type__ and __unit__"),
    (
        "ingest.otlp.created_zero",
        "Whether counters, histograms and summaries get a zero where they start, so that PromQL sees their first increase",
    ),
    (
        "ingest.remote_write.type_and_unit_labels",
        "Whether series of remote write 2.0 get the labels __type__ and __unit__ of their metadata",
    ),
    (
        "ingest.remote_write.created_zero",
        "Whether series of remote write 2.0 get a zero where they start, so that PromQL sees their first increase",
    ),
    (
        "tsdb.downsampling",
        "What merged parts are rolled up to beside their samples, a list of 5m and 1h; queries over long times use it where the answer is the same to the bit",
    ),
    ("tsdb.merge_rate_max", "Merging in the background reads and writes at most this much per second; null: no limit"),
    ("tsdb.flush_interval", "The head is flushed at the latest after this time"),
    (
        "tsdb.head_memory_max",
        "Samples of the head take at most about this much, or 256 bytes a series where that is more; above it they are flushed, at twice as much writes are refused until a flush is done",
    ),
    (
        "tsdb.head_memory_limit",
        "Everything the head holds takes at most about this much; above half of it new series are refused",
    ),
    (
        "tsdb.log_size_max",
        "The log is flushed away when it is larger; at twice as much writes are refused until a flush is done. Bounds the time of recovery",
    ),
    ("tsdb.log_segment_size", "Size at which a log segment is closed and the next one begun"),
    (
        "tsdb.data_cache_max",
        "Decoded blocks of all parts but of their indexes (chunk headers, instants, newest samples) take at most this much; 0B keeps none",
    ),
    (
        "tsdb.queue_memory_max",
        "Batches that wait for the log take at most this much, and one batch more; then they are refused",
    ),
    (
        "tsdb.series_max_per_tenant",
        "Series of one tenant that may be active; samples of further ones are refused. null: no limit",
    ),
    ("tsdb.tenants_max", "Tenants that may have samples; those of further ones are refused"),
    ("tsdb.exemplars_max", "Exemplars of one tenant kept between two flushes; the oldest go first"),
    ("tsdb.metadata_max", "Metric families of one tenant whose metadata is kept"),
    (
        "tsdb.index_cache_max",
        "Decoded blocks of the indexes of all parts kept in memory take at most this much; 0B keeps none",
    ),
    ("tsdb.disk_free_min", "Writes are refused while the disk has less free space than this"),
    ("tracestore.future_max", "Spans that start later than now plus this are refused"),
    ("tracestore.rows_memory", "Memory of RocksDB over all days: write buffers and block cache"),
    (
        "tracestore.filter_memory",
        "Memory of the filters that say which segment may have a trace, 10 bits a trace; beyond, the oldest days' are asked of the disk",
    ),
    (
        "tracestore.open_blocks_memory",
        "Memory of blocks that searches and reads keep open for the next ones, over all days and tenants; 0B keeps none",
    ),
    (
        "tracestore.pattern_time_max",
        "How long a search with regular expressions looks further into the past; then it answers what it found, with a warning",
    ),
    (
        "tracestore.index_memory",
        "Memory of one index writer; the newest day has one, late spans open a second for a moment",
    ),
    ("tracestore.commit_spans", "Spans in memory that start an index commit"),
    ("tracestore.commit_interval", "Time after which an index commit starts, if there is anything to commit"),
    (
        "tracestore.tail_spans_max",
        "Spans in memory, not yet in the index, above which appends are answered 'unavailable' until the index has caught up; writers wait above half",
    ),
    ("tracestore.tail_memory", "Memory of these spans, above which the same happens; a commit starts at a third"),
    (
        "tracestore.queue_max",
        "Memory of batches that wait for the log; more are answered 'unavailable', writers wait above a thirty-second",
    ),
    ("tracestore.log_segment", "A log file that is larger is closed and a new one begun"),
    ("tracestore.free_space_min", "Writes are answered 'unavailable' while the file system has less free than this"),
    ("tracestore.trace_spans_max", "Spans of one trace that a read returns; beyond, the trace carries a warning"),
    ("tracestore.tenants_max", "Tenants that may have spans on one UTC day; those of further ones are refused"),
    (
        "tracestore.operations_max",
        "Operations of one service, tenant and day that are listed; beyond, spans are stored and found, but their operations are not listed",
    ),
    (
        "tracestore.names_memory",
        "Memory of the names of services and operations of one tenant and day that are listed; beyond, spans are stored and found, but new names are not listed",
    ),
    (
        "tracestore.dependencies",
        "Whether calls between services are counted while spans come in; off, what was counted before is answered",
    ),
    (
        "tracestore.dependencies_max",
        "Pairs of caller and called of one tenant and day whose calls are counted; calls of further ones are not, which is warned of",
    ),
    (
        "tracestore.pairing_spans",
        "Spans whose ids are kept in memory to pair callers and called; older ones are looked up on disk",
    ),
    (
        "limits.requests_in_flight",
        "Write requests of a tenant that may be under way at a time; more are answered 429. null: no limit, here and below",
    ),
    ("limits.bytes_per_second", "Bytes of bodies, as sent, that a tenant may write in a second"),
    (
        "limits.samples_per_second",
        "Samples and histograms that a tenant may write in a second; an import is slowed down to it",
    ),
    ("limits.spans_per_second", "Spans that a tenant may write in a second"),
    ("limits.series_active", "Series of a tenant that may be active; samples of further ones are refused"),
    ("limits.body_max", "Largest body of a tenant's requests, inflated; lowers ingest.limits.body_max"),
    ("limits.labels_max", "Labels of a series; lowers ingest.limits.labels_max"),
    ("limits.label_name_bytes_max", "Bytes of a label's name; lowers ingest.limits.label_name_bytes_max"),
    ("limits.label_value_bytes_max", "Bytes of a label's value; lowers ingest.limits.label_value_bytes_max"),
    ("limits.span_attributes_max", "Attributes of a span; lowers ingest.limits.span_attributes_max"),
    ("limits.span_events_max", "Events of a span; lowers ingest.limits.span_events_max"),
    ("limits.span_links_max", "Links of a span; lowers ingest.limits.span_links_max"),
    ("limits.queries_in_flight", "Queries of a tenant that may run at a time; more wait"),
    ("limits.queries_queued", "Queries of a tenant that may wait for their turn; more are answered 503"),
    ("limits.query_timeout", "Longest time of a tenant's query, its wait included; lowers query.timeout"),
    ("limits.query_memory_max", "Memory of a tenant's query; lowers query.memory_max"),
    ("limits.query_samples_max", "Samples that a tenant's query may hold at a time; lowers query.samples_max"),
    ("limits.query_series_max", "Series that one selector of a tenant's query may touch; lowers query.series_max"),
    (
        "limits.burst",
        "How long a rate that is not used is saved up; a request beyond what is saved passes, and the next ones wait until it is paid for",
    ),
    (
        "tenants",
        "What single tenants have otherwise than limits and ingest.ha say, such as [{tenant: dev, limits: {samples_per_second: 1000}, ha: {replica_label: pod}}]; read again at a reload",
    ),
    (
        "ingest.limits.queue_wait",
        "A request that would wait longer for a thread that reads it is answered 503, if possible before its body is taken",
    ),
    (
        "ingest.limits.overload_wait",
        "The same while overload lasts: once somebody waited at all times for as long as queue_wait, or was refused, until nobody was for 10s",
    ),
    (
        "ingest.limits.bodies_max",
        "Bytes that the bodies of all requests under way may hold together, one tenant no more than it leaves to others; more are answered 503",
    ),
    (
        "tracestore.origins_in_memory",
        "Origins (a resource with a scope) of one tenant and day whose hashes are kept in memory; beyond, the disk is asked whether one is known",
    ),
    ("span_metrics.enabled", "Whether calls, durations and sizes are counted by operation while spans come in"),
    ("span_metrics.flush_interval", "How often the counts of spans, the service graph's too, go to the metrics"),
    (
        "span_metrics.dimensions",
        "Attributes of the span, else of its resource, that become labels, such as [http.request.method]; at most 16",
    ),
    (
        "span_metrics.series_max",
        "Operations of one tenant that are told apart, each with its kinds and outcomes; spans of further ones count for their service, with the label otel_metric_overflow",
    ),
    (
        "span_metrics.target_info",
        "Whether traces_target_info tells of each resource that sends spans, and series of spans have job and instance of it",
    ),
    ("span_metrics.target_info_max", "Resources of one tenant that are told of"),
    ("span_metrics.idle_max", "A series that gets no span for this long ends, the service graph's too"),
    (
        "span_metrics.exemplars_max",
        "Links to traces kept of one tenant at each flush, at most two of a series; 0 keeps none. Tail sampling may drop the trace later",
    ),
    (
        "span_metrics.adjusted_counts",
        "Whether a span counts for all that sampling at its source left out, as its trace state says (ot=th:...)",
    ),
    (
        "span_metrics.span_age_max",
        "Spans that ended longer ago do not count, such as 1h; null: all count when they come",
    ),
    ("service_graph.enabled", "Whether calls between services are paired and counted while spans come in"),
    ("service_graph.pairing_window", "How long one half of a call waits for the other"),
    (
        "service_graph.waiting_max",
        "Halves of calls of one tenant that wait at a time; further ones are counted as dropped",
    ),
    ("service_graph.edges_max", "Edges of one tenant that are told apart; calls along further ones count together"),
    (
        "service_graph.peer_attributes",
        "Attributes of a client span that name whom it called if no span of theirs comes",
    ),
    ("service_graph.database_attributes", "Attributes of a client span that say it called a database and name it"),
    (
        "tail_sampling.enabled",
        "Whether whole traces are judged by policies before they are stored; a trace is visible when it was judged",
    ),
    ("tail_sampling.decision_wait", "How long after its first span a trace is judged"),
    (
        "tail_sampling.traces_max",
        "Traces that wait at a time; above it the oldest of the tenant with most are judged early",
    ),
    (
        "tail_sampling.memory_max",
        "Memory of spans that wait; above it traces of the tenant that takes most are judged early, at half as much again its requests are answered 'unavailable', at twice as much all are",
    ),
    ("tail_sampling.decisions_max", "Judgements that are remembered for late spans"),
    ("tail_sampling.log_segment", "A file of the log of waiting spans that is larger is closed and a new one begun"),
    (
        "tail_sampling.policies",
        "What is kept, a list such as [{name: errors, rule: {type: status_code, codes: [ERROR]}}, {name: some, rule: {type: probabilistic, percent: 5}}]; types: always, latency, numeric_attribute, string_attribute, boolean_attribute, probabilistic, status_code, trace_state, sampled, rate_limit, bytes_limit, span_count, ottl_condition, not, and, drop, composite",
    ),
];
