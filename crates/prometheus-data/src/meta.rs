//! A block's `meta.json`.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Damage, DataError, OnDamage};

/// Larger files are none of Prometheus'.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What is asked of it; everything else is skipped.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Meta {
    pub(crate) ulid: String,
    pub(crate) min_time: i64,
    pub(crate) max_time: i64,
    pub(crate) stats: Stats,
    pub(crate) compaction: Compaction,
    pub(crate) version: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Stats {
    pub(crate) num_samples: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Compaction {
    pub(crate) parents: Vec<Parent>,
    pub(crate) hints: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Parent {
    pub(crate) ulid: String,
}

/// Reads it; a damaged one is told, and the block is read without it.
pub(crate) fn read(path: &Path, damage: OnDamage<'_>) -> Result<Option<Meta>, DataError> {
    let size = std::fs::metadata(path).map_err(DataError::io("read", path))?.len();
    let mut bad = |reason: String| {
        damage(Damage { path: path.to_owned(), offset: 0, reason: format!("{reason}; the block is read without it") });
    };
    if size > FILE_BYTES_MAX {
        bad("too large for what it should be".to_owned());
        return Ok(None);
    }
    let bytes = std::fs::read(path).map_err(DataError::io("read", path))?;
    match serde_json::from_slice::<Meta>(&bytes) {
        Ok(meta) if meta.version == 1 => Ok(Some(meta)),
        Ok(meta) => {
            bad(format!("version {} is not known here", meta.version));
            Ok(None)
        }
        Err(error) => {
            bad(format!("no JSON of a block: {error}"));
            Ok(None)
        }
    }
}
