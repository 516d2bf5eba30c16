//! Which parts of the language a query may use.

/// Switches for the parts of PromQL that upstream calls experimental.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent switch of upstream")]
pub struct ParserOptions {
    /// Functions and aggregations marked experimental; off by default.
    pub experimental_functions: bool,
    /// Arithmetic in ranges, offsets and subquery steps; on by default, as in Prometheus 3.14.
    pub duration_expressions: bool,
    /// `anchored` and `smoothed`; off by default.
    pub extended_range_selectors: bool,
    /// `fill`, `fill_left`, `fill_right`; off by default.
    pub binop_fill_modifiers: bool,
}

impl Default for ParserOptions {
    fn default() -> Self {
        Self {
            experimental_functions: false,
            duration_expressions: true,
            extended_range_selectors: false,
            binop_fill_modifiers: false,
        }
    }
}

impl ParserOptions {
    /// Everything on, as the conformance scripts want it.
    #[must_use]
    pub fn all() -> Self {
        Self {
            experimental_functions: true,
            duration_expressions: true,
            extended_range_selectors: true,
            binop_fill_modifiers: true,
        }
    }
}
