//! Who gets a place, and when.

use futures::FutureExt;
use tokio::task::JoinSet;

use super::*;

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn free(places: &FairPlaces) -> usize {
    places.0.state.lock().free
}

/// Lets the tasks run until all of them wait.
async fn settle(places: &FairPlaces, waiting: usize) {
    while places.0.state.lock().waiting != waiting {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_tenant_that_is_alone_has_all_places() {
    let places = FairPlaces::new(3, 10);
    let held: Vec<_> = (0..3).map(|_| places.try_take(&tenant("a"), LaneLimits::default()).unwrap()).collect();
    assert!(places.try_take(&tenant("a"), LaneLimits::default()).is_none());
    drop(held);
    assert_eq!((free(&places), places.lanes()), (3, 0), "F1, F2");
}

#[tokio::test]
async fn tenants_take_turns_however_many_of_one_wait() {
    let places = FairPlaces::new(1, 100);
    let first = places.try_take(&tenant("greedy"), LaneLimits::default()).unwrap();
    let (served, mut tasks) = (Arc::new(Mutex::new(Vec::new())), JoinSet::new());
    for (at, name) in ["greedy", "greedy", "greedy", "b", "b", "c"].into_iter().enumerate() {
        let (shared, served) = (places.clone(), Arc::clone(&served));
        tasks.spawn(async move {
            let place = shared.take(&tenant(name), LaneLimits::default()).await.unwrap();
            served.lock().push(name);
            drop(place);
        });
        settle(&places, at + 1).await;
    }
    drop(first);
    while tasks.join_next().await.is_some() {}
    assert_eq!(*served.lock(), ["greedy", "b", "c", "greedy", "b", "greedy"]);
}

#[tokio::test]
async fn who_holds_half_lets_others_first() {
    let places = FairPlaces::new(4, 100);
    let mut of_greedy: Vec<_> =
        (0..4).map(|_| places.try_take(&tenant("greedy"), LaneLimits::default()).unwrap()).collect();
    let (greedy, modest) = (tenant("greedy"), tenant("modest"));
    let mut greedy = Box::pin(places.take(&greedy, LaneLimits::default()));
    let mut modest = Box::pin(places.take(&modest, LaneLimits::default()));
    assert!(greedy.as_mut().now_or_never().is_none() && modest.as_mut().now_or_never().is_none());
    of_greedy.pop();
    assert!(greedy.as_mut().now_or_never().is_none(), "it came first, but holds three of four");
    let of_modest = modest.now_or_never().unwrap().unwrap();
    of_greedy.pop();
    assert!(greedy.now_or_never().unwrap().is_ok(), "nobody else waits");
    drop((of_greedy, of_modest));
    assert_eq!((free(&places), places.lanes()), (4, 0));
}

#[tokio::test]
async fn who_leaves_the_queue_leaves_no_trace() {
    let places = FairPlaces::new(1, 10);
    let (a, b) = (tenant("a"), tenant("b"));
    let held = places.try_take(&a, LaneLimits::default()).unwrap();
    let mut leaves = Box::pin(places.take(&b, LaneLimits::default()));
    assert!(leaves.as_mut().now_or_never().is_none() && places.has_waiters());
    drop(leaves);
    assert!(!places.has_waiters() && places.lanes() == 1);
    // One who is told and leaves before it listens gives the place back.
    let mut told = Box::pin(places.take(&b, LaneLimits::default()));
    assert!(told.as_mut().now_or_never().is_none());
    drop(held);
    drop(told);
    assert_eq!((free(&places), places.lanes()), (1, 0));
}

#[tokio::test]
async fn a_full_queue_takes_from_whom_most_wait() {
    let places = FairPlaces::new(1, 3);
    let (a, b) = (tenant("a"), tenant("b"));
    let held = places.try_take(&a, LaneLimits::default()).unwrap();
    let mut of_a: Vec<_> = (0..3).map(|_| Box::pin(places.take(&a, LaneLimits::default()))).collect();
    assert!(of_a.iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()));
    let refused = places.take(&a, LaneLimits::default()).now_or_never().unwrap();
    assert_eq!(refused.unwrap_err(), NoPlace::QueueFull);
    let mut of_b = Box::pin(places.take(&b, LaneLimits::default()));
    assert!(of_b.as_mut().now_or_never().is_none(), "it waits");
    let newest = of_a.pop().unwrap();
    assert_eq!(newest.now_or_never().unwrap().unwrap_err(), NoPlace::QueueFull);
    let mut second = Box::pin(places.take(&b, LaneLimits::default()));
    assert!(
        matches!(second.as_mut().now_or_never(), Some(Err(NoPlace::QueueFull))),
        "nobody has more waiting than it would have"
    );
    drop((of_a, of_b, held));
    assert_eq!((free(&places), places.lanes()), (1, 0));
}

#[tokio::test]
async fn limits_of_a_tenant_hold_back_itself_alone() {
    let places = FairPlaces::new(3, 10);
    let (a, b) = (tenant("a"), tenant("b"));
    let limits = LaneLimits { held_max: Some(1), waiting_max: Some(1), own: None };
    let held = places.try_take(&a, limits).unwrap();
    assert!(places.try_take(&a, limits).is_none());
    let mut waits = Box::pin(places.take(&a, limits));
    assert!(waits.as_mut().now_or_never().is_none());
    let refused = places.take(&a, limits).now_or_never().unwrap();
    assert_eq!(refused.unwrap_err(), NoPlace::TooManyWait { of: LimitOf::Tenant, waiting_max: 1 });
    assert_eq!(places.limit_reached(&a, limits), Some((LimitOf::Tenant, 1)));
    let of_b = places.take(&b, LaneLimits::default()).now_or_never().unwrap().unwrap();
    drop(held);
    assert!(waits.now_or_never().unwrap().is_ok());
    drop(of_b);
    assert_eq!((free(&places), places.lanes()), (3, 0));
}

fn of_credential(whose: u64, held_max: u32, waiting_max: Option<u32>) -> LaneLimits {
    LaneLimits { own: Some(OwnLimits { whose, held_max: Some(held_max), waiting_max }), ..LaneLimits::default() }
}

#[tokio::test]
async fn limits_of_a_credential_count_its_own_alone() {
    let places = FairPlaces::new(3, 10);
    let (shared, adhoc) = (tenant("shared"), of_credential(1, 1, Some(1)));
    let of_dashboards = places.try_take(&shared, LaneLimits::default()).unwrap();
    let first = places.try_take(&shared, adhoc).expect("it has none of its own, whatever others of the tenant have");
    assert!(places.try_take(&shared, adhoc).is_none());
    let mut waits = Box::pin(places.take(&shared, adhoc));
    assert!(waits.as_mut().now_or_never().is_none());
    let refused = places.take(&shared, adhoc).now_or_never().unwrap().unwrap_err();
    assert_eq!(refused, NoPlace::TooManyWait { of: LimitOf::Credential, waiting_max: 1 });
    assert_eq!(places.limit_reached(&shared, adhoc), Some((LimitOf::Credential, 1)));
    // Others of the tenant go past who waits for a limit of its own.
    let more = places.take(&shared, LaneLimits::default()).now_or_never().unwrap().unwrap();
    assert_eq!(places.limit_reached(&shared, LaneLimits::default()), None);
    drop(first);
    assert!(waits.now_or_never().unwrap().is_ok());
    drop((of_dashboards, more));
    assert_eq!((free(&places), places.lanes(), places.0.state.lock().credentials.len()), (3, 0, 0), "F1, F2");
}

#[tokio::test]
async fn a_credential_neither_lowers_nor_lifts_what_others_of_its_tenant_may() {
    let places = FairPlaces::new(4, 10);
    let (shared, all) = (tenant("shared"), LaneLimits { held_max: Some(3), ..LaneLimits::default() });
    let adhoc = LaneLimits { own: of_credential(1, 1, None).own, ..all };
    let other = tenant("other");
    let mut held: Vec<_> = (0..4).map(|_| places.try_take(&other, LaneLimits::default()).unwrap()).collect();
    let mut of_adhoc: Vec<_> = (0..2).map(|_| Box::pin(places.take(&shared, adhoc))).collect();
    assert!(of_adhoc.iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()));
    let mut of_all: Vec<_> = (0..3).map(|_| Box::pin(places.take(&shared, all))).collect();
    assert!(of_all.iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()));
    held.clear();
    // Three may run: the first of the credential, and two who came behind its second.
    let first = of_adhoc.remove(0).now_or_never().unwrap().unwrap();
    let second = of_all.remove(0).now_or_never().unwrap().unwrap();
    let third = of_all.remove(0).now_or_never().unwrap().unwrap();
    assert!(of_adhoc[0].as_mut().now_or_never().is_none() && of_all[0].as_mut().now_or_never().is_none());
    assert_eq!(free(&places), 1, "the tenant's own limit");
    drop(second);
    let fourth = of_all.remove(0).now_or_never().unwrap().unwrap();
    drop(first);
    let last = of_adhoc.remove(0).now_or_never().unwrap().unwrap();
    drop((third, fourth, last));
    assert_eq!((free(&places), places.lanes(), places.0.state.lock().credentials.len()), (4, 0, 0), "F1, F2");
}

#[tokio::test]
async fn a_credential_has_its_limit_over_all_tenants() {
    let places = FairPlaces::new(3, 10);
    let (a, b, limits) = (tenant("a"), tenant("b"), of_credential(1, 1, None));
    let held = places.try_take(&a, limits).unwrap();
    let mut waits = Box::pin(places.take(&b, limits));
    assert!(waits.as_mut().now_or_never().is_none());
    let of_other = places.try_take(&b, of_credential(2, 1, None));
    assert!(of_other.is_some());
    drop(held);
    assert!(waits.now_or_never().unwrap().is_ok());
    drop(of_other);
    assert_eq!((free(&places), places.lanes(), places.0.state.lock().credentials.len()), (3, 0, 0));
}

#[tokio::test]
async fn a_limit_that_is_raised_serves_who_waits_first() {
    let places = FairPlaces::new(3, 10);
    let a = tenant("a");
    let held = places.try_take(&a, of_credential(1, 1, None)).unwrap();
    let mut waits = Box::pin(places.take(&a, of_credential(1, 1, None)));
    assert!(waits.as_mut().now_or_never().is_none());
    assert!(places.try_take(&a, of_credential(1, 2, None)).is_none(), "the second is who waited");
    assert!(waits.now_or_never().unwrap().is_ok());
    drop(held);
    assert_eq!((free(&places), places.lanes(), places.0.state.lock().credentials.len()), (3, 0, 0));
}
