//! What one who comes for a place may have, and why there is none.

/// What one who comes may have; `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneLimits {
    /// Places of its tenant at a time.
    pub held_max: Option<u32>,
    /// Of its tenant waiting at a time.
    pub waiting_max: Option<u32>,
    /// What its credential may have of that, if there is a limit.
    pub own: Option<OwnLimits>,
}

/// What all who come with one credential may have together, for whichever tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnLimits {
    /// The credential: a number that no other one has.
    pub whose: u64,
    /// Places at a time.
    pub held_max: Option<u32>,
    /// Waiting at a time.
    pub waiting_max: Option<u32>,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitOf {
    /// The tenant's, whoever asks for it.
    Tenant,
    /// The credential's.
    Credential,
}

impl LimitOf {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Credential => "credential",
        }
    }
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// As many wait as may.
    QueueFull,
    /// As many of this tenant, or with this credential, wait as it may have waiting.
    TooManyWait {
        /// Whose limit that is.
        of: LimitOf,
        /// How many that is.
        waiting_max: u32,
    },
}
