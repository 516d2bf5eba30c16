//! Generated protobuf messages and nothing else; sources in the top-level `proto/`.
