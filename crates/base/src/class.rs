//! What kind of failure an error is: all that one crate needs to know of another's errors.

/// The kind of a failure. Crates branch on this and on nothing else of a foreign error; the HTTP
/// crate alone maps it to status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The caller sent something wrong; repeating it is pointless.
    Invalid,
    /// The caller did not say who they are.
    Unauthenticated,
    /// The caller may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// A limit with a name was reached; the caller can ask for less, or wait.
    LimitExceeded,
    /// The deadline passed.
    Timeout,
    /// The caller went away.
    Cancelled,
    /// Understood, but not offered.
    Unsupported,
    /// Cannot be done now, may be later: full disk, overload, shutdown.
    Unavailable,
    /// Our fault.
    Internal,
}
