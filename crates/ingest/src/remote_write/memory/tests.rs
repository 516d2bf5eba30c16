//! What is recognised, and what is forgotten.

use pharos_proto::remote_write::v1;
use prost::Message;

use super::known::ORDERS_MAX;
use super::*;

fn labels(number: usize) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("n", &number.to_string())]).unwrap()
}

fn message(labels: &Labels) -> Vec<u8> {
    let labels = labels.iter().map(|(n, v)| v1::Label { name: n.to_owned(), value: v.to_owned() }).collect();
    let samples = vec![v1::Sample { value: 1.5, timestamp: 7 }];
    v1::TimeSeries { labels, samples, ..v1::TimeSeries::default() }.encode_to_vec()
}

fn account(limit_bytes: u64) -> Account {
    Account::open(&Arc::new(Budget::new(limit_bytes)))
}

/// Sends these series; answers their labels and how many were recognised.
pub(super) fn send(memory: &SeriesMemory, numbers: impl IntoIterator<Item = usize>) -> (Vec<Labels>, usize) {
    let (mut walk, mut found, mut recognised) = (memory.walk(), Vec::new(), 0);
    for number in numbers {
        let expected = labels(number);
        let got = match walk.recognise(&message(&expected)) {
            Some((_, pairs)) => {
                recognised += 1;
                assert_eq!(pairs, expected.len());
                walk.labels().unwrap().clone()
            }
            None => walk.look_up(expected.encoded(), None),
        };
        assert_eq!(got, expected);
        found.push(got);
    }
    walk.finish();
    (found, recognised)
}

#[test]
fn what_is_repeated_is_recognised_and_the_same_in_memory() {
    let memory = SeriesMemory::default();
    let (first, recognised) = send(&memory, 0..100);
    assert_eq!(recognised, 0);
    let (second, recognised) = send(&memory, 0..100);
    assert_eq!(recognised, 99, "all but the first");
    assert!(first.iter().zip(&second).all(|(a, b)| a.is_same(b)));
}

#[test]
fn a_new_order_is_learned() {
    let memory = SeriesMemory::default();
    send(&memory, 0..100);
    assert!(send(&memory, (0..100).rev()).1 < 5);
    assert_eq!(send(&memory, (0..100).rev()).1, 99);
    // A series that is new, one that is gone, and one between others that are known.
    send(&memory, (0..50).chain([200]).chain(51..100).chain([0]));
    assert_eq!(send(&memory, (0..50).chain([200]).chain(51..100).chain([0])).1, 100);
}

#[test]
fn labels_in_another_order_are_recognised_too() {
    let memory = SeriesMemory::default();
    let backwards = |number| {
        let pairs: Vec<_> = labels(number).iter().map(|(n, v)| v1::Label { name: n.into(), value: v.into() }).collect();
        v1::TimeSeries { labels: pairs.into_iter().rev().collect(), ..v1::TimeSeries::default() }.encode_to_vec()
    };
    let send_backwards = || {
        let (mut walk, mut recognised) = (memory.walk(), 0);
        for number in 0..100 {
            if walk.recognise(&backwards(number)).is_some() {
                recognised += 1;
                assert_eq!(walk.labels(), Some(&labels(number)));
            } else {
                walk.look_up(labels(number).encoded(), framed::order_of(&["n", "__name__"].into_iter()));
            }
        }
        walk.finish();
        recognised
    };
    assert_eq!((send_backwards(), send_backwards()), (0, 99));
    // One sender that sorts, one that does not: the last one's order is remembered.
    assert_eq!((send(&memory, 0..100).1, send(&memory, 0..100).1), (0, 99));
    assert_eq!((send_backwards(), send_backwards()), (0, 99));
    assert_eq!(memory.known.read().order_count(), 1);
}

#[test]
fn labels_of_one_hash_stay_apart() {
    let memory = SeriesMemory::with(|_| 7, Known::new(account(1 << 30)));
    let (first, _) = send(&memory, 0..50);
    let (second, _) = send(&memory, (0..50).map(|n| n * 7 % 50));
    let expected: Vec<_> = (0..50).map(|n| first[n * 7 % 50].clone()).collect();
    assert!(expected.iter().zip(&second).all(|(a, b)| a.is_same(b)));
}

/// A memory with room for so many of these series, swept at the earliest with `sweep_min` of them.
fn memory(series_max: u64, sweep_min: usize) -> SeriesMemory {
    let one = SeriesMemory::default();
    send(&one, [9999]);
    SeriesMemory::with(
        pharos_model::fingerprint,
        Known::new(account(series_max * one.memory_bytes())).with_sweep_min(sweep_min),
    )
}

#[test]
fn what_nobody_knows_any_more_is_forgotten_and_the_rest_goes_on() {
    let memory = memory(1_000_000, 500);
    let live = || 0..1000;
    let (_known_to_a_store, _) = send(&memory, live());
    for round in 1..20 {
        send(&memory, round * 1000..(round + 1) * 1000);
    }
    assert!(memory.series_count() <= 2000);
    assert_eq!(send(&memory, live()).1, 999, "once in all that time is enough for what a store knows");
}

#[test]
fn what_no_store_shares_is_kept_while_it_is_sent() {
    let memory = memory(1_000_000, 2000);
    for round in 1..20 {
        send(&memory, 0..1000);
        send(&memory, round * 1000..round * 1000 + 500);
    }
    assert!(memory.series_count() <= 3000);
    assert_eq!(send(&memory, 0..1000).1, 999);
}

#[test]
fn the_limit_holds_and_what_fits_stays_known() {
    let memory = memory(500, 100);
    for _ in 0..5 {
        send(&memory, 0..2000);
        assert!((400..=520).contains(&memory.series_count()), "{}", memory.series_count());
    }
    assert!(send(&memory, 0..2000).1 >= 400);
}

/// A store that shares all leaves nothing to forget: looking for it again and again would cost more than it saves.
#[test]
fn a_memory_full_of_shared_series_is_not_swept_for_each_new_one() {
    let memory = memory(500, 100);
    let (_known_to_a_store, _) = send(&memory, 0..600);
    for number in 1000..9000 {
        send(&memory, [number]);
    }
    let sweeps = memory.known.read().sweeps;
    assert!(sweeps < 100, "{sweeps}");
}

/// A store may share series that ended long ago; they make room for those that are sent.
#[test]
fn what_is_shared_but_not_sent_makes_room_in_the_end() {
    let memory = memory(500, 100);
    let (_known_to_a_store, _) = send(&memory, 0..500);
    for _ in 0..20 {
        send(&memory, 1000..1400);
    }
    assert_eq!(send(&memory, 1000..1400).1, 399);
}

#[test]
fn long_label_sets_are_not_remembered_and_do_not_break_the_order() {
    let memory = SeriesMemory::default();
    let long = Labels::from_pairs([("__name__", "m"), ("n", &"x".repeat(LABELS_BYTES_MAX))]).unwrap();
    let send_with_long = || {
        let (mut walk, mut recognised) = (memory.walk(), 0);
        for number in 0..10 {
            assert_eq!(walk.look_up(long.encoded(), None), long);
            match walk.recognise(&message(&labels(number))) {
                Some(_) => recognised += 1,
                None => drop(walk.look_up(labels(number).encoded(), None)),
            }
        }
        walk.finish();
        recognised
    };
    assert_eq!((send_with_long(), send_with_long()), (0, 9));
    assert_eq!(memory.series_count(), 10);
}

/// Orders that nobody uses any more make room for new ones.
#[test]
fn orders_are_forgotten_with_their_series() {
    let memory = memory(1_000_000, 100);
    let send_in = |number: usize, order: &[u8]| {
        let mut walk = memory.walk();
        walk.look_up(labels(number).encoded(), Some(order.into()));
        walk.finish();
    };
    let has_order = |number: usize, order: &[u8]| {
        let known = memory.known.read();
        let found = known.find(pharos_model::fingerprint(labels(number).encoded()) as u64, labels(number).encoded());
        known.order(known.entry(found.unwrap()).unwrap()) == Some(order)
    };
    let (_known_to_a_store, _) = send(&memory, 0..10);
    for number in 0..5_000_u16 {
        send_in(usize::from(number) + 10_000, &number.to_le_bytes());
    }
    for _ in 0..1_000 {
        send_in(3, &[1, 0]);
    }
    assert!(has_order(3, &[1, 0]));
    assert!(memory.known.read().order_count() <= ORDERS_MAX);
}

/// M4.
#[test]
fn who_learns_does_not_wait_for_a_long_request() {
    let memory = SeriesMemory::default();
    send(&memory, 0..100);
    let mut walk = memory.walk();
    std::thread::scope(|scope| {
        let learner = scope.spawn(|| send(&memory, 100..200));
        for number in (0..100).cycle().take(100_000_000) {
            if learner.is_finished() {
                break;
            }
            walk.recognise(&message(&labels(number)));
        }
        assert!(learner.is_finished(), "it learned while the other was read");
        drop(walk);
    });
    assert_eq!(memory.series_count(), 200);
}

#[test]
fn labels_without_an_order_leave_that_of_others_alone() {
    let memory = SeriesMemory::default();
    let order: Box<[u8]> = [1, 0].into();
    for _ in 0..2 {
        let mut walk = memory.walk();
        walk.look_up(labels(1).encoded(), Some(order.clone()));
        walk.look_up(labels(2).encoded(), None);
        walk.finish();
    }
    let known: Vec<_> = {
        let mut walk = memory.walk();
        let found = [1, 2, 3].map(|number| walk.look_up_unordered(labels(number).encoded()));
        walk.finish();
        found.into()
    };
    assert_eq!(known, [labels(1), labels(2), labels(3)]);
    let mut walk = memory.walk();
    assert!(walk.look_up_unordered(labels(1).encoded()).is_same(&known[0]));
    assert!(walk.look_up_unordered(labels(2).encoded()).is_same(&known[1]));
    assert!(walk.look_up_unordered(labels(3).encoded()).is_same(&known[2]), "learned");
    let known = memory.known.read();
    assert_eq!(known.entry(0).and_then(|entry| known.order(entry)), Some(&*order));
}
