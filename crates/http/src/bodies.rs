//! What the bodies of requests may hold together, tenant by tenant; and the reading of one within its share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use pharos_base::{ByteSize, ErrorClass};
use pharos_model::TenantId;

use crate::{Leftover, Refusal, body_cut_short};

/// Bytes that one unit of a budget stands for.
const UNIT_BYTES: usize = 64 << 10;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the bodies of all requests may hold together.
///
/// A tenant may hold as much as is left for others, so that however many it sends there is room for who comes: alone it has half, two
/// that want all have a third each. A tenant's only body may take what is left.
///
/// Invariant B1: what is held of all tenants and what is free are what there is.
#[derive(Debug, Clone)]
pub struct BodyBudget(Arc<Books>);

#[derive(Debug)]
struct Books {
    /// The name of the limit, as in the settings.
    limit: &'static str,
    bytes_max: u64,
    state: Mutex<Held>,
}

/// In units of [`UNIT_BYTES`].
#[derive(Debug)]
struct Held {
    free: usize,
    /// Of tenants that hold any.
    tenants: HashMap<TenantId, usize>,
}

/// A body and its share of the budget, given back when dropped.
#[derive(Debug)]
pub struct HeldBody {
    /// The body.
    pub bytes: Bytes,
    /// What it takes.
    pub held: BodyShare,
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub struct BodyShare {
    books: Arc<Books>,
    tenant: TenantId,
    units: usize,
}

impl BodyBudget {
    /// Room for `bytes_max`, rounded up to whole units of 64 KiB; `limit` is what the settings call it.
    #[must_use]
    pub fn new(limit: &'static str, bytes_max: u64) -> Self {
        let free = usize::try_from(bytes_max).unwrap_or(usize::MAX).div_ceil(UNIT_BYTES);
        Self(Arc::new(Books { limit, bytes_max, state: Mutex::new(Held { free, tenants: HashMap::new() }) }))
    }

    /// An empty share of a body of `tenant`.
    #[must_use]
    pub fn share(&self, tenant: &TenantId) -> BodyShare {
        BodyShare { books: Arc::clone(&self.0), tenant: tenant.clone(), units: 0 }
    }

    /// What bodies hold now, bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let units: usize = self.0.state.lock().tenants.values().sum();
        (units * UNIT_BYTES) as u64
    }
}

impl BodyShare {
    /// Grows it to `bytes`.
    ///
    /// # Errors
    /// A [`Refusal`] that names the limit, where there is no room for that.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let more = bytes.div_ceil(UNIT_BYTES).saturating_sub(self.units);
        if more == 0 {
            return Ok(());
        }
        let mut state = self.books.state.lock();
        let of_tenant = state.tenants.get(&self.tenant).copied().unwrap_or(0);
        let is_only_one = of_tenant == self.units;
        if more > state.free || (!is_only_one && of_tenant + more > state.free - more) {
            let all = more > state.free;
            drop(state);
            return Err(self.refusal(all));
        }
        state.free -= more;
        match state.tenants.get_mut(&self.tenant) {
            Some(held) => *held += more,
            None => _ = state.tenants.insert(self.tenant.clone(), more),
        }
        self.units += more;
        Ok(())
    }

    fn refusal(&self, is_used_up: bool) -> Refusal {
        let who = if is_used_up {
            "server holds as many bytes of request bodies as it may".to_owned()
        } else {
            format!("tenant {} holds its share of the bytes of request bodies", self.tenant)
        };
        let Books { limit, bytes_max, .. } = &*self.books;
        let message = format!("{who}, {limit} = {}; send the request again, or raise it", ByteSize(*bytes_max));
        Refusal::new(ErrorClass::Unavailable, message).with_retry_after(Some(RETRY_AFTER))
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        if self.units == 0 {
            return;
        }
        let mut state = self.books.state.lock();
        state.free += self.units;
        if let Some(held) = state.tenants.get_mut(&self.tenant) {
            *held -= self.units;
            if *held == 0 {
                state.tenants.remove(&self.tenant);
            }
        }
    }
}

/// Reads a whole body; its share of the budget grows while it arrives. What is left of a body that was refused is dealt with as
/// `leftover` says. Whoever waits here should have let go of the request's head: many may wait for long.
///
/// `check` looks at what has come so far, which is nothing at first, and tells how long the body will be, if that is known.
///
/// # Errors
/// What `check` or the budget says, or that the body came to no end.
pub async fn hold_body(
    leftover: Leftover,
    mut body: Body,
    held: BodyShare,
    check: impl FnMut(&[u8]) -> Result<Option<usize>, Refusal> + Send,
) -> Result<HeldBody, Refusal> {
    let outcome = hold_within(&mut body, held, check).await;
    if outcome.is_err() {
        leftover.discard(body).await;
    }
    outcome
}

async fn hold_within(
    body: &mut Body,
    mut held: BodyShare,
    mut check: impl FnMut(&[u8]) -> Result<Option<usize>, Refusal> + Send,
) -> Result<HeldBody, Refusal> {
    let mut declared = check(&[])?;
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| body_cut_short(&error))?.into_data() else { continue };
        held.grow(bytes.len() + data.len())?;
        if bytes.is_empty() {
            // A body of one frame is not copied again.
            bytes = data.try_into_mut().unwrap_or_else(|data| BytesMut::from(&data[..]));
        } else {
            let left = declared.map_or(usize::MAX, |declared| declared.saturating_sub(bytes.len()));
            // Twice as much, as all do, but not beyond what was declared.
            bytes.reserve(data.len().max(bytes.len().min(left)));
            bytes.extend_from_slice(&data);
        }
        declared = check(&bytes)?;
    }
    Ok(HeldBody { bytes: bytes.freeze(), held })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leftover() -> Leftover {
        Leftover::of(&http::Request::new(()).into_parts().0)
    }

    #[test]
    fn a_tenant_leaves_room_for_others() {
        let budget = BodyBudget::new("some.bodies_max", 12 * UNIT_BYTES as u64);
        let grown = |tenant: &str, units: usize| {
            let mut share = budget.share(&tenant.parse().unwrap());
            share.grow(units * UNIT_BYTES).map(|()| share)
        };
        let of_greedy: Vec<_> = (0..6).map(|_| grown("greedy", 1).unwrap()).collect();
        let refused = grown("greedy", 1).unwrap_err();
        assert!(
            refused.message().contains("tenant greedy") && refused.message().contains("some.bodies_max = 768KiB"),
            "{refused:?}"
        );
        let of_other: Vec<_> = (0..3).map(|_| grown("other", 1).unwrap()).collect();
        assert!(grown("other", 1).is_err(), "3 are left, and it has 3");
        let alone = grown("alone", 3).unwrap();
        let refused = grown("late", 1).unwrap_err();
        assert!(refused.message().starts_with("server holds"), "{refused:?}");
        drop((of_greedy, of_other, alone));
        assert!(grown("greedy", 12).is_ok(), "a tenant's only body");
        let state = budget.0.state.lock();
        assert_eq!((state.free, state.tenants.len()), (12, 0), "B1");
    }

    #[tokio::test]
    async fn bodies_share_a_budget_and_give_it_back() {
        let budget = BodyBudget::new("some.bodies_max", 2 * UNIT_BYTES as u64);
        let hold = |length: usize| {
            let share = budget.share(&TenantId::default());
            async move { hold_body(leftover(), Body::from(vec![7; length]), share, |_| Ok(None)).await }
        };
        let first = hold(UNIT_BYTES).await.unwrap();
        assert_eq!((first.bytes.len(), budget.held_bytes()), (UNIT_BYTES, UNIT_BYTES as u64));
        let refused = hold(UNIT_BYTES + 1).await.unwrap_err();
        assert_eq!((refused.class(), refused.retry_after()), (ErrorClass::Unavailable, Some(RETRY_AFTER)));
        drop(first);
        assert_eq!(hold(2 * UNIT_BYTES).await.unwrap().bytes.len(), 2 * UNIT_BYTES);
        assert_eq!(budget.held_bytes(), 0);
    }
}
