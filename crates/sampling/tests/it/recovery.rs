//! What was acknowledged outlives the process.

use std::sync::atomic::Ordering;

use pharos_base::ByteSize;
use pharos_sampling::TailSamplingSettings;

use crate::world::{World, settings};

const ERRORS: &str = r#"[{"name": "errors", "rule": {"type": "status_code", "codes": ["ERROR"]}}]"#;

/// Power fails while spans wait: the next start judges them.
#[test]
fn what_waits_is_judged_after_a_restart() {
    let mut world = World::new(TailSamplingSettings { log_segment: ByteSize(4_096), ..settings(ERRORS) });
    for trace in 0..100 {
        world.send(&format!("{trace} 1 {} 5 text={}\n{trace} 2 0 5", trace % 2, "x".repeat(100)));
    }
    world.restart();
    world.step_after(29_000);
    assert_eq!(world.kept(0..100).len(), 0);
    world.step_after(1_000);
    assert_eq!(world.kept(0..100), (0..100).filter(|trace| trace % 2 == 1).collect::<Vec<_>>());
    assert!((0..100).all(|trace| [0, 2].contains(&world.stored(trace).len())), "whole traces");
    assert_eq!(world.files().len(), 1);
}

/// Kept, and the store refuses until the process ends: the log has it still.
#[test]
fn what_the_store_did_not_take_is_in_the_log() {
    let mut world = World::new(settings(ERRORS));
    world.send("1 1 1 5");
    world.store.refuses.store(true, Ordering::SeqCst);
    world.step_after(30_000);
    world.restart();
    world.store.refuses.store(false, Ordering::SeqCst);
    world.step_after(30_000);
    assert_eq!(world.kept(0..3), [1]);
}

#[test]
fn turned_off_everything_that_waited_is_stored() {
    let mut world = World::new(settings(ERRORS));
    world.send("1 1 0 5\n2 1 1 5");
    world.settings.enabled = false;
    world.restart();
    assert!(world.sampler.is_none());
    assert_eq!(world.kept(0..3), [1, 2]);
    assert_eq!(world.files().len(), 0);
}

/// The last write was cut short, and an older file has a flipped bit: what is sound is read, the damaged file is kept.
#[test]
fn torn_and_damaged_files_lose_only_what_is_damaged() {
    let mut world = World::new(TailSamplingSettings { log_segment: ByteSize(150), ..settings(ERRORS) });
    for trace in 1..=3 {
        world.send(&format!("{trace} 1 1 5 text={}", "x".repeat(80)));
    }
    world.sampler().close();
    let files = world.files();
    assert_eq!(files.len(), 2, "{files:?}");
    let mut damaged = std::fs::read(&files[0]).unwrap();
    let at = damaged.len() - 10;
    damaged[at] ^= 1;
    std::fs::write(&files[0], &damaged).unwrap();
    let torn = std::fs::read(&files[1]).unwrap();
    std::fs::write(&files[1], &torn[..torn.len() - 3]).unwrap();
    world.restart();
    world.step_after(30_000);
    assert_eq!(world.kept(0..5), [1]);
    let names: Vec<_> = world.files().iter().map(|path| path.extension().unwrap().to_owned()).collect();
    assert!(names.iter().any(|extension| extension == "damaged"), "{names:?}");
}
