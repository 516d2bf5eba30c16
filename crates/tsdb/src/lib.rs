//! Metrics on disk: log, head, parts, index, compaction, retention.
