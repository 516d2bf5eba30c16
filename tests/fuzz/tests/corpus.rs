//! Everything that fuzzing found worth keeping, on an ordinary build: no input may panic.

use std::fs;

use pharos_fuzz::{TARGETS, corpus, seeds};

#[test]
fn every_input_of_the_corpus_keeps_the_promises() {
    for (name, target) in TARGETS {
        let dir = tempfile::tempdir().expect("a folder for scratch files");
        let mut inputs = 0;
        for entry in fs::read_dir(corpus().join(name)).expect("every target has a corpus") {
            let path = entry.expect("the corpus is readable").path();
            let bytes = fs::read(&path).expect("the corpus is readable");
            let found = std::panic::catch_unwind(|| target(dir.path(), &bytes));
            assert!(found.is_ok(), "{} breaks a promise", path.display());
            inputs += 1;
        }
        assert!(inputs > 40, "{name} has only {inputs} inputs");
    }
}

/// What stores of every format version wrote is read to its end by the targets, so that fuzzing begins deep.
#[test]
fn files_of_every_version_become_inputs() {
    let fixtures = corpus().join("../../../crates/tsdb/testdata/format");
    let found = seeds(&fixtures).expect("fixtures are sound");
    for (name, target) in TARGETS {
        let dir = tempfile::tempdir().expect("a folder for scratch files");
        let of_target = found.iter().filter(|(of, _)| *of == name);
        assert!(of_target.inspect(|(_, input)| target(dir.path(), input)).count() >= 2, "{name}");
    }
}
