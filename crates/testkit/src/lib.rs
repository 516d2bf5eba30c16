//! Fixtures, script runners, golden files, real peers. For tests only.
