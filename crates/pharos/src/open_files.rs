//! How many files this process may have open: connections and the stores share them.
//!
//! A store that cannot open a file fails to write, which is worse than a connection that waits: connections get half.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to all that the system allows, and says what it is then; `None`: there is none.
pub(crate) fn raise_limit() -> Option<u64> {
    let found = getrlimit(Resource::Nofile);
    if found.current == found.maximum {
        return found.current;
    }
    let raised = Rlimit { current: found.maximum, maximum: found.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => found.maximum,
        Err(error) => {
            tracing::warn!(%error, limit = ?found.current, "the limit of open files cannot be raised");
            found.current
        }
    }
}

/// As many connections as are wanted and leave half of the files to the stores.
pub(crate) fn connections_within(wanted: usize, files_max: Option<u64>) -> usize {
    let share = files_max.map_or(usize::MAX, |files| usize::try_from(files / 2).unwrap_or(usize::MAX)).max(1);
    if share < wanted {
        tracing::warn!(
            connections_max = share,
            open_files_max = files_max,
            "fewer connections than connections.max: raise the limit of open files (ulimit -n, LimitNOFILE=)"
        );
    }
    wanted.min(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_half_of_the_files_to_the_stores() {
        for (wanted, files, expected) in
            [(4_096, Some(1_048_576), 4_096), (4_096, Some(1_024), 512), (10, None, 10), (10, Some(1), 1)]
        {
            assert_eq!(connections_within(wanted, files), expected, "{wanted} {files:?}");
        }
    }

    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        let raised = raise_limit();
        let found = getrlimit(Resource::Nofile);
        assert_eq!((raised, found.current), (found.maximum, found.maximum));
    }
}
