//! What is asked: what RED and node dashboards ask, and at least once every kind of thing that PromQL can do and that means
//! the same in Prometheus 2.42 and 3.x.
//!
//! Left ends of windows lie off the sample grid. `$inner` is a range of about five seconds whose left end does so when
//! it is evaluated on the full second, as inside subqueries; `$at` is a moment some seconds before the end. Ranks
//! (`topk`, `bottomk`) are asked where no two values are equal.

/// When the table is asked.
pub(crate) struct Moment {
    /// Unix milliseconds of evaluation; `end_ms % 1000 == phase_ms`.
    pub(crate) end_ms: i64,
    /// Where in a second no sample lies.
    pub(crate) phase_ms: i64,
}

impl Moment {
    pub(crate) fn fill(&self, template: &str) -> String {
        let at_ms = self.end_ms - 5_000;
        let start_ms = self.end_ms - 20_000;
        let seconds = |ms: i64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
        template
            .replace("$inner", &format!("{}ms", 6_000 - self.phase_ms))
            .replace("$at", &seconds(at_ms))
            .replace("$start", &seconds(start_ms))
            .replace("$end", &seconds(self.end_ms))
    }
}

/// Asked at one instant and over a range.
pub(crate) const INSTANT_QUERIES: &[&str] = &[
    // RED: rate, errors, duration, of Prometheus' own handlers.
    "sum by (handler, code) (rate(prometheus_http_requests_total[10s]))",
    "sum by (handler) (increase(prometheus_http_requests_total[12s])) > 0",
    r#"sum(rate(prometheus_http_requests_total{code=~"2.."}[10s])) / sum(rate(prometheus_http_requests_total[10s]))"#,
    "histogram_quantile(0.95, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[10s])))",
    "histogram_quantile(0.5, sum by (le, handler) (rate(prometheus_http_request_duration_seconds_bucket[10s])))",
    "histogram_quantile(0.99, prometheus_http_request_duration_seconds_bucket)",
    "histogram_quantile(0.9, sum by (handler, le) (prometheus_http_response_size_bytes_bucket))",
    "sum by (handler) (rate(prometheus_http_request_duration_seconds_sum[10s])) / sum by (handler) (rate(prometheus_http_request_duration_seconds_count[10s]))",
    r#"(sum(rate(prometheus_http_request_duration_seconds_bucket{le="0.1"}[10s])) + sum(rate(prometheus_http_request_duration_seconds_bucket{le="0.4"}[10s]))) / 2 / sum(rate(prometheus_http_request_duration_seconds_count[10s]))"#,
    // Node dashboards.
    r#"100 * (1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[10s])))"#,
    "sum by (mode) (irate(node_cpu_seconds_total[5s]))",
    r#"sum by (instance) (irate(node_cpu_seconds_total{mode=~"user|system"}[5s])) / on (instance) group_left sum by (instance) (irate(node_cpu_seconds_total[5s]))"#,
    "100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)",
    "node_memory_MemTotal_bytes - node_memory_MemFree_bytes - node_memory_Cached_bytes - node_memory_Buffers_bytes",
    "100 - 100 * node_filesystem_avail_bytes{fstype!=\"\"} / node_filesystem_size_bytes",
    r#"irate(node_network_receive_bytes_total{device!~"veth.*"}[5s]) * 8"#,
    "-sum by (instance) (irate(node_network_transmit_bytes_total[5s])) * 8",
    "node_load1 / count without (cpu, mode) (node_cpu_seconds_total{mode=\"idle\"})",
    "node_time_seconds - node_boot_time_seconds",
    "rate(node_context_switches_total[10s])",
    "process_open_fds / process_max_fds",
    "rate(process_cpu_seconds_total[10s])",
    "rate(go_gc_duration_seconds_sum[10s]) / rate(go_gc_duration_seconds_count[10s])",
    "go_memstats_heap_inuse_bytes / go_memstats_sys_bytes > bool 0.5",
    "up == 1",
    "max by (job) (scrape_duration_seconds)",
    // Counters.
    "rate(prometheus_tsdb_head_samples_appended_total[10s])",
    "increase(prometheus_tsdb_head_samples_appended_total[7s])",
    "irate(prometheus_tsdb_head_samples_appended_total[10s])",
    "resets(node_cpu_seconds_total[15s])",
    "changes(process_resident_memory_bytes[15s])",
    // Gauges over time.
    "delta(go_memstats_alloc_bytes[10s])",
    "idelta(go_memstats_alloc_bytes[10s])",
    "deriv(go_memstats_alloc_bytes[10s])",
    "predict_linear(go_memstats_alloc_bytes[10s], 60)",
    "avg_over_time(go_goroutines[10s])",
    "min_over_time(go_memstats_alloc_bytes[10s])",
    "max_over_time(go_memstats_alloc_bytes[10s])",
    "sum_over_time(go_goroutines[10s])",
    "count_over_time(node_load1[10s])",
    "quantile_over_time(0.9, go_memstats_alloc_bytes[10s])",
    "stddev_over_time(go_memstats_alloc_bytes[10s])",
    "stdvar_over_time(go_goroutines[10s])",
    "last_over_time(go_goroutines[10s])",
    "present_over_time(up[10s])",
    "absent_over_time(nothing_of_that_name{job=\"node\"}[10s])",
    "absent(nothing_of_that_name{job=\"node\", code=~\"5..\"})",
    "absent(up{job=\"none\"})",
    // Aggregations.
    "sum without (cpu) (node_cpu_seconds_total)",
    "avg by (mode) (node_cpu_seconds_total)",
    "min by (job) (go_goroutines)",
    "max(go_goroutines) without (instance)",
    "count by (__name__) ({job=\"node\", __name__=~\"node_network_.+\"})",
    "group by (job) (up)",
    "stddev(scrape_duration_seconds)",
    "stdvar by (job) (go_memstats_alloc_bytes)",
    "quantile by (mode) (0.5, node_cpu_seconds_total)",
    "topk(2, sum by (mode) (node_cpu_seconds_total))",
    "bottomk(1, {__name__=~\"node_memory_(MemTotal|MemAvailable)_bytes\"})",
    "topk by (job) (1, go_memstats_alloc_bytes)",
    "count_values(\"value\", up)",
    "count_values by (job) (\"threads\", go_threads)",
    // Labels and joins.
    r#"label_replace(up, "host", "$1", "instance", "(.*):.*")"#,
    r#"label_join(up, "both", "/", "job", "instance")"#,
    "go_goroutines * on (job, instance) group_left (version) go_info",
    "node_network_up * on (instance, device) group_right (operstate) node_network_mtu_bytes",
    "node_filesystem_free_bytes / ignoring (job) node_filesystem_size_bytes",
    "go_goroutines + ignoring (version) group_left () (0 * go_info)",
    // Sets and comparisons.
    "go_goroutines and on (job) up{job=\"node\"}",
    "up{job=\"node\"} or up",
    "up unless on (instance) go_goroutines{job=\"prometheus\"}",
    "go_goroutines > on (job) group_left () (0 * up)",
    "node_cpu_seconds_total{mode=\"idle\"} >= bool 1000",
    "prometheus_http_requests_total != 0",
    // Time.
    "go_goroutines offset 3s",
    "rate(node_cpu_seconds_total{mode=\"user\"}[5s] offset 4s)",
    "go_memstats_alloc_bytes offset -2s",
    "go_memstats_alloc_bytes @ $at",
    "rate(prometheus_tsdb_head_samples_appended_total[5s] @ $at)",
    "sum(go_memstats_alloc_bytes) - sum(go_memstats_alloc_bytes @ end())",
    "go_memstats_alloc_bytes - go_memstats_alloc_bytes @ start() offset 1s",
    "time()",
    "timestamp(node_load1)",
    "time() - timestamp(up) < 5",
    "minute()",
    "hour(node_time_seconds)",
    "day_of_week(node_boot_time_seconds) + 10 * day_of_month(node_boot_time_seconds)",
    "day_of_year(node_boot_time_seconds)",
    "days_in_month() + 100 * month() + 10000 * year()",
    // Subqueries: their steps lie on the full second.
    "max_over_time(sum(rate(node_cpu_seconds_total{mode!=\"idle\"}[$inner]))[8s:1s])",
    "avg_over_time(go_goroutines[6s:2s])",
    "rate(sum(prometheus_tsdb_head_samples_appended_total)[8s:1s])",
    "quantile_over_time(0.5, (go_memstats_alloc_bytes / 2)[7s:1s])",
    "min_over_time(rate(process_cpu_seconds_total[$inner])[5s:1s] offset 2s)",
    "count_over_time(up[6s:1s] @ $at)",
    "max_over_time(deriv(go_memstats_alloc_bytes[$inner])[4s:2s])",
    // Arithmetic.
    "abs(-go_goroutines) ^ 0.5 % 3",
    "ceil(scrape_duration_seconds * 1000) - floor(scrape_duration_seconds * 1000)",
    "round(scrape_duration_seconds, 0.001)",
    "clamp(go_goroutines, 10, 20)",
    "clamp_min(clamp_max(go_goroutines, 30), 5)",
    "exp(ln(go_goroutines)) + log2(go_goroutines) + log10(go_goroutines) + sqrt(go_goroutines)",
    "sgn(node_load1 - 1) + sin(go_goroutines) * cos(go_goroutines) - atan(go_goroutines)",
    "abs(go_goroutines) atan2 go_threads",
    "rad(deg(go_goroutines)) + pi()",
    "scalar(up{job=\"node\"}) + vector(1)",
    "scalar(go_goroutines)",
    "1 / 0 - vector(-Inf) + 0x10 - 1e-3",
    "go_goroutines / 0",
    "2 * 3 - 4 ^ 0.5 ^ 2",
    "{job=\"prometheus\", __name__=~\"go_(goroutines|threads)\"}",
];

/// Asked over a range alone.
pub(crate) const RANGE_QUERIES: &[&str] = &[
    "{__name__=~\"node_(load1|cpu_seconds_total)\"}",
    "sum by (job) ({__name__=~\"go_.+\"})",
    "histogram_quantile(0.75, sum by (le, job) (increase(prometheus_engine_query_duration_seconds_bucket[10s]))) or vector(0)",
    "rate(node_cpu_seconds_total[10s])",
    "time() % 60",
];

/// Lists of names, values and series.
pub(crate) const LISTINGS: &[&str] = &[
    "/api/v1/labels?start=$start&end=$end",
    "/api/v1/labels?match[]=node_cpu_seconds_total&match[]=up&start=$start&end=$end",
    "/api/v1/label/__name__/values?start=$start&end=$end",
    "/api/v1/label/mode/values?start=$start&end=$end",
    "/api/v1/label/device/values?match[]=node_network_up&start=$start&end=$end",
    "/api/v1/series?match[]=node_cpu_seconds_total&start=$start&end=$end",
    "/api/v1/series?match[]={job=\"prometheus\"}&match[]=up&start=$start&end=$end",
];
