//! End-to-end tests: the release binary under real clients.

mod sdks;
