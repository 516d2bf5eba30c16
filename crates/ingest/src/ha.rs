//! Pairs of senders that write the same: of each cluster's replicas one is elected, the others' samples are left out.
//!
//! A series belongs to a pair if it has both labels that the settings name; others pass untouched. The first replica that is
//! seen is elected. Another one takes its place when it writes and the elected has not been heard of for `failover`, by
//! **our** clock: what stands in samples decides nothing. The replica label is taken off what is stored, so that the series
//! go on whoever is elected.
//!
//! Invariants
//! - H1 At any time a tenant's cluster has one elected replica, and only its samples are stored.
//! - H2 The tracker holds at most `clusters_max` clusters of a tenant, as many as the tenant may have. Those whose elected went silent go first; where all are
//!   alive, the series of one more are refused, which the sender is told.
//!
//! All settings are those of the tenant, as [`HaRules`] say when its request comes.
//!
//! State is in memory: after a start whoever writes first is elected, and servers that share no memory elect separately.
//!
//! Lock order: tenants, rules.

mod rules;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;
use pharos_model::{LabelRewrite, MetricBatch, SeriesRun, TenantId, iter_encoded};
use pharos_storage::{AppendOutcome, RejectReason};

use crate::DecodedMetrics;
pub use rules::{HaOverrides, HaRules, HaSettings};

/// What the tracker knows and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HaStats {
    /// Clusters that have an elected replica.
    pub clusters: u64,
    /// How often another replica took the place of a silent one.
    pub switches: u64,
    /// Samples and histograms left out as another replica's.
    pub dropped: u64,
}

/// Who is elected.
#[derive(Debug, Default)]
pub(crate) struct HaTracker {
    rules: Arc<HaRules>,
    tenants: Mutex<HashMap<TenantId, HashMap<String, Elected>>>,
    switches: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Elected {
    replica: String,
    seen_at: Instant,
}

/// What becomes of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is of no pair.
    Single,
    /// It comes from the elected replica.
    Elected,
    /// Another replica is elected: left out.
    Duplicate,
    /// There are too many clusters: refused.
    OneTooMany,
}

/// What was left out of a batch, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Duplicates {
    /// Float samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

impl Duplicates {
    pub(crate) fn add(&mut self, run: &SeriesRun) {
        self.samples += run.samples.len() as u64;
        self.histograms += run.histograms.len() as u64;
        self.exemplars += run.exemplars.len() as u64;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.samples += other.samples;
        self.histograms += other.histograms;
        self.exemplars += other.exemplars;
    }
}

impl HaTracker {
    pub(crate) fn new(rules: Arc<HaRules>) -> Self {
        Self { rules, ..Self::default() }
    }

    /// What pairs of this tenant are recognised by.
    pub(crate) fn settings(&self, tenant: &TenantId) -> Arc<HaSettings> {
        self.rules.of(tenant)
    }

    pub(crate) fn stats(&self) -> HaStats {
        let clusters = self.tenants.lock().values().map(|clusters| clusters.len() as u64).sum();
        HaStats { clusters, switches: self.switches.load(Relaxed), dropped: self.dropped.load(Relaxed) }
    }

    /// Leaves out what the verdicts do not let pass; counts and answers what of it are duplicates.
    pub(crate) fn leave_out(
        &self,
        settings: &HaSettings,
        verdicts: &[Verdict],
        decoded: &mut DecodedMetrics,
    ) -> Duplicates {
        let passes = |verdict: &Verdict| matches!(verdict, Verdict::Single | Verdict::Elected);
        let mut duplicates = Duplicates::default();
        if verdicts.iter().all(passes) {
            return duplicates;
        }
        let mut refused = Duplicates::default();
        for (run, verdict) in decoded.batch.series.iter().zip(verdicts) {
            match verdict {
                Verdict::Duplicate => duplicates.add(run),
                Verdict::OneTooMany => refused.add(run),
                Verdict::Single | Verdict::Elected => {}
            }
        }
        decoded.keep_series(|place| passes(&verdicts[place]));
        self.dropped.fetch_add(duplicates.samples + duplicates.histograms, Relaxed);
        let refused = refused.samples + refused.histograms;
        if refused > 0 {
            let limit = settings.clusters_max;
            let mut all =
                AppendOutcome { rejections: std::mem::take(&mut decoded.rejections), ..AppendOutcome::default() };
            all.reject(RejectReason::Limit, refused, || {
                format!(
                    "the tenant has more clusters of replicas than ingest.ha.clusters_max = {limit} (ha.clusters_max where it has its own)"
                )
            });
            decoded.rejections = all.rejections;
        }
        duplicates
    }

    /// A verdict for every run of a batch. What the sender's credential sets counts in place of what it says itself.
    pub(crate) fn judge(
        &self,
        (tenant, settings): (&TenantId, &HaSettings),
        batch: &MetricBatch,
        set: Option<&LabelRewrite>,
        now: Instant,
    ) -> Vec<Verdict> {
        let Some(replica_label) = settings.replica() else { return Vec::new() };
        let cluster_label = settings.cluster_label.as_str();
        let set = |label: &str| set.and_then(|set| set.value_of(label));
        let (cluster_set, replica_set) = (set(cluster_label), set(replica_label));
        let mut last = (("", ""), Verdict::Single);
        let judge = |run| {
            let (mut cluster, mut replica) = ("", "");
            for (name, value) in iter_encoded(batch.encoded_labels(run)) {
                if name == cluster_label {
                    cluster = value;
                } else if name == replica_label {
                    replica = value;
                }
            }
            let pair = (cluster_set.unwrap_or(cluster), replica_set.unwrap_or(replica));
            if pair.0.is_empty() || pair.1.is_empty() {
                return Verdict::Single;
            }
            if last.0 != pair {
                last = (pair, self.elect((tenant, settings), pair.0, pair.1, now));
            }
            last.1
        };
        batch.series.iter().map(judge).collect()
    }

    /// Whether this replica is the elected one; it may become it here.
    fn elect(
        &self,
        (tenant, settings): (&TenantId, &HaSettings),
        cluster: &str,
        replica: &str,
        now: Instant,
    ) -> Verdict {
        let is_silent_by = |elected: &Elected, settings: &HaSettings| {
            now.saturating_duration_since(elected.seen_at) >= settings.failover.0
        };
        let is_silent = |elected: &Elected| is_silent_by(elected, settings);
        let mut tenants = self.tenants.lock();
        if !tenants.contains_key(tenant) {
            // Tenants whose senders are all gone are not kept for ever.
            tenants.retain(|other, clusters| {
                let settings = self.rules.of(other);
                clusters.values().any(|elected| !is_silent_by(elected, &settings))
            });
        }
        let clusters = tenants.entry(tenant.clone()).or_default();
        if let Some(elected) = clusters.get_mut(cluster) {
            if elected.replica != replica {
                if !is_silent(elected) {
                    return Verdict::Duplicate;
                }
                replica.clone_into(&mut elected.replica);
                self.switches.fetch_add(1, Relaxed);
            }
            elected.seen_at = elected.seen_at.max(now);
            return Verdict::Elected;
        }
        if clusters.len() >= settings.clusters_max {
            clusters.retain(|_, elected| !is_silent(elected));
        }
        if clusters.len() >= settings.clusters_max {
            return Verdict::OneTooMany;
        }
        clusters.insert(cluster.to_owned(), Elected { replica: replica.to_owned(), seen_at: now });
        Verdict::Elected
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "instants are made by a clock alone; these are counted from any")]

    use std::time::Duration;

    use pharos_model::{BatchBuilder, Labels, Sample};

    use super::*;
    use Verdict::{Duplicate, Elected as Chosen, OneTooMany, Single};

    struct World {
        tracker: HaTracker,
        begun: Instant,
    }

    fn world(clusters_max: usize) -> World {
        let replica_label = Some("__replica__".to_owned());
        let all = HaSettings { replica_label, clusters_max, ..HaSettings::default() };
        let tracker = HaTracker::new(Arc::new(HaRules::new(&all, [])));
        World { tracker, begun: Instant::now() }
    }

    impl World {
        /// The verdicts on a request of series with these clusters and replicas.
        fn at(&self, seconds: u64, tenant: &str, series: &[(&str, &str)]) -> Vec<Verdict> {
            self.labelled(seconds, tenant, series, &[])
        }

        fn labelled(&self, seconds: u64, tenant: &str, series: &[(&str, &str)], set: &[(&str, &str)]) -> Vec<Verdict> {
            let mut builder = BatchBuilder::new();
            for (cluster, replica) in series {
                builder.push_sample(Sample { timestamp_ms: 1, value: 1.0 }, 0);
                let pairs = [("__name__", "up"), ("cluster", cluster), ("__replica__", replica)];
                builder.finish_series_encoded(&Labels::from_pairs(pairs).unwrap());
            }
            let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let set = LabelRewrite::new(&set, None);
            let now = self.begun + Duration::from_secs(seconds);
            let tenant = tenant.parse().unwrap();
            let settings = self.tracker.settings(&tenant);
            self.tracker.judge((&tenant, &settings), &builder.build(), set.as_ref(), now)
        }
    }

    #[test]
    fn the_first_is_elected_until_it_has_been_silent() {
        let world = world(10);
        assert_eq!(world.at(0, "1", &[("c", "a"), ("c", "a")]), [Chosen, Chosen]);
        assert_eq!(world.at(1, "1", &[("c", "b")]), [Duplicate]);
        assert_eq!(world.at(10, "1", &[("c", "a")]), [Chosen]);
        assert_eq!(world.at(39, "1", &[("c", "b")]), [Duplicate]);
        assert_eq!(world.at(40, "1", &[("c", "b")]), [Chosen]);
        // The old one comes back, and has lost its place.
        assert_eq!(world.at(41, "1", &[("c", "a")]), [Duplicate]);
        assert_eq!(world.tracker.stats().switches, 1);
    }

    #[test]
    fn clusters_and_tenants_elect_by_themselves_even_in_one_request() {
        let world = world(10);
        let mixed = [("c", "a"), ("d", "b"), ("", "a"), ("c", ""), ("c", "b"), ("d", "b")];
        assert_eq!(world.at(0, "1", &mixed), [Chosen, Chosen, Single, Single, Duplicate, Chosen]);
        assert_eq!(world.at(0, "2", &[("c", "b")]), [Chosen]);
        assert_eq!(world.tracker.stats().clusters, 3);
    }

    #[test]
    fn clusters_are_bounded_and_silent_ones_make_room() {
        let world = world(2);
        assert_eq!(world.at(0, "1", &[("c", "a"), ("d", "a"), ("e", "a")]), [Chosen, Chosen, OneTooMany]);
        assert_eq!(world.at(20, "1", &[("c", "a"), ("e", "a")]), [Chosen, OneTooMany]);
        assert_eq!(world.at(31, "1", &[("e", "a"), ("c", "b")]), [Chosen, Duplicate]);
        // Nobody writes for the first tenant any more.
        assert_eq!(world.at(100, "2", &[("c", "a")]), [Chosen]);
        assert_eq!(world.tracker.stats().clusters, 1);
    }

    #[test]
    fn what_a_credential_sets_counts() {
        let world = world(10);
        assert_eq!(world.labelled(0, "1", &[("x", "")], &[("cluster", "c"), ("__replica__", "a")]), [Chosen]);
        assert_eq!(world.labelled(0, "1", &[("y", "a")], &[("cluster", "c"), ("__replica__", "b")]), [Duplicate]);
    }

    #[test]
    fn a_tenant_has_its_own_labels_and_times_and_a_reload_changes_them() {
        let world = world(10);
        let (fast, off, other) = ("fast".parse().unwrap(), "off".parse().unwrap(), "other".parse().unwrap());
        let failover = Some(pharos_base::HumanDuration::from_ms(5_000));
        let own = [
            (&fast, &HaOverrides { failover, clusters_max: Some(1), ..HaOverrides::default() }),
            (&off, &HaOverrides { replica_label: Some(String::new()), ..HaOverrides::default() }),
            (&other, &HaOverrides { cluster_label: Some("__replica__".to_owned()), ..HaOverrides::default() }),
        ];
        world.tracker.rules.reload(&world.tracker.settings(&"1".parse().unwrap()), own);
        assert_eq!(world.at(0, "fast", &[("c", "a"), ("d", "a")]), [Chosen, OneTooMany]);
        assert_eq!(world.at(0, "1", &[("c", "a"), ("d", "a")]), [Chosen, Chosen]);
        assert_eq!(world.at(0, "off", &[("c", "a"), ("c", "b")]), []);
        // The label of the replica is that of the cluster, too: nobody differs.
        assert_eq!(world.at(0, "other", &[("c", "a"), ("d", "a")]), [Single, Single]);
        assert_eq!(
            (world.at(5, "fast", &[("c", "b")]), world.at(5, "1", &[("c", "b")])),
            (vec![Chosen], vec![Duplicate])
        );
        // Another tenant comes: each of those that are there is judged by its own time.
        assert_eq!(world.at(11, "new", &[("c", "a")]), [Chosen]);
        assert_eq!(
            (world.at(11, "fast", &[("d", "a")]), world.at(11, "1", &[("c", "b")])),
            (vec![Chosen], vec![Duplicate])
        );
        world.tracker.rules.reload(&world.tracker.settings(&"1".parse().unwrap()), []);
        assert_eq!(world.at(16, "fast", &[("d", "b")]), [Duplicate], "30 s again");
    }

    #[test]
    fn without_a_label_nothing_is_judged() {
        let world = World { tracker: HaTracker::default(), begun: Instant::now() };
        assert_eq!(world.at(0, "1", &[("c", "a")]), []);
    }
}
