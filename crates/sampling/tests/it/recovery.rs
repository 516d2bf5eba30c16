//! What was acknowledged outlives the process.

use std::path::Path;
use std::sync::atomic::Ordering;

use pharos_base::ByteSize;
use pharos_sampling::{SamplingError, TailSamplingSettings, examine};

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

/// What power loss, a disk that was full and another start leave of the end of a file. Whatever it is, a second and a third start
/// before anything was judged lose nothing.
#[test]
fn no_number_of_starts_loses_what_waits() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil); 5] = [
        ("zeros at the end", |path| append(path, &[0; 4096])),
        ("a record that was cut short", |path| append(path, &[9, 0, 0, 0, 1, 2, 3, 4, 5])),
        ("a hole and what was written behind it", |path| append(path, &[&[1; 64][..], &[0; 64], &[7; 64]].concat())),
        ("a file that holds nothing", |path| {
            std::fs::write(path.with_file_name("0000000000000009.log"), b"PHS").unwrap();
        }),
        ("damage in the midst", |path| {
            let bytes = std::fs::read(path).unwrap();
            let at = bytes.windows(5).position(|window| window == b"3 1 1").unwrap();
            let mut bytes = bytes;
            bytes[at] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
    ];
    for (what, spoil) in cases {
        let mut world = World::new(settings(ERRORS));
        for trace in 1..=5 {
            world.send(&format!("{trace} 1 1 5"));
        }
        world.stop();
        spoil(world.files().last().unwrap());
        for _ in 0..3 {
            world.restart();
            world.step_after(10_000);
            world.stop();
        }
        world.restart();
        world.step_after(30_000);
        let is_damaged = what.contains("damage");
        let expected: &[u64] = if is_damaged { &[1, 2, 4, 5] } else { &[1, 2, 3, 4, 5] };
        assert_eq!(world.kept(0..9), expected, "{what}");
        let set_aside = world.files().iter().filter(|path| path.extension().unwrap() == "damaged").count();
        assert_eq!(set_aside, usize::from(is_damaged), "{what}: {:?}", world.files());
        assert_eq!(world.sampler().stats().damaged_files, u64::from(is_damaged), "{what}");
    }
}

fn append(path: &Path, bytes: &[u8]) {
    let mut whole = std::fs::read(path).unwrap();
    whole.extend_from_slice(bytes);
    std::fs::write(path, whole).unwrap();
}

/// The end of a file that another follows is told from what the following one says of it.
#[test]
fn what_was_acknowledged_and_is_missing_at_an_end_is_damage() {
    let mut world = World::new(TailSamplingSettings { log_segment: ByteSize(4_096), ..settings(ERRORS) });
    for trace in 1..=3 {
        world.send(&format!("{trace} 1 1 5 text={}", "x".repeat(2_100)));
    }
    world.stop();
    let files = world.files();
    assert_eq!(files.len(), 2, "{files:?}");
    let whole = std::fs::read(&files[0]).unwrap();
    std::fs::write(&files[0], &whole[..whole.len() - 3]).unwrap();
    let found = examine(files[0].parent().unwrap()).unwrap();
    assert_eq!((found.damage.len(), found.requests), (1, 2), "{found:?}");
    world.restart();
    assert_eq!(world.sampler().stats().damaged_files, 0, "not counted before the first step");
    world.step_after(30_000);
    assert_eq!((world.kept(0..5), world.sampler().stats().damaged_files), (vec![1, 3], 1));
    // A number that was used is not used again.
    let number = world.files().last().unwrap().clone();
    world.settings.enabled = false;
    world.restart();
    world.settings.enabled = true;
    world.restart();
    assert!(world.files().last().unwrap() > &files[0], "{:?} {number:?}", world.files());
}

/// What was judged is neither judged nor stored again, whatever policies and limits would say now.
#[test]
fn a_restart_judges_nothing_twice() {
    let limited = r#"[{"name": "some", "rule": {"type": "rate_limit", "spans_per_second": 2}}]"#;
    let mut world = World::new(settings(limited));
    world.send("1 1 0 5\n2 2 0 5\n3 3 0 5");
    world.step_after(30_000);
    assert_eq!(world.kept(0..9), [1, 2]);
    world.send("1 4 0 5\n3 5 0 5");
    world.sampler().step();
    let offered = world.store.offered.load(Ordering::SeqCst);
    world.settings = settings(r#"[{"name": "all", "rule": {"type": "always"}}]"#);
    world.restart();
    world.step_after(30_000);
    assert_eq!(world.kept(0..9), [1, 2]);
    assert_eq!(world.store.offered.load(Ordering::SeqCst), offered, "nothing is stored again");
    let stats = world.sampler().stats();
    assert_eq!((stats.traces_kept, stats.traces_dropped, stats.spans_late), (0, 0, 0));
    world.send("1 6 0 5\n3 7 0 5\n4 8 0 5");
    world.step_after(30_000);
    assert_eq!(world.stored(1).len(), 3, "judgements are remembered");
    assert_eq!(world.kept(0..9), [1, 2, 4]);
}

/// Kept with a probability, and not in the store when the process ends: the next start stores it as it was judged.
#[test]
fn what_was_judged_and_not_stored_keeps_its_judgement() {
    let half = r#"[{"name": "half", "rule": {"type": "probabilistic", "percent": 50}}]"#;
    let mut world = World::new(settings(half));
    let trace = 0xff_0000_0000_0000_u64;
    world.send(&format!("{trace} 1 0 5"));
    world.store.refuses.store(true, Ordering::SeqCst);
    world.step_after(30_000);
    world.send(&format!("{trace} 2 0 5"));
    world.settings = settings(ERRORS);
    world.restart();
    world.store.refuses.store(false, Ordering::SeqCst);
    world.sampler().step();
    assert_eq!(world.stored(trace), [(1, "ot=th:8".to_owned()), (2, "ot=th:8".to_owned())]);
}

#[test]
fn deleted_traces_stay_away() {
    let mut world = World::new(settings(ERRORS));
    world.send("1 1 1 5\n2 2 1 5\n3 3 1 5");
    world.step_after(30_000);
    world.send("4 4 1 5\n5 5 1 5");
    world.delete(1);
    world.delete(4);
    world.store.refuses.store(true, Ordering::SeqCst);
    world.send("2 6 1 5");
    world.sampler().step();
    world.delete(2);
    world.store.refuses.store(false, Ordering::SeqCst);
    for _ in 0..2 {
        world.restart();
        world.step_after(30_000);
        assert_eq!(world.kept(0..9), [3, 5], "neither what was stored, nor what waited, nor what was on its way");
    }
    world.send("1 7 1 5");
    world.step_after(30_000);
    assert_eq!(world.kept(0..9), [1, 3, 5], "what comes later is a trace like any other");
    assert_eq!(world.stored(1).len(), 1);
}

/// The store takes nothing and the log is longer than memory: the start ends, and goes on when the store does.
#[test]
fn a_log_that_is_larger_than_memory_is_read_as_there_is_room() {
    let always = settings(r#"[{"name": "all", "rule": {"type": "always"}}]"#);
    let mut world = World::new(TailSamplingSettings { memory_max: ByteSize::mib(4), ..always });
    for trace in 0..60 {
        world.send(&format!("{trace} 1 0 5 text={}", "x".repeat(100_000)));
    }
    world.store.refuses.store(true, Ordering::SeqCst);
    world.settings.memory_max = ByteSize::mib(1);
    world.restart();
    let held = world.sampler().stats().bytes_waiting;
    assert!(held < 3 << 20, "{held}");
    assert!(world.sampler().refusal().unwrap().contains("still being read"));
    assert!(world.try_send("99 1 0 5").is_err());
    world.delete(3);
    world.delete(55);
    world.sampler().step();
    world.store.refuses.store(false, Ordering::SeqCst);
    world.step_after(30_000);
    assert_eq!(world.sampler().refusal(), None);
    world.send("99 1 0 5");
    world.step_after(30_000);
    let expected: Vec<u64> = (0..60).filter(|trace| ![3, 55].contains(trace)).chain([99]).collect();
    assert_eq!(world.kept(0..100), expected);
}

#[test]
fn a_store_that_refuses_keeps_sampling_from_being_turned_off() {
    let mut world = World::new(settings(ERRORS));
    world.send("1 1 0 5");
    world.stop();
    world.settings.enabled = false;
    world.store.refuses.store(true, Ordering::SeqCst);
    let refused = world.try_open().unwrap_err();
    assert!(matches!(refused, SamplingError::Refused), "{refused}");
    world.store.refuses.store(false, Ordering::SeqCst);
    assert!(world.try_open().unwrap().is_none());
    assert_eq!((world.kept(0..3), world.files().len()), (vec![1], 0));
}

#[test]
fn logs_of_other_versions_are_refused() {
    let mut world = World::new(settings(ERRORS));
    world.stop();
    std::fs::write(world.files()[0].with_file_name("0000000000000007.log"), b"PHSMPLG1 and more").unwrap();
    let refused = world.try_open().unwrap_err().to_string();
    assert!(refused.contains("another version") && refused.contains("7.log"), "{refused}");
}

/// A process that was down for a minute: traces wait as if it had not been, in the order and at the distances they came.
#[test]
fn a_restart_ends_no_wait_early_and_begins_none_anew() {
    let mut world = World::new(settings(ERRORS));
    world.send("1 1 1 5");
    world.step_after(20_000);
    world.send("2 2 1 5");
    world.stop();
    world.clock.advance_ms(60_000);
    world.restart();
    world.sampler().step();
    assert_eq!(world.kept(0..9).len(), 0);
    world.step_after(10_000);
    assert_eq!(world.kept(0..9), [1]);
    world.step_after(20_000);
    assert_eq!(world.kept(0..9), [1, 2]);
}
