//! What the metrics look like: a fixed layout of 240 series per scrape target,
//! and a small state machine per series that produces its next value.

use crate::rng::{Rng, mix};

/// Series per target: 45 % counters, 25 % integer gauges, 15 % float gauges,
/// 10 % constants, 5 % histogram buckets.
pub(crate) const SLOTS: usize = 240;

const LE: [&str; 12] = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];
pub(crate) const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
pub(crate) const BUCKETS: usize = 12;
/// How observations fall into the buckets (not cumulative).
const SHARE: [f64; 12] = [0.18, 0.22, 0.2, 0.14, 0.1, 0.08, 0.04, 0.02, 0.012, 0.005, 0.002, 0.001];
const JOBS: [&str; 8] = ["api", "checkout", "cart", "search", "auth", "billing", "ingest", "worker"];

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Model {
    /// Histogram bucket k; also adds to the running total of its target.
    Bucket(usize),
    /// The histogram's count: the running total.
    HistCount,
    /// A counter of seconds with full float precision (`_sum`).
    FloatSum,
    /// CPU time: this share of an interval, in hundredths of a second.
    CpuSeconds(f64),
    /// Integer counter around this many events a second; how busy varies by series.
    Counter(f64),
    /// Memory-like: a random walk of 4 KiB pages up to this many bytes.
    Pages(f64),
    /// Small integer gauge (goroutines, sockets) up to about this value.
    SmallInt(f64),
    /// Float gauge around this value with two decimals, changing a little.
    Decimal2(f64),
    /// Float gauge with full precision that changes on some scrapes only.
    Smooth(f64),
    Constant(f64),
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) name: &'static str,
    pub(crate) labels: Vec<(&'static str, String)>,
    pub(crate) model: Model,
    pub(crate) node: bool,
}

impl Model {
    pub(crate) fn is_counter(&self) -> bool {
        use Model::{Bucket, Counter, CpuSeconds, FloatSum, HistCount};
        matches!(self, Bucket(_) | HistCount | FloatSum | CpuSeconds(_) | Counter(_))
    }
}

/// The layout of every target. The histogram comes first, in bucket order.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(crate) fn layout() -> Vec<Slot> {
    use Model::{Bucket, Constant, Counter, CpuSeconds, Decimal2, FloatSum, HistCount, Pages, SmallInt, Smooth};
    let mut v: Vec<Slot> = Vec::with_capacity(SLOTS);
    let mut add = |name, labels: &[(&'static str, &str)], model| {
        let labels = labels.iter().map(|(k, x)| (*k, x.to_string())).collect();
        v.push(Slot { name, labels, model, node: str::starts_with(name, "node_") });
    };
    let h = ("handler", "/api/v1/orders");
    for (k, le) in LE.iter().enumerate() {
        add("http_request_duration_seconds_bucket", &[h, ("le", le)], Bucket(k));
    }
    add("http_request_duration_seconds_count", &[h], HistCount);
    add("http_request_duration_seconds_sum", &[h], FloatSum);
    let modes = [
        ("idle", 0.8),
        ("user", 0.12),
        ("system", 0.05),
        ("iowait", 0.01),
        ("softirq", 0.01),
        ("steal", 0.002),
        ("irq", 0.0),
        ("nice", 0.0),
    ];
    for cpu in ["0", "1", "2", "3"] {
        for (mode, share) in modes {
            add("node_cpu_seconds_total", &[("cpu", cpu), ("mode", mode)], CpuSeconds(share));
        }
    }
    for dev in ["eth0", "eth1", "lo", "docker0"] {
        add("node_network_receive_bytes_total", &[("device", dev)], Counter(2e5));
        add("node_network_transmit_bytes_total", &[("device", dev)], Counter(1e5));
        add("node_network_receive_packets_total", &[("device", dev)], Counter(300.0));
        add("node_network_transmit_packets_total", &[("device", dev)], Counter(200.0));
    }
    for dev in ["nvme0n1", "sda", "sdb"] {
        add("node_disk_reads_completed_total", &[("device", dev)], Counter(5.0));
        add("node_disk_writes_completed_total", &[("device", dev)], Counter(20.0));
        add("node_disk_read_bytes_total", &[("device", dev)], Counter(1e5));
        add("node_disk_written_bytes_total", &[("device", dev)], Counter(4e5));
    }
    let handlers = ["/api/v1/orders", "/api/v1/users", "/api/v1/items/{id}", "/login", "/healthz", "/metrics"];
    for handler in handlers {
        for (method, code) in [("GET", "200"), ("GET", "404"), ("POST", "200"), ("POST", "500")] {
            let rate = if code == "200" { 20.0 } else { 0.05 };
            let l = [("handler", handler), ("method", method), ("code", code)];
            add("http_requests_total", &l, Counter(rate));
        }
    }
    for m in ["Get", "List", "Create", "Update", "Delete", "Watch", "Ping", "Stat", "Sync"] {
        let l = [("grpc_service", "store.v1.Store"), ("grpc_method", m), ("grpc_code", "OK")];
        add("grpc_server_handled_total", &l, Counter(3.0));
    }
    for (n, r) in [
        ("node_vmstat_pgfault", 900.0),
        ("node_vmstat_pgmajfault", 0.02),
        ("node_vmstat_pgpgin", 50.0),
        ("node_vmstat_pgpgout", 300.0),
        ("node_vmstat_pswpin", 0.0),
        ("node_vmstat_oom_kill", 0.0),
        ("node_context_switches_total", 4000.0),
        ("node_intr_total", 2500.0),
        ("node_forks_total", 2.0),
        ("go_memstats_alloc_bytes_total", 3e6),
        ("go_memstats_mallocs_total", 20000.0),
        ("go_memstats_frees_total", 20000.0),
    ] {
        add(n, &[], Counter(r));
    }
    add("process_cpu_seconds_total", &[], CpuSeconds(0.15));
    // Integer gauges.
    for (n, size) in [
        ("node_memory_MemFree_bytes", 4e9),
        ("node_memory_MemAvailable_bytes", 1e10),
        ("node_memory_Buffers_bytes", 4e8),
        ("node_memory_Cached_bytes", 6e9),
        ("node_memory_Active_bytes", 8e9),
        ("node_memory_Inactive_bytes", 3e9),
        ("node_memory_AnonPages_bytes", 5e9),
        ("node_memory_Mapped_bytes", 7e8),
        ("node_memory_Dirty_bytes", 5e6),
        ("node_memory_Writeback_bytes", 1e5),
        ("node_memory_Slab_bytes", 5e8),
        ("node_memory_SReclaimable_bytes", 4e8),
        ("node_memory_PageTables_bytes", 4e7),
        ("node_memory_KernelStack_bytes", 2e7),
        ("node_memory_Committed_AS_bytes", 1.2e10),
        ("node_memory_Shmem_bytes", 1e8),
        ("go_memstats_heap_alloc_bytes", 2e8),
        ("go_memstats_heap_inuse_bytes", 2.5e8),
        ("go_memstats_heap_idle_bytes", 1e8),
        ("go_memstats_next_gc_bytes", 3e8),
        ("process_resident_memory_bytes", 4e8),
        ("process_virtual_memory_bytes", 1.3e9),
    ] {
        add(n, &[], Pages(size));
    }
    for mnt in ["/", "/boot", "/var", "/data"] {
        let l = [("device", "/dev/nvme0n1p2"), ("fstype", "ext4"), ("mountpoint", mnt)];
        add("node_filesystem_avail_bytes", &l, Pages(5e10));
        add("node_filesystem_free_bytes", &l, Pages(6e10));
        add("node_filesystem_files_free", &l, SmallInt(3e6));
    }
    for (n, x) in [
        ("go_goroutines", 400.0),
        ("go_threads", 20.0),
        ("process_open_fds", 150.0),
        ("node_procs_running", 4.0),
        ("node_procs_blocked", 1.0),
        ("node_sockstat_TCP_inuse", 90.0),
        ("node_sockstat_TCP_alloc", 300.0),
        ("node_sockstat_TCP_tw", 60.0),
        ("node_sockstat_UDP_inuse", 8.0),
        ("node_sockstat_sockets_used", 500.0),
        ("node_netstat_Tcp_CurrEstab", 80.0),
        ("node_filefd_allocated", 3000.0),
        ("node_entropy_available_bits", 256.0),
        ("node_nf_conntrack_entries", 900.0),
        ("go_memstats_heap_objects", 1e6),
        ("http_requests_in_flight", 12.0),
    ] {
        add(n, &[], SmallInt(x));
    }
    for pool in ["read", "write", "admin", "bulk", "cache"] {
        add("db_pool_connections_in_use", &[("pool", pool)], SmallInt(20.0));
        add("db_pool_connections_idle", &[("pool", pool)], SmallInt(10.0));
    }
    // Float gauges.
    for n in ["node_load1", "node_load5", "node_load15"] {
        add(n, &[], Decimal2(1.5));
    }
    for s in ["temp1", "temp2", "temp3", "temp4", "temp5", "temp6"] {
        add("node_hwmon_temp_celsius", &[("chip", "platform_coretemp_0"), ("sensor", s)], Decimal2(48.0));
    }
    for p in ["cpu", "memory", "io"] {
        add("node_pressure_avg10", &[("resource", p)], Decimal2(2.0));
    }
    for m in ["Get", "List", "Create", "Update"] {
        for q in ["0.5", "0.9", "0.99"] {
            let l = [("grpc_method", m), ("quantile", q)];
            add("rpc_latency_seconds", &l, Smooth(0.02));
        }
    }
    for q in ["0", "0.25", "0.5", "0.75", "1"] {
        add("go_gc_duration_seconds", &[("quantile", q)], Smooth(0.0004));
    }
    for queue in ["mail", "invoice", "thumbs", "export", "sync", "audit", "retry"] {
        add("queue_oldest_age_seconds", &[("queue", queue)], Smooth(30.0));
    }
    // Constants.
    for mnt in ["/", "/boot", "/var", "/data"] {
        let l = [("device", "/dev/nvme0n1p2"), ("fstype", "ext4"), ("mountpoint", mnt)];
        add("node_filesystem_size_bytes", &l, Constant(1.05e11));
        add("node_filesystem_readonly", &l, Constant(0.0));
    }
    add(
        "node_uname_info",
        &[("release", "6.1.0-18-amd64"), ("machine", "x86_64"), ("sysname", "Linux")],
        Constant(1.0),
    );
    add("node_dmi_info", &[("product_name", "PowerEdge R650"), ("system_vendor", "Dell Inc.")], Constant(1.0));
    add("go_info", &[("version", "go1.22.4")], Constant(1.0));
    add("app_build_info", &[("version", "2.31.7"), ("revision", "8f1c2ab")], Constant(1.0));
    for (n, x) in [
        ("up", 1.0),
        ("node_memory_MemTotal_bytes", 33_567_162_368.0),
        ("node_boot_time_seconds", 1.7e9),
        ("process_start_time_seconds", 1_700_000_123.45),
        ("process_max_fds", 1_048_576.0),
        ("node_filefd_maximum", 9.2e18),
        ("node_nf_conntrack_entries_limit", 262_144.0),
        ("go_gomaxprocs", 4.0),
    ] {
        add(n, &[], Constant(x));
    }
    for dev in ["eth0", "eth1", "lo", "docker0"] {
        add("node_network_mtu_bytes", &[("device", dev)], Constant(1500.0));
    }
    assert_eq!(v.len(), SLOTS);
    v
}

/// A layout of one metric name: as many counters a target.
pub(crate) fn counters() -> Vec<Slot> {
    let slot = |at: usize| Slot {
        name: "http_requests_total",
        labels: vec![("handler", format!("/api/v1/routes/{at}"))],
        model: Model::Counter(20.0),
        node: false,
    };
    (0..SLOTS).map(slot).collect()
}

/// All labels of one series, sorted by name, `__name__` included.
pub(crate) fn labels(slot: &Slot, seed: u64, target: u64, generation: u64) -> Vec<(&'static str, String)> {
    let mut l = slot.labels.clone();
    let h = mix(seed ^ 0x1abe1, target);
    let (a, b) = (target / 250 % 250, target % 250);
    // A churned target comes back under another port range, as a moved pod would.
    let port = if slot.node { 9100 } else { 8080 };
    l.push(("__name__", slot.name.to_string()));
    l.push(("instance", format!("10.{}.{a}.{b}:{port}", generation % 250)));
    l.push(("cluster", ["eu-west-1", "us-east-1", "us-west-2"][h as usize % 3].to_string()));
    if slot.node {
        l.push(("job", "node".to_string()));
    } else {
        let job = JOBS[(h >> 8) as usize % JOBS.len()];
        let g = mix(h, generation);
        l.push(("job", job.to_string()));
        l.push(("namespace", "prod".to_string()));
        l.push(("pod", format!("{job}-{:08x}-{:05x}", h as u32, g & 0xf_ffff)));
    }
    l.sort_unstable();
    l
}

/// The state of one series.
#[derive(Clone, Copy, Default)]
struct State {
    rng: Rng,
    v: f64,
    /// How busy this series is; fixed at its birth.
    k: f64,
}

/// The state of one target: its series and the running histogram total.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) id: u64,
    pub(crate) generation: u64,
    states: Vec<State>,
    seed: u64,
    phase_ms: i64,
}

impl Target {
    pub(crate) fn new(seed: u64, id: u64, slots: &[Slot], interval_ms: i64) -> Target {
        let phase_ms = (mix(seed ^ 0xfa5e, id) % interval_ms.max(1) as u64) as i64;
        let mut t = Target { id, generation: u64::MAX, states: Vec::new(), seed, phase_ms };
        t.restart(slots, 0);
        t
    }

    /// Starts a new generation: every series begins anew.
    pub(crate) fn restart(&mut self, slots: &[Slot], generation: u64) {
        self.generation = generation;
        let base = mix(mix(self.seed, self.id), generation);
        self.states = slots.iter().enumerate().map(|(i, s)| born(&s.model, mix(base, i as u64))).collect();
    }

    /// When this target is scraped at this tick, in ms.
    pub(crate) fn timestamp(&self, start_ms: i64, interval_ms: i64, jitter_ms: i64, tick: u64) -> i64 {
        let h = mix(self.seed ^ self.id.rotate_left(32), tick);
        let j = if jitter_ms > 0 { (h % (2 * jitter_ms as u64 + 1)) as i64 - jitter_ms } else { 0 };
        // The first sample must not fall before `start`.
        start_ms + jitter_ms + self.phase_ms.min(interval_ms - 2 * jitter_ms - 1).max(0) + tick as i64 * interval_ms + j
    }

    /// Writes the next value of every series into `out`.
    pub(crate) fn step(&mut self, slots: &[Slot], interval_s: f64, out: &mut [f64]) {
        let mut total = 0.0;
        for ((st, slot), o) in self.states.iter_mut().zip(slots).zip(out) {
            *o = next(&slot.model, st, interval_s, &mut total);
        }
    }
}

/// Which generation a target is in at a tick.
pub(crate) fn generation(seed: u64, target: u64, churn_pct_h: f64, interval_s: f64, tick: u64) -> u64 {
    if churn_pct_h <= 0.0 {
        return 0;
    }
    let period = (100.0 / churn_pct_h * 3600.0 / interval_s).max(1.0) as u64;
    (tick + mix(seed ^ 0xc4u64, target) % period) / period
}

fn born(m: &Model, h: u64) -> State {
    let mut rng = Rng(h);
    let u = rng.f();
    // A quarter of the counters never move, a quarter are slow, the rest are busy.
    let busy = match u {
        u if u < 0.25 => 0.0,
        u if u < 0.5 => 0.02,
        _ => 10f64.powf(rng.f() * 1.5 - 0.75),
    };
    let (v, k) = match *m {
        Model::HistCount => (0.0, 0.0),
        Model::Bucket(_) => (0.0, 10f64.powf(rng.f() * 1.5)),
        Model::FloatSum => (rng.f() * 100.0, 0.5),
        Model::CpuSeconds(share) => ((rng.f() * 1e7 * share).round() / 100.0, share),
        Model::Counter(rate) => ((rng.f() * rate * busy * 1e5).round(), rate * busy),
        Model::Pages(x) => ((x * (0.2 + 0.8 * rng.f()) / 4096.0).round() * 4096.0, u * u),
        Model::SmallInt(x) => ((x * rng.f()).round(), u),
        Model::Decimal2(x) => ((x * (0.5 + rng.f()) * 100.0).round() / 100.0, x),
        Model::Smooth(x) => (x * (0.5 + rng.f()), u),
        Model::Constant(x) => (x, 0.0),
    };
    State { rng, v, k }
}

fn poisson(rng: &mut Rng, mean: f64) -> f64 {
    if mean > 12.0 {
        return (mean + mean.sqrt() * rng.norm()).round().max(0.0);
    }
    let (limit, mut p, mut n) = ((-mean).exp(), 1.0, 0.0);
    loop {
        p *= rng.f();
        if p <= limit {
            return n;
        }
        n += 1.0;
    }
}

fn next(m: &Model, st: &mut State, dt: f64, total: &mut f64) -> f64 {
    let rng = &mut st.rng;
    match *m {
        Model::Bucket(i) => {
            st.v += poisson(rng, st.k * SHARE[i] * dt);
            *total += st.v;
            return *total;
        }
        Model::HistCount => return *total,
        Model::FloatSum => st.v += poisson(rng, 5.0 * dt) * 0.08 * (0.5 + rng.f()),
        Model::CpuSeconds(share) => {
            if share > 0.0 {
                let inc = share * dt * (1.0 + 0.25 * rng.norm());
                st.v = ((st.v + inc.max(0.0)) * 100.0).round() / 100.0;
            }
        }
        Model::Counter(_) => {
            if st.k > 0.0 {
                // Event noise plus load that wanders between half and double.
                let load = (1.0 + 0.3 * rng.norm()).max(0.1);
                st.v += poisson(rng, st.k * dt * load);
            }
        }
        Model::Pages(x) => {
            if rng.chance(0.15 + 0.8 * st.k) {
                let pages = (rng.norm() * (x / 4096.0 * 0.002).max(2.0)).round();
                st.v = (st.v + pages * 4096.0).clamp(0.0, x * 2.0);
            }
        }
        Model::SmallInt(x) => {
            if rng.chance(0.1 + 0.6 * st.k) {
                let step = (rng.norm() * (x * 0.01).max(1.0)).round();
                st.v = (st.v + step).clamp(0.0, x * 2.0);
            }
        }
        Model::Decimal2(x) => {
            if rng.chance(0.6) {
                let back = (x - st.v) * 0.05;
                st.v = ((st.v + back + rng.norm() * x * 0.03).max(0.0) * 100.0).round() / 100.0;
            }
        }
        Model::Smooth(x) => {
            if rng.chance(0.1 + 0.4 * st.k) {
                // Nanosecond-like resolution, as timers give.
                let v = (st.v + (x - st.v) * 0.1 + rng.norm() * x * 0.05).max(x * 0.01);
                st.v = (v * 1e9).round() / 1e9;
            }
        }
        Model::Constant(_) => {}
    }
    st.v
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: u64, id: u64, ticks: usize) -> Vec<Vec<f64>> {
        let slots = layout();
        let mut t = Target::new(seed, id, &slots, 15000);
        (0..ticks)
            .map(|_| {
                let mut v = vec![0.0; SLOTS];
                t.step(&slots, 15.0, &mut v);
                v
            })
            .collect()
    }

    #[test]
    fn same_seed_same_values() {
        assert_eq!(values(7, 3, 50), values(7, 3, 50));
        assert_ne!(values(7, 3, 50), values(8, 3, 50));
        assert_ne!(values(7, 3, 50), values(7, 4, 50));
    }

    #[test]
    fn mix_is_as_stated() {
        let slots = layout();
        let n = |f: fn(&Model) -> bool| slots.iter().filter(|s| f(&s.model)).count();
        assert_eq!(n(|m| matches!(m, Model::Bucket(_))), 12);
        assert_eq!(n(super::Model::is_counter), 12 + 108);
        assert_eq!(n(|m| matches!(m, Model::Pages(_) | Model::SmallInt(_))), 60);
        assert_eq!(n(|m| matches!(m, Model::Decimal2(_) | Model::Smooth(_))), 36);
        assert_eq!(n(|m| matches!(m, Model::Constant(_))), 24);
    }

    #[test]
    fn counters_rise_and_buckets_are_cumulative() {
        let slots = layout();
        let v = values(1, 0, 200);
        for w in v.windows(2) {
            for (i, s) in slots.iter().enumerate() {
                if s.model.is_counter() {
                    assert!(w[1][i] >= w[0][i], "{} fell", s.name);
                }
            }
            assert!(w[1][..BUCKETS].is_sorted());
            assert_eq!(w[1][BUCKETS - 1], w[1][BUCKETS]);
        }
    }

    #[test]
    fn label_sets_are_unique_and_sorted() {
        let slots = layout();
        let mut seen = std::collections::HashSet::new();
        for t in 0..600 {
            for g in 0..2 {
                for s in &slots {
                    let l = labels(s, 1, t, g);
                    assert!(l.is_sorted());
                    assert!(seen.insert(l));
                }
            }
        }
    }

    #[test]
    fn timestamps_rise_and_stay_in_their_interval() {
        let slots = layout();
        for id in 0..50 {
            let t = Target::new(1, id, &slots, 15000);
            let ts: Vec<i64> = (0..100).map(|k| t.timestamp(1_000_000, 15000, 3, k)).collect();
            for (k, x) in ts.iter().enumerate() {
                let from = 1_000_000 + k as i64 * 15000;
                assert!(*x >= from && *x < from + 15000);
            }
        }
    }

    #[test]
    fn churn_changes_generations_at_the_stated_pace() {
        let moved = (0..1000).filter(|&t| generation(1, t, 10.0, 15.0, 240) > generation(1, t, 10.0, 15.0, 0));
        let n = moved.count();
        assert!((70..130).contains(&n), "{n}");
        assert_eq!(generation(1, 5, 0.0, 15.0, 1 << 40), 0);
    }
}
