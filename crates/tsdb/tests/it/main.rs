//! The store through its public face: conformance, crashes, full disks, damage, old formats.

mod conformance;
mod crash;
mod damage;
mod fault_disk;
mod format;
mod limits;
mod model;
mod support;
