//! What who is over a limit is told: which one, its value, whose it is, and the way out.

use std::fmt;
use std::time::Duration;

use pharos_base::ErrorClass;
use pharos_http::Refusal;

use super::{Credential, Whose};

/// Nobody is told to come back sooner.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// Nobody is told to wait longer: much may have changed by then.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// A limit that may let the same request pass later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverLimit {
    /// Its name, as in `limits` of the settings.
    pub limit: &'static str,
    /// What it is set to.
    pub value: u64,
    /// Whose it is.
    pub whose: Whose,
    /// When a retry may pass.
    pub retry_after: Duration,
}

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, value, whose, .. } = self;
        match whose {
            Whose::Tenant(tenant) => write!(
                f,
                "tenant {tenant} is over its limit {limit} = {value}: send less, or raise it in pharos.yaml, under limits: for all tenants or under tenants: for this one"
            ),
            Whose::Credential(Credential { kind, name, .. }) => write!(
                f,
                "the {kind} {name:?} is over its own limit {limit} = {value}: send less, or raise the limit of this {kind}"
            ),
        }
    }
}

impl From<OverLimit> for Refusal {
    fn from(over: OverLimit) -> Self {
        let after = over.retry_after.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
        // Whole seconds, upwards: that is all that Retry-After can say.
        let after = Duration::from_secs(after.as_secs() + u64::from(after.subsec_nanos() > 0));
        Self::new(ErrorClass::LimitExceeded, over.to_string()).with_retry_after(Some(after))
    }
}
