//! The embedded UI, built from the top-level `ui/`.
