//! Errors with all their causes, on one line.

use std::error::Error;

/// The message of `error` and of everything behind it, joined by `: `.
#[must_use]
pub fn full_message(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the file")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_their_effects() {
        let error = Outer(std::io::Error::other("the disk is on fire"));
        assert_eq!(full_message(&error), "cannot read the file: the disk is on fire");
    }
}
