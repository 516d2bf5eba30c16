//! A disk small enough to be filled: a tmpfs of its own, unmounted with the test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A mounted disk.
pub(crate) struct SmallDisk {
    folder: TempDir,
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("cannot start {program}: {error}"))
}

fn run_well(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {error}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl SmallDisk {
    /// Mounts one. Needs root, as CI has it; for other users `sudo` must not ask.
    pub(crate) fn mount(bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (size, path) = (format!("size={bytes}"), folder.path().to_string_lossy().into_owned());
        privileged(&["mount", "-t", "tmpfs", "-o", &format!("{size},mode=1777"), "pharos-test", &path]);
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        let told = run_well("df", &["--output=avail", "-B1", &self.path().to_string_lossy()]);
        told.lines().last().and_then(|line| line.trim().parse().ok()).expect("df tells a number")
    }

    /// Takes space until this much is left.
    pub(crate) fn fill_up_to(&self, left_bytes: u64) {
        let bytes = self.free_bytes().checked_sub(left_bytes).expect("the disk is not that full yet");
        run_well("fallocate", &["-l", &bytes.to_string(), &self.ballast().to_string_lossy()]);
    }

    /// Gives the space back.
    pub(crate) fn make_room(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast can be removed");
    }
}

/// Runs a command as root, through sudo if need be.
fn privileged(command: &[&str]) {
    if run_well("id", &["-u"]).trim() == "0" {
        run_well(command[0], &command[1..]);
    } else {
        run_well("sudo", &[&["-n"], command].concat());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still holds a file of it ends soon.
        privileged(&["umount", "-l", &self.path().to_string_lossy()]);
    }
}
