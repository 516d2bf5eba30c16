//! `meta.json`: what a part is, for people and for the next start.

use std::path::Path;

use pharos_model::TimeRange;
use pharos_storage::StoredBlock;
use serde::{Deserialize, Serialize};

use crate::TsdbError;

pub(crate) const META_FILE: &str = "meta.json";
pub(crate) const PART_VERSION: u32 = 1;

/// What a part says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartMeta {
    /// Format version of all files of the part.
    pub(crate) version: u32,
    /// The tenant's name.
    pub(crate) tenant: String,
    /// Unique within the tenant; names the directory.
    pub(crate) number: u64,
    /// Precedence: where parts disagree at an instant, the higher sequence wins.
    pub(crate) sequence: u64,
    /// The aligned window, `[start, end)`, Unix milliseconds.
    pub(crate) window_start_ms: i64,
    pub(crate) window_end_ms: i64,
    /// First and last instant of a sample.
    pub(crate) min_time_ms: i64,
    pub(crate) max_time_ms: i64,
    /// 0 from the head; merged parts have more.
    pub(crate) level: u32,
    pub(crate) series: u64,
    pub(crate) samples: u64,
    pub(crate) histograms: u64,
    pub(crate) chunks: u64,
    pub(crate) exemplars: u64,
    /// Lengths of the files, so that a cut one is noticed at open.
    pub(crate) data_bytes: u64,
    pub(crate) index_bytes: u64,
    pub(crate) exemplar_bytes: u64,
    /// Numbers of the parts that this one replaces; they are removed at start if still there.
    pub(crate) replaces: Vec<u64>,
    /// Deleted samples are gone as far as the tombstone of this sequence. Left out where it is 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) cleaned: u64,
    /// Rollup files beside the samples. Left out where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) rollups: Vec<RollupMeta>,
    /// CRC-32 of this description as compact JSON with 0 here.
    pub(crate) checksum: u32,
}

/// One rollup file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RollupMeta {
    /// Length of its buckets.
    pub(crate) resolution_ms: i64,
    /// Length of the file.
    pub(crate) bytes: u64,
}

impl PartMeta {
    /// Reads the meta file of the part in `dir`.
    pub(crate) fn read(dir: &Path) -> Result<Self, TsdbError> {
        let path = dir.join(META_FILE);
        let bytes = std::fs::read(&path).map_err(TsdbError::io("read", &path))?;
        let corrupt =
            |reason: String| TsdbError::Corrupt { what: "part description", path: path.clone(), offset: 0, reason };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        let found = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found > u64::from(PART_VERSION) {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(TsdbError::Version { path, found, supported: PART_VERSION });
        }
        let meta: Self = serde_json::from_value(value).map_err(|error| corrupt(error.to_string()))?;
        let found = meta.computed_checksum();
        if found != meta.checksum {
            let expected = meta.checksum;
            return Err(TsdbError::Checksum { what: "part description", path, offset: 0, expected, found });
        }
        Ok(meta)
    }

    /// The bytes of the file.
    pub(crate) fn encode(&mut self) -> Vec<u8> {
        self.checksum = self.computed_checksum();
        serde_json::to_vec_pretty(self).expect("plain numbers and text serialize")
    }

    fn computed_checksum(&self) -> u32 {
        let unsigned = Self { checksum: 0, ..self.clone() };
        crc32fast::hash(&serde_json::to_vec(&unsigned).expect("plain numbers and text serialize"))
    }

    /// The directory's name: unique, and sorted by window.
    pub(crate) fn dir_name(&self) -> String {
        format!("{}-{}-{:016x}", self.window_start_ms, self.window_end_ms, self.number)
    }

    /// What is told of it outside.
    pub(crate) fn as_block(&self) -> StoredBlock {
        StoredBlock {
            number: self.number,
            range: TimeRange::inclusive(self.min_time_ms, self.max_time_ms),
            level: self.level,
            series: self.series,
            floats: self.samples,
            histograms: self.histograms,
            chunks: self.chunks,
        }
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.data_bytes + self.index_bytes + self.exemplar_bytes + self.rollup_bytes()
    }

    pub(crate) fn rollup_bytes(&self) -> u64 {
        // Saturating, as nothing bounds what a description says until the files are opened.
        self.rollups.iter().fold(0, |sum, rollup| rollup.bytes.saturating_add(sum))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
