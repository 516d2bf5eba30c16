//! Sample codecs: pure functions on bytes.
