//! The store through its public face: conformance, crashes, full disks, damage, old formats.
#![expect(clippy::unwrap_used, reason = "a failed test says where")]

mod bounds;
mod concurrency;
mod conformance;
mod copied_folders;
mod crash;
mod damage;
mod deletes;
mod fault_disk;
mod faults;
mod flips;
mod format;
mod limits;
mod listings;
mod model;
mod parallel;
mod precedence;
mod pressure;
mod retention;
mod rollup_figures;
mod rollup_worth;
mod rollups;
mod shared_labels;
mod size;
mod snapshots;
mod support;
mod told;
mod upkeep;
