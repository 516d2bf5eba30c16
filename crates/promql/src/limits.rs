//! Bounds on query text, so that a hostile one costs neither the stack nor the memory.

/// Longest query text in bytes.
pub const QUERY_BYTES_MAX: usize = 1 << 20;

/// Deepest syntax tree in nodes: nesting of parentheses, calls and operators, and chains such as `a + b + …`.
///
/// Code that recurses over the tree may rely on it. A chain of binary operators without parentheses leans to the
/// left, so 500 operands of `or` are as deep as 500 parentheses.
pub const EXPRESSION_DEPTH_MAX: usize = 500;

/// Deepest nesting the parser itself recurses through (parentheses, arguments, unary operators, `^` chains).
pub const NESTING_MAX: usize = 128;

/// Most operators in one duration expression.
pub const DURATION_OPERATORS_MAX: usize = 200;

/// Most memory that the compiled patterns of one query take, in bytes; each by itself has a limit, too.
pub const PATTERNS_BYTES_MAX: usize = 64 << 20;
