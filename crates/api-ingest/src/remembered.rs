//! What ingest remembers of requests that are done, and counted on the way, as metrics of our own: read when `/metrics` is.

use std::sync::Arc;

use pharos_ingest::{HaStats, Ingestor, Remembered};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Sizes of an ingestor's memories.
#[derive(Debug)]
pub(crate) struct Memories(pub Arc<Ingestor>);

impl Collector for Memories {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Remembered {
            otlp_streams_bytes,
            remote_write_bytes,
            remote_write_series,
            delta_streams,
            delta_bytes,
            rewritten_bytes,
            start_series,
        } = self.0.remembered();
        let HaStats { clusters, switches, dropped } = self.0.ha_stats();
        for (name, help, value) in [
            ("otlp_streams_memory_bytes", "Memory of known OTLP metric streams", otlp_streams_bytes),
            (
                "remote_write_memory_bytes",
                "Memory of series known by remote write, as if no store shared their labels",
                remote_write_bytes,
            ),
            ("otlp_delta_streams", "OTLP delta streams that are added up", delta_streams),
            ("otlp_delta_memory_bytes", "Memory of OTLP delta streams", delta_bytes),
            ("remote_write_memory_series", "Series known by remote write", remote_write_series),
            ("rewritten_memory_bytes", "Memory of label sets rewritten for a credential or a pair", rewritten_bytes),
            ("start_series", "Series whose starts are remembered, so that they get a zero there", start_series),
            ("ha_clusters", "Clusters of replicas, each with an elected one", clusters),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let name = format!("ingest_{name}");
            let metric = encoder.encode_descriptor(&name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        for (name, help, count) in [
            ("ha_dropped", "Samples and histograms left out as those of another replica than the elected one", dropped),
            ("ha_switches", "Replicas that took the place of a silent one", switches),
        ] {
            let counter = ConstCounter::new(count);
            let name = format!("ingest_{name}");
            let metric = encoder.encode_descriptor(&name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        let warnings = ConstCounter::new(self.0.otlp_joined_attributes());
        let mut family = encoder.encode_descriptor(
            "ingest_otlp_translation_warnings",
            "Attributes of OTLP metrics that met others under one label, counted once for each label set that is remembered",
            None,
            warnings.metric_type(),
        )?;
        warnings.encode(family.encode_family(&[("category", "joined_attributes")])?)?;
        Ok(())
    }
}
