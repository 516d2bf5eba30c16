//! Spans in RocksDB (the truth), search in tantivy (derived, rebuildable).
